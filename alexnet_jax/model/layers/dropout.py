"""Dropout (section 4.2)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def dropout(
    x: Float[Array, "n f"],
    *,
    rate: float,
    form: str,
    keys: Key[Array, " n"] | None,
    layer: int,
) -> Float[Array, "n f"]:
    """Sets each unit to zero with probability `rate` during training.

    Args:
      x: a row of units for each example.
      rate: probability that a unit is dropped.
      form: "mask", of 2012: the units that are kept stay unchanged in training, and all
        are multiplied by 1 - rate in evaluation. "inverted", of current libraries: the
        units that are kept are divided by 1 - rate in training, and evaluation changes
        nothing. With the same initial weights and learning rate the two train
        differently.
      keys: one an example, in training; None in evaluation.
      layer: distinguishes the masks of two layers that receive the same keys.
    """
    if rate == 0.0:
        return x
    scale = 1.0 - rate
    if keys is None:
        return x * scale if form == "mask" else x
    keep = jax.vmap(
        lambda key: jax.random.bernoulli(
            jax.random.fold_in(key, layer), 1.0 - rate, x.shape[1:]
        )
    )(keys)
    return jnp.where(keep, x if form == "mask" else x / scale, 0.0)
