"""Images that a program hands over as arrays: checked, and those of training measured."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from alexnet_jax.data.statistics import Statistics, total
from alexnet_jax.errors import UserError

# Images at a time of which sums are taken, so that no large part of them is copied.
AT_ONCE = 128


def measured(images: Any) -> tuple[int, Statistics]:
    """The number of training images and their statistics.

    Args:
      images: uint8 pixels (n, side, side, 3), or batches of such, each read once.

    Raises:
      UserError: if they are no such pixels, differ in size, or there are none.
    """
    batches: Iterable[Any] = images
    if hasattr(images, "shape"):
        check_pixels(images)
        batches = (images[i : i + AT_ONCE] for i in range(0, len(images), AT_ONCE))
    sides: list[int] = []

    def checked(batch: Any) -> np.ndarray:
        check_pixels(batch, *sides[:1])
        sides.append(batch.shape[1])
        return np.asarray(batch)

    try:
        sums = total(map(checked, batches))
        return sums.count, sums.statistics()
    except ValueError as error:  # there are none
        raise UserError(str(error)) from error


def check_pixels(images: Any, side: int | None = None) -> None:
    """Raises UserError unless images are uint8 pixels: square, and of this side if given.

    They may be an array of any library, or traced.
    """
    shape = np.shape(images)
    kind = getattr(images, "dtype", type(images).__name__)
    wanted = shape[1:2] if side is None else (side,)
    if kind != np.uint8 or len(shape) != 4 or shape[1:] != (*wanted * 2, 3):
        of = "side, side" if side is None else f"{side}, {side}"
        raise UserError(
            f"Images of {kind} and shape {shape}: give uint8 pixels of shape (n, {of}, 3)."
        )


def check_classes(count: Any) -> None:
    """Raises UserError unless a network can have so many classes."""
    if type(count) is not int or count < 2:
        raise UserError(f"classes={count!r}: give their number, 2 or more.")
