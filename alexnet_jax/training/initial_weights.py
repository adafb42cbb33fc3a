"""A trial's state before its first step: weights drawn by seed, or from a checkpoint."""

import dataclasses
from typing import Any

from alexnet_jax.errors import UserError
from alexnet_jax.training.saved_network import read_weights
from alexnet_jax.training.step import Params, TrainState, initial_state
from alexnet_jax.training.trainer import Trainer


def starting_state(init_from: str, seed: int, trainer: Trainer) -> TrainState:
    """A single trial's state before its first step.

    The weights are drawn with `seed`; where `init_from` names a checkpoint and is not
    empty, those of all layers but the last are taken from it.

    Raises:
      UserError: if that checkpoint cannot be read or has other layers.
    """
    state = initial_state(trainer.network, seed, trainer.spec)
    if init_from:
        params = fine_tuned_params(state.params, init_from)
        state = dataclasses.replace(state, params=params)
    return state


def fine_tuned_params(initial: Params, init_from: str) -> Params:
    """`initial` with the weights of a checkpoint in all layers but the last.

    Raises:
      UserError: if the checkpoint cannot be read or has other layers.
    """
    held, folder = read_weights(init_from)
    *kept, last = initial
    differing = [
        f"  {layer}: {_shapes(held.get(layer))} there, {_shapes(initial[layer])} here"
        for layer in kept
        if _shapes(held.get(layer)) != _shapes(initial[layer])
    ]
    if differing:
        raise UserError(
            f"config.training.init_from: the layers of {folder} differ from this "
            "network's:\n" + "\n".join(differing)
        )
    return {**{layer: held[layer] for layer in kept}, last: initial[last]}


def _shapes(layer: Any) -> str:
    if layer is None:
        return "none"
    shapes = {name: array.shape for name, array in sorted(layer.items())}
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
