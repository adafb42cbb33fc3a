"""AlexNet: five convolutions and three dense layers in two towers (section 3.5)."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key
from ml_collections import ConfigDict

from alexnet_jax.model import components, layers

# The layers, in the order of the settings `weight_stds` and `biases`; `channels` has all
# but fc8. conv6 is the sixth convolution of the networks that were pre-trained on more of
# ImageNet (section 6).
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc6", "fc7", "fc8")

# Rows (and columns) of zeros before and after the images of conv1. "both" is the usual
# reading of the paper's 224 -> 55. "after" is what the 2012 code does: it rounds sizes up
# and its last window reads zeros beyond the edge. "none" suits images of 227 pixels.
CONV1_PADDING = {"both": (2, 2), "after": (0, 3), "none": (0, 0)}


class Windows(NamedTuple):
    """Where a convolution looks: the side of its windows, their stride, and the padding.

    The padding is so many rows (and columns) of zeros before and after the images.
    """

    window: int
    stride: int
    padding: tuple[int, int]


class AlexNet(nnx.Module):
    """The eight layers of 2012, from NHWC images to logits.

    With the paper's channels and 1000 classes it has 60,965,224 parameters. A layer with
    0 channels is left out; the normalization and pooling after it remain.
    """

    def __init__(
        self,
        settings: ConfigDict,
        *,
        image_size: int,
        num_classes: int,
        key: Key[Array, ""],
    ) -> None:
        """Draws the initial parameters.

        Args:
          settings: the section `model` of a configuration.
          image_size: height and width of the images in pixels.
          key: the root of the initialization keys of all layers.

        Raises:
          UserError: if images of this size leave a layer no pixels, or if there is no
            activation function of this name.
        """
        self.activate = components.activation(settings)
        self.norm = components.local_response_norm(settings)
        self.within_channel_norm = components.within_channel_norm(settings)
        self.max_pool = components.max_pool(settings)
        self.dropout = components.dropout(settings)
        self.dropout_place = settings.dropout_place
        self.orders = settings.layer1_order, settings.layer2_order
        self.dtype = settings.dtype

        make = components.LayerFactory.of(settings, LAYERS, key)
        c1, c2, c3, c4, c5, c6, f6, f7 = channels = channels_by_layer(settings)
        towers = settings.towers
        first, second = (windows._asdict() for windows in self.windows(settings))
        size = pool5_size(settings, image_size, self.windows(settings))

        # Of conv2 to conv5 only conv3 reads both towers (Figure 2).
        self.conv1 = make.convolution("conv1", 3, c1, **first, towers=1)
        maps = c1  # The channels that the next layer reads.
        self.conv2 = (
            make.convolution("conv2", maps, c2, **second, towers=towers) if c2 else None
        )
        maps = c2 or maps
        self.conv3 = make.same("conv3", maps, c3, window=3, towers=1) if c3 else None
        maps = c3 or maps
        self.conv4 = (
            make.same("conv4", maps, c4, window=3, towers=towers) if c4 else None
        )
        maps = c4 or maps
        self.conv5 = (
            make.same("conv5", maps, c5, window=3, towers=towers) if c5 else None
        )
        maps = c5 or maps
        self.conv6 = make.same("conv6", maps, c6, window=3, towers=1) if c6 else None
        units = size * size * (c6 or maps)
        self.fc6 = make.dense("fc6", units, f6) if f6 else None
        units = f6 or units
        self.fc7 = make.dense("fc7", units, f7) if f7 else None
        self.fc8 = make.dense("fc8", f7 or units, num_classes)
        components.add_feature_norms(self, settings, LAYERS[:-1], channels)

    @staticmethod
    def windows(settings: ConfigDict) -> tuple[Windows, Windows]:
        """Returns the windows of conv1, 11x11 with stride 4, and of conv2, 5x5."""
        padding = CONV1_PADDING[settings.conv1_padding]
        return Windows(11, 4, padding), Windows(5, 1, (2, 2))

    def __call__(
        self, x: Float[Array, "n h w 3"], dropout_keys: Key[Array, " n"] | None
    ) -> Float[Array, "n classes"]:
        """Returns the logits; `dropout_keys`, one an example, turn dropout on."""
        return self.outputs(x, dropout_keys)["fc8"]

    def outputs(
        self, x: Float[Array, "n h w 3"], dropout_keys: Key[Array, " n"] | None
    ) -> dict[str, jax.Array]:
        """Returns what each layer passes on, from "conv1" to "fc8", the logits.

        The shapes in the comments are those of the paper's channels and 224x224 images.
        """
        found: dict[str, jax.Array] = {}
        layer = functools.partial(components.apply_layer, self)

        x = x.astype(self.dtype)  # 224x224x3
        x = layer("conv1", x)  # 55x55x96
        x = self.finish_layer(self.orders[0], x, self.norm)  # 27x27x96
        found["conv1"] = x

        if self.conv2 is not None:
            x = layer("conv2", x)  # 27x27x256
        x = self.finish_layer(self.orders[1], x, self.layer2_norm)  # 13x13x256
        found["conv2"] = x

        if self.conv3 is not None:
            found["conv3"] = x = self.activate(layer("conv3", x))  # 13x13x384
        if self.conv4 is not None:
            found["conv4"] = x = self.activate(layer("conv4", x))  # 13x13x384
        if self.conv5 is not None:
            found["conv5"] = x = self.activate(layer("conv5", x))  # 13x13x256
        x = self.max_pool(x)  # 6x6x256
        if self.conv6 is not None:
            found["conv6"] = x = self.activate(layer("conv6", x))  # 6x6x256

        x = x.reshape(x.shape[0], -1)  # 9216, in the order height, width, channel
        if self.fc6 is not None:
            x = self.drop("before", x, dropout_keys, layer=6)
            found["fc6"] = x = self.activate(layer("fc6", x))  # 4096
            x = self.drop("after", x, dropout_keys, layer=6)
        if self.fc7 is not None:
            x = self.drop("before", x, dropout_keys, layer=7)
            found["fc7"] = x = self.activate(layer("fc7", x))  # 4096
            x = self.drop("after", x, dropout_keys, layer=7)
        found["fc8"] = self.fc8(x).astype(jnp.float32)  # classes
        return found

    def finish_layer(
        self, order: str, x: jax.Array, norm: Callable[[jax.Array], jax.Array]
    ) -> jax.Array:
        """Applies the activation, normalization and pooling after conv1 or conv2.

        Args:
          order: the words "activation", "norm" and "pool" in the order wanted.
        """
        for part in order.split():
            match part:
                case "activation":
                    x = self.activate(x)
                case "norm":
                    x = norm(x)
                case "pool":
                    x = self.max_pool(x)
        return x

    def layer2_norm(self, x: jax.Array) -> jax.Array:
        return self.within_channel_norm(self.norm(x))

    def drop(
        self, place: str, x: jax.Array, keys: Key[Array, " n"] | None, *, layer: int
    ) -> jax.Array:
        """Applies dropout if its place, "before" or "after" the layer, is this one."""
        if place != self.dropout_place:
            return x
        return self.dropout(x, keys=keys, layer=layer)


def channels_by_layer(settings: ConfigDict) -> list[int]:
    """The channels of conv1 to conv6 and the units of fc6 and fc7.

    They are `settings.width` times those of `settings.channels`, rounded to the same
    whole number in each tower, and 0 for a layer that is left out.
    """
    towers = settings.towers
    return [
        towers * max(1, round(settings.width * count / towers)) if count else 0
        for count in settings.channels
    ]


def pool5_size(
    settings: ConfigDict, image_size: int, windows: tuple[Windows, Windows]
) -> int:
    """The height (or width) of the last feature maps: 6 for the paper's 224 pixels.

    Args:
      settings: the section `model` of a configuration.
      image_size: height and width of the images in pixels.
      windows: the windows of conv1 and of conv2.

    Raises:
      UserError: if a layer has no pixels left.
    """
    first, second = windows
    size = layers.convolved_size("conv1", image_size, **first._asdict())
    size = components.pooled_size(settings, "pool1", size)
    if settings.channels[1]:
        size = layers.convolved_size("conv2", size, **second._asdict())
    size = components.pooled_size(settings, "pool2", size)
    return components.pooled_size(settings, "pool5", size)
