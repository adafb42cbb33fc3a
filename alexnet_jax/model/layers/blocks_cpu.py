"""Work on a few images at a time, so that its arrays stay in a CPU's cache."""

from collections.abc import Callable
from typing import Any

import jax
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


def in_blocks(function: Callable[[jax.Array], Any], x: jax.Array, images: int) -> Any:
    """`function` of x, computed for so many images at a time, a divisor of their number.

    The results have the images along their first axis. XLA neither fuses a loop with what
    comes before and after it nor computes it again for each use of its results.
    """
    if images == len(x):
        return function(x)
    results = lax.map(function, x.reshape(-1, images, *x.shape[1:]))
    return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:]), results)
