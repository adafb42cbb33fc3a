"""Which tuned values are selected, and what summary.json holds."""

import statistics

import pytest
from report_records import (
    CLAIM,
    RATE,
    all_reaching,
    experiment,
    reaching,
    summary_of,
    summary_of_errors,
    trial,
    with_errors,
)
from scipy import stats

from alexnet_jax.report import tables
from alexnet_jax.report.run_reader import Outcome
from alexnet_jax.report.summary import read_summary
from alexnet_jax.report.verdict import Standing, interval
from alexnet_jax.report.wording import agreement_cell

EVERYWHERE = {(arm, r): [1.0, 2.0] for arm in ("ReLU", "tanh") for r in (0.1, 0.2, 0.4)}


def test_each_arm_is_compared_at_its_own_selected_value():
    epochs = {
        ("ReLU", 0.1): [3.0, 3.0],
        ("ReLU", 0.2): [1.0, 1.1],
        ("ReLU", 0.4): [None, 0.1],  # fastest in one seed, and never in the other
        ("tanh", 0.1): [9.0, 9.0],
        ("tanh", 0.2): [7.0, 7.0],
        ("tanh", 0.4): [4.0, 4.4],
    }
    summary = summary_of(experiment(), all_reaching(epochs))
    assert summary["arms"]["ReLU"]["tuned"] == {RATE: 0.2}
    assert summary["arms"]["ReLU"]["per_seed"] == pytest.approx([1.0, 1.1])
    assert summary["arms"]["ReLU"]["at_edge"] == []
    assert summary["arms"]["tanh"]["at_edge"] == [RATE]
    assert summary["comparisons"][0]["mean"] == pytest.approx(4.0)
    at_equal = summary["at_equal_tuned_values"]["learning_rate=0.1"]
    assert at_equal["mean"] == pytest.approx(3.0)


def test_a_neighbor_at_which_no_seed_succeeds_is_found():
    epochs = {
        ("ReLU", 0.1): [3.0, 3.1],
        ("ReLU", 0.2): [1.0, 1.1],
        ("ReLU", 0.4): [None, None],
        ("tanh", 0.1): [9.0, 9.0],
        ("tanh", 0.2): [4.0, 4.5],
        ("tanh", 0.4): [None, 5.0],  # one seed succeeds
    }
    arms = summary_of(experiment(), all_reaching(epochs))["arms"]
    assert arms["ReLU"]["adjacent_diverged"] == {RATE: [0.4]}
    assert arms["tanh"]["adjacent_diverged"] == {}


def test_values_beyond_the_neighbors_are_not():
    epochs = {
        ("ReLU", 0.1): [1.0, 1.1],
        ("ReLU", 0.2): [3.0, 3.1],
        ("ReLU", 0.4): [None, None],
    }
    epochs |= {("tanh", rate): [None, None] for rate in (0.1, 0.2, 0.4)}
    arms = summary_of(experiment(), all_reaching(epochs))["arms"]
    assert arms["ReLU"]["adjacent_diverged"] == {}
    # Where no value is better than another, none is at an edge or beside a cliff.
    assert (arms["tanh"]["at_edge"], arms["tanh"]["adjacent_diverged"]) == ([], {})


def test_a_diverged_error_has_no_mean_and_the_other_pairs_are_kept_apart():
    summary = summary_of_errors(paper="higher", diverged=[("tanh", 1)])
    tanh, (comparison,) = summary["arms"]["tanh"], summary["comparisons"]
    assert (tanh["mean"], tanh["diverged"], tanh["unfinished"]) == (None, 1, 0)
    assert (comparison["mean"], comparison["low"]) == (None, None)
    assert comparison["standing"] == "not answered"
    expected = interval([0.38 - 0.40, 0.38 - 0.39])  # seeds 0 and 2
    assert comparison["finished_pairs"] == pytest.approx(expected.as_dict())


def test_of_unfinished_trials_no_bound_is_taken():
    """A trial that is still running may reach the threshold yet."""
    outcomes = all_reaching({("ReLU", 0.1): [1.0], ("tanh", 0.1): [2.0]})
    outcomes.append(Outcome(trial("ReLU", 1, 0.1), "unfinished", []))
    outcomes.append(reaching("tanh", 0.1, 1, 3.0))
    summary = summary_of(experiment(rates=(0.1,)), outcomes)
    assert summary["unfinished_trials"] == 1
    assert summary["comparisons"][0]["at_most"] is None
    assert summary["comparisons"][0]["standing"] == "not answered"


def test_keys_of_the_summary():
    summary = summary_of(experiment(), all_reaching(EVERYWHERE))
    assert {"experiment", "dataset", "claim", "arms", "comparisons", "verdict"} <= set(
        summary
    )
    assert {"mean", "low", "high", "per_seed", "tuned"} <= set(summary["arms"]["ReLU"])
    assert {"mean", "low", "high", "n"} <= set(summary["comparisons"][0])
    assert summary["arms"]["tanh"]["final_top1_error"] == pytest.approx(0.2)


def test_several_comparisons_each_with_its_standing():
    """Errors of three arms over three seeds, two of them against the first."""
    errors = {
        "all": (0.40, 0.41, 0.39),
        "without conv2": (0.43, 0.44, 0.418),
        "without fc6": (0.38, 0.39, 0.371),
    }
    pairs = [["without conv2", "all"], ["without fc6", "all"]]
    outcomes = with_errors(
        {(arm, None): [(e, e, e) for e in values] for arm, values in errors.items()}
    )
    found = {}
    for metric in ("top1_error", "train_top1_error"):
        claim = CLAIM | {"metric": metric, "compare": pairs, "paper": 0.02}
        content = experiment(seeds=3, claim=claim, rates=(), arms=errors)
        summary = summary_of(content, outcomes)
        one, other = summary["comparisons"]
        assert one["standing"] == "same direction, statistically clear at 95%"
        assert other["standing"] == "opposite direction, statistically clear at 95%"
        found[metric] = one["mean"]
        assert found[metric] == pytest.approx(statistics.fmean((0.03, 0.03, 0.028)))


def test_each_further_claim_has_its_values_its_number_and_its_standing():
    summary = summary_of_errors(also=[{"metric": "top5_error", "paper": 0.012}])
    (main,) = summary["comparisons"]
    assert main["mean"] == pytest.approx((-0.02 - 0.02 - 0.01) / 3)
    assert main["standing"] == "opposite direction, statistically clear at 95%"
    assert "also" not in summary["claim"]
    (also,) = summary["also"]
    assert also["claim"] == {
        **{key: CLAIM[key] for key in ("section", "text", "threshold", "compare")},
        "metric": "top5_error",
        "paper": 0.012,
        "dataset": "imagenet2012",
    }
    # At 0.2 both arms have fewer top-5 errors: the main claim selects the tuned values.
    assert also["arms"]["ReLU"]["per_seed"] == [0.10, 0.11, 0.10]
    assert also["arms"]["tanh"]["per_seed"] == [0.15, 0.15, 0.16]
    (comparison,) = also["comparisons"]
    expected = stats.ttest_rel([0.15, 0.15, 0.16], [0.10, 0.11, 0.10])
    limits = expected.confidence_interval(0.95)
    assert comparison["mean"] == pytest.approx(0.05)
    assert (comparison["low"], comparison["high"]) == pytest.approx(
        (limits.low, limits.high)
    )
    assert comparison["standing"] == "same direction, statistically clear at 95%"


def test_a_further_claim_may_compare_other_arms_in_another_way():
    entry = {
        "metric": "epochs_to_train_error",
        "threshold": 0.2,
        "paper": 2.0,
        "compare": ["ReLU", "tanh"],
        "dataset": "cifar10",
    }
    (also,) = summary_of_errors(also=[entry])["also"]
    assert also["claim"]["threshold"] == 0.2
    assert also["comparisons"][0]["missing_second"] == 3  # tanh stays above 20%
    assert "20% training error" in also["verdict"]
    assert "CIFAR-10" in also["verdict"]


# At the rate 0.2 ReLU is 30 points better in the seeds that did not diverge.
PASSED_OVER = {
    ("ReLU", 0.1): [(0.1, 0.40, 0.1)] * 3,
    ("ReLU", 0.2): [(0.1, 0.10, 0.1), (0.1, 0.10, 0.1), (0.1, None, 0.1)],
    ("tanh", 0.1): [(0.1, 0.20, 0.1), (0.1, 0.22, 0.1), (0.1, 0.21, 0.1)],
    ("tanh", 0.2): [(0.1, 0.50, 0.1)] * 3,
}


def with_a_diverged_seed(errors=PASSED_OVER, **claim):
    changed = {"metric": "top1_error", "dataset": "imagenet2012", **claim}
    outcomes = [
        Outcome(each.trial, "diverged", each.rows)
        if (each.trial.arm, each.trial.tuned_name, each.trial.seed)
        == ("ReLU", "learning_rate=0.2", 2)
        else each
        for each in with_errors(errors)
    ]
    content = experiment(seeds=3, rates=(0.1, 0.2), claim=CLAIM | changed)
    return summary_of(content, outcomes)


def test_agreement_is_left_open_where_it_depends_on_a_setting_with_a_diverged_seed():
    summary = with_a_diverged_seed(
        paper="lower"
    )  # tanh better, as at the selected rates
    (comparison,) = summary["comparisons"]
    assert summary["arms"]["ReLU"]["tuned"] == {RATE: 0.1}
    assert comparison["mean"] == pytest.approx(-0.19)
    assert comparison["standing"] == Standing.LEFT_OPEN
    facts = comparison["passed_over"]["ReLU"]
    assert (facts["tuned"], facts["diverged_seeds"]) == ("learning_rate=0.2", [2])
    assert facts["mean"] == pytest.approx(0.10)
    for text in (summary["verdict"], agreement_cell(comparison, summary["claim"])):
        assert "Consistent" not in text
        assert "learning rate 0.2" in text
        assert "seed 2 diverged" in text
        assert "10.0%" in text
    assert "10.0% in 2 of 3 seeds" in summary["verdict"]


def test_a_setting_passed_over_is_told_and_leaves_a_direction_that_it_does_not_change():
    better = PASSED_OVER | {("tanh", 0.1): [(0.1, 0.05, 0.1)] * 2 + [(0.1, 0.06, 0.1)]}
    summary = with_a_diverged_seed(better, paper="lower")
    (comparison,) = summary["comparisons"]
    assert comparison["standing"] == Standing.SAME_CLEAR
    for text in (summary["verdict"], agreement_cell(comparison, summary["claim"])):
        assert "learning rate 0.2" in text
        assert "seed 2 diverged" in text


def test_a_worse_setting_with_a_diverged_seed_is_not_passed_over():
    worse = PASSED_OVER | {("ReLU", 0.2): [(0.1, 0.6, 0.1)] * 2 + [(0.1, None, 0.1)]}
    summary = with_a_diverged_seed(worse, paper="lower")
    assert summary["arms"]["ReLU"]["passed_over"] is None
    assert summary["comparisons"][0]["standing"] == Standing.SAME_CLEAR


def test_a_file_of_an_older_version_is_read_with_the_keys_of_this_one(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text(
        '{"arms": {"tanh": {"beside_cliff": {}, "at_first_record": 1}},'
        ' "comparisons": [{"seeds_each": 5}], "verdict": "seeds_each"}'
    )
    assert read_summary(path) == {
        "arms": {"tanh": {"adjacent_diverged": {}, "below_at_first_log": 1}},
        "comparisons": [{"seeds_per_group": 5}],
        "verdict": "seeds_each",
    }


def test_the_errors_of_parameters_that_are_averaged_stand_beside():
    """Where one seed lacks them, as of a record before an interruption, the mean does."""
    claim = CLAIM | {"metric": "top1_error", "paper": None, "dataset": "imagenet2012"}
    content = experiment(seeds=2, rates=(0.1,), claim=claim)
    outcomes = with_errors(
        {("ReLU", 0.1): [(0.1, 0.4, 0.1)] * 2, ("tanh", 0.1): [(0.1, 0.3, 0.1)] * 2}
    )
    for outcome, error in zip(outcomes[2:], (0.5, 0.3), strict=True):
        outcome.rows[-1]["beside"] = {"raw": {"loss": 1.0, "top1_error": error}}
    summary = summary_of(content, outcomes)
    assert "final_raw_top1_error" not in summary["arms"]["ReLU"]
    assert summary["arms"]["tanh"]["final_raw_top1_error"] == pytest.approx(0.4)
    heading, relu, tanh = tables.tables(summary)[0]
    column = heading.index("top-1 error, parameters not averaged")
    assert (relu[column], tanh[column]) == ("-", "40.0%")

    del outcomes[-1].rows[-1]["beside"]
    summary = summary_of(content, outcomes)
    assert "final_raw_top1_error" not in summary["arms"]["tanh"]
    assert len(tables.tables(summary)[0][0]) == len(heading) - 1


def test_equal_errors_depend_on_nothing():
    """3, 4 and 6 errors of 359, and 5, 4 and 4: their means differ in the last bit."""
    claim = CLAIM | {"metric": "top1_error", "paper": None, "dataset": "imagenet2012"}
    errors = {"ReLU": (3, 4, 6), "tanh": (5, 4, 4)}
    outcomes = with_errors(
        {(arm, 0.1): [(0.0, n / 359, 0.0) for n in of] for arm, of in errors.items()}
    )
    summary = summary_of(experiment(seeds=3, rates=(0.1,), claim=claim), outcomes)
    (found,) = summary["comparisons"]
    assert found["mean"] != 0
    assert found["standing"] == Standing.DIFFERENCE_UNCLEAR
