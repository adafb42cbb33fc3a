"""Shared crops, lighting, and the sizes used in the paper."""

import dataclasses

import numpy as np
import pytest
from numbered_images import (
    AUGMENTATION,
    COMPONENTS,
    COUNT,
    OFF,
    SHIFTED,
    by_example,
    crops_by_position,
    joined,
    train_batches,
)

from alexnet_jax.data import statistics

# The colors of ImageNet's training set: the constants of cuda-convnet2.
COLOR_STDS = np.array([121.78006, 37.09389, 19.72083])
IMAGENET = statistics.Statistics(
    mean_image=np.zeros((1, 1, 3)),
    eigenvalues=np.square(COLOR_STDS),
    eigenvectors=np.array(
        [
            [-0.563510, -0.712579, 0.417955],
            [-0.576184, -0.023542, -0.816981],
            [-0.592003, 0.701196, 0.397311],
        ]
    ),
)
IMAGENET_COUNT = 1_281_167


def crops(data, **changes):
    """Position -> its offset and flip, from one large batch."""
    batches = train_batches(data, num_steps=1, batch_size=500, **changes)
    return dict(crops_by_position(batches))


def test_all_crops_of_224_in_256_occur():
    """All 33 x 33 offsets, flipped or not, are equally likely (chi-square)."""
    augmentation = dataclasses.replace(AUGMENTATION, crop_size=224)
    positions = np.arange(100_000)
    drawn = augmentation.draw(
        positions, positions, image_size=256, num_examples=IMAGENET_COUNT, seed=3
    )
    offset, mirrored = drawn["offset"], drawn["mirrored"]
    assert offset.min() == 0
    assert offset.max() == 32
    counts = np.bincount((offset[:, 0] * 33 + offset[:, 1]) * 2 + mirrored)
    assert len(counts) == 33 * 33 * 2
    assert counts.min() > 0
    expected = len(positions) / len(counts)
    # 2177 degrees of freedom, p = 0.001.
    assert ((counts - expected) ** 2 / expected).sum() < 2386


# --- Shared crops -----------------------------------------------------------------


@pytest.mark.parametrize("crop_sharing", [5, 50])
@pytest.mark.parametrize("start_batch", [(0, 8), (3, 7), (1, 64)], ids=str)
def test_neighbors_share_one_crop_and_flip(in_memory, crop_sharing, start_batch):
    """Groups of positions continue past the end of an epoch of 43 examples.

    A crop of one pixel has 200 possibilities, so two groups rarely agree.
    """
    start, batch_size = start_batch
    choices = {"crop_size": 1, "crop_sharing": crop_sharing}
    batches = train_batches(
        in_memory,
        start_step=start,
        num_steps=start + 400 // batch_size,
        batch_size=batch_size,
        **choices,
    )
    found = crops_by_position(batches, start * batch_size)
    groups = {}
    for position, crop in found:
        groups.setdefault(position // crop_sharing, set()).add(crop)
    assert all(len(group) == 1 for group in groups.values())
    assert len(set.union(*groups.values())) > 0.6 * len(groups)
    expected = crops(in_memory, **choices)
    assert all(crop == expected[position] for position, crop in found)


def test_epochs_do_not_share_crops(in_memory):
    """Even if a group is as long as an epoch."""
    found = crops(in_memory, crop_size=1, crop_sharing=COUNT)
    assert len({found[epoch * COUNT] for epoch in range(4)}) == 4


def test_two_seeds_draw_different_shared_crops(in_memory):
    one, other = (
        crops(in_memory, crop_size=1, crop_sharing=5, seed=seed) for seed in (3, 4)
    )
    assert sum(one[position] == other[position] for position in one) < len(one) / 10


def test_sharing_a_crop_leaves_each_example_its_own_lighting(in_memory):
    shared, own = (
        train_batches(in_memory, crop_sharing=n, lighting_shrink=True) for n in (5, 1)
    )
    for name in ("example", "epoch", "label", "lighting", "gain"):
        np.testing.assert_array_equal(joined(shared, name), joined(own, name))
    assert len(np.unique(joined(shared, "lighting"), axis=0)) == 12 * 8
    assert not np.array_equal(joined(shared, "offset"), joined(own, "offset"))
    assert not np.array_equal(joined(shared, "mirrored"), joined(own, "mirrored"))


def test_a_shared_crop_depends_on_the_position_and_lighting_on_the_example(
    in_memory, reversed_order
):
    choices = {"batch_size": COUNT, "num_steps": 2, "crop_sharing": 5}
    usual = train_batches(in_memory, **choices)
    reversed_order()
    reordered = train_batches(in_memory, **choices)
    assert crops_by_position(usual) == crops_by_position(reordered)
    assert by_example(usual, SHIFTED) == by_example(reordered, SHIFTED)
    assert by_example(usual) != by_example(reordered)


# --- Lighting ---------------------------------------------------------------------


@pytest.mark.parametrize("std", [0.1, 0.5])
def test_lighting_shrink_sets_the_gain(in_memory, std):
    plain, shrunk = (
        train_batches(in_memory, lighting_shrink=shrink, lighting_std=std)
        for shrink in (False, True)
    )
    assert (joined(plain, "gain") == 1).all()
    assert (joined(shrunk, "gain") == np.float32(1 / (1 + std))).all()
    for name in ("lighting", "image"):
        np.testing.assert_array_equal(joined(plain, name), joined(shrunk, name))


@pytest.mark.parametrize("choices", [{}, OFF], ids=["cropped", "nothing"])
def test_without_lighting_the_gain_is_one(in_memory, choices):
    choices = choices | {"lighting_std": 0.0, "lighting_shrink": True}
    batches = train_batches(in_memory, **choices, lighting_off_epoch=1.0)
    assert (joined(batches, "gain") == 1).all()
    assert not joined(batches, "lighting").any()


@pytest.mark.parametrize(
    "epoch_position",
    [(0.01, 0), (0.37, 16), (1.0, COUNT), (1.4, 60), (67.0, 12 * 8), (0.0, 12 * 8)],
    ids=str,
)
@pytest.mark.parametrize("lighting_shrink", [True, False])
def test_lighting_ends_at_its_epoch(in_memory, epoch_position, lighting_shrink):
    """At this position, possibly in the middle of a batch; 0 means never."""
    epoch, position = epoch_position
    choices = {"lighting_shrink": lighting_shrink}
    never = train_batches(in_memory, **choices)
    ended = train_batches(in_memory, lighting_off_epoch=epoch, **choices)
    for name in ("image", "offset", "mirrored", "label", "example", "epoch"):
        np.testing.assert_array_equal(joined(never, name), joined(ended, name))
    for name in SHIFTED:
        np.testing.assert_array_equal(
            joined(never, name)[:position], joined(ended, name)[:position]
        )
    assert joined(ended, "lighting")[:position].all()
    assert not joined(ended, "lighting")[position:].any()
    assert (joined(ended, "gain")[position:] == 1).all()
    shrunk = (joined(ended, "gain")[:position] < 1).all()
    assert shrunk == (lighting_shrink or position == 0)


def test_lighting_has_the_requested_standard_deviation(in_memory):
    offsets = joined(
        train_batches(in_memory, batch_size=1000, lighting_std=0.2), "lighting"
    )
    alphas = np.linalg.solve(COMPONENTS, offsets.T)
    np.testing.assert_allclose(np.cov(alphas), 0.04 * np.eye(3), atol=0.003)


@pytest.mark.parametrize("scale", ["standard_deviation", "eigenvalue"])
def test_lighting_has_the_covariance_of_its_scale(in_memory, scale):
    """Along each ImageNet component separately; the standard error is 1.3%."""
    batches = train_batches(
        in_memory, batch_size=1000, components=IMAGENET.components(scale)
    )
    offsets = joined(batches, "lighting").astype(float)
    eigenvalues = np.square(COLOR_STDS)
    lengths = eigenvalues / 255 if scale == "eigenvalue" else COLOR_STDS
    variances = np.square(0.1 * lengths)
    expected = IMAGENET.eigenvectors * variances @ IMAGENET.eigenvectors.T
    allowed = 0.05 * np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    assert (np.abs(np.cov(offsets.T) - expected) < allowed).all()
    along = offsets @ IMAGENET.eigenvectors
    np.testing.assert_allclose(along.var(axis=0), variances, rtol=0.05)
    assert (np.abs(np.corrcoef(along.T) - np.eye(3)) < 0.04).all()


@pytest.mark.parametrize(
    "gain_expected",
    [(1, [7.40, 7.20, 7.70]), (1 / 1.1, [6.73, 6.55, 7.00])],
    ids=["as drawn", "shrunk"],
)
def test_colors_of_imagenet_shift_as_far_as_in_2012(gain_expected):
    """Standard deviations of R, G and B, in gray levels."""
    gain, expected = gain_expected
    exact = (
        0.1 * gain * np.linalg.norm(IMAGENET.components("standard_deviation"), axis=1)
    )
    np.testing.assert_allclose(exact, expected, atol=0.005)


def test_the_papers_text_would_shift_imagenet_colors_by_a_thousand():
    """For intensities in 0..255; for 0..1 it is 1/255 of that, in gray levels."""
    first = np.linalg.norm(IMAGENET.components("eigenvalue"), axis=0)[0]
    np.testing.assert_allclose(0.1 * first, 1483.04 / 255, rtol=1e-4)


# --- Boxes that the step resizes --------------------------------------------------------

BOXED = dataclasses.replace(AUGMENTATION, crop_size=256, random_resized_crop=0.08)


def boxes(positions, *, side=256, least=0.08, seed=3):
    augmentation = dataclasses.replace(
        BOXED, crop_size=side, random_resized_crop=least, random_crop=True
    )
    return augmentation.draw(
        positions, positions % 1000, image_size=side, num_examples=1000, seed=seed
    )["box"]


def test_boxes_lie_in_the_image_and_spread_as_torchvisions():
    """Area and the logarithm of the aspect uniform, but for boxes that do not fit."""
    y, x, height, width = boxes(np.arange(20_000)).T.astype(np.float64)
    for start, length in ((y, height), (x, width)):
        assert start.min() == 0
        assert length.min() >= 1
        assert (start + length).max() == 256
        np.testing.assert_array_equal(start, np.floor(start))
    area = height * width / 256**2
    assert area.min() == pytest.approx(0.08, abs=0.003)
    assert area.mean() == pytest.approx(0.49, abs=0.02)  # 0.54 without those too long
    aspect = np.log(width / height)
    assert abs(aspect).max() == pytest.approx(np.log(4 / 3), abs=0.02)
    assert aspect.mean() == pytest.approx(0, abs=0.01)
    free = (256 - height)[height < 250]
    assert (y[height < 250] / free).mean() == pytest.approx(0.5, abs=0.01)


def test_boxes_are_a_function_of_seed_epoch_and_example():
    whole = boxes(np.arange(1200))
    np.testing.assert_array_equal(whole[300:310], boxes(np.arange(300, 310)))
    assert (whole[:200] != whole[1000:]).any(1).mean() > 0.9  # another epoch
    assert (whole != boxes(np.arange(1200), seed=4)).any(1).mean() > 0.9


def test_where_none_fits_the_box_is_the_image():
    assert (boxes(np.arange(500), least=1.0) == (0, 0, 256, 256)).all()
    tiny = boxes(np.arange(500), side=1)
    assert (tiny == (0, 0, 1, 1)).all()
