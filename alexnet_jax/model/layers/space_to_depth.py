"""Space-to-depth: a convolution with a stride as one with stride 1 over folded pixels.

Each stride x stride square of pixels becomes one pixel with stride**2 times the channels.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax.model.layers.shapes import FeatureMaps, Images, Kernel, Padding


def space_to_depth_convolve(
    x: Images, kernel: Kernel, *, stride: int, padding: Padding
) -> FeatureMaps:
    """Computes `convolve` over folded pixels, with stride 1.

    For conv1, 227 x 227 x 3 by 11 x 11 with stride 4 becomes 57 x 57 x 48 by 3 x 3 with
    stride 1 and 19% more multiplications, by zeros. The matrix units of a GPU want
    multiples of eight channels, to which XLA does not pad bfloat16. Only a benchmark
    uses it until it has been measured on a GPU.
    """
    layout = ("NHWC", "OHWI", "NHWC")
    images = fold_images(x, kernel.shape, stride, padding)
    kernels = fold_kernel(kernel, stride)
    return lax.conv_general_dilated(
        images, kernels, (1, 1), "VALID", dimension_numbers=layout
    )


def fold_images(
    x: jax.Array, kernel_shape: tuple[int, ...], stride: int, padding: Padding
) -> jax.Array:
    """(n, h, w, c) as (n, h / stride, w / stride, stride * stride * c), padded."""
    edges = []
    for side, window, (before, after) in zip(
        x.shape[1:3], kernel_shape, padding, strict=False
    ):
        pixels = (side + before + after - window) // stride + 1
        whole = (pixels - 1 + -(-window // stride)) * stride
        edges.append((before, whole - before - side, 0))  # Negative padding crops.
    return _fold(
        lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)]), stride
    )


def fold_kernel(kernel: jax.Array, stride: int) -> jax.Array:
    """(a, b, c, d) as (d, a / stride, b / stride, stride * stride * c), zero-padded."""
    rows, columns = (-window % stride for window in kernel.shape[:2])
    whole = jnp.pad(kernel, ((0, rows), (0, columns), (0, 0), (0, 0)))
    return _fold(jnp.moveaxis(whole, -1, 0), stride)


def unfold_kernel(folded: jax.Array, shape: tuple[int, ...], stride: int) -> jax.Array:
    """The inverse of `fold_kernel`: the kernel of this `shape`."""
    outputs, rows, columns, _ = folded.shape
    x = folded.reshape(outputs, rows, columns, stride, stride, -1).swapaxes(2, 3)
    x = x.reshape(outputs, rows * stride, columns * stride, -1)
    return jnp.moveaxis(x[:, : shape[0], : shape[1]], 0, -1)


def _fold(x: jax.Array, stride: int) -> jax.Array:
    n, height, width, channels = x.shape
    rows, columns = height // stride, width // stride
    x = x.reshape(n, rows, stride, columns, stride, channels).swapaxes(2, 3)
    return x.reshape(n, rows, columns, stride * stride * channels)
