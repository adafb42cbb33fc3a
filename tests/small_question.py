"""A small experiment to resolve, and its resolution as the command line does it."""

from alexnet_jax.config.presets import base
from alexnet_jax.config.resolve import resolve


def question(**changes):
    """Two arms, two tuned values and two seeds; in names, "__" stands for a dot."""
    config = base(network="four_layer")
    config.experiment = "question"
    config.arms = {
        "ReLU": {"model.activation": "relu"},
        "tanh": {"model.activation": "tanh"},
    }
    config.tuned = {"optimizer.learning_rate": (0.01, 0.1)}
    config.seeds = 2
    for name, value in changes.items():
        config.set_by("file", name.replace("__", "."), value)
    return config


def resolved(config, **overrides):
    """The plan of a config whose overrides are assigned and handed over by name."""
    by_name = {name.replace("__", "."): value for name, value in overrides.items()}
    for name, value in by_name.items():
        config.set_by("file", name, value)
    return resolve(config, by_name)
