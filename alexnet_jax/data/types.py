"""What a dataset is to the input pipeline: labeled images at random access."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from alexnet_jax.data.statistics import Statistics

# A dataset without a validation or test split holds out every tenth example.
HOLD_OUT_EVERY = 10
# The split of a dataset that is measured whole.
ALL_IMAGES = "all images"
# The end of an image file differs more than its beginning, where headers are alike.
END_BYTES = 4096


class GrayImages(NamedTuple):
    """All images of a small split, decoded: square, in gray levels, with their labels."""

    pixels: UInt8[np.ndarray, "n side side"]
    labels: Int32[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Split:
    """Labeled images at random access.

    Attributes:
      name: "train", "test" or "validation"; of a folder, the subfolder's name; ALL_IMAGES if
        errors are measured on the whole dataset.
      num_examples: The number of examples.
      read: Maps an index to (encoded image, label). Safe to call from several threads.
        Raises UserError, which names the file, if the bytes cannot be read or are not
        those that were written.
      where: Maps an index to the place where a person finds that example, as one
        printable line: "train/cat/a b.jpg", or
        "cifar10-train.tfrecord-00000-of-00001, byte 12345".
      encoding: What `read` returns: "original", an image file of any size; or the
        rescaled images of a prepared set, as "jpeg" files or as "raw" rows of RGB
        bytes.
      read_part: For raw images only: maps (index, first byte, number of bytes) to
        (bytes, label).
      size: Maps an index to the number of bytes of the encoded image, without reading
        it; None if it is not known before reading.
      read_end: Maps an index to the last END_BYTES bytes of the encoded image, and raises
        what `read` does; None if there is no way but to read the whole.
      gray: The images that `read` encodes; None where they are not held in memory.
    """

    name: str
    num_examples: int
    read: Callable[[int], tuple[bytes, int]]
    where: Callable[[int], str] = "example {}".format
    encoding: str = "original"
    read_part: Callable[[int, int, int], tuple[bytes, int]] | None = None
    size: Callable[[int], int] | None = None
    read_end: Callable[[int], bytes] | None = None
    gray: GrayImages | None = None

    def __len__(self) -> int:
        return self.num_examples


@dataclasses.dataclass(frozen=True)
class Source:
    """A dataset.

    Attributes:
      name: Its name in reports.
      class_names: The names of the classes, indexed by label.
      train: The training images.
      validation: The images on which errors are measured.
      fingerprint: A hash of the digits' contents; for files, of their names and sizes,
        not of their contents. A prepared set has the fingerprint of the source from
        which it was prepared.
      statistics: The statistics of the training split, if they are already known.
      prepared: What reports say about a prepared set, `reader.facts_for_reports`; None
        for all other sources.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    fingerprint: str
    statistics: Statistics | None = None
    prepared: Mapping[str, Any] | None = None


def no_training_images() -> Split:
    """The training split of a dataset that is only to be measured on."""

    def read(i: int) -> tuple[bytes, int]:
        raise IndexError(i)

    return Split("train", 0, read)


def hold_out(num_examples: int, *, every: int) -> tuple[list[int], list[int]]:
    """Returns the training indices, and the held-out ones: the last of each `every`."""
    held_out = range(every - 1, num_examples, every)
    return sorted(set(range(num_examples)) - set(held_out)), list(held_out)


def hash_of(parts: Iterable[bytes]) -> str:
    """Returns 16 hexadecimal digits of SHA-256 over the parts and their lengths."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:16]
