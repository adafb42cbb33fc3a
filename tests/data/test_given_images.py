"""Images handed over as arrays: measured as those of a run, and refused if they are none."""

import numpy as np
import pytest

from alexnet_jax.data import statistics
from alexnet_jax.data.given_images import AT_ONCE, check_classes, check_pixels, measured
from alexnet_jax.errors import UserError

COUNT = 2 * AT_ONCE + 5
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 6, 6, 3)).astype(np.uint8)


@pytest.mark.parametrize("given", [IMAGES, [IMAGES[:3], IMAGES[3:]]])
def test_they_are_counted_and_measured_as_in_a_run(given):
    count, found = measured(given)
    assert count == COUNT
    for name, array in vars(statistics.compute([IMAGES])).items():
        np.testing.assert_array_equal(getattr(found, name), array)


@pytest.mark.parametrize(
    ("images", "wrong"),
    [
        (IMAGES / 255, "Images of float64 and shape"),
        (
            IMAGES[0],
            r"shape \(6, 6, 3\): give uint8 pixels of shape \(n, side, side, 3\)",
        ),
        (IMAGES[:, :5], r"shape \(261, 5, 6, 3\)"),
        (IMAGES[..., :1], r"shape \(261, 6, 6, 1\)"),
        ([IMAGES.tolist()], "Images of list"),
        ([IMAGES, IMAGES[:, :5, :5]], r"give uint8 pixels of shape \(n, 6, 6, 3\)"),
        (IMAGES[:0], "no images"),
        ([], "no images"),
    ],
)
def test_what_is_no_square_of_gray_levels_is_refused(images, wrong):
    with pytest.raises(UserError, match=wrong):
        measured(images)


def test_they_may_have_to_be_of_one_side():
    check_pixels(IMAGES, 6)
    for wrong in (IMAGES[:, :5, :5], IMAGES / 255):
        with pytest.raises(UserError, match=r"of shape \(n, 6, 6, 3\)"):
            check_pixels(wrong, 6)


@pytest.mark.parametrize("count", [1, 0, True, 2.0, "10", None])
def test_fewer_than_two_classes_are_refused(count):
    with pytest.raises(UserError, match="give their number, 2 or more"):
        check_classes(count)
