"""The four-layer network of Figure 1 (section 3.1), as far as it is known.

The paper names no sizes. These are those of the 2011 code's network for CIFAR-10 with
four weight layers ("19%"): three 5x5 convolutions of 32, 32 and 64 kernels, each
followed by 3x3/2 pooling, the first by maximum and the others by mean, and one dense
layer.
"""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, Key

from alexnet_jax.model import layers
from alexnet_jax.model.layers import Convolution, Dense, pooled_size


class FourLayer(nnx.Module):
    """Three convolutions and a dense layer: mean subtracted, 0..255 -> logits.

    On 32 x 32 images with width 1: 16*16*32 -> 8*8*32 -> 4*4*64 -> classes.
    """

    def __init__(
        self,
        *,
        image_size: int,
        num_classes: int,
        activation: str,
        pool_window: int,
        pool_stride: int,
        normalization: str,
        norm_depth: int,
        norm_k: float,
        norm_alpha: float,
        norm_beta: float,
        dropout_rate: float,
        width: float,
        weight_deviations: tuple[float, ...],
        biases: tuple[float, ...],
        key: Key[Array, ""],
    ) -> None:
        self.activation = activation
        self.pool = {"window": pool_window, "stride": pool_stride}
        self.normalization = normalization
        self.norm: dict[str, Any] = {
            "depth": norm_depth,
            "k": norm_k,
            "alpha": norm_alpha,
            "beta": norm_beta,
            "towers": 1,
        }
        self.dropout_rate = dropout_rate

        def convolution(layer: int, name: str, inputs: int, outputs: int):
            return Convolution(
                inputs,
                outputs,
                window=5,
                stride=1,
                padding=((2, 2), (2, 2)),
                towers=1,
                deviation=layers.widened(weight_deviations[layer], layer, width),
                bias=biases[layer],
                key=layers.layer_key(key, name),
            )

        c1, c2, c3 = (max(1, round(width * channels)) for channels in (32, 32, 64))
        self.conv1 = convolution(0, "conv1", 3, c1)
        self.conv2 = convolution(1, "conv2", c1, c2)
        self.conv3 = convolution(2, "conv3", c2, c3)
        size = image_size
        for _ in range(3):
            size = pooled_size(size, pool_window, pool_stride)
        self.fc4 = Dense(
            size * size * c3,
            num_classes,
            deviation=layers.widened(weight_deviations[3], 3, width),
            bias=biases[3],
            key=layers.layer_key(key, "fc4"),
        )

    def __call__(
        self, x: Float[Array, "n h w 3"], dropout_keys: Key[Array, " n"] | None
    ) -> Float[Array, "n classes"]:
        """Logits; dropout is on where `dropout_keys` (one an example) are given."""
        activate = layers.activation(self.activation)

        x = activate(layers.max_pool(self.conv1(x), **self.pool))
        x = self.normalize(x)
        x = layers.average_pool(activate(self.conv2(x)), **self.pool)
        x = self.normalize(x)
        x = layers.average_pool(activate(self.conv3(x)), **self.pool)

        x = x.reshape(x.shape[0], -1)  # height, width, channel
        x = layers.dropout(x, rate=self.dropout_rate, keys=dropout_keys, layer=4)
        return self.fc4(x)

    def normalize(self, x: jax.Array) -> jax.Array:
        if self.normalization == "none":
            return x
        return layers.local_response_norm(x, **self.norm)
