"""How images are rescaled, in words, and the same for small images without TensorFlow."""

import functools

import numpy as np
from jaxtyping import Float32, UInt8

RESAMPLING = "area averaging where no side grows, else bilinear, antialiased"


def enlarged(
    image: UInt8[np.ndarray, "side side"], size: int
) -> UInt8[np.ndarray, "size size"]:
    """Enlarges one channel of a square image by bilinear interpolation.

    The pixels are bit-identical to those of TensorFlow's ScaleAndTranslate, which
    `images.rescale` uses for whatever grows: all numbers are float32, the weights are
    rounded where it rounds them, and rows are interpolated before columns.

    Args:
      image: at most as large as `size`.
      size: the side, in pixels.
    """
    weights = _weights(len(image), size)
    rows = np.einsum("sy,yx->sx", weights, image.astype(np.float32))
    return np.rint(np.einsum("tx,sx->st", weights, rows)).astype(np.uint8)


@functools.cache
def _weights(side: int, size: int) -> Float32[np.ndarray, "size side"]:
    """What each pixel of the enlarged image takes of each original pixel, by axis."""
    half, one = np.float32(0.5), np.float32(1)
    inverse = one / (np.float32(size) / np.float32(side))
    centers = (np.arange(size, dtype=np.float32) + half) * inverse
    distances = np.abs(np.arange(side, dtype=np.float32) + half - centers[:, None])
    weights = np.maximum(np.float32(0), one - distances)
    total = np.zeros(size, np.float32)
    for column in weights.T:  # In this order; np.sum would add by pairs.
        total += column
    return weights * (one / total)[:, None]
