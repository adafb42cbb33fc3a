"""scikit-learn's handwritten digits: data that is always there.

Source: UCI Machine Learning Repository, Optical Recognition of Handwritten Digits.
"""

import io

import numpy as np
import PIL.Image

from alexnet_jax.data.types import GrayImages, Source, Split, hash_of, hold_out


def open_digits() -> Source:
    """Opens the 1,797 digits, 8 x 8 pixels in 17 gray levels: 1,438 + 359.

    Every fifth example is held out, because the dataset has no split of its own.
    """
    # scikit-learn takes seconds to import.
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int32)
    train, held_out = hold_out(len(labels), every=5)

    def split(name: str, indices: list[int]) -> Split:
        return Split(
            name,
            len(indices),
            lambda i: (_png(images[indices[i]]), int(labels[indices[i]])),
            lambda i: f"digit {indices[i]} of scikit-learn's load_digits()",
            gray=GrayImages(images[indices], labels[indices]),
        )

    fingerprint = hash_of([images.tobytes(), digits.target.astype("<i8").tobytes()])
    classes = tuple(str(name) for name in digits.target_names)
    return Source(
        "digits", classes, split("train", train), split("test", held_out), fingerprint
    )


def _png(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    PIL.Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()
