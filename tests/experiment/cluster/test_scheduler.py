"""Which trials a sweep submits to Ray, and how it handles failures; Ray is faked."""

import json

import pytest
import small_sweep

pytest.importorskip("ray", reason="needs the extra: pip install -e '.[sweep]'")

import ray
from ray.exceptions import RayError

from alexnet_jax.errors import Stopped
from alexnet_jax.experiment.cluster import worker
from alexnet_jax.experiment.cluster.resources import Resources
from alexnet_jax.experiment.cluster.scheduler import (
    STOP_FILE,
    Display,
    Scheduler,
    Sweep,
)

TWO_CPUS = Resources.choose({"CPU": 2.0}, gpus=None, cpus=None)


class FakeRay:
    """Runs a task when the scheduler waits for it.

    `train(trial, attempt)` is called for each trial of the task.
    """

    def __init__(self, monkeypatch, train):
        self.train, self.attempts, self.groups = train, {}, []
        monkeypatch.setattr(ray, "wait", lambda waiting, **_: (waiting[:1], []))
        monkeypatch.setattr(ray, "get", lambda reference: reference())

    def submit(self, trials):
        names = [trial.name for trial in trials]
        self.groups.append(names)
        for name in names:
            self.attempts[name] = self.attempts.get(name, 0) + 1
        attempts = [self.attempts[name] for name in names]
        return lambda: list(map(self.train, trials, attempts))


def end(run, trial):
    (run / trial.folder).mkdir(parents=True, exist_ok=True)
    (run / trial.folder / "trial.json").write_text('{"status": "finished"}')


def test_a_failed_trial_is_retried_and_warnings_are_printed_once(
    tmp_path, monkeypatch, capsys
):
    run, config = tmp_path / "run", small_sweep.resolved_plan()

    def train(trial, attempt):
        place = run / trial.folder
        place.mkdir(parents=True, exist_ok=True)
        warning = "it may never start" if trial.arm == "tanh" else None
        row = {"kind": "diagnosis", "step": 0, "epoch": 0.0, "warning": warning}
        (place / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        if trial.name == "tanh seed1" and attempt == 1:
            raise RayError("lost")
        end(run, trial)

    sweep = Sweep(config, run)
    Scheduler(sweep, FakeRay(monkeypatch, train).submit, Display(TWO_CPUS)).run()
    assert capsys.readouterr().err.splitlines() == [
        "ReLU seed0: finished",
        "ReLU seed1: finished",
        "Warning, tanh seed0: it may never start",
        "tanh seed0: finished",
        "Warning, tanh seed1: it may never start",
        "tanh seed1: failed, retrying once: RayError: lost",
        "tanh seed1: finished",
    ]
    assert sweep.names_with_warnings() == ["tanh seed0", "tanh seed1"]
    later = Sweep(config, run)
    assert not later.remaining
    assert later.names_with_warnings() == ["tanh seed0", "tanh seed1"]


def test_a_failed_population_is_retried_trial_by_trial(tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    config = small_sweep.resolved_plan(population=True, seeds=3)
    end(run, Sweep(config, run).tasks[0].trial)

    def train(trial, attempt):
        if trial.name == "tanh seed1":
            raise RayError("lost")
        end(run, trial)

    sweep, fake = Sweep(config, run), FakeRay(monkeypatch, train)
    Scheduler(sweep, fake.submit, Display(TWO_CPUS)).run()
    # tanh seed0 had ended when its population failed; the others get two attempts.
    assert fake.groups == [
        ["ReLU seed1", "ReLU seed2"],
        ["tanh seed0", "tanh seed1", "tanh seed2"],
        ["tanh seed1"],
        ["tanh seed2"],
        ["tanh seed1"],
    ]
    assert [task.trial.name for task in sweep.failed] == ["tanh seed1"]
    population, *single = capsys.readouterr().err.splitlines()[2:]
    assert "population of 3 trials failed" in population
    assert single == [
        "tanh seed0: finished",
        "tanh seed1: failed, retrying once: RayError: lost",
        "tanh seed2: finished",
        "tanh seed1: failed twice: RayError: lost",
    ]


def test_a_worker_that_starts_while_the_sweep_stops_trains_nothing(
    tmp_path, monkeypatch
):
    """It missed the signal because it was still importing."""
    run, config = tmp_path / "run", small_sweep.resolved_plan()
    run.mkdir()
    trained = []
    monkeypatch.setattr(worker.runner, "run_trials", lambda *_: trained.append(1))
    monkeypatch.setattr(worker, "_datasets", lambda config: None)
    sweep = Sweep(config, run)
    trials = [task.trial for task in sweep.remaining]

    def wait(references, **_):
        worker.run_trials(config, run, trials[:1], STOP_FILE)
        end(run, trials[1])  # Another trial ends in the meantime.

    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "cancel", lambda reference: None)
    scheduler = Scheduler(sweep, lambda trials: object(), Display(TWO_CPUS))
    scheduler.stop_signal = 2
    with pytest.raises(Stopped, match="1 of 4 trials done"):
        scheduler.run()
    assert not trained
    assert not (run / STOP_FILE).exists()
    worker.run_trials(config, run, trials[:1], STOP_FILE)
    assert trained


@pytest.mark.parametrize(
    ("cluster", "sizes"),
    [
        ({"CPU": 2.0}, [4, 4, 4, 4, 2, 2]),  # Larger ones gain nothing on a CPU.
        ({"CPU": 4.0, "GPU": 1.0}, [10, 10]),
        ({"CPU": 4.0, "GPU": 4.0}, [5, 5, 5, 5]),  # One per GPU.
        ({"CPU": 64.0, "GPU": 64.0}, [1] * 20),
    ],
)
def test_sizes_of_populations(tmp_path, cluster, sizes):
    config = small_sweep.resolved_plan(population=True, seeds=10)
    resources = Resources.choose(cluster, gpus=None, cpus=None)
    groups = Sweep(config, tmp_path / "run").groups(resources)
    assert sorted(map(len, groups), reverse=True) == sizes
