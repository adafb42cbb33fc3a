"""What happens to one image before the network (sections 2 and 4.1): pure functions.

Integers in and out: images stay uint8 until they are on the device. Nothing is random
here: where a crop begins and whether it is mirrored are arguments.
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

# A few kilobytes can unfold to any size. This is TensorFlow's own limit, and Pillow's:
# 512 MiB of RGB. A collection of clip art has pictures up to nearly that.
MAX_PIXELS = 2**29 // 3
PNG, PNG_WIDTH, PNG_HEADER = b"\x89PNG\r\n\x1a\n", 16, 33  # start; byte; bytes
PILLOW_FORMATS = ("BMP", "GIF", "WEBP")
PIL.Image.MAX_IMAGE_PIXELS = None  # ours is checked, and says what to do

RESAMPLING = "means over areas where no side grows, else bilinear, antialiased"
# How far pixels of a crop may be displaced, in pixels of the original: 1 / DISPLACED; and
# how many beside it are looked through for an edge that needs no more.
DISPLACED, SLACK = 12, 32


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
    by_us = re.search(r"UserError: (.*)", message, flags=re.DOTALL)
    if by_us:  # names may look like the marks that TensorFlow makes
        message = by_us[1]
    else:
        message = re.sub(
            r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*", "", message, flags=re.DOTALL
        )
        message = re.sub(r"^.*Iterator::\S*: ", "", message, flags=re.DOTALL)
    return " ".join(message.split())


def rescale(image: Image, size: int, how: str) -> Image:
    """To size x size: "shorter_side" scales it to `size` and cuts out the centre.

    "warp" scales both sides, as Caffe's short recipe did. The paper names no resampling:
    see RESAMPLING.
    """
    sides = tf.cast(tf.shape(image)[:2], tf.int64)
    scaled = _scaled_sides(sides, size, how)
    rescaled = tf.cond(
        tf.reduce_all(scaled <= sides),
        lambda: _center(_averaged(image, scaled), size),
        lambda: _interpolated(image, sides, scaled, size),
    )
    return tf.ensure_shape(rescaled, (size, size, 3))


def _averaged(image: Image, scaled: tf.Tensor) -> Image:
    """To the sides `scaled`, none of them longer: means over each pixel's area."""
    resized = tf.raw_ops.ResizeArea(images=image[None], size=tf.cast(scaled, tf.int32))
    return _rounded(resized[0])


def _interpolated(
    image: Image, sides: tf.Tensor, scaled: tf.Tensor, size: int
) -> Image:
    """The centre of the image scaled; of that alone the pixels are computed."""
    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=[size, size],
        scale=tf.cast(scaled, tf.float32) / tf.cast(sides, tf.float32),
        translation=-tf.cast((scaled - size) // 2, tf.float32),
        kernel_type="triangle",
        antialias=True,
    )
    return _rounded(resized[0])


def _rounded(image: tf.Tensor) -> Image:
    return tf.cast(tf.round(image), tf.uint8)


def _center(image: Image, size: int) -> Image:
    begin = (tf.shape(image)[:2] - size) // 2
    return tf.slice(image, tf.concat([begin, [0]], axis=0), [size, size, 3])


def restored_crop(
    encoded: tf.Tensor,
    form: str,
    rescale_size: int,
    how: str,
    offset: tf.Tensor,
    size: int,
) -> Image:
    """`crop(restore(encoded, form, rescale_size, how), offset, size)`, sooner.

    Of a JPEG only the part that is kept is decoded and resampled. The pixels are the
    same, but for the outermost columns, where the decoder smooths colours without their
    neighbours; in an original that has to shrink they may also be displaced by
    1 / DISPLACED of its pixels: see `_window`.
    """
    if form == "jpeg":
        cut_out = _jpeg_part(encoded, offset, [size, size])
    else:
        cut_out = tf.cond(
            tf.io.is_jpeg(encoded),
            lambda: _jpeg_crop(encoded, rescale_size, how, offset, size),
            lambda: crop(restore(encoded, form, rescale_size, how), offset, size),
        )
    return tf.ensure_shape(cut_out, (size, size, 3))


def _jpeg_crop(
    encoded: tf.Tensor, rescale_size: int, how: str, offset: tf.Tensor, size: int
) -> Image:
    sides = tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64)
    scaled = _scaled_sides(sides, rescale_size, how)

    def of_part() -> Image:
        checked = _check_size(encoded, sides[0], sides[1])
        first = (scaled - rescale_size) // 2 + tf.cast(offset, tf.int64)
        begin, end, out_begin, out_end = _window(sides, scaled, first, first + size)
        part = _jpeg_part(checked, begin, end - begin)
        return crop(_averaged(part, out_end - out_begin), first - out_begin, size)

    return tf.cond(
        tf.reduce_all(scaled <= sides),
        of_part,
        lambda: crop(rescale(_jpeg(encoded), rescale_size, how), offset, size),
    )


def _jpeg_part(encoded: tf.Tensor, begin: tf.Tensor, sides: tf.Tensor | list) -> Image:
    window = tf.concat([tf.cast(begin, tf.int32), tf.cast(sides, tf.int32)], axis=0)
    return tf.io.decode_and_crop_jpeg(
        encoded, window, channels=3, dct_method="INTEGER_ACCURATE"
    )


def _window(
    sides: tf.Tensor, scaled: tf.Tensor, first: tf.Tensor, last: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """What of an image to decode for the pixels first .. last - 1 of it `scaled`.

    An edge between pixels of the scaled image mostly lies within a pixel of the image,
    where it cannot be cut. But of the edges next to it one lies nearly between two; or
    else the image's own edge is taken. All int64 (2,), heights and widths.

    Returns:
      begin, end: of the part of the image.
      out_begin, out_end: of what that is, scaled.
    """
    away = tf.constant([*range(SLACK), 2**31], tf.int64)[:, None]

    def nearest(edges: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inside = tf.clip_by_value(edges, 0, scaled)
        past = (inside * sides) % scaled
        too_far = tf.minimum(past, scaled - past) * DISPLACED > scaled
        best = tf.argmin(tf.cast(too_far, tf.uint8), axis=0)
        edge = tf.gather(tf.reshape(inside, [-1]), 2 * best + [0, 1])
        return _divide(edge * sides, scaled), edge

    begin, out_begin = nearest(first - away)
    end, out_end = nearest(last + away)
    return begin, end, out_begin, out_end


def _scaled_sides(sides: tf.Tensor, size: int, how: str) -> tf.Tensor:
    """Height and width, int64 (2,), to which `rescale` scales an image of these sides."""
    if how == "warp":
        return tf.constant([size, size], tf.int64)
    return tf.maximum(np.int64(size), _divide(sides * size, tf.reduce_min(sides)))


def _divide(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """a / b, rounded to the nearest integer."""
    return (2 * a + b) // (2 * b)


def crop(image: Image, offset: tf.Tensor, size: int) -> Image:
    """size x size from the pixel `offset` on, (y, x)."""
    begin = tf.concat([tf.cast(offset, tf.int32), [0]], axis=0)
    return tf.ensure_shape(tf.slice(image, begin, [size, size, 3]), (size, size, 3))


def mirror(image: Image, mirrored: tf.Tensor) -> Image:
    """The image, or if `mirrored` its mirror image, left for right."""
    return tf.cond(mirrored == 1, lambda: tf.reverse(image, [1]), lambda: image)


def crop_pixels(out: np.ndarray, rows: np.ndarray, x: int, mirrored: int) -> None:
    """From column `x` of an image's rows to `out`, if `mirrored` left for right.

    For images that are numbers already: in one copy, without TensorFlow.
    """
    cut_out = rows[:, x : x + out.shape[1]]
    if mirrored:
        for channel in range(3):  # all at once would take numpy twice the time
            out[..., channel] = cut_out[:, ::-1, channel]
    else:
        out[...] = cut_out
