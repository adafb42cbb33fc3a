"""A folder of every unusual and every bad image: what each becomes, or why it is refused."""

import io
import os
import struct
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image


def smooth(height=24, width=32):
    """uint8 (height, width, 3): smooth, so that JPEG loses little."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(5 * x + 3 * y), np.cos(4 * y), np.sin(7 * x * y + 1)]
    return (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def encoded(image, file_format, **options):
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def png_header(width, height):
    """A PNG whose header claims this size, and that ends there."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
    )


def jpeg_of_size(width, height):
    """A JPEG whose header lies about its size."""
    data = bytearray(encoded(smooth(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_of_size(width, height):
    """A BMP whose header lies about its size."""
    data = bytearray(encoded(smooth(), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def odd():
    """{name: (bytes, the RGB image they become, allowed difference in gray levels)}."""
    rgb = smooth()
    image = Image.fromarray(rgb)
    gray = np.repeat(rgb[..., :1], 3, axis=-1)
    transparent = Image.fromarray(np.dstack([rgb, np.full(rgb.shape[:2], 9, np.uint8)]))
    palette = image.quantize(16)
    colors = np.asarray(palette.convert("RGB"))
    other = Image.fromarray(255 - rgb)
    deep = np.random.default_rng(0).integers(0, 65536, rgb.shape).astype(np.uint16)
    inks = 255 - rgb  # no black ink
    cmyk = Image.fromarray(np.dstack([inks, np.zeros(rgb.shape[:2], np.uint8)]), "CMYK")
    dark = Image.fromarray(
        np.dstack([inks, np.full(rgb.shape[:2], 102, np.uint8)]), "CMYK"
    )
    turned = Image.Exif()
    turned[0x0112] = 6
    animation = {"save_all": True, "append_images": [other]}
    tall = np.full((5000, 20, 3), (200, 100, 50), np.uint8)
    return {
        "cmyk.jpg": (encoded(cmyk, "JPEG", quality=95), rgb, 6),
        "cmyk dark.jpg": (encoded(dark, "JPEG", quality=95), rgb * 0.6, 6),
        "gray.jpg": (encoded(rgb[..., 0], "JPEG", quality=95), gray, 4),
        "progressive.jpg": (
            encoded(rgb, "JPEG", quality=95, subsampling=0, progressive=True),
            rgb,
            6,
        ),
        "turned.jpg": (
            encoded(rgb, "JPEG", quality=95, subsampling=0, exif=turned),
            rgb,
            6,
        ),
        "really a png.jpg": (encoded(rgb, "PNG"), rgb, 0),
        "alpha.png": (encoded(transparent, "PNG"), rgb, 0),
        "gray and alpha.png": (
            encoded(Image.fromarray(rgb[..., 0]).convert("LA"), "PNG"),
            gray,
            0,
        ),
        "palette.png": (encoded(palette, "PNG"), colors, 0),
        "palette, transparent.png": (
            encoded(palette, "PNG", transparency=int(np.asarray(palette)[3, 3])),
            colors,
            0,
        ),
        "black and white.png": (
            encoded(Image.fromarray(rgb[..., 0] > 127), "PNG"),
            np.where(gray > 127, 255, 0),
            0,
        ),
        "16 bits.png": (tf.io.encode_png(deep).numpy(), deep >> 8, 0),
        "16 bits, gray.png": (
            tf.io.encode_png(deep[..., :1]).numpy(),
            np.repeat(deep[..., :1] >> 8, 3, axis=-1),
            0,
        ),
        "animated.gif": (encoded(palette, "GIF", **animation), colors, 0),
        "transparent.gif": (
            encoded(palette, "GIF", transparency=int(np.asarray(palette)[3, 3])),
            colors,
            0,
        ),
        "palette.bmp": (encoded(palette, "BMP"), colors, 0),
        "alpha.bmp": (encoded(transparent, "BMP"), rgb, 0),
        "black and white.bmp": (
            encoded(Image.fromarray(rgb[..., 0] > 127), "BMP"),
            np.where(gray > 127, 255, 0),
            0,
        ),
        "lossless.webp": (encoded(rgb, "WEBP", lossless=True), rgb, 0),
        "alpha.webp": (
            encoded(transparent, "WEBP", lossless=True, exact=True),
            rgb,
            0,
        ),
        "animated.webp": (encoded(rgb, "WEBP", lossless=True, **animation), rgb, 0),
        "1x1.png": (encoded(rgb[:1, :1], "PNG"), rgb[:1, :1], 0),
        "20x5000.jpg": (encoded(tall, "JPEG", quality=95), tall, 4),
        "20x5000.png": (encoded(tall, "PNG"), tall, 0),
        "a name with spaces.png": (encoded(rgb, "PNG"), rgb, 0),
        "кошка 猫 é.PNG": (encoded(rgb, "PNG"), rgb, 0),
        "CASE.png": (encoded(rgb, "PNG"), rgb, 0),
        "case.png": (encoded(255 - rgb, "PNG"), 255 - rgb, 0),
    }


def bad():
    """{name: (bytes, a pattern of the message)}."""
    rgb = smooth()
    whole = {
        "jpg": encoded(rgb, "JPEG"),
        "png": encoded(rgb, "PNG"),
        "gif": encoded(Image.fromarray(rgb).quantize(), "GIF"),
        "bmp": encoded(rgb, "BMP"),
        "webp": encoded(rgb, "WEBP"),
    }
    truncated = {
        f"truncated.{kind}": (data[: len(data) * 2 // 3], reason)
        for (kind, data), reason in zip(
            whole.items(),
            (
                "Invalid JPEG",
                "Invalid PNG",
                "truncated",
                "truncated",
                "truncated|ends in",
            ),
            strict=True,
        )
    }
    truncated_header = {
        f"truncated in its header.{kind}": (data[:20], "Invalid JPEG|ends in|truncated")
        for kind, data in whole.items()
    }
    flipped = bytearray(whole["png"])
    flipped[len(flipped) // 2] ^= 1
    return {
        **truncated,
        **truncated_header,
        "a byte missing.jpg": (whole["jpg"][:-1], "Invalid JPEG"),
        "zeros at the end.jpg": (
            whole["jpg"][:400] + bytes(len(whole["jpg"]) - 400),
            "Invalid JPEG",
        ),
        "a bit turned.png": (bytes(flipped), "Invalid PNG"),
        "empty.jpg": (b"", "empty: 0 bytes"),
        "text.jpg": (b"not an image at all\n", "begins with b'not an image"),
        "web page.png": (b"<!DOCTYPE html><p>404", "begins with b'<!DOCTYPE"),
        "drawing.gif": (encoded(rgb, "TIFF"), "not a JPEG, PNG"),
        "bomb.png": (png_header(50_000, 50_000), "50000 x 50000 pixels.*not decoded"),
        "bomb, negative.png": (
            png_header(2**32 - 1, 2**32 - 1),
            "4294967295 x 4294967295 pixels",
        ),
        "bomb.bmp": (bmp_of_size(14_000, 14_000), "14000 x 14000 pixels.*not decoded"),
        "bomb.jpg": (jpeg_of_size(65_000, 64_000), "65000 x 64000 pixels"),
    }


def write(folder):
    """Writes all; returns {name: (image, allowed difference)} and {name: pattern}.

    Files without read permission are left out: root, who may run the tests, reads them.
    """
    folder.mkdir(parents=True)
    images, reasons = {}, {}
    for name, (data, image, allowed) in odd().items():
        (folder / name).write_bytes(data)
        images[name] = (image, allowed)
    for name, (data, reason) in bad().items():
        (folder / name).write_bytes(data)
        reasons[name] = reason
    (folder / "broken link.png").symlink_to("nowhere")
    reasons["broken link.png"] = "cannot be read: .*broken link to nowhere"
    (folder / "link to itself.png").symlink_to("link to itself.png")
    reasons["link to itself.png"] = "cannot be read: .*link to itself"
    os.mkfifo(folder / "pipe.png")
    reasons["pipe.png"] = "is not a file"
    return images, reasons
