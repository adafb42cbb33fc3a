"""A run of two small arms, with a checkpoint of each."""

import pytest
from two_arms import two_arms

from alexnet_jax.config.resolve import resolve
from alexnet_jax.experiment import runner


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    runner.run(resolve(two_arms(), {}), folder)
    return folder
