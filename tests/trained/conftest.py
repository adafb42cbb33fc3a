"""A run of two small arms, with a checkpoint of each."""

import pytest
from small_trial import tiny

from alexnet_jax.config.resolve import resolve
from alexnet_jax.experiment import runner


def small_config():
    config = tiny(training__num_epochs=0.5)
    config.experiment = "tiny"
    with config.unlocked():
        config.arms = {"ReLU": {}, "tanh": {"model.activation": "tanh"}}
    config.claim = {
        "section": "3.1",
        "text": "fewer errors",
        "metric": "top1_error",
        "compare": ("tanh", "ReLU"),
        "paper": "higher",
        "dataset": "cifar10",
    }
    return config


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    runner.run(resolve(small_config(), {}), folder)
    return folder
