"""A run of two small arms, with a checkpoint of each."""

import fcntl
import os

import pytest
from two_arms import two_arms

from alexnet_jax.config.resolve import resolve
from alexnet_jax.experiment import runner


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """Trained by the first of the tests' processes that needs it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the same for all of them
    folder = base / "trained" / "run"
    with open(base / "trained.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "summary.json").exists():
            runner.run(resolve(two_arms(), {}), folder)
    return folder
