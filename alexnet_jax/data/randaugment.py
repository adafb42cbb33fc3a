"""RandAugment: some operations on each training image, drawn at random, of one strength.

Cubuk et al., "RandAugment" (2020). The operations and their ranges are those of
torchvision; what a rotated, sheared or moved image leaves free is gray, as in the authors'
code. Pillow computes them, on the host, after the crop and the reflection; with random
resized crops before the box is taken.
"""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
from jaxtyping import Int32, UInt8

STRONGEST = 30  # magnitudes are 0 to this
GRAY = (128, 128, 128)

Image = PIL.Image.Image


def _affine(image: Image, *matrix: float) -> Image:
    """The pixel at (x, y) is the given image's at (a x + b y + c, d x + e y + f)."""
    return image.transform(
        image.size,
        PIL.Image.Transform.AFFINE,
        matrix,
        PIL.Image.Resampling.NEAREST,
        fillcolor=GRAY,
    )


def _sheared_x(image: Image, share: float) -> Image:
    tilt = 0.3 * share
    return _affine(image, 1, tilt, -tilt * image.height / 2, 0, 1, 0)


def _sheared_y(image: Image, share: float) -> Image:
    tilt = 0.3 * share
    return _affine(image, 1, 0, 0, tilt, 1, -tilt * image.width / 2)


def _moved_x(image: Image, share: float) -> Image:
    return _affine(image, 1, 0, round(150 / 331 * image.width * share), 0, 1, 0)


def _moved_y(image: Image, share: float) -> Image:
    return _affine(image, 1, 0, 0, 0, 1, round(150 / 331 * image.height * share))


def _enhanced(enhance: Any) -> Callable[[Image, float], Image]:
    """Between 0.1 and 1.9 times the color, contrast, brightness or sharpness."""
    return lambda image, share: enhance(image).enhance(1 + 0.9 * share)


# By name: functions of an image and the strength from -1 to 1, whose sign some ignore.
OPERATIONS: dict[str, Callable[[Image, float], Image]] = {
    "identity": lambda image, _: image,
    "shear x": _sheared_x,
    "shear y": _sheared_y,
    "translate x": _moved_x,
    "translate y": _moved_y,
    "rotate": lambda image, share: image.rotate(30 * share, fillcolor=GRAY),
    "brightness": _enhanced(PIL.ImageEnhance.Brightness),
    "color": _enhanced(PIL.ImageEnhance.Color),
    "contrast": _enhanced(PIL.ImageEnhance.Contrast),
    "sharpness": _enhanced(PIL.ImageEnhance.Sharpness),
    "posterize": lambda image, share: PIL.ImageOps.posterize(
        image, 8 - round(4 * abs(share))
    ),
    "solarize": lambda image, share: PIL.ImageOps.solarize(
        image, round(255 * (1 - abs(share)))
    ),
    "autocontrast": lambda image, _: PIL.ImageOps.autocontrast(image),
    "equalize": lambda image, _: PIL.ImageOps.equalize(image),
}
_FUNCTIONS = tuple(OPERATIONS.values())


def changed(
    pixels: UInt8[np.ndarray, "h w 3"],
    operations: Int32[np.ndarray, " k"],
    magnitude: float,
) -> UInt8[np.ndarray, "h w 3"]:
    """An image after operations, one after the other.

    Args:
      operations: numbers of `OPERATIONS`; ~number is that with the opposite sign.
      magnitude: 0 to `STRONGEST`.
    """
    image = PIL.Image.fromarray(pixels)
    for number in operations.tolist():
        sign = 1 if number >= 0 else -1
        function = _FUNCTIONS[number if number >= 0 else ~number]
        image = function(image, sign * magnitude / STRONGEST)
    return np.asarray(image)


def changed_batches(
    batches: Generator[dict[str, np.ndarray], None, None], magnitude: float
) -> Generator[dict[str, np.ndarray], None, None]:
    """The batches with changed images, and without their column "operations".

    Close the generator if it is left early.
    """
    try:
        with ThreadPoolExecutor() as pool:  # Pillow leaves Python's lock
            for batch in batches:
                images, operations = batch["image"], batch["operations"]
                found = pool.map(changed, images, operations, [magnitude] * len(images))
                others = {k: v for k, v in batch.items() if k != "operations"}
                yield others | {"image": np.stack(list(found))}
    finally:
        batches.close()
