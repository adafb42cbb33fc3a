"""Examples of a dataset as a network's preprocessing begins with them, picked by index."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from alexnet_jax.data.loading import BatchLoader
from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.data.types import Source, Split
from alexnet_jax.trained.class_names import match

LOADED_AT_ONCE = 128

RescaledImages = UInt8[np.ndarray, "n side side 3"]


@dataclasses.dataclass(frozen=True)
class PickedExamples:
    """A split whose examples are picked by their indices.

    Attributes:
      rescaled: the split, rescaled as the network's training images were.
      index: the network's class of each of the dataset's labels.
    """

    rescaled: RescaledSplit
    index: Int64[np.ndarray, " labels"]

    @property
    def split(self) -> Split:
        return self.rescaled.split

    def place(self, example: int) -> str:
        """Where an example is: a file's name without its folders."""
        return self.split.where(example).rpartition("/")[2]

    def batches(
        self,
        examples: Sequence[int],
        advance: Callable[[int], None] = lambda images: None,
    ) -> Iterator[tuple[RescaledImages, Int64[np.ndarray, " n"]]]:
        """The images with the network's classes, in this order.

        Args:
          examples: indices in the split.
          advance: receives the number of images of each batch that has been used.

        Raises:
          UserError: if an image cannot be read; the message names it.
        """

        loader = self._loader(examples)
        steps = range(-(-len(examples) // LOADED_AT_ONCE))
        with contextlib.closing(loader.batches(steps)) as batches:
            for batch in batches:
                yield batch["image"], self.index[batch["label"]]
                advance(len(batch["label"]))

    def pixels(self, examples: Sequence[int]) -> RescaledImages:
        """The images of at most `LOADED_AT_ONCE` examples, without further threads.

        Raises:
          UserError: if one cannot be read; the message names it.
        """
        if not examples:
            return nothing(self.rescaled.size)
        loader = self._loader(examples)
        return loader.single(loader.describe(0))["image"]

    def _loader(self, examples: Sequence[int]) -> BatchLoader:
        """Loads the examples in batches, whole and not mirrored."""

        def describe(step: int) -> dict[str, np.ndarray]:
            first = step * LOADED_AT_ONCE
            chosen = np.array(examples[first : first + LOADED_AT_ONCE], np.int32)
            return {
                "example": chosen,
                "offset": np.zeros((len(chosen), 2), np.int32),
                "mirrored": np.zeros(len(chosen), np.int32),
            }

        return BatchLoader(self.rescaled, describe, self.rescaled.size, LOADED_AT_ONCE)


class OpenedData(NamedTuple):
    """A dataset with both of its splits."""

    source: Source
    train: PickedExamples
    validation: PickedExamples


def opened(source: Source, settings: Any, class_names: Sequence[str]) -> OpenedData:
    """A dataset for a network.

    Args:
      settings: the section `data` of the network's settings.
      class_names: of the network.

    Raises:
      UserError: if the dataset has a class that the network does not know.
    """
    index = match(source.class_names, class_names, dataset=source.name).index
    train, validation = (
        PickedExamples(
            RescaledSplit(split, settings.rescale_size, settings.rescale), index
        )
        for split in (source.train, source.validation)
    )
    return OpenedData(source, train, validation)


def nothing(side: int) -> RescaledImages:
    """No images."""
    return np.zeros((0, side, side, 3), np.uint8)


def evenly_spaced(count: int, most: int) -> list[int]:
    """Up to `most` of the numbers below `count`, from the first to the last."""
    if count <= most:
        return list(range(count))
    return np.linspace(0, count - 1, most).round().astype(int).tolist()


def center_crop(
    image: UInt8[np.ndarray, "side side 3"], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """The part of a rescaled image that a network sees in its center crop."""
    first = (len(image) - size) // 2
    return image[first : first + size, first : first + size]
