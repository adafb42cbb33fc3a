"""Image files become the same squares as in the training pipeline, without TensorFlow."""

import io
import subprocess
import sys
import zlib

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_image

from alexnet_jax.data import images, photographs
from alexnet_jax.errors import UserError

PHOTOGRAPH = np.ascontiguousarray(load_sample_image("flower.jpg")[:300, :451])


def encoded(pixels, kind, **options):
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def of_pipeline(content, size, method):
    return images.restore(tf.constant(content), "original", size, method).numpy()


@pytest.mark.parametrize("method", ["shorter_side", "warp"])
@pytest.mark.parametrize("size", [32, 256, 300, 400])
@pytest.mark.parametrize("turned", [False, True])
def test_photographs_are_rescaled_as_in_training(size, method, turned):
    """Up to a gray level, where a half is rounded."""
    pixels = PHOTOGRAPH.transpose(1, 0, 2) if turned else PHOTOGRAPH
    content = encoded(np.ascontiguousarray(pixels), "JPEG", quality=90)
    ours = photographs.square(content, size=size, method=method).astype(int)
    theirs = of_pipeline(content, size, method).astype(int)
    assert abs(ours - theirs).max() <= 1
    assert (ours != theirs).mean() < 0.02


def test_an_image_of_that_size_stays_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    assert (photographs.square(pixels, size=32, method="warp") == pixels).all()


def test_extreme_shapes_are_rescaled_as_in_training():
    draws = np.random.default_rng(1)
    for shape in ((1, 40, 3), (200, 3, 3), (31, 33, 3)):
        pixels = draws.integers(0, 256, shape).astype(np.uint8)
        content = encoded(pixels, "PNG")
        ours = photographs.square(content, size=32, method="shorter_side").astype(int)
        theirs = of_pipeline(content, 32, "shorter_side").astype(int)
        assert abs(ours - theirs).max() <= 1, shape


GRAY = PHOTOGRAPH[..., 0]


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("PNG", PIL.Image.fromarray(GRAY)),
        ("PNG", PIL.Image.fromarray(GRAY.astype(np.uint16) * 257)),
        ("PNG", PIL.Image.fromarray(np.dstack([PHOTOGRAPH, GRAY]))),
        ("PNG", PIL.Image.fromarray(PHOTOGRAPH).quantize(64)),
        ("JPEG", PIL.Image.fromarray(GRAY)),
        ("JPEG", PIL.Image.fromarray(PHOTOGRAPH).convert("CMYK")),
        ("BMP", PIL.Image.fromarray(PHOTOGRAPH)),
        ("GIF", PIL.Image.fromarray(PHOTOGRAPH)),
        ("WEBP", PIL.Image.fromarray(PHOTOGRAPH)),
    ],
    ids=["gray", "gray 16", "alpha", "palette", "gray", "CMYK", "BMP", "GIF", "WebP"],
)
def test_every_kind_of_image_has_the_pixels_of_training(kind, image):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    ours = photographs.pixels_of(buffer.getvalue()).astype(int)
    theirs = images.decode(tf.constant(buffer.getvalue())).numpy().astype(int)
    assert abs(ours - theirs).max() <= 1


def test_orientation_is_applied_where_it_is_asked_for():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    content = encoded(PHOTOGRAPH, "PNG", exif=exif)
    assert photographs.pixels_of(content).shape == (300, 451, 3)
    assert photographs.pixels_of(content, True).shape == (451, 300, 3)


def test_gray_and_wrong_pixels(tmp_path):
    assert photographs.pixels_of(GRAY).shape == (300, 451, 3)
    for wrong in (PHOTOGRAPH / 255.0, PHOTOGRAPH[..., :2], PHOTOGRAPH[:0]):
        with pytest.raises(UserError, match="uint8 pixels"):
            photographs.pixels_of(wrong)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"not an image", "begins with b'not an image'"),
        (encoded(PHOTOGRAPH, "JPEG")[:2000], "damaged or truncated"),
        (encoded(PHOTOGRAPH, "PNG")[:2000], "damaged or truncated"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, content, said):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as raised:
        photographs.pixels_of(path)
    assert str(path) in str(raised.value)
    with pytest.raises(UserError, match="No such file"):
        photographs.pixels_of(tmp_path / "missing.jpg")


def test_a_small_file_that_claims_to_be_huge_is_refused():
    content = bytearray(encoded(PHOTOGRAPH, "PNG"))
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with pytest.raises(UserError, match="100000 x 100000"):
        photographs.pixels_of(bytes(content))


@pytest.mark.slow
def test_tensorflow_is_not_imported():
    code = (
        "import sys, numpy as np; from alexnet_jax.data import photographs as p;"
        "p.square(np.zeros((9, 9, 3), np.uint8), size=4, method='warp');"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
