"""Crossings, gaps, averages of networks, and how finely values are known."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_records import (
    CLAIM,
    all_reaching,
    experiment,
    row,
    summary_of,
    summary_of_errors,
    trial,
    with_errors,
)
from scipy import stats

from alexnet_jax.report import tables
from alexnet_jax.report.measures import crossing
from alexnet_jax.report.run_reader import Outcome
from alexnet_jax.report.verdict import interval


def test_a_crossing_lies_on_the_line_between_two_points():
    curve = [(1.0, 0.9), (2.0, 0.5), (4.0, 0.1)]
    assert crossing(curve, 0.25) == pytest.approx(2 + 2 * 0.25 / 0.4)
    assert crossing(curve, 0.05) is None
    assert crossing(curve, 0.95) == 1.0
    assert crossing([], 0.5) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.01, 0.99))
def test_before_the_crossing_no_point_is_below(errors, threshold):
    curve = [(float(i), error) for i, error in enumerate(errors)]
    crossed = crossing(curve, threshold)
    if crossed is None:
        assert min(errors) > threshold
    else:
        assert all(error > threshold for epoch, error in curve if epoch < crossed)
        assert min(errors) <= threshold


def test_three_equal_ratios_are_known_to_a_record_only():
    """25% is crossed between 1.75 and 2.25, and between 2.75 and 3.25: half an epoch."""
    outcomes = []
    for arm, turn in {"ReLU": 2, "tanh": 3}.items():
        for seed in range(3):
            rows = [
                row("train", 0.5 * n, 0.2 + 0.1 * (n <= 2 * turn)) for n in range(1, 9)
            ]
            rows.append(row("eval", 4.0, 0.2, 0.1))
            outcomes.append(Outcome(trial(arm, seed, 0.1), "finished", rows))
    summary = summary_of(experiment(seeds=3, rates=(0.1,)), outcomes)
    (comparison,) = summary["comparisons"]
    assert comparison["mean"] == pytest.approx(3.0 / 2.0)
    std = math.sqrt((0.5 / 2) ** 2 / 12 + (0.5 / 3) ** 2 / 12)
    half_width = stats.t.ppf(0.975, 2) * std / math.sqrt(3)
    assert comparison["high"] == pytest.approx(1.5 * math.exp(half_width))
    assert comparison["low"] == pytest.approx(1.5 / math.exp(half_width))


@pytest.mark.parametrize(
    ("metric", "std"),
    [
        ("top1_error", math.sqrt(2 / 12) / 359),
        # The last record is of half an epoch of 1,438 images.
        ("train_top1_error", math.sqrt(2 / 12) / 719),
        ("overfitting_gap", math.sqrt(2 / 12 * (1 / 359**2 + 1 / 719**2))),
    ],
)
def test_equal_differences_of_errors_are_known_to_an_image_only(metric, std):
    claim = CLAIM | {"metric": metric, "paper": "higher"}
    content = experiment(seeds=3, rates=(), claim=claim)
    content["data"][0] |= {"train_examples": 1438, "validation_examples": 359}
    outcomes = [
        Outcome(
            trial(arm, seed),
            "finished",
            [row("train", 0.5, 0.5), row("train", 1.0, train), row("eval", 1.0, test)],
        )
        for arm, (train, test) in {"ReLU": (0.1, 0.2), "tanh": (0.11, 0.23)}.items()
        for seed in range(3)
    ]
    (comparison,) = summary_of(content, outcomes)["comparisons"]
    half_width = stats.t.ppf(0.975, 2) * std / math.sqrt(3)
    assert comparison["high"] - comparison["mean"] == pytest.approx(half_width)


def test_seeds_below_the_threshold_at_the_first_record_are_counted():
    outcomes = all_reaching({("ReLU", 0.1): [1.0, 1.2], ("tanh", 0.1): [2.0, 2.5]})
    outcomes[1].rows.insert(0, row("train", 0.4, 0.2))
    summary = summary_of(experiment(rates=(0.1,)), outcomes)
    assert summary["arms"]["ReLU"]["per_seed"] == pytest.approx([1.0, 0.2])
    assert summary["arms"]["ReLU"]["below_at_first_log"] == 1
    assert summary["arms"]["tanh"]["below_at_first_log"] == 0
    early = "Reached before the first logged step, and counted there: ReLU in 1 seed."
    assert early in summary["verdict"]


def test_the_gap_is_the_final_test_error_minus_the_final_training_error():
    (also,) = summary_of_errors(also=[{"metric": "overfitting_gap", "paper": "lower"}])[
        "also"
    ]
    assert also["arms"]["ReLU"]["per_seed"] == pytest.approx([0.30, 0.29, 0.28])
    assert also["arms"]["tanh"]["per_seed"] == pytest.approx([0.08, 0.08, 0.06])
    assert also["comparisons"][0]["mean"] == pytest.approx((-0.22 - 0.21 - 0.22) / 3)
    summary = summary_of_errors(metric="overfitting_gap", paper=None)
    assert summary["arms"]["ReLU"]["mean"] == pytest.approx(0.29)


def test_an_average_of_networks_is_compared_with_the_mean_of_its_networks():
    claim = CLAIM | {"metric": "top1_error", "compare": ["one", "two averaged"]}
    content = experiment(seeds=6, claim=claim | {"paper": 0.026}, rates=(0.1,))
    content["config"]["arms"] = {"one": {}, "two averaged": {"training.ensemble": 2}}
    errors = {"one": [0.3, 0.5, 0.2, 0.2, 0.6, 0.4], "two averaged": [0.3, 0.1, 0.3]}

    def summary():
        outcomes = []
        for arm, values in errors.items():
            for seed, error in enumerate(values):
                kinds = ("train", "eval") if arm == "one" else ("eval",)
                rows = [row(kind, 1.0, error) for kind in kinds]
                status = "diverged" if error is None else "finished"
                outcomes.append(Outcome(trial(arm, seed, 0.1), status, rows))
        return summary_of(content, outcomes)

    (comparison,) = summary()["comparisons"]
    expected = interval([0.4 - 0.3, 0.2 - 0.1, 0.5 - 0.3])
    assert comparison["n"] == 3
    assert (comparison["mean"], comparison["low"]) == pytest.approx(
        (expected.mean, expected.low)
    )
    assert "3 groups of 2 seeds" in summary()["verdict"]
    assert len(summary()["arms"]["one"]["per_seed"]) == 6

    errors["one"][3] = None  # diverged: neither its group nor its average has a value
    errors["two averaged"][1] = None
    (comparison,) = summary()["comparisons"]
    assert (comparison["n"], comparison["mean"]) == (2, None)


def test_where_all_others_reached_the_error_a_bound_is_that_of_the_planned_epochs():
    outcomes = [
        dataclasses.replace(outcome, status=status, rows=outcome.rows[:kept])
        for outcome, status, kept in zip(
            all_reaching({("ReLU", 0.1): [2.0, 4.0], ("tanh", 0.1): [None, None]}),
            ("reached", "reached", "diverged", "diverged"),
            (None, None, 1, 1),
            strict=True,
        )
    ]
    summary = summary_of(experiment(rates=(0.1,)), outcomes)
    (comparison,) = summary["comparisons"]
    # Ten epochs are planned, with a row every half: 9.5 / 2 and 9.5 / 4.
    assert comparison["at_least"] == pytest.approx(9.5 / math.sqrt(2 * 4), rel=1e-2)
    assert summary["arms"]["ReLU"]["reached"] == 2


def test_errors_of_trials_that_ended_at_different_epochs_stand_in_no_table():
    outcomes = all_reaching({("ReLU", 0.1): [2.0, 4.0], ("tanh", 0.1): [3.0, 5.0]})
    whole = tables.tables(summary_of(experiment(rates=(0.1,)), outcomes))[0]
    assert "top-1 error" in whole[0]
    outcomes[0] = dataclasses.replace(outcomes[0], status="reached")
    ended = tables.tables(summary_of(experiment(rates=(0.1,)), outcomes))[0]
    assert ended[0] == ["arm", "learning rate", "epochs to 25% training error"]


@pytest.mark.parametrize(
    ("metric", "low", "high"),
    [
        ("top1_error", 0.0, 1.0),
        ("train_top1_error", 0.0, 1.0),
        ("overfitting_gap", -1.0, 1.0),
        ("epochs_to_train_error", 0.0, 29.4),
    ],
)
def test_an_interval_of_two_seeds_ends_at_what_is_possible(metric, low, high):
    """Student's t of two seeds is 12.7 times their standard error."""
    if metric == "epochs_to_train_error":
        values = {("ReLU", 0.1): [2.0, 6.0]}
        outcomes, middle = all_reaching(values), 4.0
    else:
        pairs = [(0.1, 0.9, 0.0), (0.9, 0.1, 0.0)]
        outcomes, middle = with_errors({("ReLU", 0.1): pairs}), 0.5
        middle -= 0.5 * (metric == "overfitting_gap")
    claim = CLAIM | {"metric": metric, "compare": None, "paper": None}
    content = experiment(rates=(0.1,), claim=claim, arms=("ReLU",))
    facts = summary_of(content, outcomes)["arms"]["ReLU"]
    assert facts["mean"] == pytest.approx(middle)
    assert facts["low"] == low
    assert facts["high"] == pytest.approx(high, abs=0.1)
