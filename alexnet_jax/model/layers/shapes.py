"""Shapes of images and kernels, and the sizes that convolution and pooling leave."""

import math

from jaxtyping import Array, Float

from alexnet_jax.errors import UserError

Images = Float[Array, "n h w c"]
FeatureMaps = Float[Array, "n i j d"]  # Sizes and channels may differ from h w c.
Kernel = Float[Array, "a b c d"]
Padding = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right)


def convolved_size(
    name: str, size: int, *, window: int, stride: int, padding: tuple[int, int]
) -> int:
    """The height (or width) that the convolution called `name` makes of `size`.

    Raises:
      UserError: if no pixel is left, naming the layer and showing the arithmetic.
    """
    left = (size + sum(padding) - window) // stride + 1
    if left < 1:
        before, after = padding
        raise _no_pixels(name, size, f"{size} + {before} + {after} - {window}", stride)
    return left


def pooled_size(size: int, window: int, stride: int, rounding: str) -> int:
    """The height (or width) that pooling makes of `size`; below 1 if nothing is left.

    With rounding "up", the rule of cuda-convnet, the last window may extend beyond the
    edge: 3x3 windows with stride 2 make 16 of 32 pixels. With "down", the usual rule,
    they make 15. AlexNet's own 55, 27 and 13 become 27, 13 and 6 under both.
    """
    if rounding == "up":
        return 1 + math.ceil((size - window) / stride)
    return 1 + (size - window) // stride


def checked_pooled_size(
    name: str, size: int, *, window: int, stride: int, rounding: str
) -> int:
    """`pooled_size` for the layer called `name`.

    Raises:
      UserError: if no pixel is left, naming the layer and showing the arithmetic.
    """
    left = pooled_size(size, window, stride, rounding)
    if left < 1:
        raise _no_pixels(name, size, f"{size} - {window}", stride)
    return left


def _no_pixels(name: str, size: int, numerator: str, stride: int) -> UserError:
    return UserError(
        f"{name} leaves no pixel: its input has {size} pixels a side and "
        f"({numerator}) / {stride} + 1 < 1. "
        "Give larger images (--config.data.crop_size)."
    )
