"""A trial's progress, derived from its records."""

import pytest
from ml_collections import FrozenConfigDict

from alexnet_jax.config.trials import Trial
from alexnet_jax.experiment.cluster import tasks
from alexnet_jax.experiment.cluster.tasks import TrialTask
from alexnet_jax.report.run_reader import Outcome


def records(task, *epochs):
    """An unfinished trial's outcome, with training records at these epochs."""
    rows = [{"kind": "train", "epoch": epoch, "top1_error": 0.5} for epoch in epochs]
    return Outcome(task.trial, "unfinished", rows)


def test_position_and_time_left(monkeypatch):
    clock = iter([100.0, 200.0, 230.0])
    monkeypatch.setattr(tasks.time, "monotonic", lambda: next(clock))
    task = TrialTask(
        Trial("ReLU", {}, 0, FrozenConfigDict(), trained_as="ReLU"), num_epochs=10.0
    )
    task.update(records(task))
    assert task.state == "waiting"
    task.update(records(task, 0.0))
    assert (task.state, task.epoch, task.train_error) == ("running", 0.0, 0.5)
    task.update(records(task, 0.0, 2.0))
    assert task.seconds_left() is None  # its step was compiled in these 100 seconds
    task.update(records(task, 0.0, 2.0, 4.0))
    # Two epochs in thirty seconds, six epochs to go.
    assert task.seconds_left() == pytest.approx(90.0)


@pytest.mark.parametrize("epochs", [(1.0, 2.0, 3.0), (1.0,), (0.1,), (1.0, 1.5)])
def test_a_trial_runs_once_the_records_of_an_earlier_sweep_change(epochs):
    """They grow, lose rows after the last checkpoint, or start over."""
    task = TrialTask(
        Trial("ReLU", {}, 0, FrozenConfigDict(), trained_as="ReLU"), num_epochs=10.0
    )
    task.start_attempt()
    task.set_baseline(records(task, 1.0, 2.0))
    task.update(records(task, 1.0, 2.0))
    assert (task.state, task.epoch) == ("waiting", 2.0)
    assert task.seconds_left() is None
    task.update(records(task, *epochs))
    assert (task.state, task.epoch) == ("running", epochs[-1])
    assert task.begun == epochs[-1]
