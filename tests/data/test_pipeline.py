"""From a source to batches: order, hosts, padding, in memory or not."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numbered_images import (
    AUGMENTATION,
    COUNT,
    CROP,
    CROPPED,
    HELD,
    OFF,
    SHIFTED,
    SIZE,
    assert_equal,
    by_example,
    crops_by_position,
    evaluation_batches,
    joined,
    joined_shares,
    label,
    load,
    rescaled,
    train_batches,
)

from alexnet_jax.data import pipeline

EVERY_CROP = {(y, x, m) for y in range(3) for x in range(3) for m in range(2)}


def off(augmented):
    return {} if augmented else OFF


# --- Loading ----------------------------------------------------------------------


@pytest.mark.slow
def test_only_data_that_fits_is_kept_in_memory(in_memory, on_disk):
    assert in_memory.train.images.shape == (COUNT, SIZE, SIZE, 3)
    assert in_memory.validation.images.shape == (HELD, SIZE, SIZE, 3)
    assert on_disk.train.images is None
    assert on_disk.validation.images is None
    needed = (COUNT + HELD) * SIZE**2 * 3
    assert load(needed).train.images is not None
    assert load(needed - 1).train.images is None


def test_statistics_are_those_of_the_training_images(data):
    """Only of the training images, without the padding of the last batch."""
    pixels = rescaled(range(COUNT)).astype(np.float64)
    np.testing.assert_allclose(
        data.statistics.mean_image, pixels.mean(axis=0), rtol=1e-12
    )
    covariance = np.cov(pixels.reshape(-1, 3), rowvar=False)
    np.testing.assert_allclose(
        data.statistics.eigenvalues, np.linalg.eigvalsh(covariance)[::-1], rtol=1e-9
    )


def test_warped_images_are_used_in_training_and_evaluation():
    data = load(0, rescale="warp")
    warped, held = rescaled(range(COUNT), "warp"), rescaled(range(1000, 1064), "warp")
    assert not np.array_equal(warped, rescaled(range(COUNT)))
    np.testing.assert_allclose(data.statistics.mean_image, warped.mean(axis=0))
    (batch,) = train_batches(data, crop_size=SIZE, num_steps=1, **OFF)
    np.testing.assert_array_equal(batch["image"], warped[batch["example"]])
    batch = evaluation_batches(data, batch_size=64)[0]
    np.testing.assert_array_equal(batch["image"], held)


# --- Training ---------------------------------------------------------------------


@settings(
    deadline=None,
    max_examples=2,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 2**31 - 1), st.integers(1, 2 * COUNT + 5))
def test_every_epoch_is_a_permutation_of_all_examples(data, seed, batch_size):
    num_steps = -(-3 * COUNT // batch_size)
    batches = train_batches(data, seed=seed, num_steps=num_steps, batch_size=batch_size)
    assert [len(batch["label"]) for batch in batches] == [batch_size] * num_steps
    examples, epochs = joined(batches, "example"), joined(batches, "epoch")
    np.testing.assert_array_equal(epochs, np.arange(len(epochs)) // COUNT)
    orders = [examples[epochs == epoch] for epoch in range(3)]
    for examples in orders:
        assert sorted(examples) == list(range(COUNT))
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[1], orders[2])


@pytest.mark.parametrize("crop_sharing", [1, 5])
def test_images_match_their_own_fields(data, crop_sharing):
    """The crop at `offset` of the rescaled image, flipped if `mirrored`."""
    whole = rescaled(range(COUNT))
    batches = train_batches(data, crop_sharing=crop_sharing)
    for batch in batches:
        assert set(batch) == pipeline.TrainBatch.__required_keys__
        assert batch["image"].dtype == np.uint8
        assert batch["image"].shape == (8, CROP, CROP, 3)
        for i, number in enumerate(batch["example"]):
            assert batch["label"][i] == label(number)
            top, left = batch["offset"][i]
            expected = whole[number][top : top + CROP, left : left + CROP]
            if batch["mirrored"][i]:
                expected = expected[:, ::-1]
            np.testing.assert_array_equal(batch["image"][i], expected)
    assert {crop for _, crop in crops_by_position(batches)} <= EVERY_CROP
    assert set(joined(batches, "mirrored").tolist()) == {0, 1}


@pytest.mark.parametrize("crop_sharing", [1, 4])
def test_every_crop_and_flip_is_equally_likely(in_memory, crop_sharing):
    """Each of the 3 x 3 offsets, with and without flip (chi-square, 17 degrees)."""
    batches = train_batches(in_memory, crop_sharing=crop_sharing, batch_size=600)
    found = [crop for _, crop in crops_by_position(batches)[::crop_sharing]]
    assert set(found) == EVERY_CROP
    counts = np.array([found.count(crop) for crop in EVERY_CROP])
    expected = len(found) / len(EVERY_CROP)
    assert ((counts - expected) ** 2 / expected).sum() < 40.8  # p = 0.001


@pytest.mark.parametrize("random_flip", [False, True])
def test_without_random_crop_images_are_the_centers(data, random_flip):
    centers = rescaled(range(COUNT))[:, 1:9, 1:9]
    batches = train_batches(data, **OFF | {"random_flip": random_flip})
    assert joined(batches, "mirrored").any() == random_flip
    for batch in batches:
        assert (batch["offset"] == 1).all()
        expected = centers[batch["example"]]
        for i in np.flatnonzero(batch["mirrored"]):
            expected[i] = expected[i][:, ::-1]
        np.testing.assert_array_equal(batch["image"], expected)
        np.testing.assert_array_equal(batch["label"], label(batch["example"]))
        assert (batch["lighting"] == 0).all()
        assert (batch["gain"] == 1).all()


@pytest.mark.parametrize("switched", ["random_crop", "random_flip", "lighting"])
def test_each_augmentation_works_alone(in_memory, switched):
    on = {"lighting_std": 0.1} if switched == "lighting" else {switched: True}
    plain, changed = (
        train_batches(in_memory, **OFF),
        train_batches(in_memory, **OFF | on),
    )
    same = joined(plain, "image") == joined(changed, "image")
    assert same.all() == (switched == "lighting")
    assert joined(changed, "lighting").any() == (switched == "lighting")
    assert (joined(changed, "offset") != 1).any() == (switched == "random_crop")
    assert joined(changed, "mirrored").any() == (switched == "random_flip")
    for name in ("example", "epoch", "label", "gain"):
        np.testing.assert_array_equal(joined(plain, name), joined(changed, name))


@pytest.mark.parametrize(
    ("start", "batch_size", "augmented", "crop_sharing", "lighting_off_epoch"),
    [
        (7, 5, True, 32, 0.6),  # in the middle of a run, before the lighting ends
        (12, COUNT, True, 1, 1.4),  # no batch is left
        (0, 8, False, 1, 0.0),
    ],
)
def test_starting_at_a_step_gives_the_batches_of_the_whole_run(
    in_memory,
    on_disk,
    raw,
    start,
    batch_size,
    augmented,
    crop_sharing,
    lighting_off_epoch,
):
    """In memory or not; also after the last step."""
    choices = {
        "batch_size": batch_size,
        "crop_sharing": crop_sharing,
        "lighting_shrink": True,
        "lighting_off_epoch": lighting_off_epoch,
        **off(augmented),
    }
    whole_run = train_batches(in_memory, **choices)
    for data in (in_memory, on_disk, raw):
        assert_equal(
            train_batches(data, start_step=start, **choices), whole_run[start:]
        )


def test_batches_do_not_depend_on_the_number_of_parallel_calls(on_disk, raw):
    for data in (on_disk, raw):
        one, many = (
            train_batches(data, num_parallel_calls=number, num_steps=7)
            for number in (1, 64)
        )
        assert_equal(one, many)


@pytest.mark.slow
def test_the_hosts_shares_add_up_to_the_training_batches(data):
    choices = {"batch_size": 12, "start_step": 2, "num_steps": 9, "crop_sharing": 5}
    shares = [
        train_batches(data, host=host, num_hosts=4, **choices) for host in range(4)
    ]
    together = joined_shares(shares)
    assert len(together) == 7
    assert_equal(together, train_batches(data, **choices))


@pytest.mark.parametrize("crop_sharing", [1, 5])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_an_augmentation_does_not_depend_on_the_batch_size(
    in_memory, batch_size, crop_sharing
):
    choices = {
        "crop_sharing": crop_sharing,
        "lighting_shrink": True,
        "lighting_off_epoch": 1.2,
    }
    expected = by_example(train_batches(in_memory, num_steps=17, **choices))
    got = by_example(
        train_batches(
            in_memory, batch_size=batch_size, num_steps=100 // batch_size, **choices
        )
    )
    common = expected.keys() & got.keys()
    assert len(common) >= 64
    assert {key: got[key] for key in common} == {key: expected[key] for key in common}


def test_an_unshared_augmentation_does_not_depend_on_the_position_in_the_epoch(
    in_memory, reversed_order
):
    """It depends only on (seed, epoch, example)."""
    choices = {"batch_size": COUNT, "num_steps": 2}
    usual = train_batches(in_memory, **choices)
    reversed_order()
    reordered = train_batches(in_memory, **choices)
    np.testing.assert_array_equal(usual[0]["example"], reordered[0]["example"][::-1])
    assert by_example(usual) == by_example(reordered)


def test_an_example_is_augmented_differently_in_each_epoch(in_memory):
    """With 18 possible crops, epochs share some crops, but no lighting."""
    batches = train_batches(in_memory, batch_size=COUNT, num_steps=2)
    assert len(set(by_example(batches, ["lighting"]).values())) == 2 * COUNT
    for names in (["image"], ["offset", "mirrored"]):
        found = by_example(batches, names)
        assert sum(found[0, i] == found[1, i] for i in range(COUNT)) < COUNT / 4


def test_two_seeds_differ_in_order_and_in_augmentation(in_memory):
    one, other = (train_batches(in_memory, seed=seed) for seed in (3, 4))
    assert not np.array_equal(joined(one, "example"), joined(other, "example"))
    for names, most in ((SHIFTED, 0), (CROPPED, 1 / 4)):
        first, second = by_example(one, names), by_example(other, names)
        common = first.keys() & second.keys()
        assert len(common) >= COUNT
        assert sum(first[key] == second[key] for key in common) <= most * len(common)


# --- Evaluation -------------------------------------------------------------------


def test_evaluation_gives_each_example_once_whole_and_in_order(data):
    """Padding in the last batch has weight 0, so weights sum to the number of examples."""
    batch_size = 7
    batches = evaluation_batches(data, batch_size=batch_size)
    assert {len(values) for batch in batches for values in batch.values()} == {
        batch_size
    }
    assert len(batches) == -(-HELD // batch_size)
    fields = {"image", "label", "example", "weight"}
    assert all(set(batch) == fields for batch in batches)
    weights = joined(batches, "weight")
    np.testing.assert_array_equal(weights, np.arange(len(weights)) < HELD)
    np.testing.assert_array_equal(joined(batches, "example")[:HELD], np.arange(HELD))
    numbers = 1000 + np.arange(HELD)
    np.testing.assert_array_equal(joined(batches, "label")[:HELD], label(numbers))
    pixels = joined(batches, "image")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[:HELD], rescaled(numbers))
    assert not pixels[HELD:].any()


@pytest.mark.parametrize(
    "share",
    [
        100,  # the last hosts have only padding
        19,  # the last hosts have only padding in the last batch
    ],
)
def test_the_hosts_shares_add_up_to_the_evaluation_batches(in_memory, raw, share):
    """All hosts have the same number of batches; the rest is padding."""
    for data in (in_memory, raw):
        shares = [
            evaluation_batches(data, batch_size=4 * share, host=host, num_hosts=4)
            for host in range(4)
        ]
        whole = evaluation_batches(data, batch_size=4 * share)
        assert_equal(joined_shares(shares), whole)


# --- A few examples ---------------------------------------------------------------


def test_a_few_examples_are_those_of_the_batches(data):
    """From memory, and from disk without tf.data's threads."""
    batch = joined_batch(train_batches(data, num_steps=3))
    positions = np.array([0, 1, 7, 8, 23])
    found, whole = pipeline.examples_at(data.train, AUGMENTATION, positions, seed=3)
    assert_equal([found], [{name: batch[name][positions] for name in found}])
    np.testing.assert_array_equal(whole, rescaled(found["example"]))


def joined_batch(batches):
    return {name: joined(batches, name) for name in batches[0]}
