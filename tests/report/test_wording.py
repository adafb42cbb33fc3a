"""The verdict in words: measured, paper, agreement, caveats."""

import itertools

import pytest
from report_records import (
    CLAIM,
    ERRORS,
    RATE,
    all_reaching,
    experiment,
    summary_of,
    summary_of_errors,
    with_errors,
)

from alexnet_jax.report import tables, wording
from alexnet_jax.report.verdict import Standing, compare, standing

# Ratios 5, 5.2 and 5.4 at the only learning rate: the interval holds no 6.
NEAR_FIVE = {("ReLU", 0.1): [1.0, 1.0, 1.0], ("tanh", 0.1): [5.0, 5.2, 5.4]}
# Ratios 4.4, 5.2 and 6.1, whose interval holds 6.
AROUND_FIVE = {("ReLU", 0.1): [1.0, 1.0, 1.0], ("tanh", 0.1): [4.4, 5.2, 6.1]}


def verdict(epochs, *, dataset="cifar10:3.0.2", **claim):
    content = experiment(seeds=3, rates=(0.1,), claim=CLAIM | claim, dataset=dataset)
    return summary_of(content, all_reaching(epochs))["verdict"]


def test_on_the_papers_data():
    assert verdict(AROUND_FIVE) == (
        "On CIFAR-10, tanh needed 5.2 times as many epochs as ReLU to reach 25% training "
        "error (95% interval 3.5 to 7.8, 3 paired seeds). The paper reports 6. Consistent "
        "with the paper."
    )


def test_the_papers_number_may_lie_outside_the_interval():
    assert verdict(NEAR_FIVE).endswith(
        "The paper reports 6. In the paper's direction, statistically clear at 95%. The "
        "paper's number lies outside the interval."
    )


def test_on_other_data_the_paper_is_neither_confirmed_nor_refuted():
    faster = {("ReLU", 0.1): [2.0, 2.0, 2.0], ("tanh", 0.1): [1.0, 1.2, 1.1]}
    assert verdict(faster, dataset="digits") == (
        "On handwritten digits, tanh needed 0.55 times as many epochs as ReLU to reach "
        "25% training error (95% interval 0.44 to 0.69, 3 paired seeds). The paper reports "
        "6. The opposite of the paper's result: the 95% interval lies entirely on the "
        "opposite side. The paper's result is for CIFAR-10; a run on other data neither "
        "confirms nor refutes it."
    )
    assert "Consistent" not in verdict(AROUND_FIVE, dataset="digits")


def test_imagenet_of_2012_is_other_data_than_that_of_2010():
    """Sections 3.2 and 6 (footnote): their numbers are of the test set of 2010."""
    content = experiment(
        seeds=3,
        rates=(0.1,),
        claim=CLAIM | {"dataset": "imagenet2010"},
        dataset="imagenet2012",
    )
    text = summary_of(content, all_reaching(AROUND_FIVE))["verdict"]
    assert text.startswith("On ImageNet (ILSVRC-2012), ")
    assert "for ImageNet (ILSVRC-2010); a run on other data" in text


def test_seeds_that_did_not_reach_the_threshold():
    bound = {("ReLU", 0.1): [1.0, 1.0], ("tanh", 0.1): [None, 5.0]}
    assert "tanh needed at least 2.2 times" in verdict(bound)
    assert "(tanh: 1 seed did not reach it)" in verdict(bound)
    assert "by a bound only" in verdict(bound)
    nothing = {(arm, 0.1): [None, None] for arm in ("ReLU", "tanh")}
    assert verdict(nothing) == (
        "On CIFAR-10, the epochs that tanh and ReLU needed to reach 25% training error "
        "cannot be compared (tanh: 2 seeds did not reach it; ReLU: 2 seeds did not reach "
        "it). The paper reports 6. The question is not answered."
    )


def test_differences_of_errors_and_caveats_in_the_order_of_their_weight():
    summary = summary_of_errors(
        paper="higher", diverged=[("tanh", 1)], dataset="digits"
    )
    assert summary["verdict"] == (
        "On handwritten digits, the top-1 error of 'tanh' and that of 'ReLU' cannot be "
        "compared (tanh: 1 seed without a value). The paper reports a higher top-1 error "
        "for 'tanh', without a number. The question is not answered. The finished pairs "
        "alone give -1.5 points (95% interval -7.9 to 4.9 points, 2 paired seeds), which "
        "decides nothing. 2 trials diverged; at the selected values tanh 1 of 3. The "
        "selected learning rate of ReLU and tanh is at the edge of the values tried."
    )


def test_lower_and_higher_errors_with_the_sign_of_their_interval():
    text = summary_of_errors()["verdict"]
    assert (
        "the top-1 error of 'tanh' was 1.7 points lower than that of 'ReLU' (difference "
        "-1.7 points, 95% interval -3.1 to -0.2 points, 3 paired seeds)"
    ) in text
    text = summary_of_errors(compare=("ReLU", "tanh"))["verdict"]
    assert (
        "'ReLU' was 1.7 points higher than that of 'tanh' (95% interval 0.2 to 3.1 points"
    ) in text


def test_no_caveat_stands_twice_on_one_page():
    also = [
        {"metric": "overfitting_gap", "paper": "lower"},
        {"metric": "top5_error", "paper": 0.012},
        {"metric": "top5_error", "paper": 0.012, "dataset": "cifar10"},
    ]
    summary = summary_of_errors(also=also)
    texts = [summary["verdict"], *(one["verdict"] for one in summary["also"])]
    page = " ".join(texts)
    assert page.count("ImageNet (ILSVRC-2012); a run on other data") == 1
    assert page.count("CIFAR-10; a run on other data") == 1
    assert page.count("at the edge") == 1
    assert wording.GAP_CAVEAT in texts[1]


ONE_SEED = {
    "equal": {("ReLU", 0.1): [(0.1, 0.4, 0.1)], ("tanh", 0.1): [(0.1, 0.4, 0.1)]},
    "apart": {("ReLU", 0.1): [(0.1, 0.4, 0.1)], ("tanh", 0.1): [(0.1, 0.3, 0.1)]},
}


@pytest.mark.parametrize("paper", [0.014, "higher", "lower", None])
@pytest.mark.parametrize("values", ONE_SEED)
@pytest.mark.parametrize(
    "pairs", [["tanh", "ReLU"], [["tanh", "ReLU"], ["ReLU", "tanh"]]]
)
def test_one_seed_has_no_interval_to_speak_of(values, paper, pairs):
    claim = CLAIM | {"metric": "top1_error", "paper": paper, "compare": pairs}
    content = experiment(seeds=1, rates=(0.1,), claim=claim)
    summary = summary_of(content, with_errors(ONE_SEED[values]))
    text = summary["verdict"]
    assert "one seed, no interval" in text
    for words in ("95%", "includes", "not clear", wording.SEPARATE_INTERVALS):
        assert words not in text
    if values == "equal" and paper is not None:
        assert summary["comparisons"][0]["standing"] == Standing.EQUAL_ONE_SEED


def test_equal_epochs_are_not_one_time_as_many():
    equal = {("ReLU", 0.1): [2.0], ("tanh", 0.1): [2.0]}
    content = experiment(seeds=1, rates=(0.1,))
    text = summary_of(content, all_reaching(equal))["verdict"]
    assert "tanh needed as many epochs as ReLU to reach 25%" in text
    assert "one seed, no interval" in text


def test_a_difference_that_rounds_to_nothing_is_not_called_none():
    errors = {("ReLU", 0.1): [(0.1, 0.4, 0.1)], ("tanh", 0.1): [(0.1, 0.40002, 0.1)]}
    claim = CLAIM | {"metric": "top1_error", "paper": "higher"}
    content = experiment(seeds=1, rates=(0.1,), claim=claim)
    text = summary_of(content, with_errors(errors))["verdict"]
    assert "'tanh' was within 0.005 points of that of 'ReLU'" in text


def test_with_five_classes_nothing_is_compared_with_a_top_5_error():
    claim = {"metric": "top5_error", "paper": 0.182, "compare": None}
    claim["also"] = [{"metric": "top5_error", "paper": 0.1, "compare": None}]
    content = experiment(
        seeds=3, rates=(0.1, 0.2), claim=CLAIM | claim, dataset="folder=five"
    )
    content["data"][0]["num_classes"] = 5
    summary = summary_of(content, with_errors(ERRORS))
    assert summary["claim"]["metric"] == "top1_error"
    assert summary["claim"]["paper"] is None
    assert summary["also"] == []
    assert "18.2%" not in summary["verdict"]
    assert "tanh had a top-1 error of 38.3%" in summary["verdict"]
    (headings, *_), *_ = shown = tables.tables(summary)
    assert "top-5 error" not in headings
    shown.append(tables.claims_table([summary]))
    cells = [cell for table in shown for row in table for cell in row]
    assert not any("top-5" in cell or "18.2" in cell for cell in cells)
    assert "not comparable" in cells
    content["data"][0]["num_classes"] = 6
    assert summary_of(content, with_errors(ERRORS))["claim"]["paper"] == 0.182


def test_several_comparisons():
    summary = summary_of_errors(compare=[["tanh", "ReLU"], ["ReLU", "tanh"]])
    assert (
        "differences in top-1 error, with 95% intervals (3 paired seeds): tanh - ReLU "
        "-1.7 points [-3.1, -0.2]; ReLU - tanh 1.7 points [0.2, 3.1]. The paper reports a "
        "difference of 1.4 points. Opposite direction, statistically clear at 95%: "
        "'tanh' against 'ReLU'. Same direction, statistically clear at 95%: 'ReLU' against 'tanh'."
    ) in summary["verdict"]
    assert wording.SEPARATE_INTERVALS in summary["verdict"]


def test_a_neighbor_at_which_no_seed_succeeds_is_reported():
    epochs = {
        ("ReLU", 0.1): [None, None],
        ("ReLU", 0.2): [1.0, 1.1],
        ("ReLU", 0.4): [None, None],
    }
    epochs |= {("tanh", rate): [4.0, 4.4] for rate in (0.1, 0.2, 0.4)}
    text = summary_of(experiment(), all_reaching(epochs))["verdict"]
    assert (
        "The selected learning rate of ReLU is 0.2; at the next smaller value, 0.1, and the "
        "next larger value, 0.4, no seed succeeds, so a better value may lie between."
    ) in text
    assert RATE not in text


@pytest.mark.parametrize("claimed", [1.0, -1.0, None])
def test_every_standing_has_its_sentence(claimed):
    values = (None, 0.3, 1.0, 1.7)
    found = set()
    for ratio in (True, False):
        for pairs in itertools.product(itertools.product(values, values), repeat=2):
            for some in (pairs, pairs[:1]):
                compared = compare(list(some), ratio=ratio, limit=10.0)
                found.add(standing(compared, claimed))
    assert all(wording.AGREEMENT[each].endswith(".") for each in found)
    assert len(found) >= (4 if claimed is None else 8)
    assert set(wording.AGREEMENT) == set(Standing)
