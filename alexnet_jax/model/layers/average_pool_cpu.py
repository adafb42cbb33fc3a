"""Average pooling by sums of slices along one axis after the other, for CPUs.

On an EPYC core at the sizes of the four-layer network, the gradient took an eighth of the
time of XLA's, a sum over windows of the dilated gradient, and the mean as long as XLA's or
half as long.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax.model.layers.shapes import FeatureMaps, Images

ROWS, COLUMNS = 1, 2  # axes of images


def means(x: Images, sizes: Sequence[int], window: int, stride: int) -> FeatureMaps:
    """The means over windows, `sizes` of them down and across; the last may overhang.

    Like their gradient, they are summed in at least float32.
    """
    sums = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis, size in zip((ROWS, COLUMNS), sizes, strict=True):
        sums = _window_sums(sums, axis, size, window, stride)
    weights = _weights(x.shape[1:3], sizes, window, stride)
    return (sums * weights.astype(sums.dtype)).astype(x.dtype)


def means_gradient(
    gradient: FeatureMaps, sides: Sequence[int], window: int, stride: int
) -> Images:
    """The gradient of `means` with respect to images with these `sides`."""
    sums = gradient.astype(jnp.promote_types(gradient.dtype, jnp.float32))
    sums = sums * _weights(sides, gradient.shape[1:3], window, stride).astype(
        sums.dtype
    )
    # Columns first: the larger of the two steps then copies whole rows.
    for axis in (COLUMNS, ROWS):
        sums = _sums_by_pixel(sums, axis, sides[axis - ROWS], window, stride)
    return sums.astype(gradient.dtype)


def _window_sums(
    x: jax.Array, axis: int, size: int, window: int, stride: int
) -> jax.Array:
    last = (size - 1) * stride  # where the last window starts
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (0, max(0, last + window - x.shape[axis]), 0)
    x = lax.pad(x, np.zeros((), x.dtype), edges)
    parts = [
        lax.slice_in_dim(x, start, start + last + 1, stride, axis)
        for start in range(window)
    ]
    return functools.reduce(jnp.add, parts)


def _sums_by_pixel(
    gradient: jax.Array, axis: int, side: int, window: int, stride: int
) -> jax.Array:
    """For each of `side` pixels, the sum over the windows that include it.

    Pixels of one phase, position % stride, have the same positions in their windows.
    """
    count = -(-side // stride)  # pixels of a phase
    ahead = (window - 1) // stride
    edges = [(0, 0, 0)] * gradient.ndim
    edges[axis] = (ahead, count - gradient.shape[axis], 0)  # Negative padding crops.
    gradient = lax.pad(gradient, np.zeros((), gradient.dtype), edges)

    def phase(number: int) -> jax.Array:
        starts = [ahead - i // stride for i in range(number, window, stride)]
        parts = [lax.slice_in_dim(gradient, s, s + count, 1, axis) for s in starts]
        return functools.reduce(jnp.add, parts)

    whole = jnp.stack([phase(number) for number in range(stride)], axis + 1)
    shape = [*gradient.shape]
    shape[axis] = count * stride
    return lax.slice_in_dim(whole.reshape(shape), 0, side, 1, axis)


def _weights(
    sides: Sequence[int], sizes: Sequence[int], window: int, stride: int
) -> np.ndarray:
    """One over the number of pixels of each window that lie inside the image."""
    rows, columns = (
        np.minimum(window, side - stride * np.arange(size))
        for side, size in zip(sides, sizes, strict=True)
    )
    return 1 / (rows[:, None] * columns)[None, ..., None]
