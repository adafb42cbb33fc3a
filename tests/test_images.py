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
HOW = ["shorter_side", "warp"]


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
    """In a graph, as the pipeline does."""
    return next(
        tf.data.Dataset.from_tensors(data).map(images.decode).as_numpy_iterator()
    )


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


def rescaled_by_hand(pixels, size, how):
    """Floats. Shorter side to `size` and the centre cut out, or both sides to `size`."""
    shorter = min(pixels.shape[:2])
    height, width = (int(side * size / shorter + 0.5) for side in pixels.shape[:2])
    if how == "warp":
        height, width = size, size
    rows = triangle_weights(pixels.shape[0], height)
    columns = triangle_weights(pixels.shape[1], width)
    scaled = np.einsum("yi,xj,ijc->yxc", rows, columns, pixels.astype(float))
    top, left = (height - size) // 2, (width - size) // 2
    return scaled[top : top + size, left : left + size]


def rescaled(pixels, size, how):
    got = images.rescale(tf.constant(pixels), size, how).numpy()
    assert got.shape == (size, size, 3)
    assert got.dtype == np.uint8
    return got


def assert_rescaled_as_by_hand(pixels, size, how):
    """The nearest grey level, but where float32 rounds what lies between two."""
    difference = rescaled(pixels, size, how) - rescaled_by_hand(pixels, size, how)
    assert np.abs(difference).max() <= 0.5 + 0.01


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("height_width", SIZES, ids=str)
@pytest.mark.parametrize("size", [8, 16, 31])
def test_rescale_is_the_triangle_filter_and_the_centre(height_width, size, how):
    assert_rescaled_as_by_hand(picture(*height_width), size, how)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("height_width", [(1, 1), (1, 9), (9, 1), (2, 40), (1, 50)])
def test_pictures_a_pixel_wide_rescale_too(height_width, how):
    assert_rescaled_as_by_hand(picture(*height_width), 8, how)


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 24), st.sampled_from(HOW))
def test_rescale_of_any_size(height, width, size, how):
    assert_rescaled_as_by_hand(picture(height, width), size, how)


@pytest.mark.parametrize("how", HOW)
def test_digits_double_from_8_to_16(how):
    pixels = picture(8, 8)
    got = rescaled(pixels, 16, how)
    np.testing.assert_array_equal(got[0, 0], pixels[0, 0])  # corners stay
    np.testing.assert_array_equal(got[-1, -1], pixels[-1, -1])
    assert_rescaled_as_by_hand(pixels, 16, how)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("size", [8, 16, 64])
def test_rescale_of_a_picture_of_that_size_changes_nothing(size, how):
    pixels = picture(size, size)
    np.testing.assert_array_equal(rescaled(pixels, size, how), pixels)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("height_width", [(64, 48), (50, 50), (40, 100)], ids=str)
def test_rescale_is_what_pillow_does(height_width, how):
    """Pillow rounds between its two passes: a grey level is allowed."""
    pixels, size = picture(*height_width), 20
    shorter = min(height_width)
    height, width = (int(side * size / shorter + 0.5) for side in height_width)
    if how == "warp":
        height, width = size, size
    scaled = np.asarray(
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    )
    top, left = (height - size) // 2, (width - size) // 2
    expected = scaled[top : top + size, left : left + size].astype(int)
    assert np.abs(rescaled(pixels, size, how) - expected).max() <= 1


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "tall"])
def test_warp_squeezes_what_the_shorter_side_cuts_off(turned):
    """White ends, a fifth of the length each: cut off, or a fifth of the square."""
    pixels = np.zeros((10, 50, 3), np.uint8)
    pixels[:, :10] = pixels[:, -10:] = 255
    warped, cut = (
        rescaled(pixels.swapaxes(0, 1) if turned else pixels, 10, how)
        for how in ("warp", "shorter_side")
    )
    profile = warped.swapaxes(0, 1) if turned else warped
    assert (profile[:, [0, -1]] == 255).all()
    assert (profile[:, 3:-3] == 0).all()
    assert abs(profile.mean() / 255 - 2 / 5) < 0.01
    assert not cut.any()


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
    """As many pixels before it as behind, or one less."""
    side, size = side_size
    before = images.center_offset(side, size)
    behind = side - size - before
    assert behind - before in (0, 1)


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_a_batch_is_cropped_as_each_of_its_images(offset):
    pixels, size = coordinates(7), 4
    batch = np.stack([pixels, pixels + 9, 255 - pixels])
    got = images.crop(tf.constant(batch), offset, size).numpy()
    np.testing.assert_array_equal(
        got, batch[:, offset : offset + size, offset : offset + size]
    )
    for image, cropped in zip(batch, got, strict=True):
        for place in (offset, tf.constant([offset, offset])):
            one = images.crop(tf.constant(image), place, size).numpy()
            np.testing.assert_array_equal(one, cropped)


@pytest.mark.parametrize(
    "side_size_count_limit",
    # The limits of chi-square, with 24 and 1088 degrees, at p = 0.001.
    [(12, 8, 5000, 51.2), (256, 224, 20_000, 1237.8)],
    ids=str,
)
def test_a_random_offset_takes_each_place_equally_often(side_size_count_limit):
    """5 x 5 of them, or the 33 x 33 of ImageNet: the first and the last too."""
    side, size, count, limit = side_size_count_limit
    offsets = over_seeds(lambda seed: images.random_offset(side, size, seed), count)
    assert offsets.shape == (count, 2)
    last = side - size
    for axis in (0, 1):
        assert offsets[:, axis].min() == 0
        assert offsets[:, axis].max() == last
    places = (last + 1) ** 2
    counts = np.bincount(offsets[:, 0] * (last + 1) + offsets[:, 1], minlength=places)
    assert len(counts) == places
    assert counts.min() > 0
    assert ((counts - count / places) ** 2 / (count / places)).sum() < limit


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(1, 40))
def test_a_random_crop_is_a_window_of_the_image(data, side):
    size = data.draw(st.integers(1, side))
    seed = data.draw(st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 2))
    image = coordinates(side)
    offset = images.random_offset(side, size, tf.constant(seed, tf.int64))
    crop = images.crop(tf.constant(image), offset, size)
    top, left = offset.numpy()
    assert min(top, left) >= 0
    assert max(top, left) <= side - size
    np.testing.assert_array_equal(
        crop.numpy(), image[top : top + size, left : left + size]
    )
    assert crop.shape == (size, size, 3)


# --- mirror, lighting -------------------------------------------------------------


def test_a_mirror_swaps_left_and_right_of_those_that_are_mirrored():
    pixels = picture(6, 7)
    image = tf.constant(pixels)
    plain, mirrored = (images.mirror(image, tf.constant(m)).numpy() for m in (0, 1))
    np.testing.assert_array_equal(plain, pixels)
    for column in range(7):
        np.testing.assert_array_equal(mirrored[:, column], pixels[:, 6 - column])


def test_every_second_image_is_mirrored():
    count = 2000
    mirrored = over_seeds(images.random_mirror, count)
    assert set(mirrored.tolist()) == {0, 1}
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
        lambda seed: images.random_offset(10_000, 8, seed),
        lambda seed: images.lighting(tf.eye(3), 1.0, seed),
    ],
    ids=["offset", "lighting"],
)
def test_a_seed_gives_the_same_each_time_and_each_of_its_numbers_counts(draw):
    seeds = [(3, 5), (3, 6), (4, 5), (3 + 2**32, 5)]
    results = [draw(tf.constant(seed, tf.int64)).numpy() for seed in seeds]
    again = [draw(tf.constant(seed, tf.int64)).numpy() for seed in seeds]
    np.testing.assert_array_equal(results, again)
    assert len({result.tobytes() for result in results}) == len(seeds)


def test_a_reflection_is_the_same_each_time():
    once, again = (over_seeds(images.random_mirror, 50) for _ in range(2))
    np.testing.assert_array_equal(once, again)
