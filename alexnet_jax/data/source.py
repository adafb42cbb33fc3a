"""Where images come from: digits, folders, TFDS. Encoded bytes, label, index."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.data.statistics import Statistics

# Every tenth (digits: fifth) example is held out where a set has no split for it.
HOLD_OUT_EVERY = 10


@dataclasses.dataclass(frozen=True)
class Split:
    """Labelled images at random access.

    Attributes:
      name: "train", "test" or "validation".
      num_examples: how many.
      read: index -> (encoded image, label); safe to call from several threads. Raises
        UserError, which names the file, where the bytes cannot be had as written.
      where: index -> where a person finds that example: "train/cat/a b.jpg", or
        "cifar10-train.tfrecord-00000-of-00001, byte 12345". One line, printable.
      form: of what `read` gives: "encoded", an image file of any size; or of a prepared
        set, rescaled images as "jpeg" or "raw", rows of RGB bytes.
      read_part: of form "raw" only: (index, first byte, how many) -> (bytes, label).
    """

    name: str
    num_examples: int
    read: Callable[[int], tuple[bytes, int]]
    where: Callable[[int], str] = "example {}".format
    form: str = "encoded"
    read_part: Callable[[int, int, int], tuple[bytes, int]] | None = None

    def __len__(self) -> int:
        return self.num_examples


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
      name: as reports write it.
      class_names: by label.
      train, validation: what is trained on, and what errors are measured on.
      fingerprint: of digits' contents; of files' names and sizes, not their contents.
        A prepared set has that of the source it was made of.
      statistics: of the training split, where they are known already.
      prepared: what reports say of a prepared set (see `prepared.py`); None of others.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    fingerprint: str
    statistics: Statistics | None = None
    prepared: Mapping[str, Any] | None = None


def open_source(dataset: str, *, tfds_dir: str) -> Source:
    """Opens "digits", a TFDS name, "tfds=NAME[/CONFIG][:VERSION]" or "folder=PATH".

    Raises:
      UserError: if it is not there, cannot be fetched, or holds no labelled images.
    """
    # Here, because both import this module's Split and Source.
    from alexnet_jax.data import folder, tfds_sets

    kind, equals, name = dataset.partition("=")
    if not equals and kind == "digits":
        return open_digits()
    if equals and kind == "folder":
        return folder.open_folder(Path(name).expanduser())
    return tfds_sets.open_tfds(name if equals else kind, tfds_dir=tfds_dir)


def open_digits() -> Source:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 in 17 greys: 1,438 + 359.

    Every fifth is held out. (UCI, Optical Recognition of Handwritten Digits.)
    """
    import tensorflow as tf
    from sklearn.datasets import load_digits

    digits = load_digits()
    greys = np.round(digits.images * (255 / 16)).astype(np.uint8)
    encoded = [tf.io.encode_png(image[..., None]).numpy() for image in greys]
    labels = digits.target.tolist()
    train, held_out = hold_out(len(labels), every=5)

    def split(name: str, indices: list[int]) -> Split:
        return Split(
            name,
            len(indices),
            lambda i: (encoded[indices[i]], labels[indices[i]]),
            lambda i: f"digit {indices[i]} of scikit-learn's load_digits()",
        )

    fingerprint = hash_of([greys.tobytes(), digits.target.astype("<i8").tobytes()])
    classes = tuple(str(name) for name in digits.target_names)
    return Source(
        "digits", classes, split("train", train), split("test", held_out), fingerprint
    )


def hold_out(num_examples: int, *, every: int) -> tuple[list[int], list[int]]:
    """Indices kept for training, and the last of each `every`, held out."""
    held = range(every - 1, num_examples, every)
    return sorted(set(range(num_examples)) - set(held)), list(held)


def hash_of(parts: Iterable[bytes]) -> str:
    """16 hexadecimal digits of SHA-256 over the parts, told apart by their lengths."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:16]
