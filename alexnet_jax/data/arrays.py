"""Opens a NumPy archive (.npz) of images and labels, as of Keras or MedMNIST.

All its arrays are held in memory. Arrays of Python objects are refused: to read them would
run what they hold.
"""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

from alexnet_jax.data.image_files import shown
from alexnet_jax.data.types import GrayImages, Source, Split, hash_of
from alexnet_jax.errors import UserError, nearest

# The arrays of images and of labels of a split called S, by who writes them.
LAYOUTS = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))
HELD_OUT = ("val", "validation", "test")  # the first that is there
CLASS_NAMES = "class_names"


class Labeled(NamedTuple):
    """The images of a split (n, height, width[, 3]) in uint8, and their labels (n,)."""

    images: np.ndarray
    labels: np.ndarray


def open_arrays(path: Path) -> Source:
    """Opens train_images, train_labels and val_images, val_labels, or x_train, y_train, ....

    The images on which errors are measured are those of val, validation or test, whichever
    comes first. The classes are numbered from 0, and named by class_names if that is there.

    Raises:
      UserError: If the file cannot be read, lacks an array, or one is not of images or of
        labels; or if a class has no training image.
    """
    held = _read(path)
    layout, test = _layout(path, held)
    of_split = {
        name: _labeled(path, held, *(part.format(name) for part in layout))
        for name in ("train", test)
    }
    classes = _class_names(path, held, of_split)
    train, held_out = (
        _split(path, layout[0].format(name), name, found)
        for name, found in of_split.items()
    )
    parts = [np.ascontiguousarray(a).tobytes() for s in of_split.values() for a in s]
    return Source(f"npz={shown(path.name)}", classes, train, held_out, hash_of(parts))


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*.npz")])
        raise UserError(f"No such file: {shown(path)}.{near}")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no archive, or has lost its end")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{shown(path)} cannot be read as a NumPy archive of arrays: {error}. Write "
            "one with numpy.savez(FILE, x_train=..., y_train=..., x_test=..., y_test=...)."
        ) from error


def _layout(path: Path, held: dict[str, np.ndarray]) -> tuple[tuple[str, str], str]:
    """How the arrays are called, and the held-out split."""
    for layout in LAYOUTS:
        for name in HELD_OUT:
            needed = {
                part.format(split) for part in layout for split in ("train", name)
            }
            if needed <= held.keys():
                return layout, name
    raise UserError(
        f"{shown(path)} lacks arrays: it needs x_train, y_train, x_test and y_test, or "
        "train_images, train_labels, test_images and test_labels (or val in place of "
        f"test). It has {', '.join(map(shown, held)) or 'none'}."
    )


def _labeled(
    path: Path, held: dict[str, np.ndarray], of_images: str, of_labels: str
) -> Labeled:
    """The images and labels called so, in the shapes of `Labeled`."""
    images, labels = held[of_images], held[of_labels]

    def refusal(name: str, wanted: str) -> UserError:
        array = held[name]
        return UserError(
            f"{shown(path)}: {name} has shape {array.shape} and type {array.dtype}; "
            f"{wanted}."
        )

    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if (
        images.dtype != np.uint8
        or images.shape[3:] not in ((), (3,))
        or not images.size
    ):
        raise refusal(
            of_images,
            "images are uint8 from 0 to 255, (number, height, width) if gray or (number, "
            "height, width, 3) in RGB",
        )
    if images.ndim < 3:
        raise refusal(of_images, "images have a height and a width")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise refusal(
            of_labels,
            f"there must be one whole number for each of {len(images):,} images",
        )
    if labels.min() < 0:
        raise refusal(of_labels, "labels count from 0")
    return Labeled(images, labels.astype(np.int32))


def _class_names(
    path: Path, held: dict[str, np.ndarray], of_split: dict[str, Labeled]
) -> tuple[str, ...]:
    """The names of the classes, indexed by label."""
    counts = np.bincount(of_split["train"].labels)
    empty = np.flatnonzero(counts == 0)
    largest = max(int(split.labels.max()) for split in of_split.values())
    if len(empty) or largest >= len(counts):
        missing = int(empty[0]) if len(empty) else largest
        raise UserError(
            f"{shown(path)}: no training image has the label {missing}. Labels count from "
            "0, and each class needs a training image."
        )
    if len(counts) < 2:
        raise UserError(f"{shown(path)}: all training images have the same label, 0.")
    if CLASS_NAMES not in held:
        return tuple(map(str, range(len(counts))))
    names = held[CLASS_NAMES]
    if names.shape != counts.shape or names.dtype.kind != "U":
        raise UserError(
            f"{shown(path)}: {CLASS_NAMES} must be {len(counts)} strings, one a class; it "
            f"has shape {names.shape} and type {names.dtype}."
        )
    return tuple(map(str, names))


def _split(path: Path, array: str, name: str, found: Labeled) -> Split:
    images, labels = found
    square_gray = images.ndim == 3 and images.shape[1] == images.shape[2]
    return Split(
        name,
        len(labels),
        lambda i: (png(images[i]), int(labels[i])),
        lambda i: f"{array}[{i}] of {shown(path)}",
        gray=GrayImages(images, labels) if square_gray else None,
    )


def png(pixels: np.ndarray) -> bytes:
    """Encodes an image (h, w[, 3]) in uint8, without loss."""
    encoded = io.BytesIO()
    PIL.Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()
