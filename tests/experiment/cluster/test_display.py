"""A sweep's live table, and its summary line with the time left."""

import io
import re

import pytest
from ml_collections import FrozenConfigDict

from alexnet_jax.config.trials import Trial
from alexnet_jax.experiment.cluster import display
from alexnet_jax.experiment.cluster.display import Display
from alexnet_jax.experiment.cluster.resources import Resources
from alexnet_jax.experiment.cluster.tasks import TrialTask


def task(state, arm="ReLU", epoch=0.0, start_epoch=0.0, error=None):
    return TrialTask(
        Trial(arm, {"optimizer.learning_rate": 0.1}, 0, FrozenConfigDict(), arm),
        num_epochs=10.0,
        state=state,
        epoch=epoch,
        start_epoch=start_epoch,
        train_error=error,
    )


def summary(monkeypatch, tasks, *, seconds):
    """The summary line printed `seconds` after the display started."""
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    shown = Display(Resources.choose({"CPU": 2.0}, gpus=None, cpus=None))
    now[0] += seconds
    return shown.summary(tasks)


def test_the_time_left_is_based_on_epochs_trained_by_this_sweep(monkeypatch):
    """Epochs trained by an earlier sweep and diverged trials do not count."""
    tasks = [
        task("already done", epoch=10.0),
        task("diverged", epoch=1.0),
        task("failed", epoch=2.0),
        task("running", epoch=8.0, start_epoch=5.0),
        task("waiting"),
    ]
    # Six epochs in a minute; two and ten to go.
    assert summary(monkeypatch, tasks, seconds=60.0) == (
        "3 of 5 trials done, 1 running, 1 CPU core each, about 2:00 left"
    )


def test_without_progress_no_time_left_is_shown(monkeypatch):
    tasks = [task("waiting", epoch=8.0, start_epoch=8.0)]
    assert summary(monkeypatch, tasks, seconds=60.0) == (
        "0 of 1 trials done, 0 running, 1 CPU core each"
    )


def test_the_table_lists_running_trials_first(monkeypatch):
    console = pytest.importorskip("rich.console", reason="needs the extra sweep")
    monkeypatch.setattr(display.time, "monotonic", lambda: 200.0)
    tasks = [
        task("waiting", "a", epoch=4.0),
        task("finished", "b", epoch=10.0, error=0.021),
        task("running", "c", epoch=4.0, error=0.5),
        task("failed", "d"),
    ]
    for one in (tasks[0], tasks[2]):
        one.first_seen = (100.0, 2.0)  # 50 seconds per epoch, six epochs to go
    output = console.Console(width=100, record=True, file=io.StringIO())
    output.print(display.table(tasks, title="title"))
    lines = [s for s in output.export_text().splitlines() if "learning_rate=0.1" in s]
    assert [re.search(r"\b[abcd]\b", line)[0] for line in lines] == list("cdba")
    running, _, finished, waiting = lines
    for shown in ("running", "4.00 of 10", "50.0%", "5:00"):
        assert shown in running
    assert "2.1%" in finished
    assert "5:00" not in waiting


def test_durations():
    assert [display.clock(s) for s in (5.9, 125.0, 3725.0)] == [
        "0:05",
        "2:05",
        "1:02:05",
    ]
