"""What happens to one image before the network (sections 2 and 4.1): pure functions.

decode -> rescale -> crop -> mirror. Images stay uint8 until they are on the device, and
nothing here is random: where a crop begins and whether it is mirrored are arguments.
"""

import io
import re
from typing import TypeAlias

import numpy as np
import PIL.Image
import tensorflow as tf

from alexnet_jax.errors import UserError

# uint8 (height, width, 3). jaxtyping cannot check tensors of a tf.data graph, because
# their sizes are not known yet.
Image: TypeAlias = tf.Tensor

# A few kilobytes can decompress to any size. This is the limit of TensorFlow itself and
# of Pillow, 512 MiB of RGB. A collection of clip art has images nearly that large.
MAX_PIXELS = 2**29 // 3
PNG, PNG_WIDTH, PNG_HEADER = b"\x89PNG\r\n\x1a\n", 16, 33  # signature; offset; bytes
PILLOW_FORMATS = ("BMP", "GIF", "WEBP")
PIL.Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS is checked, with a message of our own.

# The pixels of a crop may be displaced by at most 1 / DISPLACED of an original pixel, and
# up to SLACK edges beside the crop are searched for one that needs no more.
DISPLACED, SLACK = 12, 32


def decode(encoded: tf.Tensor) -> Image:
    """Decodes JPEG, PNG, BMP, GIF or WebP, recognized by the bytes themselves, to RGB.

    Gray becomes three equal channels, a palette its colors. Transparency is dropped: the
    colors below it show, as they are stored. Of 16 bits the upper eight are kept. CMYK
    becomes R = 255 (1 - C) (1 - K) and so on, with the inks inverted first if Adobe's
    marker says that they are stored so. An animation becomes its first frame. Color
    profiles, gamma and the EXIF orientation are not applied, as in every recipe of
    AlexNet.

    JPEG's inverse cosine transform is pinned to the accurate one, so that the same bytes
    give the same pixels on every machine. A truncated JPEG is refused; a JPEG whose
    bytes were changed mostly is not, because the format has no checksums.

    TensorFlow decodes JPEG and PNG. Pillow decodes BMP, GIF and WebP, because TensorFlow
    takes the palette indices of a BMP for gray levels and refuses an animated WebP.

    Raises:
      tf.errors.OpError: When run, if the bytes are not such an image, are truncated, or
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
    """Returns the same bytes, unless they would decompress to more than MAX_PIXELS."""
    checked = tf.cond(
        # The product of the sides is avoided, because it can exceed 2**63.
        width > MAX_PIXELS // tf.maximum(height, 1),
        lambda: tf.numpy_function(_refuse_size, [height, width], tf.string),
        lambda: encoded,
    )
    return tf.ensure_shape(checked, ())


def _refuse_size(height: int | np.int64, width: int | np.int64) -> bytes:
    raise UserError(
        f"The image claims to be {width} x {height} pixels; more than {MAX_PIXELS:,} "
        "are not decoded, because of the memory they take. Scale it down or remove it."
    )


def _by_pillow(given: bytes | np.ndarray) -> np.ndarray:
    """uint8 (height, width, 3); outside of a graph the bytes arrive as an array."""
    encoded: bytes = given.item() if isinstance(given, np.ndarray) else given
    if not encoded:
        raise UserError("The file is empty: 0 bytes.")
    try:
        with PIL.Image.open(io.BytesIO(encoded), formats=PILLOW_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                _refuse_size(height, width)
            return np.array(image.convert("RGB"))
    except PIL.UnidentifiedImageError as error:
        raise UserError(
            f"It is not a JPEG, PNG, BMP, GIF or WebP, or it ends in its header: it "
            f"begins with {encoded[:16]!r}."
        ) from error
    except UserError:
        raise
    except Exception as error:  # Pillow raises whatever its decoders raise.
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(f"The image is damaged or truncated: {reason}.") from error


def restore(encoded: tf.Tensor, encoding: str, size: int, method: str) -> Image:
    """Turns what a split's `read` returns into a size x size image.

    Args:
      encoded: The bytes.
      encoding: `Split.encoding`. A prepared image, "jpeg" or "raw", has the size already.
      size: The side, in pixels.
      method: How an original is rescaled, see `rescale`.
    """
    if encoding == "raw":
        return tf.reshape(tf.io.decode_raw(encoded, tf.uint8), (size, size, 3))
    if encoding == "jpeg":
        return tf.ensure_shape(decode(encoded), (size, size, 3))
    return rescale(decode(encoded), size, method)


def reason(error: tf.errors.OpError) -> str:
    """Returns why an image could not be read: one line, without TensorFlow's marks."""
    message = error.message.split("\nTraceback")[0]  # of a Python function
    by_us = re.search(r"UserError: (.*)", message, flags=re.DOTALL)
    if by_us:  # File names may look like the marks that TensorFlow makes.
        message = by_us[1]
    else:
        message = re.sub(
            r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*", "", message, flags=re.DOTALL
        )
        message = re.sub(r"^.*Iterator::\S*: ", "", message, flags=re.DOTALL)
    return " ".join(message.split())


def rescale(image: Image, size: int, method: str) -> Image:
    """Rescales to size x size pixels.

    Method "shorter_side" scales the shorter side to `size` and cuts out the center
    (section 2); "warp" scales both sides, as in Caffe's short recipe. The paper does not
    name a resampling filter; ours is `resampling.RESAMPLING`.
    """
    sides = tf.cast(tf.shape(image)[:2], tf.int64)

    def resampled() -> Image:
        scaled = _scaled_sides(sides, size, method)
        return tf.cond(
            tf.reduce_all(scaled <= sides),
            lambda: _center(_averaged(image, scaled), size),
            lambda: _interpolated(image, sides, scaled, size),
        )

    # An image of that size stays as it is; small ones are prepared in half the time so.
    rescaled = tf.cond(tf.reduce_all(sides == size), lambda: image, resampled)
    return tf.ensure_shape(rescaled, (size, size, 3))


def _averaged(image: Image, scaled: tf.Tensor) -> Image:
    """Shrinks to the sides `scaled` by area averaging."""
    resized = tf.raw_ops.ResizeArea(images=image[None], size=tf.cast(scaled, tf.int32))
    return _rounded(resized[0])


def _interpolated(
    image: Image, sides: tf.Tensor, scaled: tf.Tensor, size: int
) -> Image:
    """The center of the scaled image; only the center's pixels are computed."""
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
    encoding: str,
    rescale_size: int,
    method: str,
    offset: tf.Tensor,
    size: int,
) -> Image:
    """Does `crop(restore(encoded, encoding, rescale_size, method), offset, size)`, faster.

    Of a JPEG only the part that is needed is decoded and resampled. The pixels are the
    same except for the outermost columns, where the decoder interpolates colors without
    their neighbors. If the original has to shrink, its pixels may also be displaced by
    1 / DISPLACED of an original pixel: see `_window`.
    """
    if encoding == "jpeg":
        cut_out = _jpeg_part(encoded, offset, [size, size])
    else:
        cut_out = tf.cond(
            tf.io.is_jpeg(encoded),
            lambda: _jpeg_crop(encoded, rescale_size, method, offset, size),
            lambda: crop(
                restore(encoded, encoding, rescale_size, method), offset, size
            ),
        )
    return tf.ensure_shape(cut_out, (size, size, 3))


def _jpeg_crop(
    encoded: tf.Tensor, rescale_size: int, method: str, offset: tf.Tensor, size: int
) -> Image:
    sides = tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64)
    scaled = _scaled_sides(sides, rescale_size, method)

    def of_part() -> Image:
        checked = _check_size(encoded, sides[0], sides[1])
        first = (scaled - rescale_size) // 2 + tf.cast(offset, tf.int64)
        begin, end, out_begin, out_end = _window(sides, scaled, first, first + size)
        part = _jpeg_part(checked, begin, end - begin)
        return crop(_averaged(part, out_end - out_begin), first - out_begin, size)

    return tf.cond(
        tf.reduce_all(scaled <= sides),
        of_part,
        lambda: crop(rescale(_jpeg(encoded), rescale_size, method), offset, size),
    )


def _jpeg_part(encoded: tf.Tensor, begin: tf.Tensor, sides: tf.Tensor | list) -> Image:
    window = tf.concat([tf.cast(begin, tf.int32), tf.cast(sides, tf.int32)], axis=0)
    return tf.io.decode_and_crop_jpeg(
        encoded, window, channels=3, dct_method="INTEGER_ACCURATE"
    )


def _window(
    sides: tf.Tensor, scaled: tf.Tensor, first: tf.Tensor, last: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Chooses the part of an image to decode for pixels first .. last - 1 of it `scaled`.

    An edge between two pixels of the scaled image mostly lies inside an original pixel,
    where the original cannot be cut. Among the edges next to it there is one that lies
    nearly between two original pixels; otherwise the image's own edge is taken.

    All arguments and results are int64 (2,), heights and widths.

    Returns:
      begin, end: The part of the original.
      out_begin, out_end: The part of the scaled image that it becomes.
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


def _scaled_sides(sides: tf.Tensor, size: int, method: str) -> tf.Tensor:
    """Height and width, int64 (2,), to which `rescale` scales an image of these sides."""
    if method == "warp":
        return tf.constant([size, size], tf.int64)
    return tf.maximum(np.int64(size), _divide(sides * size, tf.reduce_min(sides)))


def _divide(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """a / b, rounded to the nearest integer."""
    return (2 * a + b) // (2 * b)


def crop(image: Image, offset: tf.Tensor, size: int) -> Image:
    """Cuts out the size x size pixels that begin at the pixel `offset`, (y, x)."""
    begin = tf.concat([tf.cast(offset, tf.int32), [0]], axis=0)
    return tf.ensure_shape(tf.slice(image, begin, [size, size, 3]), (size, size, 3))


def mirror(image: Image, mirrored: tf.Tensor) -> Image:
    """Mirrors the image, left to right, if `mirrored` is 1."""
    return tf.cond(mirrored == 1, lambda: tf.reverse(image, [1]), lambda: image)
