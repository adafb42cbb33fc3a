"""From uint8 images to the network's input: mean, scale, channel order, crops."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.training import preprocess
from alexnet_jax.training.preprocess import InputForm

COUNT, SIDE, CROP = 6, 9, 6

PLAIN = InputForm(
    crop_size=CROP,
    mean="image",
    channel_mean=(),
    channel_scale=(1.0, 1.0, 1.0),
    channel_order="rgb",
    eval_crops="ten",
)
DRAWS = np.random.default_rng(0)
MEAN_IMAGE = DRAWS.uniform(0, 255, (SIDE, SIDE, 3))
CHANNEL_MEAN = MEAN_IMAGE.mean(axis=(0, 1))
WHOLE = DRAWS.integers(0, 256, (COUNT, SIDE, SIDE, 3)).astype(np.uint8)
OFFSETS = [(0, 0), (0, 3), (3, 0), (3, 3), (1, 2), (2, 1)]


def form(**changes):
    return dataclasses.replace(PLAIN, **changes)


def of_recipe(recipe):
    config = base()
    config.recipe = recipe
    return InputForm.of(resolve(config, {}).settings.data)


def mean_of(some):
    return some.mean_of(MEAN_IMAGE, CHANNEL_MEAN)


def cut(image, offset, mirrored, size=CROP):
    """Crops and flips pixel by pixel."""
    part = np.zeros((size, size, 3), image.dtype)
    for y in range(size):
        for x in range(size):
            from_left = size - 1 - x if mirrored else x
            part[y, x] = image[offset[0] + y, offset[1] + from_left]
    return part


def make_batch(lighting=0.0, gain=1.0):
    """Every image cropped at another place, every second one flipped."""
    mirrored = np.arange(COUNT, dtype=np.int32) % 2
    images = [cut(*one) for one in zip(WHOLE, OFFSETS, mirrored, strict=True)]
    return {
        "image": np.stack(images),
        "offset": np.array(OFFSETS, np.int32),
        "mirrored": mirrored,
        "lighting": np.broadcast_to(np.float32(lighting), (COUNT, 3)),
        "gain": np.broadcast_to(np.float32(gain), (COUNT,)),
    }


def train_input(batch, some):
    batch = {name: jnp.asarray(values) for name, values in batch.items()}
    x = preprocess.train_input(batch, jnp.asarray(mean_of(some)), some)
    assert x.dtype == jnp.float32
    return np.asarray(x)


def assert_close(x, expected):
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-4)


# --- The mean ---------------------------------------------------------------------


def test_the_mean_image_is_cropped_and_flipped_with_each_image():
    batch = make_batch()
    x = train_input(batch, form(mean="image"))
    for i, (image, offset) in enumerate(zip(WHOLE, OFFSETS, strict=True)):
        assert_close(x[i], cut(image - MEAN_IMAGE, offset, mirrored=i % 2))


@pytest.mark.parametrize("size", [6, 5, 9])
def test_the_center_of_the_mean_image_is_subtracted_from_any_crop(size):
    some = form(mean="center", crop_size=size)
    middle = {6: 1, 5: 2, 9: 0}[size]
    central = cut(MEAN_IMAGE, (middle, middle), mirrored=False, size=size)
    assert_close(mean_of(some), central)
    batch = make_batch()
    batch["image"] = WHOLE[:, :size, :size]
    assert_close(train_input(batch, some), batch["image"] - central)


def test_given_channel_means_are_subtracted():
    batch = make_batch()
    x = train_input(batch, form(mean="channel", channel_mean=(10.0, 20.0, 30.5)))
    assert_close(x, batch["image"] - np.array([10, 20, 30.5]))


def test_channel_means_default_to_the_training_sets():
    batch = make_batch()
    x = train_input(batch, form(mean="channel"))
    assert_close(x, batch["image"] - CHANNEL_MEAN)


def test_channel_means_of_zero_count_as_given():
    batch = make_batch()
    x = train_input(batch, form(mean="channel", channel_mean=(0.0, 0.0, 0.0)))
    np.testing.assert_array_equal(x, batch["image"])


def test_other_means_ignore_the_channel_means():
    given = form(mean="image", channel_mean=(10.0, 20.0, 30.0))
    np.testing.assert_array_equal(mean_of(given), mean_of(PLAIN))


def test_evaluation_crops_subtract_the_same_means_as_training_crops():
    batch = make_batch()
    for mean in ("image", "center", "channel"):
        some = form(mean=mean)
        for i, place in enumerate(zip(batch["offset"], batch["mirrored"], strict=True)):
            y, x, mirrored = (*place[0], place[1])
            view = preprocess.crop_input(
                jnp.asarray(WHOLE[i : i + 1]),
                np.array([y, x, mirrored], np.int32),
                jnp.asarray(mean_of(some)),
                some,
            )
            np.testing.assert_array_equal(view[0], train_input(batch, some)[i])


# --- Lighting, gain, scale, order -------------------------------------------------

LIGHTING = np.linspace(-30, 40, COUNT * 3).reshape(COUNT, 3)
GAIN = np.linspace(0.5, 1.5, COUNT)


def test_lighting_is_added_before_the_gain_is_applied():
    batch = make_batch(LIGHTING, GAIN)
    x = train_input(batch, form(mean="channel"))
    for i in range(COUNT):
        for channel in range(3):
            pixels = batch["image"][i, :, :, channel] - CHANNEL_MEAN[channel]
            expected = (pixels + LIGHTING[i, channel]) * GAIN[i]
            assert_close(x[i, :, :, channel], expected)


def test_each_channel_is_divided_by_its_scale():
    batch = make_batch(LIGHTING, GAIN)
    unscaled = train_input(batch, PLAIN)
    x = train_input(batch, form(channel_scale=(58.0, 2.0, 0.5)))
    assert_close(x, unscaled / np.array([58, 2, 0.5]))


def test_bgr_reverses_the_channels_last():
    """Mean, lighting and scale are always given in the order R, G, B."""
    batch = make_batch(LIGHTING, GAIN)
    for mean in ("image", "center", "channel"):
        some = form(mean=mean, channel_scale=(58.0, 2.0, 0.5))
        bgr = dataclasses.replace(some, channel_order="bgr")
        np.testing.assert_array_equal(
            train_input(batch, bgr), train_input(batch, some)[..., ::-1]
        )


def test_evaluation_crops_are_scaled_and_reversed_too():
    some = form(mean="channel", channel_scale=(58.0, 2.0, 0.5), channel_order="bgr")
    x = preprocess.crop_input(
        jnp.asarray(WHOLE),
        np.array([1, 2, 1], np.int32),
        jnp.asarray(mean_of(some)),
        some,
    )
    expected = [(cut(one, (1, 2), True) - CHANNEL_MEAN) / (58, 2, 0.5) for one in WHOLE]
    assert_close(x, np.stack(expected)[..., ::-1])


def test_the_torchvision_input_matches_its_documentation():
    """Intensities in 0..1, normalized by its constants."""
    some = dataclasses.replace(of_recipe("torchvision"), crop_size=CROP)
    batch = make_batch()
    normalized = batch["image"] / 255 - np.array([0.485, 0.456, 0.406])
    expected = normalized / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(train_input(batch, some), expected, atol=1e-6)


def test_the_recipes_input_forms():
    names = ("crop_size", "mean", "channel_order", "eval_crops")
    forms = {
        recipe: tuple(getattr(of_recipe(recipe), name) for name in names)
        for recipe in ("paper", "source2012", "caffe", "torchvision")
    }
    assert forms == {
        "paper": (224, "image", "rgb", "ten"),
        "source2012": (224, "center", "rgb", "ten"),
        "caffe": (227, "image", "bgr", "center"),
        "torchvision": (224, "channel", "rgb", "center"),
    }


# --- Evaluation crops -------------------------------------------------------------


def places(side, **changes):
    return preprocess.crop_places(side, form(**changes)).tolist()


def test_ten_crops_are_corners_and_center_in_the_2012_codes_order():
    corners = [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)]
    expected = [[y, x, mirrored] for mirrored in (0, 1) for y, x in corners]
    assert places(256, crop_size=224) == expected


def test_ten_crops_with_an_odd_margin_reach_the_edges():
    corners = [(0, 0), (0, 29), (14, 14), (29, 0), (29, 29)]
    expected = [[y, x, mirrored] for mirrored in (0, 1) for y, x in corners]
    assert places(256, crop_size=227) == expected


def test_ten_crops_of_an_image_of_crop_size_are_two():
    assert places(6) == [[0, 0, 0]] * 5 + [[0, 0, 1]] * 5


@pytest.mark.parametrize(("size", "middle"), [(224, 16), (227, 14), (255, 0), (256, 0)])
def test_the_single_crop_is_the_center_and_not_flipped(size, middle):
    assert places(256, crop_size=size, eval_crops="center") == [[middle, middle, 0]]


def test_a_crop_is_its_part_of_each_image():
    some = form(mean="channel", channel_mean=(0.0, 0.0, 0.0))
    for y, x, mirrored in places(SIDE):
        view = preprocess.crop_input(
            jnp.asarray(WHOLE),
            np.array([y, x, mirrored], np.int32),
            jnp.asarray(mean_of(some)),
            some,
        )
        expected = np.stack([cut(image, (y, x), mirrored) for image in WHOLE])
        np.testing.assert_array_equal(view, expected)


# --- Boxes that are resized -------------------------------------------------------------

BOXES = [
    (0, 0, 9, 9),
    (0, 0, 3, 4),
    (2, 1, 7, 5),
    (5, 6, 4, 3),
    (8, 8, 1, 1),
    (1, 0, 2, 9),
]


def resized(image, box, channel):
    """Pillow's: a triangle filter over the pixels of the box alone."""
    y, x, height, width = box
    given = PIL.Image.fromarray(image[..., channel].astype(np.float32))
    where = (x, y, x + width, y + height)
    return np.asarray(
        given.crop(where).resize((CROP, CROP), PIL.Image.Resampling.BILINEAR)
    )


@pytest.mark.parametrize("mean", ["image", "center", "channel"])
def test_boxes_are_resized_as_pillow_resizes_them(mean):
    some = form(mean=mean, random_resized_crop=0.08)
    batch = make_batch(lighting=3.0) | {
        "image": WHOLE,
        "offset": np.zeros((COUNT, 2), np.int32),
        "mirrored": np.zeros(COUNT, np.int32),
        "box": np.array(BOXES, np.float32),
    }
    subtracted = mean_of(some)
    images = WHOLE - subtracted if mean == "image" else WHOLE
    expected = np.stack(
        [
            np.stack([resized(image, box, channel) for channel in range(3)], axis=-1)
            for image, box in zip(images, BOXES, strict=True)
        ]
    )
    expected = expected + 3.0 - (0 if mean == "image" else subtracted)
    np.testing.assert_allclose(train_input(batch, some), expected, rtol=1e-4, atol=2e-3)
