"""The update rule of section 5 and the learning rates' fall."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

Scalar = float | np.floating | jax.Array


class Rates(NamedTuple):
    """Learning rates: of the kernels, the biases, and conv1's own."""

    kernel: Scalar
    bias: Scalar
    conv1_kernel: Scalar
    conv1_bias: Scalar

    def of(self, path: tuple[Any, ...]) -> Scalar:
        """That of the parameter at `path`, (layer, "kernel" or "bias")."""
        layer, kind = (part.key for part in path)
        prefix = "conv1_" if layer == "conv1" else ""
        return getattr(self, prefix + kind)


def update_rule(
    *,
    rates: Rates,
    momentum: Scalar,
    weight_decay: Scalar,
    rate_in_velocity: bool,
    bias_decay: bool,
) -> optax.GradientTransformation:
    """v <- momentum v - rate (weight_decay w + gradient); w <- w + v.

    With `rate_in_velocity`, as in the paper, the old velocity dies out at the old rate
    after a drop. Without it, as in `optax.sgd` and PyTorch, v <- momentum v +
    (weight_decay w + gradient); w <- w - rate v, which differs from the first drop on.
    A rate of 0 leaves its parameters as they are, bit by bit. Rates, momentum and decay
    may be traced: the state's structure does not depend on them.
    """
    decay = optax.add_decayed_weights(
        weight_decay, mask=None if bias_decay else _is_kernel
    )
    scaled = optax.stateless(lambda updates, _: _each(_descent, updates, rates))
    velocity = optax.trace(decay=momentum)
    moved = (scaled, velocity) if rate_in_velocity else (velocity, scaled)
    at_rest = optax.stateless(lambda updates, _: _each(_stopped, updates, rates))
    return optax.chain(decay, *moved, at_rest)


def _each(function: Any, updates: Any, rates: Rates) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, update: function(update, rates.of(path)), updates
    )


def _descent(update: jax.Array, rate: Scalar) -> jax.Array:
    return -rate * update


def _stopped(update: jax.Array, rate: Scalar) -> jax.Array:
    return jnp.where(rate > 0, update, 0.0)


def _is_kernel(params: Any) -> Any:
    """True for the leaves named kernel."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key == "kernel", params
    )


def rates_at(epoch: float, optimizer: Mapping[str, Any] | ConfigDict) -> Rates:
    """The learning rates at `epoch`, by the configuration's section `optimizer`.

    Multiplied by `drop_factor` at each of the epochs passed; the paper divided by 10
    three times, by hand, when the validation error stalled.
    """

    def dropped(epochs: tuple[float, ...]) -> float:
        return optimizer["drop_factor"] ** sum(epoch >= drop for drop in epochs)

    first = optimizer["learning_rate"]
    kernel = first * dropped(optimizer["drop_epochs"])
    bias = optimizer["bias_rate"] * (kernel if optimizer["bias_drops"] else first)
    stop = optimizer["conv1_stop_epoch"]
    if 0 < stop <= epoch:
        return Rates(kernel, bias, 0.0, 0.0)
    conv1_kernel = kernel * dropped(optimizer["conv1_drop_epochs"])
    return Rates(kernel, bias, conv1_kernel, bias)
