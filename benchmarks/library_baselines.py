"""AlexNet and the four-layer network by the operations of JAX and Flax.

JAX differentiates them. The mathematics is that of `alexnet_jax.model`, with nothing written
by hand: grouped convolution, `reduce_window` raised to a power, `nnx.max_pool`. Reports
call it "plain".
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Key

from alexnet_jax.model import layers
from alexnet_jax.model.network import Params

Images = Float[Array, "n h w c"]
Mapped = Float[Array, "n i j d"]  # another size, perhaps other channels
Padding = tuple[tuple[int, int], tuple[int, int]]

NORM: dict[str, Any] = {"depth": 5, "k": 2.0, "alpha": 1e-4, "beta": 0.75}


def convolve(
    x: Images,
    kernel: Float[Array, "a b e d"],
    *,
    stride: int,
    padding: Padding,
    towers: int,
) -> Mapped:
    """Convolves all towers by one grouped convolution; e is c / towers."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=towers,
    )


def local_response_norm(
    x: Images, *, depth: int, k: float, alpha: float, beta: float, towers: int
) -> Images:
    """Normalizes across channels as printed in section 3.3, each tower on its own."""
    by_tower = x.reshape(*x.shape[:3], towers, x.shape[3] // towers)
    padding = ((0, 0),) * 4 + ((depth // 2, (depth - 1) // 2),)
    energy = lax.reduce_window(
        by_tower * by_tower, 0.0, lax.add, (1, 1, 1, 1, depth), (1,) * 5, padding
    )
    return (by_tower * (k + alpha * energy) ** -beta).reshape(x.shape)


def within_channel_norm(
    x: Images, *, size: int, k: float, alpha: float, beta: float
) -> Images:
    """Normalizes within each channel, as a second layer of the 2012 code does."""
    edges = ((0, 0), *((size // 2, (size - 1) // 2),) * 2, (0, 0))
    energy = lax.reduce_window(
        x * x, np.zeros((), x.dtype), lax.add, (1, size, size, 1), (1,) * 4, edges
    )
    return x * (k + alpha * energy) ** -beta


def max_pool(x: Images, *, window: int, stride: int) -> Mapped:
    """Pools with the output size rounded down; AlexNet's sizes need no rounding."""
    return nnx.max_pool(x, (window, window), (stride, stride))


def alexnet_logits(
    params: Params,
    images: Float[Array, "n h w 3"],
    dropout_keys: Key[Array, " n"] | None,
    *,
    towers: int,
) -> Float[Array, "n classes"]:
    """Applies the paper's AlexNet of any width, with the parameters of ours."""

    def weights(name: str) -> tuple[jax.Array, jax.Array]:
        layer = params[name]
        return layer["kernel"].astype(images.dtype), layer["bias"].astype(images.dtype)

    def convolved(x, name, pads, stride=1, towers=1):
        kernel, bias = weights(name)
        y = convolve(x, kernel, stride=stride, padding=(pads, pads), towers=towers)
        return jax.nn.relu(y + bias)

    def pooled(x):
        return max_pool(x, window=3, stride=2)

    def dense(x, name):
        kernel, bias = weights(name)
        return x @ kernel + bias

    x = convolved(images, "conv1", (0, 3), stride=4)
    x = pooled(local_response_norm(x, **NORM, towers=towers))
    x = convolved(x, "conv2", (2, 2), towers=towers)
    x = pooled(local_response_norm(x, **NORM, towers=towers))
    x = convolved(x, "conv3", (1, 1))
    x = convolved(x, "conv4", (1, 1), towers=towers)
    x = pooled(convolved(x, "conv5", (1, 1), towers=towers))
    x = x.reshape(len(x), -1)
    for layer in (6, 7):
        x = jax.nn.relu(dense(x, f"fc{layer}"))
        x = layers.dropout(x, rate=0.5, form="mask", keys=dropout_keys, layer=layer)
    return dense(x, "fc8")


def four_layer_logits(
    params: Params,
    images: Float[Array, "n h w 3"],
    dropout_keys: Key[Array, " n"] | None,
    *,
    activation: str,
) -> Float[Array, "n classes"]:
    """Applies the network of Figure 1, with the parameters of ours; it has no dropout."""
    activate = {"relu": jax.nn.relu, "tanh": jnp.tanh}[activation]
    pools = {"window_shape": (3, 3), "strides": (2, 2), "padding": ((0, 1), (0, 1))}

    def convolved(x, name):
        kernel, bias = (params[name][n].astype(x.dtype) for n in ("kernel", "bias"))
        pads = ((2, 2), (2, 2))
        y = convolve(x, kernel, stride=1, padding=pads, towers=1)
        return y + jnp.expand_dims(bias, (0, 1, 2))

    x = activate(nnx.max_pool(convolved(images, "conv1"), **pools))
    for name in ("conv2", "conv3"):
        x = activate(convolved(x, name))
        x = nnx.avg_pool(x, **pools, count_include_pad=False).astype(x.dtype)
    x = x.reshape(len(x), -1)
    kernel, bias = (params["fc4"][n].astype(x.dtype) for n in ("kernel", "bias"))
    return x @ kernel + jnp.expand_dims(bias, 0)
