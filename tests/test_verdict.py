"""Intervals against scipy, crossings, and the rule that chooses the verdict."""

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from alexnet_jax.config import Trial
from alexnet_jax.errors import UserError
from alexnet_jax.report import claims, verdict, words
from alexnet_jax.report.records import Outcome


def test_interval_is_students_t():
    values = [1.0, 2.0, 4.0, 4.5]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    ours = verdict.interval(values)
    assert ours.mean == pytest.approx(np.mean(values))
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_ratios_have_the_interval_of_their_logarithms_by_scipy(count):
    random = np.random.default_rng(count)
    first, second = random.uniform(0.5, 9, (2, count))
    logarithms = np.log(first) - np.log(second)
    expected = stats.ttest_1samp(logarithms, 0).confidence_interval(0.95)
    found = verdict.compare(
        list(zip(first, second, strict=True)), ratio=True, limit=99.0
    )
    assert found["mean"] == pytest.approx(stats.gmean(first / second))
    assert (found["low"], found["high"]) == pytest.approx(
        (math.exp(expected.low), math.exp(expected.high))
    )


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_differences_have_the_interval_of_scipys_paired_test(count):
    first, second = np.random.default_rng(count).uniform(0, 1, (2, count))
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    found = verdict.compare(
        list(zip(first, second, strict=True)), ratio=False, limit=None
    )
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))


def test_ratios_are_averaged_in_logarithms():
    """2 and 1/2 cancel; the interval of ratios is symmetric in logarithms."""
    ours = verdict.interval([2.0, 0.5], ratio=True)
    assert ours.mean == pytest.approx(1.0)
    assert ours.low * ours.high == pytest.approx(1.0)


def test_one_value_has_no_interval_and_none_no_mean():
    assert verdict.interval([3.0]) == verdict.Interval(3.0, None, None, 1)
    assert verdict.interval([]) == verdict.Interval(None, None, None, 0)


def test_a_crossing_lies_on_the_line_between_two_points():
    curve = [(1.0, 0.9), (2.0, 0.5), (4.0, 0.1)]
    assert verdict.crossing(curve, 0.25) == pytest.approx(2 + 2 * 0.25 / 0.4)
    assert verdict.crossing(curve, 0.05) is None
    assert verdict.crossing(curve, 0.95) == 1.0
    assert verdict.crossing([], 0.5) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.01, 0.99))
def test_before_the_crossing_no_point_is_below(errors, threshold):
    curve = [(float(i), error) for i, error in enumerate(errors)]
    crossed = verdict.crossing(curve, threshold)
    if crossed is None:
        assert min(errors) > threshold
    else:
        assert all(error > threshold for epoch, error in curve if epoch < crossed)
        assert min(errors) <= threshold


def compare(pairs, *, ratio=True):
    return verdict.compare(pairs, ratio=ratio, limit=10.0)


@pytest.mark.parametrize(
    ("pairs", "paper", "standing"),
    [
        ([(6.0, 1.0), (6.6, 1.0), (5.5, 1.0)], 6.0, "same direction, resolved"),
        ([(6.0, 1.0), (0.9, 1.0), (1.1, 1.0)], 6.0, "same direction, not resolved"),
        ([(1.0, 1.0), (0.7, 1.0), (1.3, 1.0)], 6.0, "no effect seen"),
        ([(0.5, 1.0), (0.52, 1.0), (0.48, 1.0)], 6.0, "opposite"),
        ([(0.5, 1.0), (0.52, 1.0), (0.48, 1.0)], 0.3, "same direction, resolved"),
        ([(3.0, 1.0)], 6.0, "same direction, one seed"),
        ([(0.3, 1.0)], 6.0, "opposite, one seed"),
        ([(None, 1.0), (6.0, 1.0)], 6.0, "same direction, a bound only"),
        ([(1.0, None), (1.0, 2.0)], 6.0, "opposite, a bound only"),
        ([(None, 11.0), (9.0, 10.0)], 6.0, "not answered"),
        ([(None, None), (6.0, 1.0)], 6.0, "not answered"),
    ],
)
def test_the_rule_for_ratios(pairs, paper, standing):
    assert verdict.direction(compare(pairs), paper) == standing


@pytest.mark.parametrize(
    ("pairs", "standing"),
    [
        ([(0.42, 0.40), (0.43, 0.41), (0.41, 0.388)], "same direction, resolved"),
        ([(0.40, 0.42), (0.41, 0.43), (0.388, 0.41)], "opposite"),
        ([(0.40, 0.40), (0.40, 0.40)], "no effect seen"),
        ([(None, 0.4), (0.5, 0.4)], "not answered"),
    ],
)
def test_the_rule_for_differences(pairs, standing):
    comparison = compare(pairs, ratio=False)
    assert verdict.direction(comparison, 0.014) == standing


@pytest.mark.parametrize(
    ("pairs", "paper", "standing"),
    [
        (
            [(0.42, 0.40), (0.43, 0.41), (0.41, 0.388)],
            "higher",
            "same direction, resolved",
        ),
        ([(0.42, 0.40), (0.43, 0.41), (0.41, 0.388)], "lower", "opposite"),
        ([(0.42, 0.40), (0.43, 0.41), (0.41, 0.388)], None, "a difference"),
        ([(0.42, 0.40), (0.39, 0.41)], None, "no difference resolved"),
        ([(0.42, 0.40)], None, "one seed"),
        ([(0.42, None)], None, "not answered"),
    ],
)
def test_the_rule_where_the_paper_gives_no_number(pairs, paper, standing):
    assert verdict.direction(compare(pairs, ratio=False), paper) == standing


def test_as_many_errors_in_both_arms_are_no_effect_whatever_the_rounding():
    """11 of 359 against 11: their means differ by 1e-18."""
    errors = [(4 / 359, 5 / 359), (5 / 359, 4 / 359), (2 / 359, 2 / 359)]
    swapped = [(b, a) for a, b in errors]
    for pairs in (errors, swapped, [(1 / 3 - 1e-17, 1 / 3)] * 3):
        found = compare(pairs, ratio=False) | {"mean": 8.7e-19}
        for paper in ("higher", "lower", 0.02):
            assert verdict.direction(found, paper) == "no effect seen"


def test_the_same_one_image_in_three_seeds_is_not_resolved():
    """Errors of 359 images in steps of one: without a floor the interval has no width."""
    pairs = [(k / 359, (k + 1) / 359) for k in (3, 5, 6)]
    narrow = verdict.compare(pairs, ratio=False, limit=1.0)
    assert verdict.direction(narrow, -0.017) == "same direction, resolved"
    least = math.sqrt(2 / 12) / 359
    found = verdict.compare(pairs, ratio=False, limit=1.0, least_deviation=least)
    assert verdict.direction(found, -0.017) == "same direction, not resolved"
    # The deviation of the difference of two numbers rounded to 1/359: sqrt(2 / 12) / 359.
    reach = stats.t.ppf(0.975, 2) * math.sqrt(2 / 12) / 359 / math.sqrt(3)
    assert found["high"] - found["mean"] == pytest.approx(reach)
    wide = [(0.10, 0.05), (0.20, 0.05), (0.30, 0.05)]
    assert verdict.compare(
        wide, ratio=False, limit=1.0, least_deviation=least
    ) == verdict.compare(wide, ratio=False, limit=1.0)


def test_three_equal_ratios_are_known_to_a_record_only():
    """25% is crossed between 1.75 and 2.25, and between 2.75 and 3.25: half an epoch."""
    arms = {"ReLU": 2, "tanh": 3}
    some = []
    for arm, turn in arms.items():
        for seed in range(3):
            rows = [
                {
                    "kind": "train",
                    "epoch": 0.5 * n,
                    "top1_error": 0.2 + 0.1 * (n <= 2 * turn),
                }
                for n in range(1, 9)
            ]
            evaluated = {"kind": "eval", "top1_error": 0.2, "top5_error": 0.1}
            trial = Trial(arm, {"optimizer.learning_rate": 0.1}, seed)
            some.append(Outcome(trial, "finished", [*rows, evaluated | {"epoch": 4.0}]))
    summary = verdict.summarize(experiment(seeds=3, rates=(0.1,)), some)
    (comparison,) = summary["comparisons"]
    assert comparison["mean"] == pytest.approx(3.0 / 2.0)
    deviation = math.sqrt((0.5 / 2) ** 2 / 12 + (0.5 / 3) ** 2 / 12)
    reach = stats.t.ppf(0.975, 2) * deviation / math.sqrt(3)
    assert comparison["high"] == pytest.approx(1.5 * math.exp(reach))
    assert comparison["low"] == pytest.approx(1.5 / math.exp(reach))


@pytest.mark.parametrize(
    ("metric", "deviation"),
    [
        ("top1_error", math.sqrt(2 / 12) / 359),
        # The last record is of half an epoch of 1,438 images.
        ("train_top1_error", math.sqrt(2 / 12) / 719),
        ("overfitting_gap", math.sqrt(2 / 12 * (1 / 359**2 + 1 / 719**2))),
    ],
)
def test_equal_differences_of_errors_are_known_to_an_image_only(metric, deviation):
    held = experiment(
        seeds=3, rates=(), claim=CLAIM | {"metric": metric, "paper": "higher"}
    )
    held["config"]["tuned"] = {}
    held["data"][0] |= {"train_examples": 1438, "validation_examples": 359}
    some = []
    for arm, (train, test) in {"ReLU": (0.1, 0.2), "tanh": (0.11, 0.23)}.items():
        for seed in range(3):
            rows = [
                {"kind": "train", "epoch": 0.5, "top1_error": 0.5, "top5_error": 0.0},
                {"kind": "train", "epoch": 1.0, "top1_error": train, "top5_error": 0.0},
                {"kind": "eval", "epoch": 1.0, "top1_error": test, "top5_error": 0.0},
            ]
            some.append(Outcome(Trial(arm, {}, seed), "finished", rows))
    (comparison,) = verdict.summarize(held, some)["comparisons"]
    reach = stats.t.ppf(0.975, 2) * deviation / math.sqrt(3)
    assert comparison["high"] - comparison["mean"] == pytest.approx(reach)


def test_who_is_there_at_the_first_record_is_counted_and_said():
    some = outcomes({("ReLU", 0.1): [1.0, 1.2], ("tanh", 0.1): [2.0, 2.5]})
    some[1].rows.insert(
        0, {"kind": "train", "step": 0, "epoch": 0.4, "top1_error": 0.2}
    )
    summary = verdict.summarize(experiment(rates=(0.1,)), some)
    assert summary["arms"]["ReLU"]["per_seed"] == pytest.approx([1.0, 0.2])
    assert summary["arms"]["ReLU"]["at_first_record"] == 1
    assert summary["arms"]["tanh"]["at_first_record"] == 0
    said = (
        "There at the first record already: ReLU in 1 seed. It counts as there at that"
    )
    assert said in summary["verdict"]


def test_every_standing_has_its_sentence():
    values = (None, 0.3, 1.0, 1.7)
    for ratio, paper in itertools.product((True, False), (6.0, -1.0, "lower", None)):
        for pairs in itertools.product(itertools.product(values, values), repeat=2):
            for some in (pairs, pairs[:1]):
                found = verdict.direction(compare(list(some), ratio=ratio), paper)
                assert words.SENTENCES[found].endswith(".")


def test_several_comparisons_each_with_its_standing():
    """Errors of three arms over three seeds, each against the first."""
    errors = {
        "all": (0.40, 0.41, 0.39),
        "without conv2": (0.43, 0.44, 0.418),
        "without fc6": (0.38, 0.39, 0.371),
    }
    claim = CLAIM | {
        "metric": "top1_error",
        "compare": [["without conv2", "all"], ["without fc6", "all"]],
        "paper": 0.02,
    }
    held = experiment(seeds=3, claim=claim, rates=())
    held["config"] |= {"arms": {arm: {} for arm in errors}, "tuned": {}}
    some = [
        Outcome(
            Trial(arm, {}, seed),
            "finished",
            [
                {
                    "kind": kind,
                    "step": 9,
                    "epoch": 1.0,
                    "top1_error": e,
                    "top5_error": e,
                }
                for kind in ("train", "eval")
            ],
        )
        for arm, values in errors.items()
        for seed, e in enumerate(values)
    ]
    summary = verdict.summarize(held, some)
    one, other = summary["comparisons"]
    assert one["mean"] == pytest.approx(statistics.fmean((0.03, 0.03, 0.028)))
    assert one["standing"] == "same direction, resolved"
    assert other["standing"] == "opposite"
    assert "without conv2 - all (2.9 points)" in summary["verdict"]
    assert "not all of them together" in summary["verdict"]
    held["config"]["claim"]["metric"] = "train_top1_error"
    again = verdict.summarize(held, some)["comparisons"][0]
    assert again["mean"] == pytest.approx(one["mean"])


def test_a_missing_value_never_enters_a_mean():
    """Of 10 epochs trained: the ratio is a bound, at least sqrt(10 * 6)."""
    comparison = compare([(None, 1.0), (6.0, 1.0)])
    assert comparison["mean"] is None
    assert comparison["low"] is None
    assert comparison["missing_first"] == 1
    assert comparison["at_least"] == pytest.approx(math.sqrt(60))
    assert comparison["n"] == 1


CLAIM = {
    "section": "3.1",
    "text": "six times faster",
    "metric": "epochs_to_train_error",
    "threshold": 0.25,
    "compare": ["tanh", "ReLU"],
    "paper": 6.0,
    "dataset": "cifar10",
}


def experiment(seeds=2, claim=CLAIM, dataset="digits", rates=(0.1, 0.2, 0.4)):
    return {
        "config": {
            "experiment": "relu_vs_tanh",
            "arms": {"ReLU": {}, "tanh": {}},
            "tuned": {"optimizer.learning_rate": list(rates)},
            "seeds": seeds,
            "claim": claim,
            "training": {"num_epochs": 10.0},
        },
        "data": [{"name": dataset}],
    }


def outcome(arm, rate, seed, reached, status="finished"):
    """A curve that comes down to 25% at `reached` epochs; None: it never does."""
    # Train rows stand in the middle of their interval.
    never = [(0.0, 0.9), (10.0, 0.8)]
    records = [(0.98, 0.9), (1, 0.9), (1, 0.25)]  # a hundredth of `reached` apart
    errors = (
        never
        if reached is None
        else [(share * reached, error) for share, error in records]
    )
    rows = [
        {"kind": "train", "step": i, "epoch": epoch, "top1_error": error}
        for i, (epoch, error) in enumerate(errors)
    ]
    rows.append(
        {"kind": "eval", "step": 9, "epoch": 10.0, "top1_error": 0.2, "top5_error": 0.1}
    )
    return Outcome(Trial(arm, {"optimizer.learning_rate": rate}, seed), status, rows)


def outcomes(reached):
    """`reached`: (arm, rate) -> epochs of each seed."""
    return [
        outcome(arm, rate, seed, epochs)
        for (arm, rate), values in reached.items()
        for seed, epochs in enumerate(values)
    ]


def test_each_arm_is_compared_at_its_own_best_value():
    reached = {
        ("ReLU", 0.1): [3.0, 3.0],
        ("ReLU", 0.2): [1.0, 1.1],
        ("ReLU", 0.4): [None, 0.1],  # fastest in one seed, never there in the other
        ("tanh", 0.1): [9.0, 9.0],
        ("tanh", 0.2): [7.0, 7.0],
        ("tanh", 0.4): [4.0, 4.4],
    }
    summary = verdict.summarize(experiment(), outcomes(reached))
    assert summary["arms"]["ReLU"]["tuned"] == {"optimizer.learning_rate": 0.2}
    assert summary["arms"]["ReLU"]["per_seed"] == pytest.approx([1.0, 1.1])
    assert summary["arms"]["ReLU"]["at_edge"] == []
    assert summary["arms"]["tanh"]["at_edge"] == ["optimizer.learning_rate"]
    assert summary["comparisons"][0]["mean"] == pytest.approx(4.0)
    at_equal = summary["at_equal_tuned_values"]["learning_rate=0.1"]
    assert at_equal["mean"] == pytest.approx(3.0)
    assert summary["verdict"].startswith("As the paper says")
    assert "edge" in summary["verdict"]
    assert "not on the paper's cifar10" in summary["verdict"]


def test_a_best_value_beside_one_that_nobody_reaches_is_said():
    """The grid stops at a cliff: what is best between is not known."""
    reached = {
        ("ReLU", 0.1): [3.0, 3.1],
        ("ReLU", 0.2): [1.0, 1.1],
        ("ReLU", 0.4): [None, None],
        ("tanh", 0.1): [9.0, 9.0],
        ("tanh", 0.2): [4.0, 4.5],
        ("tanh", 0.4): [None, 5.0],  # one gets there: no cliff
    }
    summary = verdict.summarize(experiment(), outcomes(reached))
    found = {arm: facts["beside_cliff"] for arm, facts in summary["arms"].items()}
    assert found == {"ReLU": {"optimizer.learning_rate": [0.4]}, "tanh": {}}
    words = (
        "Beside ReLU's best learning rate, 0.2, lies a cliff: no seed gets there at 0.4"
    )
    assert words in summary["verdict"]
    assert "Beside tanh" not in summary["verdict"]


def test_values_further_than_the_next_are_no_cliff():
    reached = {
        ("ReLU", 0.1): [1.0, 1.1],
        ("ReLU", 0.2): [3.0, 3.1],
        ("ReLU", 0.4): [None, None],
    }
    reached |= {("tanh", rate): [None, None] for rate in (0.1, 0.2, 0.4)}
    arms = verdict.summarize(experiment(), outcomes(reached))["arms"]
    assert arms["ReLU"]["beside_cliff"] == {}
    assert arms["tanh"]["beside_cliff"] == {}  # no best value to stand beside


def test_a_threshold_that_no_arm_reaches():
    """No best value: none at an edge, and none beside a cliff."""
    reached = {
        (arm, r): [None, None] for arm in ("ReLU", "tanh") for r in (0.1, 0.2, 0.4)
    }
    summary = verdict.summarize(experiment(), outcomes(reached))
    assert [facts["at_edge"] for facts in summary["arms"].values()] == [[], []]
    assert summary["verdict"] == (
        "Not answered: trials diverged, never got there or are not done. Epochs to 25% "
        "training error, tanh / ReLU: no answer (tanh not there in 2 seeds, ReLU not there "
        "in 2 seeds). The paper: 6. Measured on digits, not on the paper's cifar10: it "
        "neither confirms nor refutes the paper."
    )


def diverging():
    """Of the errors above, one seed of tanh diverged at both rates."""
    held = experiment(
        seeds=3,
        rates=(0.1, 0.2),
        claim=CLAIM | {"metric": "top1_error", "paper": "higher", "dataset": "digits"},
    )
    some = []
    for (arm, rate), rows in ERRORS.items():
        for seed, found in enumerate(rows):
            lost = arm == "tanh" and seed == 1
            some.append(
                Outcome(
                    Trial(arm, {"optimizer.learning_rate": rate}, seed),
                    "diverged" if lost else "finished",
                    error_rows(*found),
                )
            )
    return verdict.summarize(held, some)


def test_an_error_that_diverged_is_said_as_such_and_the_others_beside_it():
    summary = diverging()
    tanh, (comparison,) = summary["arms"]["tanh"], summary["comparisons"]
    assert (tanh["mean"], tanh["diverged"], tanh["unfinished"]) == (None, 1, 0)
    shown = words.show_interval(tanh, summary["claim"])
    assert shown == "none in 1 of 3 seeds: 1 diverged"
    assert comparison["standing"] == "not answered"
    assert (comparison["mean"], comparison["low"]) == (None, None)
    # Seeds 0 and 2 alone.
    expected = verdict.interval([0.38 - 0.40, 0.38 - 0.39])
    assert comparison["finished_pairs"] == pytest.approx(expected.as_dict())
    assert summary["verdict"] == (
        "Not answered: trials diverged or are not done. Top-1 error, tanh - ReLU: no "
        "answer (tanh without a value in 1 seed); of the pairs that finished alone, which "
        "decides nothing: -1.5 points, 95% interval -7.9 points to 4.9 points from 2 "
        "paired seeds. The paper: higher, without a number. 2 trials diverged, at the "
        "values compared tanh 1 of 3. The best value of ReLU and tanh is at the edge of "
        "those tried."
    )


def test_of_a_ratio_no_pairs_are_left_out():
    """Who never got there is the slowest: without them the others look too fast."""
    assert compare([(None, 1.0), (6.0, 1.0)])["finished_pairs"] is None


def test_keys_of_the_summary():
    reached = {
        (arm, r): [1.0, 2.0] for arm in ("ReLU", "tanh") for r in (0.1, 0.2, 0.4)
    }
    summary = verdict.summarize(experiment(), outcomes(reached))
    assert {"experiment", "dataset", "claim", "arms", "comparisons", "verdict"} <= set(
        summary
    )
    assert {"mean", "low", "high", "per_seed", "tuned"} <= set(summary["arms"]["ReLU"])
    assert {"mean", "low", "high", "n"} <= set(summary["comparisons"][0])
    assert summary["arms"]["tanh"]["final_top1_error"] == pytest.approx(0.2)


def test_on_the_papers_own_data_no_caveat_is_made():
    reached = {
        (arm, r): [1.0, 2.0] for arm in ("ReLU", "tanh") for r in (0.1, 0.2, 0.4)
    }
    at_home = experiment(dataset="cifar10:3.0.2")
    summary = verdict.summarize(at_home, outcomes(reached))
    assert "neither confirms" not in summary["verdict"]


def test_imagenet_of_2012_is_other_data_than_that_of_2010():
    """Sections 3.2 and 6 (footnote): their numbers are of the test set of 2010."""
    reached = {
        (arm, r): [1.0, 2.0] for arm in ("ReLU", "tanh") for r in (0.1, 0.2, 0.4)
    }
    held = experiment(claim=CLAIM | {"dataset": "imagenet2010"}, dataset="imagenet2012")
    summary = verdict.summarize(held, outcomes(reached))
    assert (
        "Measured on imagenet2012, not on the paper's imagenet2010"
        in (summary["verdict"])
    )


def test_unfinished_trials_are_said():
    some = outcomes({("ReLU", 0.1): [1.0], ("tanh", 0.1): [2.0]})
    some.append(
        Outcome(Trial("ReLU", {"optimizer.learning_rate": 0.1}, 1), "unfinished", [])
    )
    some.append(outcome("tanh", 0.1, 1, 3.0))
    summary = verdict.summarize(experiment(rates=(0.1,)), some)
    assert summary["verdict"].startswith("1 trials have not run to their end.")
    # It may get there yet: no bound is taken from where it stands.
    assert summary["comparisons"][0]["at_most"] is None
    assert summary["comparisons"][0]["standing"] == "not answered"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "accuracy"}, "top5_error"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": "a quarter"}, "threshold"),
        ({"paper": "six"}, '"higher" or "lower"'),
        ({"paper": "higher", "compare": ()}, "higher than what"),
        ({"compare": ["tanh"]}, "two arms"),
        ({"paper": 1.0}, "no effect: neither direction.*Give None"),
        ({"paper": 0.0, "metric": "top1_error"}, "no effect.*Give None"),
        (
            {"also": [{"metric": "top5_error", "paper": 0}]},
            r"also\[0\].*no effect.*Give None",
        ),
        ({"compare": ["tanh", "Relu"]}, "'Relu'.*Did you mean"),
        ({"compare": [["tanh", "ReLU"], ["tanh", "tanh"]]}, "two arms"),
    ],
)
def test_a_claim_that_cannot_be_answered_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        claims.check_claim(experiment(claim=CLAIM | change)["config"])


def test_a_claim_without_its_parts_is_refused():
    with pytest.raises(UserError, match="lacks 'section'"):
        claims.check_claim(experiment(claim={})["config"])


# --- what a claim says also -------------------------------------------------------


def error_rows(train, top1, top5):
    rates = {"top5_error": top5}
    return [
        {"kind": "train", "epoch": 1.0, "top1_error": train} | rates,
        {"kind": "eval", "epoch": 1.0, "top1_error": top1} | rates,
    ]


# (train, top1, top5) of each seed: more top-5 errors with tanh, but fewer top-1.
ERRORS = {
    ("ReLU", 0.1): [(0.10, 0.40, 0.10), (0.12, 0.41, 0.11), (0.11, 0.39, 0.10)],
    ("ReLU", 0.2): [(0.10, 0.50, 0.01), (0.10, 0.51, 0.01), (0.10, 0.49, 0.01)],
    ("tanh", 0.1): [(0.30, 0.38, 0.15), (0.31, 0.39, 0.15), (0.32, 0.38, 0.16)],
    ("tanh", 0.2): [(0.30, 0.48, 0.05), (0.30, 0.48, 0.05), (0.30, 0.48, 0.05)],
}


def of_errors(also, errors=ERRORS, seeds=3, **claim):
    held = experiment(
        seeds=seeds,
        rates=(0.1, 0.2),
        claim=CLAIM
        | {"metric": "top1_error", "paper": 0.014, "dataset": "imagenet2012"}
        | {"also": also}
        | claim,
    )
    return verdict.summarize(
        held,
        [
            Outcome(
                Trial(arm, {"optimizer.learning_rate": rate}, seed),
                "finished",
                error_rows(*found),
            )
            for (arm, rate), rows in errors.items()
            for seed, found in enumerate(rows)
        ],
    )


def test_a_claim_that_is_none_or_compares_one_arm_is_refused():
    config = experiment(seeds=1, rates=(0.1,))["config"]
    with pytest.raises(UserError, match="is None: give"):
        verdict.check_claim(config | {"claim": None})
    with pytest.raises(UserError, match="compares 'ReLU': give two arms"):
        verdict.check_claim(config | {"claim": CLAIM | {"compare": "ReLU"}})


def test_a_small_threshold_is_not_rounded_to_nothing():
    shown = {0.25: "25%", 0.07: "7%", 0.001: "0.1%", 0.0001: "0.01%"}
    for threshold, expected in shown.items():
        claim = CLAIM | {"metric": "epochs_to_train_error", "threshold": threshold}
        said = claims.describe_metric(claim)
        assert said == f"epochs to {expected} training error"


def test_each_further_claim_has_its_values_its_number_and_its_verdict():
    summary = of_errors([{"metric": "top5_error", "paper": 0.012}])
    (main,) = summary["comparisons"]
    assert main["mean"] == pytest.approx((-0.02 - 0.02 - 0.01) / 3)
    assert main["standing"] == "opposite"
    (also,) = summary["also"]
    assert also["claim"] == {
        **{key: CLAIM[key] for key in ("section", "text", "threshold", "compare")},
        "metric": "top5_error",
        "paper": 0.012,
        "dataset": "imagenet2012",
    }
    assert also["arms"]["tanh"]["per_seed"] == [0.15, 0.15, 0.16]
    (comparison,) = also["comparisons"]
    expected = stats.ttest_rel([0.15, 0.15, 0.16], [0.10, 0.11, 0.10])
    reach = expected.confidence_interval(0.95)
    assert comparison["mean"] == pytest.approx(0.05)
    assert (comparison["low"], comparison["high"]) == pytest.approx(
        (reach.low, reach.high)
    )
    assert comparison["standing"] == "same direction, resolved"
    assert also["verdict"].startswith("As the paper says")
    assert "The paper: 1.2 points, outside that interval" in also["verdict"]
    assert "not on the paper's imagenet2012" in also["verdict"]
    assert "also" not in summary["claim"]


def test_tuned_values_are_chosen_by_the_main_claim():
    """At 0.2 both arms have fewer top-5 errors: that is not asked."""
    (also,) = of_errors([{"metric": "top5_error", "paper": 0.012}])["also"]
    assert also["arms"]["ReLU"]["per_seed"] == [0.10, 0.11, 0.10]


def test_a_further_claim_may_compare_other_arms_and_another_way():
    entry = {
        "metric": "epochs_to_train_error",
        "threshold": 0.2,
        "paper": 2.0,
        "compare": ["ReLU", "tanh"],
        "dataset": "cifar10",
    }
    (also,) = of_errors([entry])["also"]
    assert also["claim"]["threshold"] == 0.2
    assert also["comparisons"][0]["missing_second"] == 3  # tanh stays above 20%
    assert "epochs to 20% training error" in also["verdict"].lower()
    assert "not on the paper's cifar10" in also["verdict"]


def test_the_gap_is_the_last_test_error_less_the_last_training_error():
    (also,) = of_errors([{"metric": "overfitting_gap", "paper": "lower"}])["also"]
    assert also["arms"]["ReLU"]["per_seed"] == pytest.approx([0.30, 0.29, 0.28])
    assert also["arms"]["tanh"]["per_seed"] == pytest.approx([0.08, 0.08, 0.06])
    assert also["comparisons"][0]["mean"] == pytest.approx((-0.22 - 0.21 - 0.22) / 3)
    assert also["comparisons"][0]["standing"] == "same direction, resolved"
    assert words.GAPS in also["verdict"]
    summary = of_errors([], metric="overfitting_gap", paper=None)
    assert summary["arms"]["ReLU"]["mean"] == pytest.approx(0.29)


@pytest.mark.parametrize(
    ("also", "words"),
    [
        ({"metric": "top5_error", "paper": 1}, r"give \(\{\.\.\.\},\), further"),
        (["top5_error"], r"also\[0\], is 'top5_error'"),
        ([{"metric": "top5_error"}], r"also\[0\] \(top5_error\), lacks 'paper'"),
        ([{"paper": 0.1}], r"also\[0\], lacks 'metric'"),
        (
            [{"metric": "top5_error", "paper": 1.2}],
            "errors are fractions, so that 1.2 points are 0.012",
        ),
        (
            [
                {"metric": "top5_error", "paper": 0.1},
                {"metric": "loss", "paper": 0.1},
            ],
            r"also\[1\] \(loss\), has the metric 'loss'",
        ),
        (
            [{"metric": "top5_error", "paper": 0.1, "compair": ["tanh", "ReLU"]}],
            r"also\[0\] \(top5_error\), has 'compair'.*Did you mean 'compare'",
        ),
        (
            [{"metric": "top5_error", "paper": 0.1, "compare": ["tanh", "Relu"]}],
            r"also\[0\].*'Relu'.*Did you mean 'ReLU'",
        ),
        (
            [{"metric": "epochs_to_train_error", "paper": 2.0, "threshold": 2}],
            r"also\[0\].*'threshold'",
        ),
    ],
)
def test_a_further_claim_that_cannot_be_answered_is_named(also, words):
    config = experiment(claim=CLAIM | {"also": also})["config"]
    with pytest.raises(UserError, match=words):
        claims.check_claim(config)


def test_a_misspelt_part_of_a_claim_is_refused():
    with pytest.raises(UserError, match=r"has 'treshold'.*'threshold'"):
        claims.check_claim(experiment(claim=CLAIM | {"treshold": 0.3})["config"])


def test_an_average_of_networks_stands_beside_the_mean_of_theirs():
    arms = {"one": {}, "two averaged": {"training.ensemble": 2}}
    claim = CLAIM | {"metric": "top1_error", "compare": ["one", "two averaged"]}
    held = experiment(seeds=6, claim=claim | {"paper": 0.026}, rates=(0.1,))
    held["config"]["arms"] = arms
    errors = {"one": [0.3, 0.5, 0.2, 0.2, 0.6, 0.4], "two averaged": [0.3, 0.1, 0.3]}

    def found():
        return verdict.summarize(
            held,
            [
                Outcome(
                    Trial(arm, {"optimizer.learning_rate": 0.1}, seed),
                    "finished" if error is not None else "diverged",
                    [
                        {
                            "kind": kind,
                            "epoch": 1.0,
                            "top5_error": 0,
                            "top1_error": error,
                        }
                        for kind in (("train",) if arm == "one" else ()) + ("eval",)
                    ],
                )
                for arm, values in errors.items()
                for seed, error in enumerate(values)
            ],
        )

    (comparison,) = found()["comparisons"]
    expected = verdict.interval([0.4 - 0.3, 0.2 - 0.1, 0.5 - 0.3])
    assert comparison["n"] == 3
    assert (comparison["mean"], comparison["low"]) == pytest.approx(
        (expected.mean, expected.low)
    )
    assert "from 3 groups of 2 seeds" in found()["verdict"]
    assert len(found()["arms"]["one"]["per_seed"]) == 6

    errors["one"][3] = None  # diverged: its group has no mean, and no average
    errors["two averaged"][1] = None
    (comparison,) = found()["comparisons"]
    assert (comparison["n"], comparison["mean"]) == (2, None)


def test_an_average_of_networks_has_no_training_error():
    held = experiment()["config"] | {"arms": {"ReLU": {}, "tanh": {}}}
    held["arms"]["tanh"] = {"training.ensemble": 2}
    with pytest.raises(UserError, match="'tanh' averages networks"):
        claims.check_claim(held)
