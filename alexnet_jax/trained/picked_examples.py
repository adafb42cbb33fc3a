"""Some examples of a split as the network's preprocessing begins with them."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int32, UInt8

from alexnet_jax.data.loading import BatchLoader
from alexnet_jax.data.rescaled import RescaledSplit

LOADED_AT_ONCE = 128


def evenly_spaced(count: int, most: int) -> list[int]:
    """Up to `most` of the numbers below `count`, from the first to the last."""
    if count <= most:
        return list(range(count))
    return np.linspace(0, count - 1, most).round().astype(int).tolist()


def picked(
    split: RescaledSplit, indices: Sequence[int]
) -> Iterator[tuple[UInt8[np.ndarray, "n side side 3"], Int32[np.ndarray, " n"]]]:
    """The rescaled images at `indices` with their labels, in batches and in this order.

    Raises:
      UserError: if an image cannot be read; the message names it.
    """

    def describe(step: int) -> dict[str, np.ndarray]:
        first = step * LOADED_AT_ONCE
        chosen = np.array(indices[first : first + LOADED_AT_ONCE], np.int32)
        return {
            "example": chosen,
            "offset": np.zeros((len(chosen), 2), np.int32),
            "mirrored": np.zeros(len(chosen), np.int32),
        }

    loader = BatchLoader(split, describe, split.size, LOADED_AT_ONCE)
    steps = range(-(-len(indices) // LOADED_AT_ONCE))
    with contextlib.closing(loader.batches(steps)) as batches:
        for batch in batches:
            yield batch["image"], batch["label"]


def pixels_at(
    split: RescaledSplit, indices: Sequence[int]
) -> UInt8[np.ndarray, "n side side 3"]:
    """The rescaled images at `indices`; for few of them. Errors are those of `picked`."""
    parts = [images for images, _ in picked(split, indices)]
    nothing = np.zeros((0, split.size, split.size, 3), np.uint8)
    return np.concatenate(parts) if parts else nothing


def place_name(where: str) -> str:
    """A file's name without its folders, of what `Split.where` says."""
    return where.rpartition("/")[2]


def center_crop(
    image: UInt8[np.ndarray, "side side 3"], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """The part of a rescaled image that a network sees in its center crop."""
    first = (len(image) - size) // 2
    return image[first : first + size, first : first + size]
