"""scikit-learn's handwritten digits: data that is always there.

Source: UCI Machine Learning Repository, Optical Recognition of Handwritten Digits.
"""

import importlib.util
from pathlib import Path

import numpy as np

from alexnet_jax.data.arrays import png
from alexnet_jax.data.types import GrayImages, Source, Split, hash_of, hold_out

FILE = "datasets/data/digits.csv.gz"  # in scikit-learn's folder, a row an image


def open_digits() -> Source:
    """Opens the 1,797 digits, 8 x 8 pixels in 17 gray levels: 1,438 + 359.

    Every fifth example is held out, because the dataset has no split of its own.
    """
    pixels, targets = _of_scikit_learn()
    images = np.round(pixels * (255 / 16)).astype(np.uint8)
    labels = targets.astype(np.int32)
    train, held_out = hold_out(len(labels), every=5)

    def split(name: str, indices: list[int]) -> Split:
        return Split(
            name,
            len(indices),
            lambda i: (png(images[indices[i]]), int(labels[indices[i]])),
            lambda i: f"digit {indices[i]} of scikit-learn's load_digits()",
            gray=GrayImages(images[indices], labels[indices]),
        )

    fingerprint = hash_of([images.tobytes(), targets.astype("<i8").tobytes()])
    classes = tuple(map(str, range(10)))
    return Source(
        "digits", classes, split("train", train), split("test", held_out), fingerprint
    )


def _of_scikit_learn() -> tuple[np.ndarray, np.ndarray]:
    """The images in gray levels of 0 to 16, and their digits, as `load_digits` has them.

    Its file is read as it is: scikit-learn takes two seconds to import.
    """
    found = importlib.util.find_spec("sklearn")
    assert found is not None
    assert found.origin is not None
    rows = np.loadtxt(Path(found.origin).parent / FILE, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
