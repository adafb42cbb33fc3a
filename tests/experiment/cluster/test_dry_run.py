"""The estimated cost of a sweep."""

import os

import pytest
import small_sweep

from alexnet_jax.experiment.cluster import dry_run, worker
from alexnet_jax.experiment.cluster.dry_run import MeasuredCost
from alexnet_jax.experiment.cluster.resources import Resources
from alexnet_jax.experiment.cluster.scheduler import Sweep

TWO_CPUS = Resources.choose({"CPU": 2.0}, gpus=None, cpus=None)
SECONDS = {"ReLU": 100.0, "tanh": 50.0}


def test_the_cost_of_the_remaining_trials(tmp_path):
    done = tmp_path / "ReLU/seed0"
    done.mkdir(parents=True)
    (done / "trial.json").write_text('{"status": "finished"}')
    sweep = Sweep(small_sweep.resolved_plan(), tmp_path)
    text = dry_run.report(sweep, TWO_CPUS, MeasuredCost("TABLE", SECONDS, 1))
    assert "4 trials, 3 to run" in text
    assert "ReLU seed0: already done" in text
    assert "\nTABLE\n" in text
    assert "3:20 of 1 CPU core in total" in text  # 100 + 50 + 50 seconds
    assert "about 1:40 of wall time" in text
    assert "times as long" not in text
    # Measured on more cores than a task will have.
    text = dry_run.report(sweep, TWO_CPUS, MeasuredCost("TABLE", SECONDS, 2))
    assert "up to 2.0 times as long" in text


def test_a_population_costs_what_its_trials_cost(tmp_path):
    config = small_sweep.resolved_plan(population=True, seeds=10)
    cost = MeasuredCost("TABLE", {"ReLU": 10.0, "tanh": 10.0}, 1)
    text = dry_run.report(Sweep(config, tmp_path), TWO_CPUS, cost)
    assert "3:20 of" in text
    assert "about 1:40 of wall time" in text
    assert "2 populations at once" in text


def test_ensembles_are_not_included(tmp_path):
    arms = {"one": {}, "two averaged": {"training.ensemble": 2}}
    config = small_sweep.resolved_plan(arms=arms)
    cost = MeasuredCost("TABLE", {"one": 100.0}, 1)
    text = dry_run.report(Sweep(config, tmp_path), TWO_CPUS, cost)
    assert "2 trials, 2 to run" in text
    assert "ensembles (two averaged)" in text


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="macOS has none")
def test_the_cost_is_measured_on_the_cores_of_one_task(tmp_path, monkeypatch):
    """Given all cores, a trial would be faster than beside others."""
    cores = os.sched_getaffinity(0)
    monkeypatch.setattr(
        worker.preflight,
        "estimate",
        lambda *_: (f"{len(os.sched_getaffinity(0))} cores", {}),
    )
    config = small_sweep.resolved_plan()
    try:
        assert worker.estimate(config, tmp_path, 1) == ("1 cores", {}, 1)
    finally:
        os.sched_setaffinity(0, cores)
    monkeypatch.delattr(os, "sched_setaffinity")  # As on macOS.
    assert worker.estimate(config, tmp_path, 1)[2] == os.cpu_count()
