"""Each step of an image's way, against Pillow and against plain numpy."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

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


def photograph(height, width):
    """A real one, finely textured."""
    whole = Image.fromarray(load_sample_image("china.jpg"))
    return np.asarray(ImageOps.fit(whole, (width, height)))


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


def test_a_reason_keeps_what_looks_like_tensorflows_marks():
    message = (
        "{{function_node x}} UserError: a [[b]] {{c}}.jpg is empty.\nTraceback (most"
    )
    error = tf.errors.UnknownError(None, None, message)
    assert images.reason(error) == "a [[b]] {{c}}.jpg is empty."


# --- rescale ----------------------------------------------------------------------


def triangle_weights(length, scaled):
    """(scaled, length): bilinear resampling as a matrix, wider where it shrinks."""
    step = length / scaled
    centres = (np.arange(scaled) + 0.5) * step
    distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / max(step, 1)
    weights = np.maximum(0, 1 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


def area_weights(length, scaled):
    """(scaled, length): the share of each old pixel in the area of each new one."""
    edges = np.arange(scaled + 1)[:, None] * length / scaled
    covered = np.clip(edges - np.arange(length), 0, 1)
    return np.diff(covered, axis=0) * -scaled / length


def rescaled_by_hand(pixels, size, how):
    """Floats. Shorter side to `size` and the centre cut out, or both sides to `size`."""
    sides = pixels.shape[:2]
    height, width = (int(side * size / min(sides) + 0.5) for side in sides)
    if how == "warp":
        height, width = size, size
    shrinks = height <= sides[0] and width <= sides[1]
    weights = area_weights if shrinks else triangle_weights
    rows, columns = weights(sides[0], height), weights(sides[1], width)
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
def test_rescale_is_means_over_areas_or_bilinear_and_the_centre(
    height_width, size, how
):
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
@pytest.mark.parametrize("height_width", [(60, 40), (40, 40), (20, 100)], ids=str)
def test_rescale_is_what_pillow_does_where_pixels_fall_together(height_width, how):
    """Pillow's box filter weighs whole pixels; and it rounds between its two passes."""
    pixels, size = picture(*height_width), 20
    shorter = min(height_width)
    height, width = (side * size // shorter for side in height_width)
    if how == "warp":
        height, width = size, size
    scaled = np.asarray(
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
    )
    top, left = (height - size) // 2, (width - size) // 2
    expected = scaled[top : top + size, left : left + size].astype(int)
    assert np.abs(rescaled(pixels, size, how) - expected).max() <= 1


@pytest.mark.parametrize("height_width", [(9, 7), (9, 8), (5, 11), (16, 16)], ids=str)
def test_rescale_is_what_pillow_does_where_it_grows(height_width):
    pixels, size = picture(*height_width), 16
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


# --- crop, mirror -----------------------------------------------------------------


def coordinates(side):
    """An image whose pixels say where they are."""
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


def test_a_mirror_swaps_left_and_right_of_those_that_are_mirrored():
    pixels = picture(6, 7)
    image = tf.constant(pixels)
    plain, mirrored = (images.mirror(image, tf.constant(m)).numpy() for m in (0, 1))
    np.testing.assert_array_equal(plain, pixels)
    for column in range(7):
        np.testing.assert_array_equal(mirrored[:, column], pixels[:, 6 - column])


@pytest.mark.parametrize("mirrored", [0, 1])
def test_pixels_are_cropped_and_mirrored_as_in_the_graph(mirrored):
    image, size = picture(12, 12), 7
    out = np.empty((size, size, 3), np.uint8)
    images.crop_pixels(out, image[3 : 3 + size], 4, mirrored)
    offset = tf.constant([3, 4])
    cropped = images.crop(tf.constant(image), offset, size)
    expected = images.mirror(cropped, tf.constant(mirrored))
    np.testing.assert_array_equal(out, expected.numpy())


# --- only the part of a JPEG that is kept -----------------------------------------


def as_jpeg(pixels, **options):
    return encoded(pixels, "JPEG", quality=95, **options)


def two_ways(data, form, size, how, offset, crop_size):
    """Only the part decoded, and the part of the whole."""
    data, place = tf.constant(data), tf.constant(offset, tf.int32)
    part = images.restored_crop(data, form, size, how, place, crop_size).numpy()
    whole = images.restore(data, form, size, how)
    return part, images.crop(whole, place, crop_size).numpy()


@pytest.mark.parametrize("offset", [(0, 0), (32, 32), (0, 17), (5, 31)], ids=str)
@pytest.mark.parametrize("subsampling", [0, 2], ids=["4:4:4", "4:2:0"])
def test_of_a_prepared_jpeg_the_part_is_the_same_to_the_bit(offset, subsampling):
    """But for the outermost columns where colour has half the resolution."""
    data = as_jpeg(photograph(256, 256), subsampling=subsampling)
    part, whole = two_ways(data, "jpeg", 256, "shorter_side", offset, 224)
    np.testing.assert_array_equal(part[:, 1:-1], whole[:, 1:-1])
    edges = np.abs(part.astype(int) - whole)[:, [0, -1]]
    assert edges.max() <= (0 if subsampling == 0 else 12)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    "height_width",
    [
        (375, 500),
        (500, 375),
        (256, 256),
        (257, 600),
        (640, 427),
        (640, 400),
        (333, 333),
    ],
    ids=str,
)
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_of_an_original_jpeg_the_part_differs_less_than_by_a_round_trip(
    height_width, how, progressive
):
    """At least 47 decibels; the round trip by JPEG leaves 38 (test_prepared.py)."""
    data = as_jpeg(photograph(*height_width), progressive=progressive)
    errors = []
    for offset in [(0, 0), (32, 32), (0, 32), (7, 19), (16, 16), (31, 2)]:
        part, whole = two_ways(data, "encoded", 256, how, offset, 224)
        errors.append(np.mean((part.astype(float) - whole) ** 2))
    assert 10 * np.log10(255**2 / max(errors)) > 47


def test_where_edges_of_pixels_meet_the_part_is_the_same_to_the_bit():
    """Of 512 x 768 each new pixel is four old ones, whichever part it is in."""
    data = as_jpeg(photograph(512, 768), subsampling=0)
    for offset in [(0, 0), (32, 32), (13, 5)]:
        part, whole = two_ways(data, "encoded", 256, "shorter_side", offset, 224)
        np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    "height_width", [(20, 500), (8, 9), (1, 1), (255, 400)], ids=str
)
def test_a_jpeg_that_grows_is_rescaled_whole(height_width, how):
    data = as_jpeg(picture(*height_width))
    part, whole = two_ways(data, "encoded", 256, how, (32, 1), 224)
    np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "BMP", "WEBP"])
def test_other_files_are_rescaled_whole(file_format):
    data = encoded(picture(40, 50), file_format)
    part, whole = two_ways(data, "encoded", 16, "shorter_side", (3, 1), 12)
    np.testing.assert_array_equal(part, whole)


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(1, 3000), st.integers(1, 3000), st.sampled_from(HOW))
def test_the_part_of_a_jpeg_holds_what_is_kept_and_lies_within_it(
    data, height, width, how
):
    size = data.draw(st.integers(1, min(height, width, 300)))
    crop_size = data.draw(st.integers(1, size))
    offset = np.array(data.draw(st.tuples(*[st.integers(0, size - crop_size)] * 2)))
    sides = np.array([height, width])
    scaled = images._scaled_sides(tf.constant(sides), size, how).numpy()
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


def test_a_damaged_jpeg_is_refused_by_its_part_too():
    whole = as_jpeg(photograph(375, 500))
    place = tf.constant([0, 0])
    for form in ("jpeg", "encoded"):
        with pytest.raises(tf.errors.OpError):
            images.restored_crop(
                tf.constant(whole[: len(whole) // 3]), form, 256, "warp", place, 224
            )
