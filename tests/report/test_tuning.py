"""The stage that chooses tuned values: its choice, what it gives up, and what is reported of it."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_records import CLAIM, RATE, experiment, reaching, row, trial

from alexnet_jax.config.fields import FIRST_TUNING_SEED
from alexnet_jax.report import run_reader, tables
from alexnet_jax.report.run_reader import Outcome
from alexnet_jax.report.summary import summarize
from alexnet_jax.report.tuning import Stage
from alexnet_jax.report.verdict import Standing

ARMS = ("ReLU", "tanh")


def staged(tuning, measured=(), *, rates=(0.1, 0.2), seeds=2, tuning_seeds=1):
    """A run with a tuning stage.

    tuning, measured: for (arm, rate) the epoch of each seed; None: it never reaches 25%.
    Measured trials that are not given have not begun.
    """
    content = experiment(seeds=seeds, rates=rates)
    content["config"]["tuning_seeds"] = tuning_seeds
    content["config"]["arms"] = {arm: {"model.activation": arm.lower()} for arm in ARMS}
    outcomes = [
        reaching(arm, rate, seed, dict(measured)[arm, rate][seed])
        if (arm, rate) in dict(measured)
        else Outcome(trial(arm, seed, rate), "unfinished", [])
        for arm in ARMS
        for rate in rates
        for seed in range(seeds)
    ]
    of_stage = [
        reaching(arm, rate, FIRST_TUNING_SEED + seed, epoch)
        for (arm, rate), epochs in tuning.items()
        for seed, epoch in enumerate(epochs)
    ]
    return run_reader.run_of(Path("run"), content, outcomes, of_stage)


TUNING = {
    ("ReLU", 0.1): [2.0],
    ("ReLU", 0.2): [1.0],
    ("tanh", 0.1): [3.0],
    ("tanh", 0.2): [None],
}
MEASURED = {("ReLU", 0.2): [1.5, 1.6], ("tanh", 0.1): [6.0, 6.4]}


def test_each_arm_is_measured_at_its_chosen_values_by_measured_seeds_alone():
    summary = summarize(staged(TUNING, MEASURED))
    assert summary["arms"]["ReLU"]["tuned"] == {RATE: 0.2}
    assert summary["arms"]["tanh"]["tuned"] == {RATE: 0.1}
    assert summary["arms"]["ReLU"]["per_seed"] == pytest.approx([1.5, 1.6], rel=0.02)
    (comparison,) = summary["comparisons"]
    assert comparison["n"] == 2
    assert comparison["mean"] == pytest.approx(4.0, rel=0.02)
    assert summary["unfinished_trials"] == 0
    assert "count in no interval" in summary["verdict"].replace("counts", "count")


def test_the_table_of_the_stage_names_the_choice():
    *_, table = tables.tables(summarize(staged(TUNING, MEASURED)))
    assert [line[0] for line in table[1:]] == ["learning rate 0.1", "learning rate 0.2"]
    chosen = [[cell.endswith(": chosen") for cell in line[1:]] for line in table[1:]]
    assert chosen == [[False, True], [True, False]]


def test_an_arm_that_never_reaches_the_threshold_is_measured_at_its_lowest_error():
    run = staged(TUNING | {("tanh", 0.1): [None]}, MEASURED)
    *others, last = run.tuning
    lower = dataclasses.replace(last, rows=[*last.rows, row("train", 11.0, 0.3)])
    run = dataclasses.replace(run, tuning=(*others, lower))
    assert Stage.of(run).chosen() == {
        "ReLU": "learning_rate=0.2",
        "tanh": "learning_rate=0.2",
    }
    assert "No tuning trial of tanh" in summarize(run)["verdict"]


def test_diverged_values_come_last():
    run = staged(TUNING | {("tanh", 0.1): [None]})
    diverged = [
        dataclasses.replace(one, status="diverged", rows=one.rows[:1])
        if one.trial.arm == "tanh" and one.trial.tuned[RATE] == 0.1
        else one
        for one in run.tuning
    ]
    run = dataclasses.replace(run, tuning=tuple(diverged))
    assert Stage.of(run).chosen()["tanh"] == "learning_rate=0.2"


def test_an_unfinished_stage_says_that_its_choice_may_change():
    run = staged(TUNING)
    first, *others = run.tuning
    first = dataclasses.replace(first, status="unfinished", rows=[])
    run = dataclasses.replace(run, tuning=(first, *others))
    assert "may still change" in summarize(run)["verdict"]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 3).flatmap(
        lambda seeds: st.lists(
            st.lists(st.none() | st.floats(0.1, 9.0), min_size=seeds, max_size=seeds),
            min_size=2,
            max_size=5,
        )
    )
)
def test_giving_up_never_changes_the_choice(epochs):
    rates = tuple(float(number + 1) for number in range(len(epochs)))
    full = {("ReLU", rate): own for rate, own in zip(rates, epochs, strict=True)}
    whole = staged(full, rates=rates, tuning_seeds=len(epochs[0]))
    if len({one for own in epochs for one in own}) < sum(map(len, epochs)):
        return  # Equal means may be chosen in either order.
    done: list[Outcome] = []
    for outcome in whole.tuning:
        run = dataclasses.replace(whole, tuning=(*done, *whole.tuning[len(done) :]))
        waiting = [
            dataclasses.replace(one, status="unfinished", rows=[])
            for one in run.tuning[len(done) :]
        ]
        run = dataclasses.replace(run, tuning=(*done, *waiting))
        tried = outcome.trial
        limit = Stage.of(run).give_up_epoch(tried.arm, tried.tuned_name, tried.seed)
        (epoch,) = (
            value
            for one, value in zip(epochs_in_order(full), values(full), strict=True)
            if one == (tried.tuned[RATE], tried.seed)
        )
        if limit is not None and (epoch is None or epoch > limit):
            outcome = dataclasses.replace(
                outcome, status="behind", rows=outcome.rows[:1]
            )
        done.append(outcome)
    ended = dataclasses.replace(whole, tuning=tuple(done))
    reached = any(None not in own for own in epochs)
    if reached:
        assert Stage.of(ended).chosen() == Stage.of(whole).chosen()


def epochs_in_order(full):
    return [
        (rate, FIRST_TUNING_SEED + seed)
        for (_, rate), own in full.items()
        for seed in range(len(own))
    ]


def values(full):
    return [epoch for own in full.values() for epoch in own]


def test_errors_are_never_given_up():
    run = staged(TUNING)
    claim = CLAIM | {"metric": "top1_error", "paper": "higher"}
    content = run.experiment["config"] | {"claim": claim}
    run = dataclasses.replace(run, experiment=run.experiment | {"config": content})
    assert Stage.of(run).give_up_epoch("ReLU", "learning_rate=0.1", 1000) is None


def test_a_value_passed_over_because_a_seed_diverged_leaves_the_answer_open():
    tuning = {
        ("ReLU", 0.1): [2.0, 2.0],
        ("ReLU", 0.2): [5.0, 5.0],
        ("tanh", 0.1): [9.0, 9.0],
        ("tanh", 0.2): [0.5, None],
    }
    measured = {("ReLU", 0.1): [2.0, 2.1], ("tanh", 0.1): [9.0, 8.8]}
    run = staged(tuning, measured, tuning_seeds=2)
    *others, last = run.tuning
    diverged = dataclasses.replace(last, status="diverged", rows=last.rows[:1])
    summary = summarize(dataclasses.replace(run, tuning=(*others, diverged)))
    (comparison,) = summary["comparisons"]
    assert comparison["passed_over"]["tanh"]["diverged_seeds"] == [1001]
    assert comparison["standing"] == Standing.LEFT_OPEN


def test_an_arm_has_a_value_where_one_of_its_seeds_has():
    tuning = TUNING | {("ReLU", 0.1): [2.0, None], ("ReLU", 0.2): [None, 1.0]}
    tuning |= {("tanh", 0.1): [3.0, 3.0], ("tanh", 0.2): [None, None]}
    run = staged(tuning, MEASURED, tuning_seeds=2)
    assert Stage.of(run).chosen()["ReLU"] == "learning_rate=0.2"
    assert "No tuning trial" not in summarize(run)["verdict"]


def test_before_a_stage_has_ended_no_arm_is_without_a_value():
    run = staged(TUNING)
    waiting = [dataclasses.replace(o, status="unfinished", rows=[]) for o in run.tuning]
    run = dataclasses.replace(run, tuning=tuple(waiting))
    assert "No tuning trial" not in summarize(run)["verdict"]


def test_an_arm_that_diverges_everywhere_is_measured_at_its_first_value():
    run = staged(TUNING | {("tanh", 0.1): [None]})
    diverged = [
        dataclasses.replace(o, status="diverged", rows=o.rows[:1])
        if o.trial.arm == "tanh"
        else o
        for o in run.tuning
    ]
    run = dataclasses.replace(run, tuning=tuple(diverged))
    assert Stage.of(run).chosen()["tanh"] == "learning_rate=0.1"
    assert "Every tuning trial of tanh diverged" in summarize(run)["verdict"]


def test_a_trial_is_not_given_up_by_its_own_earlier_record():
    run = staged({("ReLU", 0.1): [2.0], ("ReLU", 0.2): [5.0]})
    resumed = [dataclasses.replace(o, status="unfinished") for o in run.tuning]
    stage = Stage.of(dataclasses.replace(run, tuning=tuple(resumed)))
    assert stage.give_up_epoch("ReLU", "learning_rate=0.1", FIRST_TUNING_SEED) is None
    half = (run.tuning[0], resumed[1])
    stage = Stage.of(dataclasses.replace(run, tuning=half))
    assert stage.give_up_epoch(
        "ReLU", "learning_rate=0.2", FIRST_TUNING_SEED
    ) == pytest.approx(2.0, rel=0.02)
