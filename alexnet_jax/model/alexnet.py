"""AlexNet: five convolutions and three dense layers in two towers (section 3.5)."""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, Key

from alexnet_jax.model import layers
from alexnet_jax.model.layers import Convolution, Dense, convolved_size, pooled_size


class AlexNet(nnx.Module):
    """The eight layers of 2012: NHWC images, mean subtracted, 0..255 -> logits.

    On 224 x 224 images with width 1: 55*55*96 -> 27*27*96 -> 27*27*256 -> 13*13*256
    -> 13*13*384 -> 13*13*384 -> 13*13*256 -> 6*6*256 -> 4096 -> 4096 -> classes, in
    60,965,224 parameters for 1000 classes.

    Attributes of the argument list are named as in `config.py`, section model.
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
        towers: int,
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
            "towers": towers,
        }
        self.dropout_rate = dropout_rate

        def start(layer: int, name: str):
            return {
                "deviation": layers.widened(weight_deviations[layer], layer, width),
                "bias": biases[layer],
                "key": layers.layer_key(key, name),
            }

        # Channels, rounded to a whole number a tower.
        c1, c2, c3, c4, c5, f6, f7 = (
            towers * max(1, round(width * channels / towers))
            for channels in (96, 256, 384, 384, 256, 4096, 4096)
        )

        # 224 -> 55 by three rows of zeros at the bottom and right only: the 2012 code
        # let the last window overhang the edge, and read zeros there.
        self.conv1 = Convolution(
            3,
            c1,
            window=11,
            stride=4,
            padding=((0, 3), (0, 3)),
            towers=1,
            **start(0, "conv1"),
        )
        size = convolved_size("conv1", image_size, window=11, stride=4, padding=(0, 3))
        size = pooled_size(size, pool_window, pool_stride)
        self.conv2 = Convolution(
            c1,
            c2,
            window=5,
            stride=1,
            padding=((2, 2), (2, 2)),
            towers=towers,
            **start(1, "conv2"),
        )
        size = pooled_size(size, pool_window, pool_stride)
        same = ((1, 1), (1, 1))
        # conv3 alone among the convolutions reads both towers.
        self.conv3 = Convolution(
            c2, c3, window=3, stride=1, padding=same, towers=1, **start(2, "conv3")
        )
        self.conv4 = Convolution(
            c3, c4, window=3, stride=1, padding=same, towers=towers, **start(3, "conv4")
        )
        self.conv5 = Convolution(
            c4, c5, window=3, stride=1, padding=same, towers=towers, **start(4, "conv5")
        )
        size = pooled_size(size, pool_window, pool_stride)
        self.fc6 = Dense(size * size * c5, f6, **start(5, "fc6"))
        self.fc7 = Dense(f6, f7, **start(6, "fc7"))
        self.fc8 = Dense(f7, num_classes, **start(7, "fc8"))

    def __call__(
        self, x: Float[Array, "n h w 3"], dropout_keys: Key[Array, " n"] | None
    ) -> Float[Array, "n classes"]:
        """Logits; dropout is on where `dropout_keys` (one an example) are given."""
        activate = layers.activation(self.activation)

        x = activate(self.conv1(x))
        x = self.normalize(x)
        x = layers.max_pool(x, **self.pool)

        x = activate(self.conv2(x))
        x = self.normalize(x)
        x = layers.max_pool(x, **self.pool)

        x = activate(self.conv3(x))
        x = activate(self.conv4(x))
        x = activate(self.conv5(x))
        x = layers.max_pool(x, **self.pool)

        x = x.reshape(x.shape[0], -1)  # height, width, channel
        x = activate(self.fc6(x))
        x = layers.dropout(x, rate=self.dropout_rate, keys=dropout_keys, layer=6)
        x = activate(self.fc7(x))
        x = layers.dropout(x, rate=self.dropout_rate, keys=dropout_keys, layer=7)
        return self.fc8(x)

    def normalize(self, x: jax.Array) -> jax.Array:
        if self.normalization == "none":
            return x
        return layers.local_response_norm(x, **self.norm)
