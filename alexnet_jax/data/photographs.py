"""From image files to squares of pixels without TensorFlow, for a few images at a time.

`images.py` does the same in the training pipeline, within a graph of TensorFlow, whose
import takes seconds. The pixels differ by at most one gray level, where a number that is
half way between two of them is rounded.
"""

import concurrent.futures
import functools
import io
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import PIL.Image
import PIL.ImageOps
import scipy.sparse
from jaxtyping import UInt8

from alexnet_jax.errors import UserError

# What a user may give as an image: a file, its bytes, or pixels.
GivenImage: TypeAlias = str | os.PathLike[str] | bytes | np.ndarray

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
MAX_PIXELS = 2**29 // 3  # as `images.MAX_PIXELS`
DECODERS = 4  # threads that read images beside the network
PIL.Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS is checked, with a message of our own.


def square(
    image: GivenImage, *, size: int, method: str, apply_orientation: bool = False
) -> UInt8[np.ndarray, "size size 3"]:
    """The rescaled image as a network's preprocessing begins with it (section 2).

    Args:
      image: a path, the bytes of an image file, or pixels: uint8 (height, width, 3), or
        (height, width) in gray.
      size: the side in pixels.
      method: "shorter_side" scales the shorter side to `size` and cuts out the center;
        "warp" scales both sides.
      apply_orientation: turn a photograph as its EXIF data say. Training does not.

    Raises:
      UserError: if it is not an image, or damaged, or too large.
    """
    return rescaled(pixels_of(image, apply_orientation), size, method)


def pixels_of(
    image: GivenImage, apply_orientation: bool = False
) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image in RGB, uint8, as they are in the file.

    Args:
      image: a path, the bytes of an image file, or pixels: uint8 (height, width, 3), or
        (height, width) in gray.
      apply_orientation: turn a photograph as its EXIF data say.

    Raises:
      UserError: if it is not an image, or damaged, or too large.
    """
    if isinstance(image, np.ndarray):
        return _checked_pixels(image)
    name = "The image" if isinstance(image, bytes) else str(image)
    try:
        encoded = (
            image
            if isinstance(image, bytes)
            else Path(os.path.expanduser(image)).read_bytes()
        )
    except OSError as error:
        raise UserError(f"{name}: {error.strerror or error}.") from error
    if not encoded:
        raise UserError(f"{name}: the file is empty.")
    try:
        with PIL.Image.open(io.BytesIO(encoded), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise UserError(
                    f"{name} claims to be {width} x {height} pixels; more than "
                    f"{MAX_PIXELS:,} are not decoded, because of the memory they take."
                )
            decoded: PIL.Image.Image = opened
            if apply_orientation:
                decoded = PIL.ImageOps.exif_transpose(opened)
            return _rgb(decoded)
    except PIL.UnidentifiedImageError as error:
        raise UserError(
            f"{name} is not a JPEG, PNG, BMP, GIF or WebP: it begins with "
            f"{encoded[:16]!r}."
        ) from error
    except UserError:
        raise
    except Exception as error:  # Pillow raises whatever its decoders raise.
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(f"{name} is damaged or truncated: {reason}.") from error


def _checked_pixels(image: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if (
        image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or not image.size
    ):
        raise UserError(
            f"An image of type {image.dtype} and shape {image.shape}: give uint8 pixels, "
            "(height, width, 3) in RGB or (height, width) in gray."
        )
    return image


def _rgb(image: PIL.Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """RGB as `images.decode` has it: of 16 bits the upper eight; transparency dropped."""
    if image.mode.startswith("I"):  # PNG with 16 bits of gray
        gray = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))


def rescaled(
    pixels: UInt8[np.ndarray, "h w 3"], size: int, method: str
) -> UInt8[np.ndarray, "size size 3"]:
    """`pixels` at size x size, as `images.rescale` does it."""
    height, width = pixels.shape[:2]
    if (height, width) == (size, size):
        return pixels
    tall, wide = size, size
    if method == "shorter_side":
        shorter = min(height, width)
        tall, wide = (max(size, _divided(n * size, shorter)) for n in (height, width))
    shrinks = tall <= height and wide <= width
    weights: Callable[..., Any] = averaging if shrinks else interpolating
    rows, columns = weights(height, tall, size), weights(width, wide, size)
    # Rows before columns: a row of a photograph lies together in memory.
    x = rows @ pixels.reshape(height, -1).astype(np.float32)
    x = x.reshape(size, width, 3).transpose(1, 0, 2).reshape(width, -1)
    x = (columns @ np.ascontiguousarray(x)).reshape(size, size, 3).transpose(1, 0, 2)
    return np.rint(np.clip(x, 0, 255)).astype(np.uint8)


def _divided(a: int, b: int) -> int:
    """a / b, rounded to the nearest integer."""
    return (2 * a + b) // (2 * b)


@functools.lru_cache(maxsize=64)
def averaging(side: int, scaled: int, size: int) -> Any:
    """Sparse (size, side): what each of the `size` central pixels takes, by area.

    Args:
      side: pixels of the original.
      scaled: to which it shrinks.
    """
    first = (scaled - size) // 2
    edges = np.arange(first, first + size + 1) * (side / scaled)
    begin, end = edges[:-1, None], edges[1:, None]
    pixel = np.arange(side)
    covered = np.minimum(end, pixel + 1) - np.maximum(begin, pixel)
    weights = np.maximum(covered, 0) / (side / scaled)
    return scipy.sparse.csr_array(weights.astype(np.float32))


@functools.lru_cache(maxsize=64)
def interpolating(side: int, scaled: int, size: int) -> Any:
    """Sparse (size, side): what each of the `size` central pixels takes, interpolated.

    The interpolation is linear, and antialiased where a side shrinks.

    Args:
      side: pixels of the original.
      scaled: to which it is rescaled.
    """
    first, scale = (scaled - size) // 2, scaled / side
    reach = max(1.0, 1 / scale)
    centers = (np.arange(first, first + size) + 0.5) / scale
    distances = np.abs(np.arange(side) + 0.5 - centers[:, None]) / reach
    weights = np.maximum(0.0, 1 - distances)
    weights /= weights.sum(axis=1, keepdims=True)
    return scipy.sparse.csr_array(weights.astype(np.float32))


def read_ahead(
    images: Iterable[GivenImage],
    read: Callable[[GivenImage], np.ndarray],
    *,
    most: int,
) -> Generator[np.ndarray | UserError, None, None]:
    """What `read` makes of each image, in their order, or the UserError that it raises.

    Threads read images ahead of the one that is taken, at most so many.
    """

    def read_or_error(image: GivenImage) -> np.ndarray | UserError:
        try:
            return read(image)
        except UserError as error:
            return error

    ahead: deque[concurrent.futures.Future[np.ndarray | UserError]] = deque()
    with concurrent.futures.ThreadPoolExecutor(DECODERS) as threads:
        for image in images:
            ahead.append(threads.submit(read_or_error, image))
            if len(ahead) == most:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
