"""What a sweep does in Ray's worker processes: each is one process with its own devices.

The driver, `sweep.py`, imports neither JAX nor TensorFlow: it would take a GPU, and the
memory of it, that a trial should have.
"""

import json
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


def run_trial(config: ConfigDict, folder: Path, trial: Trial) -> None:
    """Trains one trial, from its last checkpoint if it has one."""
    devices = Devices(config.parallel)
    experiment.run_trials([trial], folder, config, _datasets(config), devices)


def run_ensembles(config: ConfigDict, folder: Path) -> None:
    """Evaluates the averages of networks whose trials are done."""
    devices = Devices(config.parallel)
    experiment.run_ensembles(folder, config, _datasets(config), devices)


def estimate(config: ConfigDict, folder: Path) -> tuple[str, dict[str, float]]:
    """What each trial costs: a table, and the seconds of one of each arm."""
    return preflight.estimate(config, folder)


_opened: dict[str, experiment.Datasets] = {}


def _datasets(config: ConfigDict) -> experiment.Datasets:
    """Opened once in a worker process, which runs one trial after the other."""
    key = json.dumps(config.to_dict(), sort_keys=True)
    if key not in _opened:
        _opened.clear()
        _opened[key] = experiment.Datasets(config)
    return _opened[key]
