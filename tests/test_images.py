"""Each step of an image's way, against Pillow and against plain numpy."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alexnet_jax.data import images

SIZES = [(8, 8), (64, 48), (48, 64), (33, 65), (16, 200), (7, 5), (13, 14), (300, 17)]


def picture(height, width, seed=0):
    """Smooth colours with a little noise: what a photograph is to a JPEG encoder."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(5 * x + 3 * y), np.cos(4 * y), np.sin(7 * x * y + 1)]
    smooth = 127 + 100 * np.stack(waves, axis=-1)
    return np.clip(smooth + rng.normal(0, 5, smooth.shape), 0, 255).astype(np.uint8)


def encoded(pixels, file_format, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, file_format, **options)
    return file.getvalue()


def by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def decoded(data):
    return images.decode(tf.constant(data)).numpy()


# --- decode -----------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["PNG", "BMP"])
def test_lossless_pictures_come_back_as_they_were(file_format):
    pixels = picture(19, 23)
    np.testing.assert_array_equal(decoded(encoded(pixels, file_format)), pixels)


@pytest.mark.parametrize("subsampling", [0, 2], ids=["4:4:4", "4:2:0"])
def test_jpeg_is_what_pillow_decodes(subsampling):
    """Two accurate inverse cosine transforms differ by a rounding, colours by two."""
    data = encoded(picture(64, 48), "JPEG", quality=90, subsampling=subsampling)
    difference = decoded(data).astype(int) - by_pillow(data)
    assert np.abs(difference).max() <= 2
    assert np.abs(difference).mean() < 0.1


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP"])
def test_a_grey_picture_gets_three_equal_channels(file_format):
    data = encoded(picture(16, 16)[..., 0], file_format, mode="L")
    got = decoded(data)
    assert got.shape == (16, 16, 3)
    np.testing.assert_array_equal(got[..., 0], got[..., 1])
    np.testing.assert_array_equal(got[..., 0], got[..., 2])
    assert np.abs(got.astype(int) - by_pillow(data)).max() <= 1


def test_of_an_animation_the_first_picture_is_taken():
    first, second = (
        Image.fromarray(picture(16, 20, seed)).quantize(32) for seed in (0, 1)
    )
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=[second, first])
    got = decoded(file.getvalue())
    np.testing.assert_array_equal(got, by_pillow(file.getvalue()))
    assert not np.array_equal(got, np.asarray(second.convert("RGB")))


def test_a_palette_becomes_colours_and_transparency_is_left_away():
    pixels = picture(12, 12)
    palette = encoded(pixels, "PNG", mode="P")
    np.testing.assert_array_equal(decoded(palette), by_pillow(palette))
    transparent = Image.fromarray(pixels).convert("RGBA")
    transparent.putalpha(100)
    file = io.BytesIO()
    transparent.save(file, "PNG")
    np.testing.assert_array_equal(decoded(file.getvalue()), pixels)


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff\xe0 cut off"])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(tf.errors.OpError):
        decoded(data)


# --- rescale ----------------------------------------------------------------------


def triangle_weights(length, scaled):
    """(scaled, length): bilinear resampling as a matrix, wider where it shrinks."""
    step = length / scaled
    centres = (np.arange(scaled) + 0.5) * step
    distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / max(step, 1)
    weights = np.maximum(0, 1 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


def rescaled_by_hand(pixels, size):
    """Shorter side to `size`, the longer in proportion, the centre cut out; float."""
    shorter = min(pixels.shape[:2])
    height, width = (int(side * size / shorter + 0.5) for side in pixels.shape[:2])
    rows = triangle_weights(pixels.shape[0], height)
    columns = triangle_weights(pixels.shape[1], width)
    scaled = np.einsum("yi,xj,ijc->yxc", rows, columns, pixels.astype(float))
    top, left = (height - size) // 2, (width - size) // 2
    return scaled[top : top + size, left : left + size]


def assert_rescaled_as_by_hand(pixels, size):
    """The nearest grey level, but where float32 rounds what lies between two."""
    got = images.rescale(tf.constant(pixels), size).numpy()
    assert got.shape == (size, size, 3)
    assert got.dtype == np.uint8
    assert np.abs(got - rescaled_by_hand(pixels, size)).max() <= 0.5 + 0.01


@pytest.mark.parametrize("height_width", SIZES, ids=str)
@pytest.mark.parametrize("size", [8, 16, 31])
def test_rescale_is_the_triangle_filter_and_the_centre(height_width, size):
    assert_rescaled_as_by_hand(picture(*height_width), size)


@pytest.mark.parametrize("height_width", [(1, 1), (1, 9), (9, 1), (2, 40), (1, 50)])
def test_pictures_a_pixel_wide_rescale_too(height_width):
    assert_rescaled_as_by_hand(picture(*height_width), 8)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 24))
def test_rescale_of_any_size(height, width, size):
    assert_rescaled_as_by_hand(picture(height, width), size)


def test_digits_double_from_8_to_16():
    pixels = picture(8, 8)
    got = images.rescale(tf.constant(pixels), 16).numpy()
    np.testing.assert_array_equal(got[0, 0], pixels[0, 0])  # corners stay
    np.testing.assert_array_equal(got[-1, -1], pixels[-1, -1])
    assert_rescaled_as_by_hand(pixels, 16)


@pytest.mark.parametrize("size", [8, 16, 64])
def test_rescale_of_a_picture_of_that_size_changes_nothing(size):
    pixels = picture(size, size)
    np.testing.assert_array_equal(
        images.rescale(tf.constant(pixels), size).numpy(), pixels
    )


@pytest.mark.parametrize("height_width", [(64, 48), (50, 50), (40, 100)], ids=str)
def test_rescale_is_what_pillow_does(height_width):
    """Pillow rounds between its two passes: a grey level is allowed."""
    pixels, size = picture(*height_width), 20
    shorter = min(height_width)
    height, width = (int(side * size / shorter + 0.5) for side in height_width)
    scaled = np.asarray(
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    )
    top, left = (height - size) // 2, (width - size) // 2
    expected = scaled[top : top + size, left : left + size].astype(int)
    got = images.rescale(tf.constant(pixels), size).numpy()
    assert np.abs(got - expected).max() <= 1


# --- crop -------------------------------------------------------------------------


def coordinates(side):
    """An image whose pixels say where they are."""
    rows, columns = np.mgrid[:side, :side]
    return np.stack([rows, columns, rows + columns], axis=-1).astype(np.uint8)


def over_seeds(function, count):
    """`function` of each of `count` seeds, as the pipeline's graph calls it."""
    seeds = tf.data.Dataset.range(count).map(lambda i: tf.stack([i // 7, i]))
    return next(iter(seeds.map(function).batch(count))).numpy()


@pytest.mark.parametrize("side_size", [(5, 3), (4, 4), (6, 3), (5, 4), (7, 1)], ids=str)
def test_the_centre_is_in_the_middle(side_size):
    side, size = side_size
    pixels = coordinates(side)
    got = images.center_crop(tf.constant(pixels), size).numpy()
    offset = (side - size) // 2
    np.testing.assert_array_equal(got[0, 0], [offset, offset, 2 * offset])
    assert got.shape == (size, size, 3)
    batch = np.stack([pixels, pixels + 9, 255 - pixels])
    got = images.center_crop(tf.constant(batch), size).numpy()
    np.testing.assert_array_equal(
        got, batch[:, offset : offset + size, offset : offset + size]
    )


def test_a_random_crop_takes_each_place_equally_often():
    """5 x 5 places, the first and the last offset too (chi-square, 24 degrees)."""
    image, count = tf.constant(coordinates(12)), 5000
    crops = over_seeds(lambda seed: images.random_crop(image, 8, seed), count)
    places = crops[:, 0, 0, :2].astype(int)
    assert places.min() == 0
    assert places.max() == 4
    counts = np.bincount(places[:, 0] * 5 + places[:, 1], minlength=25)
    assert counts.min() > 0
    assert ((counts - count / 25) ** 2 / (count / 25)).sum() < 51.2  # p = 0.001


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(1, 40))
def test_a_random_crop_is_a_window_of_the_image(data, side):
    size = data.draw(st.integers(1, side))
    seed = data.draw(st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 2))
    image = coordinates(side)
    crop = images.random_crop(tf.constant(image), size, tf.constant(seed, tf.int64))
    top, left = (int(offset) for offset in crop.numpy()[0, 0, :2])
    np.testing.assert_array_equal(
        crop.numpy(), image[top : top + size, left : left + size]
    )
    assert crop.shape == (size, size, 3)


# --- flip, lighting ---------------------------------------------------------------


def test_a_flip_gives_the_image_or_its_mirror_as_often():
    pixels, count = picture(6, 6), 2000
    image = tf.constant(pixels)
    got = over_seeds(lambda seed: images.random_flip(image, seed), count)
    plain = (got == pixels).all(axis=(1, 2, 3))
    mirrored = (got == pixels[:, ::-1]).all(axis=(1, 2, 3))
    assert (plain ^ mirrored).all()
    assert abs(mirrored.sum() - count / 2) < 3.3 * (count / 4) ** 0.5  # p = 0.001


def test_lighting_has_the_covariance_of_the_components():
    """deviation**2 components @ components.T, mean 0: 1 standard error is 1%."""
    components = np.float32([[60, -9, 2], [57, 3, -5], [55, 8, 3]])
    count, deviation = 20_000, 0.1
    constant = tf.constant(components)
    shifts = over_seeds(
        lambda seed: images.lighting(constant, deviation, seed), count
    ).astype(float)
    expected = deviation**2 * components @ components.T
    allowed = 0.04 * np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    assert (np.abs(np.cov(shifts.T) - expected) < allowed).all()
    assert (np.abs(shifts.mean(axis=0)) < 4 * shifts.std(axis=0) / count**0.5).all()
    # Along each component by itself: the first is so large that it hides the others.
    alphas = np.linalg.solve(components, shifts.T)
    np.testing.assert_allclose(np.cov(alphas), deviation**2 * np.eye(3), atol=0.0004)


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: images.random_crop(tf.constant(coordinates(40)), 8, seed),
        lambda seed: images.lighting(tf.eye(3), 1.0, seed),
    ],
    ids=["crop", "lighting"],
)
def test_a_seed_gives_the_same_each_time_and_each_of_its_numbers_counts(draw):
    seeds = [(3, 5), (3, 6), (4, 5), (3 + 2**32, 5)]
    results = [draw(tf.constant(seed, tf.int64)).numpy() for seed in seeds]
    again = [draw(tf.constant(seed, tf.int64)).numpy() for seed in seeds]
    np.testing.assert_array_equal(results, again)
    assert len({result.tobytes() for result in results}) == len(seeds)


def test_a_flip_is_the_same_each_time():
    image = tf.constant(picture(6, 6))
    once, again = (
        over_seeds(lambda seed: images.random_flip(image, seed), 50) for _ in range(2)
    )
    np.testing.assert_array_equal(once, again)
