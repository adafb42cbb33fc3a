"""Activation functions (section 3.1).

A new one is one more row of `ACTIVATIONS`: the configuration accepts any name, and
building the network checks it against this table, before data is read or a run folder
is made.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from alexnet_jax.errors import UserError, nearest

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,  # (1 + e^-x)^-1, the other standard one in s. 3.1
    "softplus": jax.nn.softplus,  # Glorot et al. (2011)
    "leaky_relu": jax.nn.leaky_relu,  # slope 0.01 below 0; Maas et al. (2013)
    "gelu": functools.partial(
        jax.nn.gelu, approximate=False
    ),  # Hendrycks, Gimpel (2016)
    "silu": jax.nn.silu,  # Elfwing et al. (2017)
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
