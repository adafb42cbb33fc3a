"""From a source to batches: order, augmentation, filling up, memory or not."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.data import images, pipeline
from alexnet_jax.data.source import Source, Split
from alexnet_jax.errors import UserError

COUNT, HELD, SIZE, CROP = 43, 150, 10, 8
COMPONENTS = np.float32([[40, -6, 2], [38, 2, -4], [36, 5, 3]])


def encoded(number):
    """A picture of its own for each number, in several shapes."""
    shape = (9 + number % 4, 9 + number % 3, 3)
    pixels = np.random.default_rng(number).integers(0, 256, shape)
    return tf.io.encode_png(pixels.astype(np.uint8)).numpy()


def label(number):
    return number * 7 % 5


def split(name, numbers, read=lambda number: (encoded(number), label(number))):
    return Split(name, len(numbers), lambda i: read(numbers[i]))


def source(train, validation):
    return Source("numbers", tuple("abcde"), train, validation, "fingerprint")


NUMBERS = source(split("train", range(COUNT)), split("test", range(1000, 1000 + HELD)))


def prepared(memory_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "MEMORY_BYTES", memory_bytes)
        return pipeline.prepare(NUMBERS, rescale_size=SIZE)


@pytest.fixture(scope="module")
def in_memory():
    return prepared(2**29)


@pytest.fixture(scope="module")
def on_disk():
    return prepared(0)


@pytest.fixture(params=["in_memory", "on_disk"])
def data(request):
    return request.getfixturevalue(request.param)


def train_batches(data, **changes):
    choices = {
        "seed": 3,
        "start_step": 0,
        "num_steps": 12,
        "batch_size": 8,
        "crop_size": CROP,
        "random_crop": True,
        "random_flip": True,
        "lighting_deviation": 0.1,
        "components": COMPONENTS,
    }
    return list(pipeline.train_batches(data.train, **choices | changes))


def rescaled(numbers):
    """What an epoch starts from, straight from the bytes."""
    return np.stack(
        [
            images.rescale(images.decode(tf.constant(encoded(n))), SIZE).numpy()
            for n in numbers
        ]
    )


def joined(batches, name):
    return np.concatenate([batch[name] for batch in batches])


def by_example(batches):
    """(epoch, example) -> (image, lighting) of each."""
    return {
        (int(epoch), int(example)): (image.tobytes(), lighting.tobytes())
        for batch in batches
        for epoch, example, image, lighting in zip(
            *(batch[n] for n in ("epoch", "example", "image", "lighting")), strict=True
        )
    }


def assert_equal(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


# --- prepare ----------------------------------------------------------------------


def test_what_fits_is_kept_in_memory_and_the_rest_is_not(in_memory, on_disk):
    assert in_memory.train.images.shape == (COUNT, SIZE, SIZE, 3)
    assert in_memory.validation.images.shape == (HELD, SIZE, SIZE, 3)
    assert on_disk.train.images is None
    assert on_disk.validation.images is None
    needed = (COUNT + HELD) * SIZE**2 * 3
    assert prepared(needed).train.images is not None
    assert prepared(needed - 1).train.images is None


def test_statistics_are_those_of_the_training_images(data):
    """Of these and of nothing else: not of what fills up the last batch."""
    pixels = rescaled(range(COUNT)).astype(np.float64)
    np.testing.assert_allclose(
        data.statistics.mean_image, pixels.mean(axis=0), rtol=1e-12
    )
    covariance = np.cov(pixels.reshape(-1, 3), rowvar=False)
    np.testing.assert_allclose(
        data.statistics.eigenvalues, np.linalg.eigvalsh(covariance)[::-1], rtol=1e-9
    )


# --- training ---------------------------------------------------------------------


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**31 - 1), st.integers(1, 2 * COUNT + 5))
def test_every_epoch_is_a_permutation_and_none_is_lost_at_its_end(
    in_memory, seed, batch_size
):
    num_steps = -(-3 * COUNT // batch_size)
    batches = train_batches(
        in_memory, seed=seed, num_steps=num_steps, batch_size=batch_size
    )
    assert [len(batch["label"]) for batch in batches] == [batch_size] * num_steps
    examples, epochs = joined(batches, "example"), joined(batches, "epoch")
    np.testing.assert_array_equal(epochs, np.arange(len(epochs)) // COUNT)
    orders = [examples[epochs == epoch] for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(COUNT))
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[1], orders[2])


def test_labels_and_images_are_those_of_their_example(data):
    """Each image is a window of its rescaled picture or that window's mirror."""
    whole = rescaled(range(COUNT))
    mirrored = 0
    for batch in train_batches(data):
        assert batch["image"].dtype == np.uint8
        assert batch["image"].shape == (8, CROP, CROP, 3)
        assert (batch["weight"] == 1).all()
        for i, example in enumerate(batch["example"]):
            assert batch["label"][i] == label(example)
            windows = np.lib.stride_tricks.sliding_window_view(
                whole[example], (CROP, CROP), axis=(0, 1)
            ).transpose(0, 1, 3, 4, 2)
            plain, mirror = (
                (windows == image).all(axis=(2, 3, 4)).sum()
                for image in (batch["image"][i], batch["image"][i, :, ::-1])
            )
            assert (plain, mirror) in ((1, 0), (0, 1))
            mirrored += mirror
    assert 20 < mirrored < 76  # of 96


def test_without_augmentation_images_are_the_centres(data):
    centres = rescaled(range(COUNT))[:, 1:9, 1:9]
    plain = {"random_crop": False, "random_flip": False, "lighting_deviation": 0.0}
    for batch in train_batches(data, **plain):
        np.testing.assert_array_equal(batch["image"], centres[batch["example"]])
        np.testing.assert_array_equal(batch["label"], label(batch["example"]))
        assert (batch["lighting"] == 0).all()


@pytest.mark.parametrize("switched", ["random_crop", "random_flip", "lighting"])
def test_each_augmentation_works_by_itself(in_memory, switched):
    off = {"random_crop": False, "random_flip": False, "lighting_deviation": 0.0}
    on = {"lighting_deviation": 0.1} if switched == "lighting" else {switched: True}
    plain, changed = (
        train_batches(in_memory, **off),
        train_batches(in_memory, **off | on),
    )
    same = joined(plain, "image") == joined(changed, "image")
    assert same.all() == (switched == "lighting")
    assert joined(changed, "lighting").any() == (switched == "lighting")
    for name in ("example", "epoch", "label"):
        np.testing.assert_array_equal(joined(plain, name), joined(changed, name))


@settings(deadline=None, max_examples=10)
@given(st.data(), st.sampled_from([1, 5, 8, COUNT, 50]), st.booleans())
def test_starting_at_a_step_is_running_to_it(in_memory, data, batch_size, augmented):
    """The last step too, and the one after it, which leaves none."""
    start = data.draw(st.integers(0, 12))
    choices = {
        "batch_size": batch_size,
        "random_crop": augmented,
        "random_flip": augmented,
        "lighting_deviation": 0.1 * augmented,
    }
    all_of_them = train_batches(in_memory, **choices)
    assert_equal(
        train_batches(in_memory, start_step=start, **choices), all_of_them[start:]
    )


@pytest.mark.parametrize("augmented", [True, False])
def test_batches_do_not_depend_on_whether_they_fit_into_memory(
    in_memory, on_disk, augmented
):
    choices = {
        "random_crop": augmented,
        "random_flip": augmented,
        "lighting_deviation": 0.1 * augmented,
    }
    assert_equal(train_batches(in_memory, **choices), train_batches(on_disk, **choices))
    assert_equal(
        *(
            list(pipeline.evaluation_batches(d.validation, batch_size=64, crop_size=8))
            for d in (in_memory, on_disk)
        )
    )


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_an_augmentation_does_not_depend_on_the_batch_size(in_memory, batch_size):
    expected = by_example(train_batches(in_memory, num_steps=17))
    got = by_example(
        train_batches(in_memory, batch_size=batch_size, num_steps=100 // batch_size)
    )
    common = expected.keys() & got.keys()
    assert len(common) >= 64
    assert {key: got[key] for key in common} == {key: expected[key] for key in common}


def test_an_example_is_augmented_anew_in_each_epoch(in_memory):
    """18 images an example can become, so epochs share some, but no colour shift."""
    found = by_example(train_batches(in_memory, batch_size=COUNT, num_steps=2))
    shifts = [shift for _, shift in found.values()]
    assert len(set(shifts)) == 2 * COUNT
    again = sum(found[0, i][0] == found[1, i][0] for i in range(COUNT))
    assert again < COUNT / 4


def test_two_seeds_differ_in_order_and_in_augmentation(in_memory):
    one, other = (train_batches(in_memory, seed=seed) for seed in (3, 4))
    assert not np.array_equal(joined(one, "example"), joined(other, "example"))
    one, other = by_example(one), by_example(other)
    common = one.keys() & other.keys()
    assert len(common) >= COUNT
    assert all(one[key][1] != other[key][1] for key in common)
    assert sum(one[key][0] == other[key][0] for key in common) < len(common) / 4


def test_the_same_seed_gives_the_same_batches(on_disk):
    assert_equal(train_batches(on_disk), train_batches(on_disk))


def test_colour_shifts_have_the_deviation_that_was_asked_for(in_memory):
    shifts = joined(
        train_batches(in_memory, batch_size=1000, lighting_deviation=0.2), "lighting"
    )
    alphas = np.linalg.solve(COMPONENTS, shifts.T)
    np.testing.assert_allclose(np.cov(alphas), 0.04 * np.eye(3), atol=0.003)


# --- evaluation -------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 128, 2000])
def test_evaluation_gives_each_example_once_and_in_order(data, batch_size):
    """What fills up the last batch weighs nothing: weights add up to the examples."""
    batches = list(
        pipeline.evaluation_batches(
            data.validation, batch_size=batch_size, crop_size=CROP
        )
    )
    assert {len(values) for batch in batches for values in batch.values()} == {
        batch_size
    }
    assert len(batches) == -(-HELD // batch_size)
    weights = joined(batches, "weight")
    np.testing.assert_array_equal(weights, np.arange(len(weights)) < HELD)
    np.testing.assert_array_equal(joined(batches, "example")[:HELD], np.arange(HELD))
    numbers = 1000 + np.arange(HELD)
    np.testing.assert_array_equal(joined(batches, "label")[:HELD], label(numbers))
    pixels = joined(batches, "image")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[:HELD], rescaled(numbers)[:, 1:9, 1:9])
    assert not pixels[HELD:].any()
    assert not joined(batches, "lighting").any()


def test_evaluating_twice_gives_the_same(in_memory):
    assert_equal(
        *(
            list(pipeline.evaluation_batches(d, batch_size=64, crop_size=CROP))
            for d in [in_memory.validation] * 2
        )
    )


# --- what cannot be read ----------------------------------------------------------


def no_image(number):
    return (b"no image", 0) if number == 17 else (encoded(number), label(number))


def vanished(number):
    if number == 17:
        raise FileNotFoundError(2, "No such file", "pictures/17.png")
    return encoded(number), label(number)


@pytest.mark.parametrize("read", [no_image, vanished])
@pytest.mark.parametrize("memory_bytes", [2**29, 0], ids=["in memory", "on disk"])
def test_a_record_that_is_no_image_is_said_in_one_message(
    monkeypatch, read, memory_bytes
):
    monkeypatch.setattr(pipeline, "MEMORY_BYTES", memory_bytes)
    broken = source(split("train", range(COUNT), read), NUMBERS.validation)
    with pytest.raises(UserError, match="could not be read") as raised:
        pipeline.prepare(broken, rescale_size=SIZE)
    assert "Traceback" not in str(raised.value)


def test_a_record_that_breaks_in_training_is_said_in_one_message(in_memory):
    data = pipeline.Rescaled(split("train", range(COUNT), no_image), SIZE, None, None)
    with pytest.raises(UserError, match="could not be read"):
        train_batches(pipeline.Data(NUMBERS, data, data, in_memory.statistics))
