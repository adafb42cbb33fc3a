"""Max and average pooling, with windows that may overlap (section 3.4)."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.export import is_symbolic_dim

from alexnet_jax.model.layers import average_pool_cpu, blocks_cpu
from alexnet_jax.model.layers.shapes import FeatureMaps, Images, Padding, pooled_size

# Values of the images that max pooling takes at a time on CPUs: a megabyte of float32.
VALUES_AT_ONCE = 2**18


def max_pool(
    x: Images, *, window: int, stride: int, rounding: str, ties: str
) -> FeatureMaps:
    """The maximum over window x window pixels, every `stride` pixels.

    Args:
      x: NHWC images.
      window: height and width of a window in pixels, z in section 3.4.
      stride: pixels from one window to the next, s in section 3.4.
      rounding: of the number of windows: "up", so that the last may extend beyond the
        edge, or "down".
      ties: which of several equal maxima receives the gradient: the "first" in row-major
        order, as in current libraries, or "all", as in cuda-convnet.

    With "first" the result and its gradient are bit-identical to `nnx.max_pool`, whose
    gradient, XLA's select-and-scatter, takes 8 to 14 times as long on a CPU and is
    refused on GPUs if results must be deterministic.
    """
    return _max_pool(x, x.shape[1:3], window, stride, rounding, ties)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def _max_pool(
    x: Images,
    sides: tuple[int, ...],
    window: int,
    stride: int,
    rounding: str,
    ties: str,
) -> FeatureMaps:
    def maxima(x):
        return functools.reduce(jnp.maximum, _views(x, window, stride, rounding))

    return _in_blocks_if_padded(maxima, x.shape, window, stride, rounding)(x)


def _max_pool_forward(x, sides, window, stride, rounding, ties):
    """Saves the position of each first maximum in its window, a small integer."""
    if ties == "all":
        maximum = _max_pool(x, sides, window, stride, rounding, ties)
        return maximum, (x, maximum)
    first = functools.partial(
        _first_maxima, window=window, stride=stride, rounding=rounding
    )
    maximum, position = _in_blocks_if_padded(first, x.shape, window, stride, rounding)(
        x
    )
    return maximum, (None, position)


def _in_blocks_if_padded(
    function: Callable[..., Any],
    shape: tuple[Any, ...],
    window: int,
    stride: int,
    rounding: str,
) -> Callable[..., Any]:
    """`function`, on CPUs for a few images at a time where windows overhang them.

    XLA would otherwise write the padded images to memory, and read them again in each loop
    of the backward pass: with the ReLU after it 54 ms in place of 15 for 128 images of
    32x32x32 on an EPYC core. Windows that fit need no padding, and at 55x55x96 the loop
    took 1.3 times as long.

    Args:
      function: of arrays with the images along their first axis.
      shape: of the images that are pooled, whose number may be symbolic.
    """
    if overhang(shape, window, stride, rounding) == ((0, 0), (0, 0)):
        return function
    if is_symbolic_dim(shape[0]):  # a program for any number of images
        return function
    images = _images_at_once(shape[0], shape[1:])
    blocks = functools.partial(blocks_cpu.in_blocks, function, images)
    return functools.partial(lax.platform_dependent, cpu=blocks, default=function)


def _images_at_once(count: int, shape: tuple[int, ...]) -> int:
    return blocks_cpu.images_at_once(count, math.prod(shape), VALUES_AT_ONCE)


def _first_maxima(
    x: Images, *, window: int, stride: int, rounding: str
) -> tuple[FeatureMaps, jax.Array]:
    maximum, *others = _views(x, window, stride, rounding)
    dtype = jnp.uint8 if window**2 <= 256 else jnp.int32
    position = jnp.zeros(maximum.shape, dtype)
    for number, view in enumerate(others, start=1):
        position = jnp.where(view > maximum, dtype(number), position)
        maximum = jnp.maximum(maximum, view)
    return maximum, position


def _max_pool_backward(sides, window, stride, rounding, ties, saved, gradient):
    """Sums, for each pixel, the gradients of the windows whose maximum it is.

    The pixels of one phase, (row % stride, column % stride), have the same positions in
    their windows, so each phase is a sum of a few shifted slices.
    """
    x, won = saved  # `won`: the maxima themselves (ties "all") or their positions
    arrays = (won, gradient) if x is None else (won, gradient, x)
    phases = functools.partial(_phases, sides=sides, window=window, stride=stride)

    def stacked(*arrays):
        parts = phases(*arrays)
        by_row = [parts[n : n + stride] for n in range(0, len(parts), stride)]
        return jnp.stack([jnp.stack(row, axis=3) for row in by_row], axis=2)

    def in_blocks(*arrays):
        images = _images_at_once(len(gradient), (*sides, gradient.shape[-1]))
        return blocks_cpu.phases_in_blocks(phases, stride, images, *arrays)

    shape = (len(gradient), *sides)
    if overhang(shape, window, stride, rounding) == ((0, 0), (0, 0)):
        whole = stacked(*arrays)
    else:
        whole = lax.platform_dependent(*arrays, cpu=in_blocks, default=stacked)
    rows, columns = (whole.shape[n] * stride for n in (1, 3))
    whole = whole.reshape(len(whole), rows, columns, -1)
    return (whole[:, : sides[0], : sides[1]],)


def _phases(
    won: jax.Array,
    gradient: FeatureMaps,
    x: Images | None = None,
    *,
    sides: tuple[int, ...],
    window: int,
    stride: int,
) -> list[jax.Array]:
    """The gradients of the pixels of each phase, by row and then by column.

    Args:
      won: the position of each maximum in its window or, with the images x, the maxima.
    """
    rows, columns = (-(-side // stride) for side in sides)  # Those of one phase.
    ahead = (window - 1) // stride
    edges = [(ahead, rows - won.shape[1], 0), (ahead, columns - won.shape[2], 0)]
    edges = [(0, 0, 0), *edges, (0, 0, 0)]
    won, gradient = (lax.pad(v, np.zeros((), v.dtype), edges) for v in (won, gradient))
    if x is not None:
        missing = [(0, rows * stride - sides[0]), (0, columns * stride - sides[1])]
        x = jnp.pad(x, ((0, 0), *missing, (0, 0)))

    def phase(top: int, left: int) -> jax.Array:
        total = jnp.zeros((), gradient.dtype)
        # Positions backwards: from the first window to the last, the order in which
        # nnx.max_pool's gradient is summed, so that results are bit-identical.
        for i in reversed(range(top, window, stride)):
            for j in reversed(range(left, window, stride)):
                row, column = ahead - i // stride, ahead - j // stride
                windows = np.s_[:, row : row + rows, column : column + columns]
                winner = (
                    i * window + j if x is None else x[:, top::stride, left::stride]
                )
                total += jnp.where(won[windows] == winner, gradient[windows], 0)
        return total

    return [phase(top, left) for top in range(stride) for left in range(stride)]


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _views(x: jax.Array, window: int, stride: int, rounding: str) -> list[jax.Array]:
    """For each position in the window, row by row, that pixel of every window."""
    edges = overhang(x.shape, window, stride, rounding)
    x = jnp.pad(x, ((0, 0), *edges, (0, 0)), constant_values=-jnp.inf)
    rows, columns = (
        (pooled_size(side, window, stride, rounding) - 1) * stride + 1
        for side in x.shape[1:3]
    )
    return [
        x[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(window)
        for j in range(window)
    ]


def average_pool(x: Images, *, window: int, stride: int, rounding: str) -> FeatureMaps:
    """The mean over the pixels of each window that lie inside the image."""
    return _average_pool(x, window, stride, rounding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _average_pool(x: Images, window: int, stride: int, rounding: str) -> FeatureMaps:
    def by_sums(x):
        sizes = [pooled_size(side, window, stride, rounding) for side in x.shape[1:3]]
        return average_pool_cpu.means(x, sizes, window, stride)

    library = functools.partial(
        _library_average_pool, window=window, stride=stride, rounding=rounding
    )
    return lax.platform_dependent(x, cpu=by_sums, default=library)


def _average_pool_forward(x, window, stride, rounding):
    """Saves x for its shape and type; a compiled program does not keep its values."""
    return _average_pool(x, window, stride, rounding), x


def _average_pool_backward(window, stride, rounding, x, gradient):
    def by_sums(x, gradient):
        return average_pool_cpu.means_gradient(gradient, x.shape[1:3], window, stride)

    def by_library(x, gradient):
        library = functools.partial(
            _library_average_pool, window=window, stride=stride, rounding=rounding
        )
        return jax.vjp(library, x)[1](gradient)[0]

    return (lax.platform_dependent(x, gradient, cpu=by_sums, default=by_library),)


_average_pool.defvjp(_average_pool_forward, _average_pool_backward)


def _library_average_pool(
    x: Images, *, window: int, stride: int, rounding: str
) -> FeatureMaps:
    padding = overhang(x.shape, window, stride, rounding)
    mean = nnx.avg_pool(
        x, (window, window), (stride, stride), padding, count_include_pad=False
    )
    return mean.astype(x.dtype)  # The library counts in float32.


def overhang(
    shape: tuple[Any, ...], window: int, stride: int, rounding: str
) -> Padding:
    """Padding at the bottom and right that completes the last window."""

    def after(size: int) -> int:
        windows = pooled_size(size, window, stride, rounding)
        return max(0, (windows - 1) * stride + window - size)

    return (0, after(shape[1])), (0, after(shape[2]))
