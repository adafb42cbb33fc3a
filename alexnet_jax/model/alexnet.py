"""AlexNet: five convolutions and three dense layers in two towers (section 3.5)."""

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
    Padding,
    Start,
    checked_pooled_size,
    convolved_size,
    layer_key,
)

# Rows and columns of zeros around conv1's image. "both" is the usual reading of the
# text's 224 -> 55; "after" what the 2012 code did, whose sizes round up and whose last
# window reads zeros past the edge; "none" suits 227 pixels.
CONV1_PADDING = {"both": (2, 2), "after": (0, 3), "none": (0, 0)}


class AlexNet(nnx.Module):
    """The eight layers of 2012: NHWC images -> logits.

    On 224 x 224 images with width 1: 55*55*96 -> 27*27*96 -> 27*27*256 -> 13*13*256
    -> 13*13*384 -> 13*13*384 -> 13*13*256 -> 6*6*256 -> 4096 -> 4096 -> classes, in
    60,965,224 parameters for 1000 classes.

    Arguments are named as in `fields.py`, section model. A layer of 0 channels is left
    out; what follows it (normalization, pooling) stays.
    """

    def __init__(
        self,
        *,
        image_size: int,
        num_classes: int,
        channels: tuple[int, ...],
        width: float,
        towers: int,
        conv1_padding: str,
        activation: str,
        layer1_order: str,
        layer2_order: str,
        norm: Callable[[jax.Array], jax.Array],
        map_norm: Callable[[jax.Array], jax.Array],
        pool: dict[str, Any],
        dropout: dict[str, Any],
        dropout_place: str,
        starts: list[Start],
        dtype: str,
        key: Key[Array, ""],
    ) -> None:
        self.activate = layers.activation(activation)
        self.layer1_order = layer1_order
        self.layer2_order = layer2_order
        self.norm = norm
        self.map_norm = map_norm
        self.pool = pool
        self.dropout = dropout
        self.dropout_place = dropout_place
        self.dtype = dtype

        # Channels, rounded to a whole number a tower.
        widths = [
            towers * max(1, round(width * count / towers)) if count else 0
            for count in channels
        ]
        c1, c2, c3, c4, c5, c6, f6, f7 = widths

        def convolution(
            index: int, inputs: int, padding: Padding, **geometry: int
        ) -> Convolution:
            return Convolution(
                inputs,
                widths[index],
                padding=padding,
                start=starts[index],
                key=layer_key(key, f"conv{index + 1}"),
                **geometry,
            )

        def dense(index: int, inputs: int, units: int) -> Dense:
            return Dense(
                inputs, units, start=starts[index], key=layer_key(key, f"fc{index}")
            )

        def pooled(name: str, size: int) -> int:
            window = {name: pool[name] for name in ("window", "stride", "rounding")}
            return checked_pooled_size(name, size, **window)

        edge = CONV1_PADDING[conv1_padding]
        size = convolved_size("conv1", image_size, window=11, stride=4, padding=edge)
        self.conv1 = convolution(0, 3, (edge, edge), window=11, stride=4, towers=1)
        size = pooled("pool1", size)
        own = {"stride": 1, "towers": towers}
        crossing = {"stride": 1, "towers": 1}
        two, one = ((2, 2), (2, 2)), ((1, 1), (1, 1))
        # `maps`: how many the layer before gives. conv3 alone of the five reads both
        # towers.
        maps = c1
        self.conv2 = convolution(1, maps, two, window=5, **own) if c2 else None
        size = pooled("pool2", size)
        maps = c2 or maps
        self.conv3 = convolution(2, maps, one, window=3, **crossing) if c3 else None
        maps = c3 or maps
        self.conv4 = convolution(3, maps, one, window=3, **own) if c4 else None
        maps = c4 or maps
        self.conv5 = convolution(4, maps, one, window=3, **own) if c5 else None
        size = pooled("pool5", size)
        maps = c5 or maps
        self.conv6 = convolution(5, maps, one, window=3, **crossing) if c6 else None
        units = size * size * (c6 or maps)
        self.fc6 = dense(6, units, f6) if f6 else None
        units = f6 or units
        self.fc7 = dense(7, units, f7) if f7 else None
        self.fc8 = dense(8, f7 or units, num_classes)

    def __call__(
        self, x: Float[Array, "n h w 3"], dropout_keys: Key[Array, " n"] | None
    ) -> Float[Array, "n classes"]:
        """Logits; dropout is on where `dropout_keys` (one an example) are given."""
        return self.outputs(x, dropout_keys)["fc8"]

    def outputs(
        self, x: Float[Array, "n h w 3"], dropout_keys: Key[Array, " n"] | None
    ) -> dict[str, jax.Array]:
        """What each layer gives to the next, conv1 to fc8; fc8's are the logits."""
        found: dict[str, jax.Array] = {}

        x = x.astype(self.dtype)
        x = self.conv1(x)
        found["conv1"] = x = self.follow(self.layer1_order, x, self.norm)

        if self.conv2 is not None:
            x = self.conv2(x)
        found["conv2"] = x = self.follow(
            self.layer2_order, x, lambda x: self.map_norm(self.norm(x))
        )

        if self.conv3 is not None:
            found["conv3"] = x = self.activate(self.conv3(x))
        if self.conv4 is not None:
            found["conv4"] = x = self.activate(self.conv4(x))
        if self.conv5 is not None:
            found["conv5"] = x = self.activate(self.conv5(x))
        x = layers.max_pool(x, **self.pool)
        if self.conv6 is not None:
            found["conv6"] = x = self.activate(self.conv6(x))

        x = x.reshape(x.shape[0], -1)  # height, width, channel
        if self.fc6 is not None:
            x = self.drop("before", x, dropout_keys, layer=6)
            found["fc6"] = x = self.activate(self.fc6(x))
            x = self.drop("after", x, dropout_keys, layer=6)
        if self.fc7 is not None:
            x = self.drop("before", x, dropout_keys, layer=7)
            found["fc7"] = x = self.activate(self.fc7(x))
            x = self.drop("after", x, dropout_keys, layer=7)
        found["fc8"] = self.fc8(x).astype(jnp.float32)
        return found

    def follow(
        self, order: str, x: jax.Array, norm: Callable[[jax.Array], jax.Array]
    ) -> jax.Array:
        """Activation, normalization and pooling behind conv1 or conv2, in `order`."""
        for part in order.split():
            match part:
                case "activation":
                    x = self.activate(x)
                case "norm":
                    x = norm(x)
                case "pool":
                    x = layers.max_pool(x, **self.pool)
        return x

    def drop(
        self, place: str, x: jax.Array, keys: Key[Array, " n"] | None, *, layer: int
    ) -> jax.Array:
        if place != self.dropout_place:
            return x
        return layers.dropout(x, keys=keys, layer=layer, **self.dropout)
