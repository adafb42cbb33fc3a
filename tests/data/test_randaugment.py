"""The operations of RandAugment, and which are drawn for an image."""

import dataclasses

import numpy as np
import pytest
from numbered_images import AUGMENTATION, COUNT, SIZE, train_batches

from alexnet_jax.data import pipeline, randaugment

NAMES = list(randaugment.OPERATIONS)
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
GRAY = np.full(3, 128)


def after(name, magnitude, *, negative=False, image=IMAGE):
    number = NAMES.index(name)
    number = ~number if negative else number
    return randaugment.changed(image, np.array([number], np.int32), magnitude)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("negative", [False, True])
def test_without_strength_only_the_histogram_changes(name, negative):
    found = after(name, 0, negative=negative)
    assert (found.shape, found.dtype) == (IMAGE.shape, np.uint8)
    if name == "solarize":  # 255 becomes 0
        found = np.where(IMAGE == 255, 255, found)
    if name not in ("autocontrast", "equalize"):
        np.testing.assert_array_equal(found, IMAGE)


def moved(x, y):
    """Pixel by pixel, the one x further right and y further down, or gray."""
    expected = np.empty_like(IMAGE)
    for row, column in np.ndindex(20, 24):
        inside = 0 <= row + y < 20 and 0 <= column + x < 24
        expected[row, column] = IMAGE[row + y, column + x] if inside else GRAY
    return expected


@pytest.mark.parametrize(("negative", "sign"), [(False, 1), (True, -1)])
def test_images_move_by_up_to_45_percent(negative, sign):
    right, down = round(150 / 331 * 24), round(150 / 331 * 20)
    found = after("translate x", 30, negative=negative)
    np.testing.assert_array_equal(found, moved(sign * right, 0))
    found = after("translate y", 30, negative=negative)
    np.testing.assert_array_equal(found, moved(0, sign * down))


@pytest.mark.parametrize("negative", [False, True])
def test_rows_are_sheared_about_the_center(negative):
    found = after("shear x", 30, negative=negative)
    tilt = -0.3 if negative else 0.3
    for row in range(20):
        shift = int(np.floor(tilt * (row + 0.5 - 10) + 0.5))
        expected = moved(shift, 0)[row]
        np.testing.assert_array_equal(found[row, 4:-4], expected[4:-4])
    turned = after("shear y", 30, negative=negative, image=IMAGE.transpose(1, 0, 2))
    np.testing.assert_array_equal(turned[4:-4], found.transpose(1, 0, 2)[4:-4])


def test_rotations_turn_to_either_side_and_leave_gray():
    lines = np.zeros((31, 31, 3), np.uint8)
    lines[15] = 255
    left, right = (after("rotate", 30, negative=n, image=lines) for n in (False, True))
    assert (right[::-1] != left).mean() < 0.01  # but for rounding
    assert left[15 - 6 : 15 - 4, 15 + 10].max() == 255  # tan(30 degrees) * 10 = 5.8 up
    assert (right[0, 0] == GRAY).all()


def test_colors_are_enhanced_by_up_to_nine_tenths():
    x = IMAGE.astype(float)
    gray = (x @ [0.299, 0.587, 0.114])[..., None]
    for name, around in (
        ("brightness", 0.0),
        ("contrast", np.floor(gray.mean() + 0.5)),
        ("color", gray),
    ):
        for negative, factor in ((False, 1.9), (True, 0.1)):
            expected = np.clip(around + factor * (x - around), 0, 255)
            found = after(name, 30, negative=negative).astype(float)
            np.testing.assert_allclose(found, expected, atol=2, err_msg=name)


@pytest.mark.parametrize("negative", [False, True])
def test_bits_are_dropped_and_bright_pixels_inverted(negative):
    np.testing.assert_array_equal(
        after("posterize", 30, negative=negative), IMAGE & 0xF0
    )
    np.testing.assert_array_equal(
        after("posterize", 15, negative=negative), IMAGE & 0xFC
    )
    expected = np.where(IMAGE >= 128, 255 - IMAGE, IMAGE)
    np.testing.assert_array_equal(after("solarize", 15, negative=negative), expected)


def test_operations_follow_one_another():
    numbers = np.array(
        [NAMES.index("posterize"), ~NAMES.index("translate x")], np.int32
    )
    found = randaugment.changed(IMAGE, numbers, 30)
    np.testing.assert_array_equal(
        found, after("translate x", 30, negative=True, image=after("posterize", 30))
    )


# --- Which are drawn --------------------------------------------------------------------

TWO = {"randaugment": 2, "randaugment_magnitude": 9.0}


def test_each_operation_and_sign_is_drawn_as_often():
    positions = np.arange(28_000)
    augmentation = dataclasses.replace(AUGMENTATION, **TWO)
    drawn = augmentation.draw(
        positions, positions, image_size=10, num_examples=10**6, seed=0
    )["operations"]
    for column in drawn.T:
        counts = np.bincount(column + 14)
        assert len(counts) == 28
        assert abs(counts - 1000).max() < 140  # 4.5 standard deviations
    assert np.corrcoef(drawn.T)[0, 1] == pytest.approx(0, abs=0.02)


def by_example(batches):
    """(epoch, example) -> image, offset."""
    return {
        (int(epoch), int(example)): rest
        for batch in batches
        for epoch, example, *rest in zip(
            *(batch[name] for name in ("epoch", "example", "image", "offset")),
            strict=True,
        )
    }


def test_batches_hold_changed_images(data):
    """As they are without, then changed; whatever batch an example is in."""
    plain = by_example(train_batches(data, num_steps=5))
    batches = train_batches(data, num_steps=4, batch_size=10, **TWO)
    found = by_example(batches)
    assert all("operations" not in batch for batch in batches)
    augmentation = dataclasses.replace(AUGMENTATION, **TWO)
    changed = 0
    for (epoch, example), one in found.items():
        drawn = augmentation.draw(
            np.array([epoch * COUNT]),
            np.array([example]),
            image_size=SIZE,
            num_examples=COUNT,
            seed=3,
        )
        image, offset = plain[epoch, example]
        expected = randaugment.changed(image, drawn["operations"][0], 9.0)
        np.testing.assert_array_equal(one[0], expected)
        np.testing.assert_array_equal(one[1], offset)
        changed += (one[0] != image).any()
    assert changed > len(found) / 2


def test_images_for_a_person_are_changed_too(in_memory):
    augmentation = dataclasses.replace(AUGMENTATION, **TWO)
    train = in_memory.train
    batch, whole = pipeline.examples_at(train, augmentation, np.arange(8), seed=3)
    (trained,) = train_batches(in_memory, num_steps=1, **TWO)
    np.testing.assert_array_equal(batch["image"], trained["image"])
    np.testing.assert_array_equal(whole[0], train.images[batch["example"][0]])
