"""Networks with random weights, as if they had been trained."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from alexnet_jax.config.fields import FIELDS, default_of
from alexnet_jax.config.layered import nest
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.model.network import root_key
from alexnet_jax.trained.trained_network import TrainedNetwork
from alexnet_jax.training.trained_on import TrainedOn


def random_network(recipe="source2012", *, classes=11, **changes):
    """A narrow AlexNet of a recipe with weights that keep the scale of the activations.

    `changes` are fields, with two underscores in place of the dot.
    """
    values = {name: default_of(name, recipe) for name in FIELDS} | {"recipe": recipe}
    values["model.channels"] = (16, 32, 24, 24, 16, 0, 20, 20)
    values |= {name.replace("__", "."): value for name, value in changes.items()}
    draws = np.random.default_rng(0)
    side = values["data.rescale_size"]
    network = TrainedNetwork(
        origin="random",
        settings=FrozenConfigDict(nest(values)),
        params={},
        trained_on=TrainedOn(
            dataset="none",
            fingerprint="abc",
            class_names=tuple(f"class {n}" for n in range(classes)),
            num_examples=100,
            validation="validation",
            num_validation=10,
            statistics=Statistics(
                draws.uniform(90, 140, (side, side, 3)),
                np.array([3.0, 2.0, 1.0]),
                np.eye(3),
            ),
        ),
        step=1200,
        measured={"top1_error": 0.25, "split": "validation"},
    )
    shapes = network.network.initialize(root_key(0))
    params = {
        layer: {
            kind: _drawn(draws, kind, arrays[kind].shape)
            for kind in ("kernel", "bias", "scale", "mean", "var")
            if kind in arrays
        }
        for layer, arrays in shapes.items()
    }
    network.params.update(params)
    return network


def changed(network, **changes):
    """The same weights under other settings: fields, named as for `random_network`.

    `as_configdict` would not do: a copy of the settings that it was called of has what was
    written into its answer.
    """
    settings = ConfigDict(network.settings.to_dict())
    for name, value in changes.items():
        section, _, field = name.partition("__")
        settings[section][field] = value
    return dataclasses.replace(network, settings=FrozenConfigDict(settings))


def _drawn(draws, kind, shape):
    if kind in ("scale", "var"):
        return draws.uniform(0.5, 2, shape).astype(np.float32)
    std = (2 / np.prod(shape[:-1])) ** 0.5 if kind == "kernel" else 0.1
    return draws.normal(0, std, shape).astype(np.float32)
