"""The four-layer network of Figure 1 (section 3.1), as far as it is known.

The paper does not give its sizes. These are the sizes of the 2011 code's network for
CIFAR-10 with four weight layers ("19%"): three 5x5 convolutions with 32, 32 and 64
kernels, each followed by pooling over 3x3 windows with stride 2, by the maximum after the
first and by the mean after the others, and one dense layer.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key
from ml_collections import ConfigDict

from alexnet_jax.model import components

LAYERS = ("conv1", "conv2", "conv3", "fc4")


class FourLayer(nnx.Module):
    """Three convolutions and a dense layer, from NHWC images to logits."""

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
          num_classes: number of logits.
          key: the root of the initialization keys of all layers.

        Raises:
          UserError: if images of this size leave a layer no pixels, or if there is no
            activation function of this name.
        """
        self.activate = components.activation(settings)
        self.norm = components.local_response_norm(settings)
        self.max_pool = components.max_pool(settings)
        self.average_pool = components.average_pool(settings)
        self.dropout = components.dropout(settings)
        self.dtype = settings.dtype

        size = image_size
        for name in ("pool1", "pool2", "pool3"):
            size = components.pooled_size(settings, name, size)
        make = components.LayerFactory.of(settings, LAYERS, key)
        c1, c2, c3 = (max(1, round(settings.width * n)) for n in settings.channels)

        self.conv1 = make.same("conv1", 3, c1, window=5, towers=1)
        self.conv2 = make.same("conv2", c1, c2, window=5, towers=1)
        self.conv3 = make.same("conv3", c2, c3, window=5, towers=1)
        self.fc4 = make.dense("fc4", size * size * c3, num_classes)
        components.add_feature_norms(self, settings, LAYERS[:-1], (c1, c2, c3))

    def __call__(
        self, x: Float[Array, "n h w 3"], dropout_keys: Key[Array, " n"] | None
    ) -> Float[Array, "n classes"]:
        """Returns the logits; `dropout_keys`, one an example, turn dropout on."""
        return self.outputs(x, dropout_keys)["fc4"]

    def outputs(
        self, x: Float[Array, "n h w 3"], dropout_keys: Key[Array, " n"] | None
    ) -> dict[str, jax.Array]:
        """Returns what each layer passes on, from "conv1" to "fc4", the logits.

        The shapes in the comments are those of 32x32 images and width 1.
        """
        found: dict[str, jax.Array] = {}
        layer = functools.partial(components.apply_layer, self)

        x = x.astype(self.dtype)  # 32x32x3
        x = self.activate(self.max_pool(layer("conv1", x)))  # 16x16x32
        found["conv1"] = x = self.norm(x)
        x = self.average_pool(self.activate(layer("conv2", x)))  # 8x8x32
        found["conv2"] = x = self.norm(x)
        x = self.average_pool(self.activate(layer("conv3", x)))  # 4x4x64
        found["conv3"] = x

        x = x.reshape(x.shape[0], -1)  # 1024, in the order height, width, channel
        x = self.dropout(x, keys=dropout_keys, layer=4)
        found["fc4"] = self.fc4(x).astype(jnp.float32)  # classes
        return found
