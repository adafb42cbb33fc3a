"""Every step of image processing, compared with Pillow and with plain numpy."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from alexnet_jax.data import images
from alexnet_jax.data.rescaled import crop_pixels

METHODS = ["shorter_side", "warp"]


def smooth(height, width, seed=0):
    """Smooth colors with a little noise, which JPEG encodes like a photograph."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(5 * x + 3 * y), np.cos(4 * y), np.sin(7 * x * y + 1)]
    pixels = 127 + 100 * np.stack(waves, axis=-1)
    return np.clip(pixels + rng.normal(0, 5, pixels.shape), 0, 255).astype(np.uint8)


def photograph(height, width):
    """A real photograph with fine texture."""
    whole = Image.fromarray(load_sample_image("china.jpg"))
    return np.asarray(ImageOps.fit(whole, (width, height)))


def encoded(pixels, file_format, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, file_format, **options)
    return file.getvalue()


def by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def decoded(data):
    """Decodes in a tf.data graph, as the pipeline does."""
    return next(
        tf.data.Dataset.from_tensors(data).map(images.decode).as_numpy_iterator()
    )


# --- Decode -----------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["PNG", "BMP"])
def test_lossless_images_are_decoded_exactly(file_format):
    pixels = smooth(19, 23)
    np.testing.assert_array_equal(decoded(encoded(pixels, file_format)), pixels)


@pytest.mark.parametrize("subsampling", [0, 2], ids=["4:4:4", "4:2:0"])
def test_jpegs_are_decoded_as_by_pillow(subsampling):
    """Two accurate inverse cosine transforms differ by one rounding step, colors by
    two.
    """
    data = encoded(smooth(64, 48), "JPEG", quality=90, subsampling=subsampling)
    difference = decoded(data).astype(int) - by_pillow(data)
    assert np.abs(difference).max() <= 2
    assert np.abs(difference).mean() < 0.1


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP"])
def test_a_gray_image_gets_three_equal_channels(file_format):
    data = encoded(smooth(16, 16)[..., 0], file_format, mode="L")
    got = decoded(data)
    assert got.shape == (16, 16, 3)
    np.testing.assert_array_equal(got[..., 0], got[..., 1])
    np.testing.assert_array_equal(got[..., 0], got[..., 2])
    assert np.abs(got.astype(int) - by_pillow(data)).max() <= 1


def test_an_animation_becomes_its_first_frame():
    first, second = (
        Image.fromarray(smooth(16, 20, seed)).quantize(32) for seed in (0, 1)
    )
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=[second, first])
    got = decoded(file.getvalue())
    np.testing.assert_array_equal(got, by_pillow(file.getvalue()))
    assert not np.array_equal(got, np.asarray(second.convert("RGB")))


def test_a_palette_becomes_colors_and_transparency_is_dropped():
    pixels = smooth(12, 12)
    palette = encoded(pixels, "PNG", mode="P")
    np.testing.assert_array_equal(decoded(palette), by_pillow(palette))
    transparent = Image.fromarray(pixels).convert("RGBA")
    transparent.putalpha(100)
    file = io.BytesIO()
    transparent.save(file, "PNG")
    np.testing.assert_array_equal(decoded(file.getvalue()), pixels)


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0 cut off"])
def test_bytes_that_are_not_an_image_are_refused(data):
    with pytest.raises(tf.errors.OpError):
        decoded(data)


def test_a_reason_keeps_names_that_resemble_tensorflow_markers():
    message = (
        "{{function_node x}} UserError: a [[b]] {{c}}.jpg is empty.\nTraceback (most"
    )
    error = tf.errors.UnknownError(None, None, message)
    assert images.reason(error) == "a [[b]] {{c}}.jpg is empty."


# --- Rescale ----------------------------------------------------------------------


def triangle_weights(length, scaled):
    """(scaled, length): bilinear resampling as a matrix, with antialiasing."""
    step = length / scaled
    centers = (np.arange(scaled) + 0.5) * step
    distance = np.abs(np.arange(length) + 0.5 - centers[:, None]) / max(step, 1)
    weights = np.maximum(0, 1 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


def area_weights(length, scaled):
    """(scaled, length): the share of each old pixel in each new pixel's area."""
    edges = np.arange(scaled + 1)[:, None] * length / scaled
    covered = np.clip(edges - np.arange(length), 0, 1)
    return np.diff(covered, axis=0) * -scaled / length


def rescaled_by_hand(pixels, size, method):
    """Rescales in floats: shorter side to `size` and center crop, or both sides."""
    sides = pixels.shape[:2]
    height, width = (int(side * size / min(sides) + 0.5) for side in sides)
    if method == "warp":
        height, width = size, size
    shrinks = height <= sides[0] and width <= sides[1]
    weights = area_weights if shrinks else triangle_weights
    rows, columns = weights(sides[0], height), weights(sides[1], width)
    scaled = np.einsum("yi,xj,ijc->yxc", rows, columns, pixels.astype(float))
    top, left = (height - size) // 2, (width - size) // 2
    return scaled[top : top + size, left : left + size]


def rescaled(pixels, size, method):
    got = images.rescale(tf.constant(pixels), size, method).numpy()
    assert got.shape == (size, size, 3)
    assert got.dtype == np.uint8
    return got


def assert_rescaled_as_by_hand(pixels, size, method):
    """The nearest gray level, except where float32 rounds values halfway between two."""
    difference = rescaled(pixels, size, method) - rescaled_by_hand(pixels, size, method)
    assert np.abs(difference).max() <= 0.5 + 0.01


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(1, 31), st.sampled_from(METHODS)
)
@example(1, 1, 8, "shorter_side")
@example(1, 50, 8, "shorter_side")
@example(9, 1, 8, "warp")
@example(300, 17, 31, "shorter_side")
@example(300, 17, 8, "warp")
@example(16, 200, 16, "shorter_side")
@example(64, 48, 8, "warp")
@example(13, 14, 31, "shorter_side")
def test_rescale_is_area_averaging_or_bilinear_with_center_crop(
    height, width, size, method
):
    assert_rescaled_as_by_hand(smooth(height, width), size, method)


@pytest.mark.parametrize("method", METHODS)
def test_digits_double_from_8_to_16(method):
    pixels = smooth(8, 8)
    got = rescaled(pixels, 16, method)
    np.testing.assert_array_equal(got[0, 0], pixels[0, 0])  # corners are unchanged
    np.testing.assert_array_equal(got[-1, -1], pixels[-1, -1])
    assert_rescaled_as_by_hand(pixels, 16, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [8, 16, 64])
def test_rescaling_to_the_same_size_changes_nothing(size, method):
    pixels = smooth(size, size)
    np.testing.assert_array_equal(rescaled(pixels, size, method), pixels)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("height_width", [(60, 40), (40, 40), (20, 100)], ids=str)
def test_rescale_matches_pillow_where_pixel_edges_coincide(height_width, method):
    """Pillow's box filter weighs whole pixels and rounds between its two passes."""
    pixels, size = smooth(*height_width), 20
    shorter = min(height_width)
    height, width = (side * size // shorter for side in height_width)
    if method == "warp":
        height, width = size, size
    scaled = np.asarray(
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
    )
    top, left = (height - size) // 2, (width - size) // 2
    expected = scaled[top : top + size, left : left + size].astype(int)
    assert np.abs(rescaled(pixels, size, method) - expected).max() <= 1


@pytest.mark.parametrize("height_width", [(9, 7), (9, 8), (5, 11), (16, 16)], ids=str)
def test_enlarging_matches_pillow(height_width):
    pixels, size = smooth(*height_width), 16
    height, width = (
        int(side * size / min(height_width) + 0.5) for side in height_width
    )
    scaled = np.asarray(
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    )
    top, left = (height - size) // 2, (width - size) // 2
    expected = scaled[top : top + size, left : left + size].astype(int)
    assert np.abs(rescaled(pixels, size, "shorter_side") - expected).max() <= 1


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "tall"])
def test_warp_squeezes_what_the_shorter_side_cuts_off(turned):
    """Each white end is a fifth of the length: cropped away, or a fifth of the square."""
    pixels = np.zeros((10, 50, 3), np.uint8)
    pixels[:, :10] = pixels[:, -10:] = 255
    warped, cut = (
        rescaled(pixels.swapaxes(0, 1) if turned else pixels, 10, method)
        for method in ("warp", "shorter_side")
    )
    profile = warped.swapaxes(0, 1) if turned else warped
    assert (profile[:, [0, -1]] == 255).all()
    assert (profile[:, 3:-3] == 0).all()
    assert abs(profile.mean() / 255 - 2 / 5) < 0.01
    assert not cut.any()


# --- Crop and flip ----------------------------------------------------------------


def coordinates(side):
    """An image whose pixels hold their own coordinates."""
    rows, columns = np.mgrid[:side, :side]
    return np.stack([rows, columns, rows + columns], axis=-1).astype(np.uint8)


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(1, 40))
def test_a_crop_is_the_window_at_its_offset(data, side):
    size = data.draw(st.integers(1, side))
    top, left = data.draw(st.tuples(*[st.integers(0, side - size)] * 2))
    image = coordinates(side)
    crop = images.crop(tf.constant(image), tf.constant([top, left]), size)
    np.testing.assert_array_equal(
        crop.numpy(), image[top : top + size, left : left + size]
    )
    assert crop.shape == (size, size, 3)


def test_a_flipped_image_swaps_left_and_right():
    pixels = smooth(6, 7)
    image = tf.constant(pixels)
    plain, mirrored = (images.mirror(image, tf.constant(m)).numpy() for m in (0, 1))
    np.testing.assert_array_equal(plain, pixels)
    for column in range(7):
        np.testing.assert_array_equal(mirrored[:, column], pixels[:, 6 - column])


@pytest.mark.parametrize("mirrored", [0, 1])
def test_pixels_are_cropped_and_flipped_as_in_the_graph(mirrored):
    image, size = smooth(12, 12), 7
    out = np.empty((size, size, 3), np.uint8)
    crop_pixels(out, image[3 : 3 + size], 4, mirrored)
    offset = tf.constant([3, 4])
    cropped = images.crop(tf.constant(image), offset, size)
    expected = images.mirror(cropped, tf.constant(mirrored))
    np.testing.assert_array_equal(out, expected.numpy())


# --- Partial JPEG decoding --------------------------------------------------------


def as_jpeg(pixels, **options):
    return encoded(pixels, "JPEG", quality=95, **options)


def two_ways(data, encoding, size, method, offset, crop_size):
    """The same crop, from a partly decoded image and from the whole one."""
    data, place = tf.constant(data), tf.constant(offset, tf.int32)
    part = images.restored_crop(data, encoding, size, method, place, crop_size).numpy()
    whole = images.restore(data, encoding, size, method)
    return part, images.crop(whole, place, crop_size).numpy()


@pytest.mark.parametrize("offset", [(0, 0), (32, 32), (0, 17), (5, 31)], ids=str)
@pytest.mark.parametrize("subsampling", [0, 2], ids=["4:4:4", "4:2:0"])
def test_partly_decoding_a_prepared_jpeg_is_bit_identical(offset, subsampling):
    """Except in the outermost columns if color has half the resolution."""
    data = as_jpeg(photograph(256, 256), subsampling=subsampling)
    part, whole = two_ways(data, "jpeg", 256, "shorter_side", offset, 224)
    np.testing.assert_array_equal(part[:, 1:-1], whole[:, 1:-1])
    edges = np.abs(part.astype(int) - whole)[:, [0, -1]]
    assert edges.max() <= (0 if subsampling == 0 else 12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("height_width", "progressive"),
    [
        ((375, 500), False),
        ((500, 375), True),
        ((256, 256), True),
        ((257, 600), False),
        ((640, 427), True),
        ((640, 400), False),
        ((333, 333), False),
    ],
    ids=str,
)
def test_partly_decoding_an_original_jpeg_loses_less_than_a_round_trip(
    height_width, progressive, method
):
    """At least 47 dB; a JPEG round trip leaves 38 dB (test_reader.py)."""
    data = as_jpeg(photograph(*height_width), progressive=progressive)
    errors = []
    for offset in [(0, 0), (32, 32), (0, 32), (7, 19), (16, 16), (31, 2)]:
        part, whole = two_ways(data, "original", 256, method, offset, 224)
        errors.append(np.mean((part.astype(float) - whole) ** 2))
    assert 10 * np.log10(255**2 / max(errors)) > 47


def test_partial_decoding_is_bit_identical_where_pixel_edges_coincide():
    """Each output pixel averages four pixels of 512 x 768, wherever the crop is."""
    data = as_jpeg(photograph(512, 768), subsampling=0)
    for offset in [(0, 0), (32, 32), (13, 5)]:
        part, whole = two_ways(data, "original", 256, "shorter_side", offset, 224)
        np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "height_width", [(20, 500), (8, 9), (1, 1), (255, 400)], ids=str
)
def test_a_jpeg_to_be_enlarged_is_decoded_whole(height_width, method):
    data = as_jpeg(smooth(*height_width))
    part, whole = two_ways(data, "original", 256, method, (32, 1), 224)
    np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "BMP", "WEBP"])
def test_other_formats_are_decoded_whole(file_format):
    data = encoded(smooth(40, 50), file_format)
    part, whole = two_ways(data, "original", 16, "shorter_side", (3, 1), 12)
    np.testing.assert_array_equal(part, whole)


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(1, 3000), st.integers(1, 3000), st.sampled_from(METHODS))
def test_the_decoded_part_contains_the_crop_and_lies_in_the_image(
    data, height, width, method
):
    size = data.draw(st.integers(1, min(height, width, 300)))
    crop_size = data.draw(st.integers(1, size))
    offset = np.array(data.draw(st.tuples(*[st.integers(0, size - crop_size)] * 2)))
    sides = np.array([height, width])
    scaled = images._scaled_sides(tf.constant(sides), size, method).numpy()
    first = (scaled - size) // 2 + offset
    found = images._window(*map(tf.constant, (sides, scaled, first, first + crop_size)))
    begin, end, out_begin, out_end = (each.numpy() for each in found)
    assert (begin >= 0).all()
    assert (begin < end).all()
    assert (end <= sides).all()
    assert (out_begin <= first).all()
    assert (out_end >= first + crop_size).all()
    assert ((first - out_begin < images.SLACK) | (out_begin == 0)).all()
    assert ((out_end - first - crop_size < images.SLACK) | (out_end == scaled)).all()
    for inner, outer in ((begin, out_begin), (end, out_end)):
        displaced = np.abs(outer * sides / scaled - inner)
        assert displaced.max() <= 1 / images.DISPLACED + 1e-9


def test_a_damaged_jpeg_is_refused_by_partial_decoding_too():
    whole = as_jpeg(photograph(375, 500))
    place = tf.constant([0, 0])
    for encoding in ("jpeg", "original"):
        with pytest.raises(tf.errors.OpError):
            images.restored_crop(
                tf.constant(whole[: len(whole) // 3]), encoding, 256, "warp", place, 224
            )
