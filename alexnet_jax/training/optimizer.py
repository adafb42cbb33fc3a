"""The update rule of section 5 and the learning rate's fall."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

Scalar = float | np.floating | jax.Array


def update_rule(
    *, learning_rate: Scalar, momentum: Scalar, weight_decay: Scalar
) -> optax.GradientTransformation:
    """v <- momentum v - learning_rate (weight_decay w + gradient); w <- w + v.

    The learning rate is inside the velocity: after a drop the old velocity dies out at
    the old rate. `optax.sgd` and PyTorch have it outside, which differs from the first
    drop on. Only kernels decay; the paper does not say, its code spares the biases.
    The numbers may be traced: the state's structure does not depend on them.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=_is_kernel),
        optax.scale_by_learning_rate(learning_rate),
        optax.trace(decay=momentum),
    )


def _is_kernel(params: Any) -> Any:
    """True for the leaves named kernel."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key == "kernel", params
    )


def learning_rate_at(
    epoch: float,
    *,
    learning_rate: float,
    drop_epochs: Sequence[float],
    drop_factor: float,
) -> float:
    """The learning rate at `epoch`: multiplied by `drop_factor` at each drop passed.

    The paper divided by 10 three times, by hand, when the validation error stalled.
    """
    return learning_rate * drop_factor ** sum(epoch >= drop for drop in drop_epochs)
