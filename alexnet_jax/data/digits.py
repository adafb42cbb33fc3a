"""scikit-learn's handwritten digits: data that is always there.

Source: UCI Machine Learning Repository, Optical Recognition of Handwritten Digits.
"""

import numpy as np

from alexnet_jax.data.types import Source, Split, hash_of, hold_out


def open_digits() -> Source:
    """Opens the 1,797 digits, 8 x 8 pixels in 17 gray levels: 1,438 + 359.

    Every fifth example is held out, because the dataset has no split of its own.
    """
    # TensorFlow and scikit-learn take seconds to import.
    import tensorflow as tf
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    encoded = [tf.io.encode_png(image[..., None]).numpy() for image in images]
    labels = digits.target.tolist()
    train, held_out = hold_out(len(labels), every=5)

    def split(name: str, indices: list[int]) -> Split:
        return Split(
            name,
            len(indices),
            lambda i: (encoded[indices[i]], labels[indices[i]]),
            lambda i: f"digit {indices[i]} of scikit-learn's load_digits()",
        )

    fingerprint = hash_of([images.tobytes(), digits.target.astype("<i8").tobytes()])
    classes = tuple(str(name) for name in digits.target_names)
    return Source(
        "digits", classes, split("train", train), split("test", held_out), fingerprint
    )
