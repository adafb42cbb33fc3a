"""What happens to one image before the network (sections 2 and 4.1): pure functions.

Integers in and out: images stay uint8 until they are on the device. Randomness comes
from `seed`, two int64 that the caller makes of (seed, epoch, example, purpose).
"""

import functools
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
    scaled = _scaled_sides(tf.shape(image), size, how)
    resized = tf.image.resize(image, scaled, method="bilinear", antialias=True)
    top, left = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    cut = resized[top : top + size, left : left + size]
    rounded = tf.cast(tf.clip_by_value(tf.round(cut), 0, 255), tf.uint8)
    return tf.ensure_shape(rounded, (size, size, 3))


def rescaled_crop(
    encoded: tf.Tensor, rescale_size: int, how: str, offset: tf.Tensor | int, size: int
) -> Image:
    """`crop(rescale(decode(encoded), rescale_size, how), offset, size)`, faster.

    Of a JPEG only the pixels of the crop are decoded, shrunk on the way by 2, 4 or 8
    where its sides allow, and brought to size x size by bilinear interpolation between
    whole pixels: to half a pixel the same place, and no antialiasing of what is left, a
    factor below 2. Other pictures take the long way.
    """
    return tf.cond(
        _is_plain_jpeg(encoded),
        lambda: _jpeg_crop(encoded, rescale_size, how, offset, size),
        lambda: crop(rescale(decode(encoded), rescale_size, how), offset, size),
    )


def _is_plain_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Whether it is a JPEG in grey or three colours: those of print take `decode`."""
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.extract_jpeg_shape(encoded)[2] <= 3,
        lambda: False,
    )


def _jpeg_crop(
    encoded: tf.Tensor, rescale_size: int, how: str, offset: tf.Tensor | int, size: int
) -> Image:
    sides = tf.io.extract_jpeg_shape(encoded)[:2]
    scaled = tf.stack(_scaled_sides(sides, rescale_size, how))
    step = tf.cast(sides, tf.float32) / tf.cast(scaled, tf.float32)  # pixels a pixel
    begin = tf.cast((scaled - rescale_size) // 2 + offset, tf.float32) * step
    halvings = tf.reduce_sum(tf.cast(tf.reduce_min(step) >= (2.0, 4.0, 8.0), tf.int32))

    def decoded(ratio: int) -> Image:
        whole = -(-sides // ratio)
        extent = tf.cast(tf.round(size * step / ratio), tf.int32)
        extent = tf.clip_by_value(extent, 1, whole)
        first = tf.cast(tf.round(begin / ratio), tf.int32)
        first = tf.clip_by_value(first, 0, whole - extent)
        return tf.io.decode_and_crop_jpeg(
            encoded,
            tf.concat([first, extent], axis=0),
            channels=3,
            ratio=ratio,
            dct_method="INTEGER_ACCURATE",
        )

    branches = [functools.partial(decoded, ratio) for ratio in (1, 2, 4, 8)]
    window = tf.switch_case(halvings, branches)
    resized = tf.raw_ops.ResizeBilinear(
        images=window[None], size=(size, size), half_pixel_centers=True
    )[0]
    # Of uint8 pixels no mean is below 0 or above 255: nothing to clip.
    return tf.ensure_shape(tf.cast(resized + 0.5, tf.uint8), (size, size, 3))


def _scaled_sides(sides: tf.Tensor, size: int, how: str) -> list[tf.Tensor]:
    """Height and width to which `rescale` scales an image of these sides."""
    height, width = sides[0], sides[1]
    if how == "warp":
        return [tf.constant(size), tf.constant(size)]
    shorter = tf.minimum(height, width)
    return [tf.maximum(size, _divide(side * size, shorter)) for side in (height, width)]


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
