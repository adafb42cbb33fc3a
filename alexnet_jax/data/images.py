"""What happens to one image before the network (sections 2 and 4.1): pure functions.

Integers in and out: images stay uint8 until they are on the device. Randomness comes
from `seed`, two int64 that the caller makes of (seed, epoch, example, purpose).
"""

import io
import re
from typing import TypeAlias

import numpy as np
import PIL.Image
import tensorflow as tf

from alexnet_jax.errors import UserError

# jaxtyping cannot check tensors of a tf.data graph, whose sizes are not known yet.
Image: TypeAlias = tf.Tensor  # uint8 (height, width, 3)
Seed: TypeAlias = tf.Tensor  # int64 (2,)

# A few kilobytes can unfold to any size. This is TensorFlow's own limit, and Pillow's:
# 512 MiB of RGB. A collection of clip art has pictures up to nearly that.
MAX_PIXELS = 2**29 // 3
PNG, PNG_WIDTH, PNG_HEADER = b"\x89PNG\r\n\x1a\n", 16, 33  # start; byte; bytes
PILLOW_FORMATS = ("BMP", "GIF", "WEBP")


def decode(encoded: tf.Tensor) -> Image:
    """JPEG, PNG, BMP, GIF or WebP bytes -> RGB, told apart by the bytes themselves.

    Grey becomes three equal channels, a palette its colours. Transparency is left away:
    the colours below it show, as they are stored. Of 16 bits the upper eight are kept.
    CMYK: R = 255 (1 - C) (1 - K) and so on, inks inverted first where Adobe's marker
    says that they are stored so. Of an animation, the first picture. Colour profiles,
    gamma and the orientation in EXIF are not applied: no recipe of AlexNet did.

    JPEG's inverse cosine transform is pinned to the accurate one, so that the same
    bytes give the same pixels on every machine. A JPEG that is cut off is refused; one
    with bytes changed inside mostly is not: the format has no checksums.

    JPEG and PNG are TensorFlow's. BMP, GIF and WebP are Pillow's, because TensorFlow
    takes a BMP's palette indices for greys and refuses an animated WebP.

    Raises:
      tf.errors.OpError: when run, if the bytes are no such picture, are cut off, or
        hold more than MAX_PIXELS.
    """
    start = tf.strings.substr(encoded, 0, len(PNG))
    is_png = (start == PNG) & (tf.strings.length(encoded) >= PNG_HEADER)
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: _jpeg(encoded),
        lambda: tf.cond(
            is_png,
            lambda: _png(encoded),
            lambda: tf.numpy_function(_by_pillow, [encoded], tf.uint8, stateful=False),
        ),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _jpeg(encoded: tf.Tensor) -> Image:
    shape = tf.cast(tf.io.extract_jpeg_shape(encoded), tf.int64)
    checked = _check_size(encoded, shape[0], shape[1])
    return tf.io.decode_jpeg(checked, channels=3, dct_method="INTEGER_ACCURATE")


def _png(encoded: tf.Tensor) -> Image:
    sides = tf.io.decode_raw(
        tf.strings.substr(encoded, PNG_WIDTH, 8), tf.int32, little_endian=False
    )
    sides = tf.cast(tf.bitcast(sides, tf.uint32), tf.int64)
    return tf.io.decode_png(_check_size(encoded, sides[1], sides[0]), channels=3)


def _check_size(encoded: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """The same bytes, unless they would unfold to more than MAX_PIXELS."""
    checked = tf.cond(
        # Not their product: it can pass 2**63.
        width > MAX_PIXELS // tf.maximum(height, 1),
        lambda: tf.numpy_function(_refuse_size, [height, width], tf.string),
        lambda: encoded,
    )
    return tf.ensure_shape(checked, ())


def _refuse_size(height: int | np.int64, width: int | np.int64) -> bytes:
    raise UserError(
        f"The picture says it is {width} x {height} pixels; more than {MAX_PIXELS:,} "
        "are not unpacked, for the memory they take. Scale it down or leave it out."
    )


def _by_pillow(given: bytes | np.ndarray) -> np.ndarray:
    """uint8 (height, width, 3); the bytes, outside of a graph, come as an array."""
    encoded: bytes = given.item() if isinstance(given, np.ndarray) else given
    if not encoded:
        raise UserError("The file is empty: 0 bytes.")
    try:
        with PIL.Image.open(io.BytesIO(encoded), formats=PILLOW_FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                _refuse_size(height, width)
            return np.array(picture.convert("RGB"))
    except PIL.UnidentifiedImageError as error:
        raise UserError(
            f"It is no JPEG, PNG, BMP, GIF or WebP, or ends in its header: it begins "
            f"with {encoded[:16]!r}."
        ) from error
    except UserError:
        raise
    except Exception as error:  # Pillow raises whatever a decoder meets
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(f"The picture is damaged or cut off: {reason}.") from error


def restore(encoded: tf.Tensor, form: str, size: int, how: str) -> Image:
    """What a split's `read` gives -> size x size, by the split's `form`.

    A prepared image, "jpeg" or "raw", has that size already.
    """
    if form == "raw":
        return tf.reshape(tf.io.decode_raw(encoded, tf.uint8), (size, size, 3))
    if form == "jpeg":
        return tf.ensure_shape(decode(encoded), (size, size, 3))
    return rescale(decode(encoded), size, how)


def reason(error: tf.errors.OpError) -> str:
    """Why an image could not be read, of TensorFlow's error: one line, its own words."""
    message = error.message.split("\nTraceback")[0]  # of a Python function
    message = re.sub(r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*", "", message, flags=re.DOTALL)
    message = re.sub(r"^.*Iterator::\S*: ", "", message, flags=re.DOTALL)
    return " ".join(message.removeprefix("UserError: ").split())


def rescale(image: Image, size: int, how: str) -> Image:
    """To size x size: "shorter_side" scales it to `size` and cuts out the centre.

    "warp" scales both sides, as Caffe's short recipe did. The paper names no resampling:
    this is bilinear, antialiased where it shrinks. Only what is kept is computed, so a
    picture of 20 x 5000 pixels costs no more than another of as many.
    """
    sides = tf.cast(tf.shape(image)[:2], tf.int64)
    scaled = _scaled_sides(sides, size, how)
    cut_off = (scaled - size) // 2
    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=[size, size],
        scale=tf.cast(scaled, tf.float32) / tf.cast(sides, tf.float32),
        translation=-tf.cast(cut_off, tf.float32),
        kernel_type="triangle",
        antialias=True,
    )[0]
    rounded = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
    return tf.ensure_shape(rounded, (size, size, 3))


def restored_crop(
    encoded: tf.Tensor,
    form: str,
    rescale_size: int,
    how: str,
    offset: tf.Tensor | int,
    size: int,
) -> Image:
    """`crop(restore(encoded, form, rescale_size, how), offset, size)`.

    Of a prepared JPEG only the crop is decoded.
    """
    if form == "jpeg":
        places = tf.broadcast_to(offset, (2,))
        return tf.ensure_shape(
            tf.io.decode_and_crop_jpeg(
                encoded,
                tf.concat([places, [size, size]], axis=0),
                channels=3,
                dct_method="INTEGER_ACCURATE",
            ),
            (size, size, 3),
        )
    return crop(restore(encoded, form, rescale_size, how), offset, size)


def _scaled_sides(sides: tf.Tensor, size: int, how: str) -> tf.Tensor:
    """Height and width, int64 (2,), to which `rescale` scales an image of these sides."""
    if how == "warp":
        return tf.constant([size, size], tf.int64)
    return tf.maximum(np.int64(size), _divide(sides * size, tf.reduce_min(sides)))


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
