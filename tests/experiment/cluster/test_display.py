"""A sweep's live table, and its summary line with the time left."""

import io
import re

import pytest
from ml_collections import FrozenConfigDict

from alexnet_jax.config.trials import Trial
from alexnet_jax.experiment.cluster import scheduler
from alexnet_jax.experiment.cluster.resources import Resources
from alexnet_jax.experiment.cluster.scheduler import Display
from alexnet_jax.experiment.cluster.tasks import TrialTask


def task(state, arm="ReLU", epoch=0.0, speed=None, error=None):
    return TrialTask(
        Trial(arm, {"optimizer.learning_rate": 0.1}, 0, FrozenConfigDict(), arm),
        num_epochs=10.0,
        state=state,
        epoch=epoch,
        speed=speed,
        train_error=error,
    )


def summary(tasks):
    return Display(Resources.choose({"CPU": 2.0}, gpus=None, cpus=None)).summary(tasks)


def test_the_time_left_is_based_on_the_speeds_of_trials_without_their_compilation():
    tasks = [
        task("already done", epoch=10.0),
        task("diverged", epoch=1.0, speed=0.1),
        task("failed", epoch=2.0),
        task("running", epoch=8.0, speed=0.1),
        task("running", epoch=0.0),  # still compiling
        task("waiting"),
    ]
    # A tenth of an epoch a second each, two at once; two, ten and ten epochs to go.
    assert summary(tasks) == (
        "3 of 6 trials done, 2 running, 1 CPU core each, about 1:50 left"
    )


def test_without_a_speed_no_time_left_is_shown():
    assert summary([task("running", epoch=8.0)]) == (
        "0 of 1 trials done, 1 running, 1 CPU core each"
    )


def test_the_table_lists_running_trials_first(monkeypatch):
    console = pytest.importorskip("rich.console", reason="needs the extra sweep")
    monkeypatch.setattr(scheduler.time, "monotonic", lambda: 200.0)
    tasks = [
        task("waiting", "a", epoch=4.0),
        task("finished", "b", epoch=10.0, error=0.021),
        task("running", "c", epoch=4.0, error=0.5),
        task("failed", "d"),
    ]
    for one in (tasks[0], tasks[2]):
        one.speed = 0.02  # 50 seconds an epoch, six epochs to go
    output = console.Console(width=100, record=True, file=io.StringIO())
    output.print(scheduler.table(tasks, title="title"))
    lines = [s for s in output.export_text().splitlines() if "learning_rate=0.1" in s]
    assert [re.search(r"\b[abcd]\b", line)[0] for line in lines] == list("cdba")
    running, _, finished, waiting = lines
    for shown in ("running", "4.00 of 10", "50.0%", "5:00"):
        assert shown in running
    assert "2.1%" in finished
    assert "5:00" not in waiting


def test_durations():
    assert [scheduler.clock(s) for s in (5.9, 125.0, 3725.0)] == [
        "0:05",
        "2:05",
        "1:02:05",
    ]
