"""What a sweep does in Ray's worker processes: each is one process with its own devices.

The driver, `sweep.py`, imports neither JAX nor TensorFlow: it would take a GPU, and the
memory of it, that a trial should have.
"""

import json
import os
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax import experiment, preflight
from alexnet_jax.config import Trial
from alexnet_jax.training.parallel import Devices


def open_run(config: ConfigDict, folder: Path, command: str) -> None:
    """Checks all that `experiment.run` does first, and makes the run folder.

    Raises:
      UserError: if the configuration, the data or the folder will not do.
    """
    devices = experiment.check(config, folder)
    experiment.open_folder(folder, config, _datasets(config), devices, command)


def run_trials(
    config: ConfigDict, folder: Path, trials: list[Trial], stop: str
) -> None:
    """Trains one trial, or those of a population; from last checkpoints, if there are any.

    Not where there is by then the file `stop` in the run folder.
    """
    devices = Devices(config.parallel)
    datasets = _datasets(config)
    if not (folder / stop).exists():
        experiment.run_trials(trials, folder, config, datasets, devices)


def run_ensembles(config: ConfigDict, folder: Path) -> None:
    """Evaluates the averages of networks whose trials are done."""
    devices = Devices(config.parallel)
    experiment.run_ensembles(folder, config, _datasets(config), devices)


def estimate(
    config: ConfigDict, folder: Path, cores: int
) -> tuple[str, dict[str, float], int]:
    """What each trial costs on so many CPU cores, its share when others run beside it.

    Returns a table, the seconds of one trial of each arm, and the cores measured on: all
    of them on a system that keeps no process to some.
    """
    if not hasattr(os, "sched_setaffinity"):
        return *preflight.estimate(config, folder), os.cpu_count() or 1
    # Kept by the threads that JAX and TensorFlow begin now, as many as there are cores.
    # This process ends with the dry run.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    return *preflight.estimate(config, folder), len(os.sched_getaffinity(0))


_opened: dict[str, experiment.Datasets] = {}


def _datasets(config: ConfigDict) -> experiment.Datasets:
    """Opened once in a worker process: on CPUs it runs one trial after the other."""
    key = json.dumps(config.to_dict(), sort_keys=True)
    if key not in _opened:
        _opened.clear()
        _opened[key] = experiment.Datasets(config)
    return _opened[key]
