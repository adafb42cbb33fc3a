"""What happens to one image before the network (sections 2 and 4.1): pure functions.

Integers in and out: images stay uint8 until they are on the device. Randomness comes
from `seed`, two int64 that the caller makes of (seed, epoch, example, purpose).
"""

from typing import TypeAlias

import tensorflow as tf

# jaxtyping cannot check tensors of a tf.data graph, whose sizes are not known yet.
Image: TypeAlias = tf.Tensor  # uint8 (height, width, 3)
Seed: TypeAlias = tf.Tensor  # int64 (2,)


def decode(encoded: tf.Tensor) -> Image:
    """JPEG, PNG, BMP or GIF bytes -> RGB; of an animation, the first picture.

    JPEG's inverse cosine transform is pinned to the accurate one, so that the same
    bytes give the same pixels on every machine.
    """
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, 3))


def rescale(image: Image, size: int, how: str) -> Image:
    """To size x size: "shorter_side" scales it to `size` and cuts out the centre.

    "warp" scales both sides, as Caffe's short recipe did. The paper names no resampling:
    this is bilinear, antialiased where it shrinks.
    """
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    if how == "warp":
        scaled = [size, size]
    else:
        shorter = tf.minimum(height, width)
        scaled = [
            tf.maximum(size, _divide(side * size, shorter)) for side in (height, width)
        ]
    resized = tf.image.resize(image, scaled, method="bilinear", antialias=True)
    top, left = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    cut = resized[top : top + size, left : left + size]
    rounded = tf.cast(tf.clip_by_value(tf.round(cut), 0, 255), tf.uint8)
    return tf.ensure_shape(rounded, (size, size, 3))


def _divide(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """a / b, rounded to the nearest integer."""
    return (2 * a + b) // (2 * b)


def center_offset(side: int, size: int) -> int:
    """Of the central `size` of `side` pixels."""
    return (side - size) // 2


def random_offset(side: int, size: int, seed: Seed) -> tf.Tensor:
    """(y, x) of a crop at one of the (side - size + 1)**2 places, each equally likely.

    1089 for 224 of 256: the paper says 32 x 32, its code does 33 x 33.
    """
    places = side - size + 1
    return tf.random.stateless_uniform((2,), seed, 0, places, tf.int32, alg="philox")


def crop(image: Image, offset: tf.Tensor | int, size: int) -> Image:
    """size x size from the pixel `offset` on, (y, x) or one number for both.

    One number cuts a batch too, each image there.
    """
    if isinstance(offset, int):
        return image[..., offset : offset + size, offset : offset + size, :]
    return tf.ensure_shape(
        tf.slice(image, [offset[0], offset[1], 0], [size, size, 3]), (size, size, 3)
    )


def random_mirror(seed: Seed) -> tf.Tensor:
    """Whether an image is reflected: 0 or 1, each with probability 1/2."""
    return tf.random.stateless_uniform((), seed, 0, 2, tf.int32, alg="philox")


def mirror(image: Image, mirrored: tf.Tensor) -> Image:
    """The image, or if `mirrored` its mirror image, left for right."""
    return tf.cond(mirrored == 1, lambda: tf.reverse(image, [1]), lambda: image)


def lighting(components: tf.Tensor, deviation: float, seed: Seed) -> tf.Tensor:
    """One random shift of an image's colour, (R, G, B) in grey levels (section 4.1).

    components @ alpha with alpha ~ N(0, deviation**2) three times; the columns of
    `components` (3, 3) are the scaled principal components of the training set's RGB.
    """
    alpha = tf.random.stateless_normal(
        (3,), seed, 0.0, deviation, tf.float32, alg="philox"
    )
    return tf.linalg.matvec(components, alpha)
