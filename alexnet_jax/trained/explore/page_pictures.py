"""Small images as data URIs, for a page that loads nothing."""

import base64
import io

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

PALETTE = 256  # colors; an image with no more is a PNG with a palette, others are JPEG
JPEG_QUALITY = 85
SMALL_SIDE = 64  # pixels; smaller images are shown with sharp pixels


def image_uri(pixels: UInt8[np.ndarray, "h w 3"], most: int = 256) -> str:
    """An image as a data URI: PNG in gray or with a palette if that is exact, else JPEG.

    Args:
      pixels: RGB.
      most: its longer side is at most that; it shrinks to it.
    """
    image = PIL.Image.fromarray(np.ascontiguousarray(pixels))
    if max(image.size) > most:
        image.thumbnail((most, most), PIL.Image.Resampling.LANCZOS)
    shown = np.asarray(image)
    if (shown == shown[..., :1]).all():
        return _uri(image.convert("L"), "PNG")
    if len(np.unique(shown.reshape(-1, 3), axis=0)) <= PALETTE:
        few = image.quantize(PALETTE, dither=PIL.Image.Dither.NONE)
        if (np.asarray(few.convert("RGB")) == shown).all():
            return _uri(few, "PNG")
    return _uri(image, "JPEG")


def css_of(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """The CSS class of an image: small ones have sharp pixels."""
    return "pixels" if len(pixels) <= SMALL_SIDE else ""


def kernel_uri(kernel: Float[np.ndarray, "h w 3"]) -> str:
    """A kernel that is scaled from 0 to 1, as a PNG."""
    return _uri(PIL.Image.fromarray(_levels(kernel)), "PNG")


def map_uri(values: Float[np.ndarray, "h w"], low: float, high: float) -> str:
    """A feature map in gray as a PNG: `low` is black and `high` is white."""
    scaled = (values - low) / max(high - low, 1e-12)
    image = PIL.Image.fromarray(_levels(scaled))
    if max(image.size) > 48:
        image.thumbnail((48, 48), PIL.Image.Resampling.BOX)
    return _uri(image, "PNG")


def _levels(values: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def _uri(image: PIL.Image.Image, kind: str) -> str:
    encoded = io.BytesIO()
    options = {"quality": JPEG_QUALITY} if kind == "JPEG" else {"optimize": True}
    image.save(encoded, kind, **options)
    data = base64.b64encode(encoded.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{data}"
