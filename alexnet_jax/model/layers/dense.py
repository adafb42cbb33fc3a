"""The fully connected layer (section 3.5)."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from alexnet_jax.model.layers.initialization import (
    LayerInitialization,
    initial_parameters,
)


class Dense(nnx.Module):
    """A fully connected layer with a kernel of shape (in, out) and a bias."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        initialization: LayerInitialization,
        key: Key[Array, ""],
    ) -> None:
        kernel, bias = initial_parameters(
            (in_features, out_features), initialization, key
        )
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)

    def __call__(self, x: Float[Array, "n i"]) -> Float[Array, "n o"]:
        bias = self.bias[...].astype(x.dtype)
        return x @ self.kernel[...].astype(x.dtype) + jnp.expand_dims(bias, 0)
