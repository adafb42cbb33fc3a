"""What a sweep runs in Ray's worker processes, each with devices of its own.

Only workers import this module: it imports JAX and TensorFlow, which would take a GPU, or
most of its memory, if the driver did so.
"""

import os
from pathlib import Path

from alexnet_jax.config.trials import ExperimentPlan, Trial
from alexnet_jax.experiment import preflight, runner
from alexnet_jax.experiment.datasets import Datasets, preset_notice
from alexnet_jax.training.devices import Devices


def open_run(plan: ExperimentPlan, folder: Path, command: str) -> str | None:
    """Makes every check that `runner.run` makes first, and creates the run folder.

    Returns:
      A line about the small preset, if it is offered.

    Raises:
      UserError: if the configuration, the data or the folder is unusable.
    """
    devices = runner.check(plan, folder)
    datasets = _datasets(plan)
    runner.open_folder(folder, plan, datasets, devices, command=command)
    return preset_notice(plan, datasets)


def run_trials(
    plan: ExperimentPlan, folder: Path, trials: list[Trial], stop_file: str
) -> None:
    """Trains one trial, or a population, continuing from checkpoints where they exist.

    Trains nothing if the run folder holds `stop_file` by then: the sweep is stopping.
    """
    devices = Devices(plan.settings.parallel)
    datasets = _datasets(plan)
    if not (folder / stop_file).exists():
        runner.run_trials(trials, folder, plan, datasets, devices)


def run_ensembles(plan: ExperimentPlan, folder: Path) -> None:
    """Evaluates the ensembles, once all trials have ended."""
    devices = Devices(plan.settings.parallel)
    runner.run_ensembles(folder, plan, _datasets(plan), devices)


def estimate(
    plan: ExperimentPlan, folder: Path, num_cores: int
) -> tuple[str, dict[str, float], int]:
    """Measures a few steps of each arm on `num_cores` CPU cores, a task's share.

    Returns:
      The fields of `dry_run.MeasuredCost`. Where the system cannot bind a process to
      cores (macOS), all cores are measured.
    """
    if not hasattr(os, "sched_setaffinity"):
        return *preflight.estimate(plan, folder), os.cpu_count() or 1
    # The threads that JAX and TensorFlow start from here on inherit the binding. Nothing
    # resets it: the process ends with the dry run.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:num_cores])
    return *preflight.estimate(plan, folder), len(os.sched_getaffinity(0))


_opened: list[tuple[ExperimentPlan, Datasets]] = []


def _datasets(plan: ExperimentPlan) -> Datasets:
    """Opens the data once per process: on CPUs one process trains many trials."""
    if not _opened or _opened[0][0] != plan:
        _opened[:] = [(plan, Datasets(plan))]
    return _opened[0][1]
