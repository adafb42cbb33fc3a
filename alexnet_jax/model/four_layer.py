"""The four-layer network of Figure 1 (section 3.1), as far as it is known.

The paper names no sizes. These are those of the 2011 code's network for CIFAR-10 with
four weight layers ("19%"): three 5x5 convolutions of 32, 32 and 64 kernels, each
followed by 3x3/2 pooling, the first by maximum and the others by mean, and one dense
layer.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from alexnet_jax.model import layers
from alexnet_jax.model.layers import (
    Convolution,
    Dense,
    Start,
    checked_pooled_size,
    layer_key,
)


class FourLayer(nnx.Module):
    """Three convolutions and a dense layer: mean subtracted, 0..255 -> logits.

    On 32 x 32 images with width 1: 16*16*32 -> 8*8*32 -> 4*4*64 -> classes.
    """

    def __init__(
        self,
        *,
        image_size: int,
        num_classes: int,
        channels: tuple[int, ...],
        width: float,
        activation: str,
        norm: Callable[[jax.Array], jax.Array],
        pool: dict[str, Any],
        dropout: dict[str, Any],
        starts: list[Start],
        dtype: str,
        key: Key[Array, ""],
    ) -> None:
        self.activate = layers.activation(activation)
        self.norm = norm
        self.pool = pool
        self.window = {name: pool[name] for name in ("window", "stride", "rounding")}
        self.dropout = dropout
        self.dtype = dtype

        def convolution(index: int, inputs: int, outputs: int) -> Convolution:
            return Convolution(
                inputs,
                outputs,
                window=5,
                stride=1,
                padding=((2, 2), (2, 2)),
                towers=1,
                start=starts[index],
                key=layer_key(key, f"conv{index + 1}"),
            )

        c1, c2, c3 = (max(1, round(width * count)) for count in channels)
        self.conv1 = convolution(0, 3, c1)
        self.conv2 = convolution(1, c1, c2)
        self.conv3 = convolution(2, c2, c3)
        size = image_size
        for name in ("pool1", "pool2", "pool3"):
            size = checked_pooled_size(name, size, **self.window)
        self.fc4 = Dense(
            size * size * c3, num_classes, start=starts[3], key=layer_key(key, "fc4")
        )

    def __call__(
        self, x: Float[Array, "n h w 3"], dropout_keys: Key[Array, " n"] | None
    ) -> Float[Array, "n classes"]:
        """Logits; dropout is on where `dropout_keys` (one an example) are given."""
        return self.outputs(x, dropout_keys)["fc4"]

    def outputs(
        self, x: Float[Array, "n h w 3"], dropout_keys: Key[Array, " n"] | None
    ) -> dict[str, jax.Array]:
        """What each layer gives to the next, conv1 to fc4; fc4's are the logits."""
        found: dict[str, jax.Array] = {}

        x = x.astype(self.dtype)
        x = self.activate(layers.max_pool(self.conv1(x), **self.pool))
        found["conv1"] = x = self.norm(x)
        x = layers.average_pool(self.activate(self.conv2(x)), **self.window)
        found["conv2"] = x = self.norm(x)
        x = layers.average_pool(self.activate(self.conv3(x)), **self.window)
        found["conv3"] = x

        x = x.reshape(x.shape[0], -1)  # height, width, channel
        x = layers.dropout(x, keys=dropout_keys, layer=4, **self.dropout)
        found["fc4"] = self.fc4(x).astype(jnp.float32)
        return found
