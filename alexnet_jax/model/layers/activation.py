"""Activation functions (section 3.1).

A new one is one more row of `ACTIVATIONS`: the configuration accepts any name, and
building the network checks it against this table, before data is read or a run folder
is made.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from alexnet_jax.errors import UserError, nearest

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
}


def activation_function(name: str) -> Callable[[jax.Array], jax.Array]:
    """Returns the elementwise function called `name` in field model.activation.

    Raises:
      UserError: if there is no such function, listing those that there are.
    """
    if name not in ACTIVATIONS:
        raise UserError(
            f"config.model.activation='{name}': it is one of {', '.join(ACTIVATIONS)}."
            + nearest(name, ACTIVATIONS)
        )
    return ACTIVATIONS[name]
