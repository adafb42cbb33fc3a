"""Work on a few images at a time, so that its arrays stay in a CPU's cache."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def images_at_once(count: int, size: int, limit: int) -> int:
    """The largest divisor of `count` whose images, of this size each, keep the limit.

    It is 1 if a single image exceeds the limit.
    """
    return max(
        images
        for images in range(1, count + 1)
        if count % images == 0 and (images == 1 or images * size <= limit)
    )


def in_blocks(function: Callable[..., Any], images: int, *arrays: jax.Array) -> Any:
    """`function` of arrays, computed for so many images at a time, a divisor of their number.

    Arrays and results have the images along their first axis. XLA neither fuses a loop with
    what comes before and after it nor computes it again for each use of its results.
    """
    count = len(arrays[0])
    if images == count:
        return function(*arrays)

    # Slices of the arrays as they are: of arrays split into blocks, XLA would compute every
    # index of the operation before by divisions, which took longer than the pooling itself.
    def block(number: int | jax.Array) -> Any:
        return function(
            *(lax.dynamic_slice_in_dim(x, number * images, images) for x in arrays)
        )

    def update(number: int | jax.Array, results: Any) -> Any:
        return jax.tree.map(
            lambda whole, part: lax.dynamic_update_slice_in_dim(
                whole, part, number * images, 0
            ),
            results,
            block(number),
        )

    empty = jax.tree.map(
        lambda part: jnp.broadcast_to(
            varying_zero(part.dtype, *arrays), (count, *part.shape[1:])
        ),
        jax.eval_shape(block, 0),
    )
    return lax.fori_loop(0, count // images, update, empty)


def phases_in_blocks(
    function: Callable[..., list[jax.Array]],
    stride: int,
    images: int,
    *arrays: jax.Array,
) -> jax.Array:
    """Puts pixels of stride x stride phases together, for so many images at a time.

    Each phase is written to its place by itself: a concatenation that computes its parts
    took three times as long.

    Args:
      function: of a block of the arrays, its phases, by row and then by column.

    Returns:
      All pixels: n, rows, phases of rows, columns, phases of columns, channels.
    """
    count = len(arrays[0])

    def update(number: int | jax.Array, whole: jax.Array) -> jax.Array:
        start = number * images
        parts = function(*(lax.dynamic_slice_in_dim(x, start, images) for x in arrays))
        for place, part in enumerate(parts):
            top, left = divmod(place, stride)
            part = jnp.expand_dims(part, (2, 4))
            whole = lax.dynamic_update_slice(whole, part, (start, 0, top, 0, left, 0))
        return whole

    part = jax.eval_shape(function, *(x[:images] for x in arrays))[0]
    rows, columns, channels = part.shape[1:]
    shape = (count, rows, stride, columns, stride, channels)
    zeros = jnp.broadcast_to(varying_zero(part.dtype, *arrays), shape)
    return lax.fori_loop(0, count // images, update, zeros)


def varying_zero(dtype: Any, *arrays: jax.Array) -> jax.Array:
    """A zero that depends on the arrays, until XLA simplifies it.

    Under shard_map a loop that begins with a plain one would be refused, because that
    counts as equal on all devices.
    """
    first = functools.reduce(jnp.logical_or, (x[(0,) * x.ndim] > 0 for x in arrays))
    zero = jnp.zeros((), dtype)
    return lax.select(first, zero, zero)
