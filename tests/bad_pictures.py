"""A folder of every odd and every bad picture: what each becomes, or why it is refused."""

import io
import os
import struct
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image


def smooth(height=24, width=32):
    """uint8 (height, width, 3): what little JPEG loses, it loses evenly."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(5 * x + 3 * y), np.cos(4 * y), np.sin(7 * x * y + 1)]
    return (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def encoded(picture, file_format, **options):
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def png_header(width, height):
    """A PNG that says it is of this size, and ends there."""
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
    """{name: (bytes, the RGB picture that these become, grey levels allowed)}."""
    rgb = smooth()
    picture = Image.fromarray(rgb)
    grey = np.repeat(rgb[..., :1], 3, axis=-1)
    see_through = Image.fromarray(np.dstack([rgb, np.full(rgb.shape[:2], 9, np.uint8)]))
    palette = picture.quantize(16)
    colours = np.asarray(palette.convert("RGB"))
    other = Image.fromarray(255 - rgb)
    deep = np.random.default_rng(0).integers(0, 65536, rgb.shape).astype(np.uint16)
    inks = 255 - rgb  # and no black
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
        "grey.jpg": (encoded(rgb[..., 0], "JPEG", quality=95), grey, 4),
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
        "alpha.png": (encoded(see_through, "PNG"), rgb, 0),
        "grey and alpha.png": (
            encoded(Image.fromarray(rgb[..., 0]).convert("LA"), "PNG"),
            grey,
            0,
        ),
        "palette.png": (encoded(palette, "PNG"), colours, 0),
        "palette, see-through.png": (
            encoded(palette, "PNG", transparency=int(np.asarray(palette)[3, 3])),
            colours,
            0,
        ),
        "black and white.png": (
            encoded(Image.fromarray(rgb[..., 0] > 127), "PNG"),
            np.where(grey > 127, 255, 0),
            0,
        ),
        "16 bits.png": (tf.io.encode_png(deep).numpy(), deep >> 8, 0),
        "16 bits, grey.png": (
            tf.io.encode_png(deep[..., :1]).numpy(),
            np.repeat(deep[..., :1] >> 8, 3, axis=-1),
            0,
        ),
        "animated.gif": (encoded(palette, "GIF", **animation), colours, 0),
        "see-through.gif": (
            encoded(palette, "GIF", transparency=int(np.asarray(palette)[3, 3])),
            colours,
            0,
        ),
        "palette.bmp": (encoded(palette, "BMP"), colours, 0),
        "alpha.bmp": (encoded(see_through, "BMP"), rgb, 0),
        "black and white.bmp": (
            encoded(Image.fromarray(rgb[..., 0] > 127), "BMP"),
            np.where(grey > 127, 255, 0),
            0,
        ),
        "lossless.webp": (encoded(rgb, "WEBP", lossless=True), rgb, 0),
        "alpha.webp": (
            encoded(see_through, "WEBP", lossless=True, exact=True),
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
    """{name: (bytes, what the message says)}."""
    rgb = smooth()
    whole = {
        "jpg": encoded(rgb, "JPEG"),
        "png": encoded(rgb, "PNG"),
        "gif": encoded(Image.fromarray(rgb).quantize(), "GIF"),
        "bmp": encoded(rgb, "BMP"),
        "webp": encoded(rgb, "WEBP"),
    }
    cut_off = {
        f"cut off.{kind}": (data[: len(data) * 2 // 3], reason)
        for (kind, data), reason in zip(
            whole.items(),
            ("Invalid JPEG", "Invalid PNG", "cut off", "cut off", "cut off|ends in"),
            strict=True,
        )
    }
    in_header = {
        f"cut off in its header.{kind}": (data[:20], "Invalid JPEG|ends in|cut off")
        for kind, data in whole.items()
    }
    flipped = bytearray(whole["png"])
    flipped[len(flipped) // 2] ^= 1
    return {
        **cut_off,
        **in_header,
        "a byte missing.jpg": (whole["jpg"][:-1], "Invalid JPEG"),
        "zeros at the end.jpg": (
            whole["jpg"][:400] + bytes(len(whole["jpg"]) - 400),
            "Invalid JPEG",
        ),
        "a bit turned.png": (bytes(flipped), "Invalid PNG"),
        "empty.jpg": (b"", "empty: 0 bytes"),
        "text.jpg": (b"not a picture at all\n", "begins with b'not a picture"),
        "web page.png": (b"<!DOCTYPE html><p>404", "begins with b'<!DOCTYPE"),
        "drawing.gif": (encoded(rgb, "TIFF"), "It is no JPEG, PNG"),
        "bomb.png": (png_header(50_000, 50_000), "50000 x 50000 pixels.*not unpacked"),
        "bomb, negative.png": (
            png_header(2**32 - 1, 2**32 - 1),
            "4294967295 x 4294967295 pixels",
        ),
        "bomb.bmp": (bmp_of_size(14_000, 14_000), "14000 x 14000 pixels.*not unpacked"),
        "bomb.jpg": (jpeg_of_size(65_000, 64_000), "65000 x 64000 pixels"),
    }


def write(folder):
    """Writes all; returns what becomes of each: {name: picture}, {name: reason}.

    Not what a user may not read: that is no matter to root, whom tests may run as.
    """
    folder.mkdir(parents=True)
    pictures, reasons = {}, {}
    for name, (data, picture, allowed) in odd().items():
        (folder / name).write_bytes(data)
        pictures[name] = (picture, allowed)
    for name, (data, reason) in bad().items():
        (folder / name).write_bytes(data)
        reasons[name] = reason
    (folder / "broken link.png").symlink_to("nowhere")
    reasons["broken link.png"] = (
        "cannot be read: .*link to nowhere, which leads nowhere"
    )
    (folder / "link to itself.png").symlink_to("link to itself.png")
    reasons["link to itself.png"] = "cannot be read: .*link to itself"
    os.mkfifo(folder / "pipe.png")
    reasons["pipe.png"] = "is no file"
    return pictures, reasons
