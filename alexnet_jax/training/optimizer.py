"""The update rule of section 5 and the learning rates' fall."""

import dataclasses
import math
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


def rates_at(
    epoch: float,
    optimizer: Mapping[str, Any] | ConfigDict,
    *,
    num_epochs: float,
    drops: int = 0,
) -> Rates:
    """The learning rates at `epoch` of `num_epochs`, by the section `optimizer`.

    steps     times `drop_factor` at each of `drop_epochs`; conv1's own slow down and stop
    plateau   times `drop_factor` for each of `drops`, which `Plateau` counts: section 5
    constant  the first rate all along
    cosine    half a cosine from the first rate down to 0 at `num_epochs`
    """
    first = float(optimizer["learning_rate"])

    def passed(name: str) -> int:
        return sum(epoch >= drop for drop in optimizer[name])

    match optimizer["schedule"]:
        case "steps":
            kernel = first * optimizer["drop_factor"] ** passed("drop_epochs")
        case "plateau":
            kernel = first * optimizer["drop_factor"] ** drops
        case "cosine":
            share = min(max(epoch / num_epochs, 0.0), 1.0)
            kernel = first * (1 + math.cos(math.pi * share)) / 2
        case _:
            kernel = first
    bias = optimizer["bias_rate"] * (kernel if optimizer["bias_drops"] else first)
    if optimizer["schedule"] != "steps":
        return Rates(kernel, bias, kernel, bias)
    if 0 < optimizer["conv1_stop_epoch"] <= epoch:
        return Rates(kernel, bias, 0.0, 0.0)
    slower = optimizer["drop_factor"] ** passed("conv1_drop_epochs")
    return Rates(kernel, bias, kernel * slower, bias)


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Where a trial stands under the schedule "plateau", and only there is it asked.

    All of it is JSON: `Plateau(**dataclasses.asdict(plateau))` goes on the same. Epochs
    and errors are those of the evaluations; the error is a fraction.
    """

    best: float | None = None  # lowest validation error so far; None: there is none yet
    best_epoch: float = 0.0
    since: float = 0.0  # epoch of the last improvement or drop
    drops: int = 0

    def after(
        self,
        epoch: float,
        top1_error: float | None,
        optimizer: Mapping[str, Any] | ConfigDict,
    ) -> tuple["Plateau", str | None]:
        """The plateau after an evaluation at `epoch`; why the rate drops, if it does.

        It drops at the first evaluation that is at least `plateau_epochs` after the last
        improvement or drop, `plateau_drops` times at most. `top1_error` is None, or not
        finite, where the evaluation has no error to give: that is no improvement.
        """
        best = math.inf if self.best is None else self.best
        if top1_error is not None and top1_error < best:  # never where it is nan
            return Plateau(top1_error, epoch, epoch, self.drops), None
        waited = epoch - self.since
        if (
            waited < optimizer["plateau_epochs"]
            or self.drops >= optimizer["plateau_drops"]
        ):
            return self, None

        dropped = dataclasses.replace(self, since=epoch, drops=self.drops + 1)
        factor = optimizer["drop_factor"]
        rate = optimizer["learning_rate"] * factor**dropped.drops
        stalled = (
            "no validation top-1 error"
            if self.best is None
            else f"validation top-1 error not below {self.best:.5g} "
            f"(epoch {self.best_epoch:.4g})"
        )
        return dropped, (
            f"{stalled} for {waited:.4g} epochs: learning rate divided by "
            f"{1 / factor:.4g}, to {rate:.4g} "
            f"(drop {dropped.drops} of {optimizer['plateau_drops']})"
        )
