"""Opens a NumPy archive (.npz) of images and labels, as of Keras or MedMNIST.

Its arrays are held in memory. Those of Python objects are refused: to read them would run
what they hold.
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

from alexnet_jax.data.image_files import listed, note, shown
from alexnet_jax.data.types import (
    END_BYTES,
    GrayImages,
    Source,
    Split,
    hash_of,
    no_training_images,
)
from alexnet_jax.errors import UserError, nearest

# The arrays of images and of labels of a split called S, by who writes them.
LAYOUTS = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))
HELD_OUT = ("val", "validation", "test")  # the first that is there
CLASS_NAMES = "class_names"
MOST_CLASSES = 2**16  # where no training images bound them
# What a damaged archive raises, or one that is encrypted or compressed in another way.
DAMAGE = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)


class Labeled(NamedTuple):
    """The images of a split (n, height, width[, 3]) in uint8, and their labels (n,)."""

    images: np.ndarray
    labels: np.ndarray


Read = Callable[[str], np.ndarray]


def open_arrays(path: Path, *, needs_training: bool = True) -> Source:
    """Opens train_images, train_labels and val_images, val_labels, or x_train, y_train, ....

    The images on which errors are measured are those of val, validation or test, whichever
    comes first. The classes are numbered from 0, and named by class_names if that is there.
    Other arrays are not read. Without training images the classes are as many as
    class_names, or as the labels need.

    Args:
      path: The file.
      needs_training: Whether held-out images without training images are refused.

    Raises:
      UserError: If the file cannot be read, lacks an array, or one is not of images or of
        labels; or if a class has no training image where these are needed or there.
    """
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*.npz")])
        raise UserError(f"No such file: {shown(path.absolute())}.{near}")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no archive, or has lost its end")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names_of, splits = _layout(path, archive.files, needs_training)
            of_images, of_labels = names_of

            def read(name: str) -> np.ndarray:
                if not isinstance(array := archive[name], np.ndarray):
                    raise ValueError(f"{name} is no array")
                return array

            found = [
                _labeled(path, of_images.format(split), of_labels.format(split), read)
                for split in splits
            ]
            names = read(CLASS_NAMES) if CLASS_NAMES in archive.files else None
    except DAMAGE as error:
        raise UserError(
            f"{shown(path)} cannot be read as a NumPy archive of arrays: {error}. Write "
            "one with numpy.savez(FILE, x_train=..., y_train=..., x_test=..., y_test=...)."
        ) from error
    if len(found) > 1:
        _check_labels(path, *found)
    count = _count_of_classes(path, found[0], names, alone=len(found) == 1)
    classes = _class_names(path, names, count)
    opened = [
        _split(path, of_images.format(name), name, each)
        for name, each in zip(splits, found, strict=True)
    ]
    return Source(
        f"npz={shown(path.name)}",
        classes,
        opened[0] if len(opened) > 1 else no_training_images(),
        opened[-1],
        hash_of(_contents(classes, *found)),
    )


def _layout(
    path: Path, names: list[str], needs_training: bool
) -> tuple[tuple[str, str], list[str]]:
    """How the arrays are called, and the splits: that of training, if any, then the other.

    Says which held-out split is not used.
    """
    for layout in LAYOUTS:

        def arrays(split: str, layout: tuple[str, str] = layout) -> set[str]:
            return {part.format(split) for part in layout}

        held = [split for split in HELD_OUT if arrays(split) <= set(names)]
        trained = arrays("train") <= set(names)
        if held and (trained or not needs_training):
            if len(held) > 1:
                note(
                    f"{shown(path)}: errors are measured on {held[0]}; not used: "
                    f"{', '.join(held[1:])}."
                )
            return layout, ["train", held[0]] if trained else [held[0]]
    raise UserError(
        f"{shown(path)} lacks arrays: it needs x_train, y_train, x_test and y_test, or "
        "train_images, train_labels, test_images and test_labels (or val in place of "
        f"test). It has {listed(names) or 'none'}."
    )


def _labeled(path: Path, of_images: str, of_labels: str, read: Read) -> Labeled:
    """The images and labels called so, in the shapes of `Labeled`."""
    images, labels = read(of_images), read(of_labels)

    def refusal(name: str, array: np.ndarray, wanted: str) -> UserError:
        return UserError(
            f"{shown(path)}: {name} has shape {array.shape} and type {array.dtype}; "
            f"{wanted}."
        )

    given = images
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if (
        images.dtype != np.uint8
        or images.ndim < 3
        or images.shape[3:] not in ((), (3,))
        or not images.size
    ):
        raise refusal(
            of_images,
            given,
            "images are uint8 from 0 to 255, (number, height, width) if gray or (number, "
            "height, width, 3) in RGB",
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        wanted = f"there must be one whole number for each of {len(images):,} images"
        raise refusal(of_labels, labels, wanted)
    if labels.min() < 0:
        raise refusal(of_labels, labels, "labels count from 0")
    return Labeled(images, labels)


def _check_labels(path: Path, train: Labeled, held_out: Labeled) -> None:
    """Raises UserError if a label of either split has no training image, or all have one.

    Each class has one: no label is as large as the number of training images, which bounds
    the memory of counting them.
    """
    known = np.unique(train.labels)
    missing = next((n for n, label in enumerate(known) if n != label), len(known))
    labels = np.concatenate([known, np.unique(held_out.labels)])
    if labels.max() >= missing:
        raise UserError(
            f"{shown(path)}: no training image has the label "
            f"{missing if missing < len(known) else labels.max()}. Labels count from 0, and "
            "each class needs a training image."
        )
    if len(known) < 2:
        raise UserError(f"{shown(path)}: all training images have the same label, 0.")


def _count_of_classes(
    path: Path, found: Labeled, names: np.ndarray | None, *, alone: bool
) -> int:
    """As many as the labels need, of the training images or of a lone split; or as its names.

    Raises:
      UserError: If a label of a lone split is too large to be that of a class.
    """
    count = int(found.labels.max()) + 1
    if not alone:
        return count
    if names is not None and names.ndim == 1:
        count = max(count, len(names))
    if count > MOST_CLASSES:
        raise UserError(
            f"{shown(path)}: the label {count - 1} is too large: labels count from 0, and "
            f"at most {MOST_CLASSES:,} classes are read where no image is for training."
        )
    return count


def _class_names(path: Path, names: np.ndarray | None, count: int) -> tuple[str, ...]:
    """The names of the classes, indexed by label."""
    if names is None:
        return tuple(map(str, range(count)))
    if names.shape != (count,) or names.dtype.kind != "U":
        raise UserError(
            f"{shown(path)}: {CLASS_NAMES} must be {count} strings, one for each label; it "
            f"has shape {names.shape} and type {names.dtype}."
        )
    found = tuple(map(str, names))
    if len(set(found)) < count:
        raise UserError(f"{shown(path)}: {CLASS_NAMES} has a name twice.")
    return found


def _contents(classes: tuple[str, ...], *splits: Labeled) -> Iterator[bytes]:
    """What the fingerprint is of."""
    yield repr(classes).encode()
    for images, labels in splits:
        yield repr(images.shape).encode()
        yield np.ascontiguousarray(images).tobytes()
        yield labels.astype("<i8").tobytes()


def _split(path: Path, array: str, name: str, found: Labeled) -> Split:
    images, labels = found.images, found.labels.astype(np.int32)
    square_gray = images.ndim == 3 and images.shape[1] == images.shape[2]
    return Split(
        name,
        len(labels),
        lambda i: (png(images[i]), int(labels[i])),
        lambda i: f"{array}[{i}] of {shown(path)}",
        # To find equal images: of their pixels, so that few are encoded for it.
        size=lambda i: images[i].nbytes,
        read_end=lambda i: images[i].tobytes()[-END_BYTES:],
        gray=GrayImages(images, labels) if square_gray else None,
    )


def png(pixels: np.ndarray) -> bytes:
    """Encodes an image (h, w[, 3]) in uint8, without loss."""
    encoded = io.BytesIO()
    PIL.Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()
