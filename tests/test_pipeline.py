"""From a source to batches: order, augmentation, filling up, memory or not."""

import contextlib
import dataclasses
import threading

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from alexnet_jax.data import images, order, pipeline, statistics
from alexnet_jax.data.source import Source, Split
from alexnet_jax.errors import UserError

COUNT, HELD, SIZE, CROP = 43, 150, 10, 8
COMPONENTS = np.float32([[40, -6, 2], [38, 2, -4], [36, 5, 3]])

AUGMENTATION = pipeline.Augmentation(
    crop_size=CROP,
    random_crop=True,
    random_flip=True,
    crop_sharing=1,
    lighting_deviation=0.1,
    lighting_shrink=False,
    lighting_off_epoch=0.0,
    components=COMPONENTS,
)
OFF = {"random_crop": False, "random_flip": False, "lighting_deviation": 0.0}

# Colours of ImageNet's training set: the constants of cuda-convnet2.
DEVIATIONS = np.array([121.78006, 37.09389, 19.72083])
IMAGENET = statistics.Statistics(
    mean_image=np.zeros((1, 1, 3)),
    eigenvalues=np.square(DEVIATIONS),
    eigenvectors=np.array(
        [
            [-0.563510, -0.712579, 0.417955],
            [-0.576184, -0.023542, -0.816981],
            [-0.592003, 0.701196, 0.397311],
        ]
    ),
)


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


def prepared(memory_bytes, rescale="shorter_side"):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "MEMORY_BYTES", memory_bytes)
        return pipeline.prepare(NUMBERS, rescale=rescale, rescale_size=SIZE)


@pytest.fixture(scope="module")
def in_memory():
    return prepared(2**29)


@pytest.fixture(scope="module")
def on_disk():
    return prepared(0)


@pytest.fixture(scope="module")
def raw():
    """The same images as a prepared set has them raw on disk."""

    def raw_split(name, numbers):
        images = rescaled(numbers)

        def read_part(i, first, count):
            return images[i].tobytes()[first : first + count], label(numbers[i])

        def read(i):
            return read_part(i, 0, SIZE**2 * 3)

        return Split(name, len(numbers), read, form="raw", read_part=read_part)

    splits = (
        raw_split("train", range(COUNT)),
        raw_split("test", range(1000, 1000 + HELD)),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "MEMORY_BYTES", 0)
        return pipeline.prepare(
            source(*splits), rescale="shorter_side", rescale_size=SIZE
        )


@pytest.fixture(params=["in_memory", "on_disk", "raw"])
def data(request):
    return request.getfixturevalue(request.param)


def train_batches(data, **changes):
    steps = {"seed": 3, "start_step": 0, "num_steps": 12, "batch_size": 8}
    steps |= {"host": 0, "num_hosts": 1, "num_parallel_calls": tf.data.AUTOTUNE}
    of_steps = {name: changes.pop(name, value) for name, value in steps.items()}
    augmentation = dataclasses.replace(AUGMENTATION, **changes)
    return list(pipeline.train_batches(data.train, augmentation, **of_steps))


def rescaled(numbers, how="shorter_side"):
    """What an epoch starts from, straight from the bytes."""
    return np.stack(
        [
            images.rescale(images.decode(tf.constant(encoded(n))), SIZE, how).numpy()
            for n in numbers
        ]
    )


def off(augmented):
    return {} if augmented else OFF


def joined(batches, name):
    return np.concatenate([batch[name] for batch in batches])


EVERY_CROP = {(y, x, m) for y in range(3) for x in range(3) for m in range(2)}
CROPPED = ("offset", "mirrored", "image")
SHIFTED = ("lighting", "gain")


def by_example(batches, names=CROPPED + SHIFTED):
    """(epoch, example) -> what it became, of the fields `names`."""
    return {
        (int(epoch), int(example)): tuple(value.tobytes() for value in values)
        for batch in batches
        for epoch, example, *values in zip(
            *(batch[name] for name in ("epoch", "example", *names)), strict=True
        )
    }


def of_places(batches, start=0):
    """(place, its offset and reflection) of each, in the endless row of epochs."""
    found = np.concatenate(
        [joined(batches, "offset"), joined(batches, "mirrored")[:, None]], axis=1
    )
    return list(enumerate(map(tuple, found.tolist()), start))


def crops(data, **changes):
    """place -> its offset and reflection, from one large batch."""
    return dict(of_places(train_batches(data, num_steps=1, batch_size=500, **changes)))


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


@pytest.mark.parametrize("memory_bytes", [2**29, 0], ids=["in memory", "on disk"])
def test_warped_images_are_trained_on_and_evaluated(memory_bytes):
    data = prepared(memory_bytes, rescale="warp")
    warped, held = rescaled(range(COUNT), "warp"), rescaled(range(1000, 1064), "warp")
    assert not np.array_equal(warped, rescaled(range(COUNT)))
    np.testing.assert_allclose(data.statistics.mean_image, warped.mean(axis=0))
    (batch,) = train_batches(data, crop_size=SIZE, num_steps=1, **OFF)
    np.testing.assert_array_equal(batch["image"], warped[batch["example"]])
    batch = next(pipeline.evaluation_batches(data.validation, batch_size=64))
    np.testing.assert_array_equal(batch["image"], held)


# --- training ---------------------------------------------------------------------


@settings(
    deadline=None,
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 2**31 - 1), st.integers(1, 2 * COUNT + 5))
def test_every_epoch_is_a_permutation_and_none_is_lost_at_its_end(
    data, seed, batch_size
):
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
def test_images_are_what_their_own_fields_say(data, crop_sharing):
    """The crop at `offset` of the rescaled picture, then reflected if `mirrored`."""
    whole = rescaled(range(COUNT))
    batches = train_batches(data, crop_sharing=crop_sharing)
    for batch in batches:
        assert set(batch) == set(pipeline.TrainBatch.__annotations__)
        assert batch["image"].dtype == np.uint8
        assert batch["image"].shape == (8, CROP, CROP, 3)
        for i, number in enumerate(batch["example"]):
            assert batch["label"][i] == label(number)
            top, left = batch["offset"][i]
            expected = whole[number][top : top + CROP, left : left + CROP]
            if batch["mirrored"][i]:
                expected = expected[:, ::-1]
            np.testing.assert_array_equal(batch["image"][i], expected)
    assert {crop for _, crop in of_places(batches)} <= EVERY_CROP
    assert set(joined(batches, "mirrored").tolist()) == {0, 1}


@pytest.mark.parametrize("crop_sharing", [1, 4])
def test_every_crop_and_reflection_occurs_equally_often(in_memory, crop_sharing):
    """The 3 x 3 offsets, 0 and 2 too, with 0 and 1 (chi-square, 17 degrees)."""
    batches = train_batches(in_memory, crop_sharing=crop_sharing, batch_size=600)
    found = [crop for _, crop in of_places(batches)[::crop_sharing]]
    assert set(found) == EVERY_CROP
    counts = np.array([found.count(crop) for crop in EVERY_CROP])
    expected = len(found) / len(EVERY_CROP)
    assert ((counts - expected) ** 2 / expected).sum() < 40.8  # p = 0.001


@pytest.mark.parametrize("random_flip", [False, True])
def test_without_random_crop_images_are_the_centres(data, random_flip):
    centres = rescaled(range(COUNT))[:, 1:9, 1:9]
    batches = train_batches(data, **OFF | {"random_flip": random_flip})
    assert joined(batches, "mirrored").any() == random_flip
    for batch in batches:
        assert (batch["offset"] == 1).all()
        expected = centres[batch["example"]]
        for i in np.flatnonzero(batch["mirrored"]):
            expected[i] = expected[i][:, ::-1]
        np.testing.assert_array_equal(batch["image"], expected)
        np.testing.assert_array_equal(batch["label"], label(batch["example"]))
        assert (batch["lighting"] == 0).all()
        assert (batch["gain"] == 1).all()


@pytest.mark.parametrize("switched", ["random_crop", "random_flip", "lighting"])
def test_each_augmentation_works_by_itself(in_memory, switched):
    on = {"lighting_deviation": 0.1} if switched == "lighting" else {switched: True}
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


@settings(deadline=None, max_examples=10)
@given(
    st.integers(0, 12),
    st.sampled_from([1, 5, 8, COUNT, 50]),
    st.booleans(),
    st.sampled_from([1, 5, 32, 100]),
    st.sampled_from([0.0, 0.6, 1.4]),
)
@example(7, 5, True, 32, 0.6)  # in the midst of a run, before lighting ends
def test_starting_at_a_step_is_running_to_it(
    in_memory,
    on_disk,
    raw,
    start,
    batch_size,
    augmented,
    crop_sharing,
    lighting_off_epoch,
):
    """The last step too, and the one after it, which leaves none."""
    choices = {
        "batch_size": batch_size,
        "crop_sharing": crop_sharing,
        "lighting_shrink": True,
        "lighting_off_epoch": lighting_off_epoch,
        **off(augmented),
    }
    all_of_them = train_batches(in_memory, **choices)
    for data in (in_memory, on_disk, raw):
        assert_equal(
            train_batches(data, start_step=start, **choices), all_of_them[start:]
        )


@pytest.mark.parametrize("augmented", [True, False])
def test_batches_do_not_depend_on_whether_they_fit_into_memory(
    in_memory, on_disk, raw, augmented
):
    for other in (on_disk, raw):
        assert_equal(
            train_batches(in_memory, **off(augmented)),
            train_batches(other, **off(augmented)),
        )
        assert_equal(
            *(
                list(pipeline.evaluation_batches(d.validation, batch_size=64))
                for d in (in_memory, other)
            )
        )


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 9), st.sampled_from([1, 5, 30]), st.booleans())
@example(2, 8, True)
@example(64, 8, True)
def test_batches_do_not_depend_on_how_many_images_are_worked_on_at_a_time(
    on_disk, raw, num_parallel_calls, batch_size, augmented
):
    choices = {"batch_size": batch_size, "num_steps": 7, **off(augmented)}
    for data in (on_disk, raw):
        assert_equal(
            train_batches(data, num_parallel_calls=num_parallel_calls, **choices),
            train_batches(data, **choices),
        )


@settings(
    deadline=None,
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from([1, 2, 4]),
    st.integers(1, 12),
    st.integers(0, 6),
    st.sampled_from([1, 5, 32]),
)
@example(4, 3, 2, 5)
def test_the_shares_of_all_hosts_put_together_are_the_batches(
    data, num_hosts, share, start, crop_sharing
):
    choices = {
        "batch_size": share * num_hosts,
        "start_step": start,
        "num_steps": 9,
        "crop_sharing": crop_sharing,
    }
    shares = [
        train_batches(data, host=host, num_hosts=num_hosts, **choices)
        for host in range(num_hosts)
    ]
    together = [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*shares, strict=True)
    ]
    assert len(together) == 9 - start
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


@pytest.fixture
def reversed_order(monkeypatch):
    """Turns the order of every epoch round."""
    usual = order.epoch_order

    def turn():
        monkeypatch.setattr(order, "epoch_order", lambda *args: usual(*args)[::-1])

    return turn


def test_an_unshared_augmentation_does_not_depend_on_the_place_in_its_epoch(
    in_memory, reversed_order
):
    """On (seed, epoch, example) alone."""
    choices = {"batch_size": COUNT, "num_steps": 2}
    usual = train_batches(in_memory, **choices)
    reversed_order()
    turned = train_batches(in_memory, **choices)
    np.testing.assert_array_equal(usual[0]["example"], turned[0]["example"][::-1])
    assert by_example(usual) == by_example(turned)


def test_an_example_is_augmented_anew_in_each_epoch(in_memory):
    """18 images an example can become, so epochs share some, but no colour shift."""
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


def test_the_same_seed_gives_the_same_batches(on_disk):
    assert_equal(train_batches(on_disk), train_batches(on_disk))


# --- shared crops -----------------------------------------------------------------


@pytest.mark.parametrize("crop_sharing", [2, 5, 32, 50])
@pytest.mark.parametrize("start_batch", [(0, 8), (3, 7), (1, 64)], ids=str)
def test_neighbours_share_one_crop_and_reflection(in_memory, crop_sharing, start_batch):
    """Runs of places, which go on through the end of an epoch of 43.

    A crop of 1 has 200 forms: two runs seldom have the same.
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
    found = of_places(batches, start * batch_size)
    runs = {}
    for place, crop in found:
        runs.setdefault(place // crop_sharing, set()).add(crop)
    assert all(len(run) == 1 for run in runs.values())
    assert len(set.union(*runs.values())) > 0.6 * len(runs)
    expected = crops(in_memory, **choices)
    assert all(crop == expected[place] for place, crop in found)


def test_epochs_do_not_share_crops(in_memory):
    """Where a run is an epoch long."""
    found = crops(in_memory, crop_size=1, crop_sharing=COUNT)
    assert len({found[epoch * COUNT] for epoch in range(4)}) == 4


def test_two_seeds_share_other_crops(in_memory):
    one, other = (
        crops(in_memory, crop_size=1, crop_sharing=5, seed=seed) for seed in (3, 4)
    )
    assert sum(one[place] == other[place] for place in one) < len(one) / 10


def test_sharing_a_crop_leaves_each_example_its_own_lighting(in_memory):
    shared, own = (
        train_batches(in_memory, crop_sharing=n, lighting_shrink=True) for n in (5, 1)
    )
    for name in ("example", "epoch", "label", "lighting", "gain"):
        np.testing.assert_array_equal(joined(shared, name), joined(own, name))
    assert len(np.unique(joined(shared, "lighting"), axis=0)) == 12 * 8
    assert not np.array_equal(joined(shared, "offset"), joined(own, "offset"))
    assert not np.array_equal(joined(shared, "mirrored"), joined(own, "mirrored"))


def test_a_shared_crop_is_of_the_place_and_lighting_of_the_example(
    in_memory, reversed_order
):
    choices = {"batch_size": COUNT, "num_steps": 2, "crop_sharing": 5}
    usual = train_batches(in_memory, **choices)
    reversed_order()
    turned = train_batches(in_memory, **choices)
    assert of_places(usual) == of_places(turned)
    assert by_example(usual, SHIFTED) == by_example(turned, SHIFTED)
    assert by_example(usual) != by_example(turned)


# --- lighting ---------------------------------------------------------------------


@pytest.mark.parametrize("deviation", [0.1, 0.5])
def test_shrinking_divides_what_is_shifted(in_memory, deviation):
    choices = {"lighting_deviation": deviation}
    plain, shrunk = (
        train_batches(in_memory, lighting_shrink=shrink, **choices)
        for shrink in (False, True)
    )
    assert (joined(plain, "gain") == 1).all()
    assert (joined(shrunk, "gain") == np.float32(1 / (1 + deviation))).all()
    for name in ("lighting", "image"):
        np.testing.assert_array_equal(joined(plain, name), joined(shrunk, name))


@pytest.mark.parametrize("augmented", [True, False], ids=["cropped", "nothing"])
def test_without_lighting_nothing_is_shrunk(in_memory, augmented):
    choices = off(augmented) | {"lighting_deviation": 0.0, "lighting_shrink": True}
    batches = train_batches(in_memory, **choices, lighting_off_epoch=1.0)
    assert (joined(batches, "gain") == 1).all()
    assert not joined(batches, "lighting").any()


@pytest.mark.parametrize(
    "epoch_place",
    [(0.01, 0), (0.37, 16), (1.0, COUNT), (1.4, 60), (67.0, 12 * 8), (0.0, 12 * 8)],
    ids=str,
)
@pytest.mark.parametrize("lighting_shrink", [True, False])
def test_lighting_ends_at_its_epoch(in_memory, epoch_place, lighting_shrink):
    """At this place of the row, the middle of a batch or not; 0 means never."""
    epoch, place = epoch_place
    choices = {"lighting_shrink": lighting_shrink}
    never = train_batches(in_memory, **choices)
    ended = train_batches(in_memory, lighting_off_epoch=epoch, **choices)
    for name in ("image", "offset", "mirrored", "label", "example", "epoch"):
        np.testing.assert_array_equal(joined(never, name), joined(ended, name))
    for name in SHIFTED:
        np.testing.assert_array_equal(
            joined(never, name)[:place], joined(ended, name)[:place]
        )
    assert joined(ended, "lighting")[:place].all()
    assert not joined(ended, "lighting")[place:].any()
    assert (joined(ended, "gain")[place:] == 1).all()
    assert (joined(ended, "gain")[:place] < 1).all() == (lighting_shrink or place == 0)


def test_colour_shifts_have_the_deviation_that_was_asked_for(in_memory):
    shifts = joined(
        train_batches(in_memory, batch_size=1000, lighting_deviation=0.2), "lighting"
    )
    alphas = np.linalg.solve(COMPONENTS, shifts.T)
    np.testing.assert_allclose(np.cov(alphas), 0.04 * np.eye(3), atol=0.003)


@pytest.mark.parametrize("scale", ["deviation", "eigenvalue"])
def test_colour_shifts_have_the_covariance_of_their_scale(in_memory, scale):
    """Along each component by itself, of ImageNet: a standard error is 1.3%."""
    batches = train_batches(
        in_memory, batch_size=1000, components=IMAGENET.components(scale)
    )
    shifts = joined(batches, "lighting").astype(float)
    eigenvalues = np.square(DEVIATIONS)
    lengths = eigenvalues / 255 if scale == "eigenvalue" else DEVIATIONS
    variances = np.square(0.1 * lengths)
    expected = IMAGENET.eigenvectors * variances @ IMAGENET.eigenvectors.T
    allowed = 0.05 * np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    assert (np.abs(np.cov(shifts.T) - expected) < allowed).all()
    along = shifts @ IMAGENET.eigenvectors
    np.testing.assert_allclose(along.var(axis=0), variances, rtol=0.05)
    assert (np.abs(np.corrcoef(along.T) - np.eye(3)) < 0.04).all()


@pytest.mark.parametrize(
    "shrink_expected",
    [(False, [7.40, 7.20, 7.70]), (True, [6.73, 6.55, 7.00])],
    ids=["as drawn", "shrunk"],
)
def test_colours_of_imagenet_shift_as_far_as_in_2012(in_memory, shrink_expected):
    """Grey levels of R, G, B; computed exactly, and drawn 12,000 times."""
    shrink, expected = shrink_expected
    components = IMAGENET.components("deviation")
    exact = 0.1 * np.linalg.norm(components, axis=1) / (1.1 if shrink else 1)
    np.testing.assert_allclose(exact, expected, atol=0.005)
    batches = train_batches(
        in_memory, batch_size=1000, components=components, lighting_shrink=shrink
    )
    shifts = joined(batches, "lighting") * joined(batches, "gain")[:, None]
    np.testing.assert_allclose(shifts.std(axis=0), expected, rtol=0.03)


def test_by_the_text_colours_of_imagenet_would_shift_by_a_thousand():
    """Of intensities 0..255; of 0..1 by the 255th of it, in grey levels."""
    first = np.linalg.norm(IMAGENET.components("eigenvalue"), axis=0)[0]
    np.testing.assert_allclose(0.1 * first, 1483.04 / 255, rtol=1e-4)


# --- at the size of ImageNet ------------------------------------------------------

IMAGENET_COUNT = 1_281_167


def test_all_places_of_a_crop_occur():
    """33 x 33 of 224 in 256, mirrored or not, about equally often (chi-square)."""
    augmentation = dataclasses.replace(AUGMENTATION, crop_size=224)
    places = np.arange(100_000)
    drawn = augmentation.draw(256, IMAGENET_COUNT, 3, places, places)
    offset, mirrored = drawn["offset"], drawn["mirrored"]
    assert offset.min() == 0
    assert offset.max() == 32
    counts = np.bincount((offset[:, 0] * 33 + offset[:, 1]) * 2 + mirrored)
    assert len(counts) == 33 * 33 * 2
    assert counts.min() > 0
    expected = len(places) / len(counts)
    # 2177 degrees of freedom, p = 0.001.
    assert ((counts - expected) ** 2 / expected).sum() < 2386


def test_starting_in_the_middle_reads_nothing_of_what_was_before():
    read = []

    def note(i):
        read.append(i)
        return encoded(i % 50), 0

    split = Split("train", IMAGENET_COUNT, note)
    data = pipeline.Rescaled(split, SIZE, "shorter_side", None, None)
    start = IMAGENET_COUNT // 2 // 32
    batches = pipeline.train_batches(
        data,
        AUGMENTATION,
        seed=3,
        start_step=start,
        num_steps=10**9,
        batch_size=32,
        host=0,
        num_hosts=1,
    )
    with contextlib.closing(batches):
        first = next(batches)
    expected = order.epoch_order(3, 0, IMAGENET_COUNT)
    np.testing.assert_array_equal(first["example"], expected[start * 32 :][:32])
    # And what is made ahead, by several threads: of a gigabyte at most.
    assert len(read) < 3000
    assert set(read) <= set(expected[start * 32 :][: len(read) + 200].tolist())


# --- evaluation -------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 128, 2000])
def test_evaluation_gives_each_example_once_whole_and_in_order(data, batch_size):
    """What fills up the last batch weighs nothing: weights add up to the examples."""
    batches = list(pipeline.evaluation_batches(data.validation, batch_size=batch_size))
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


@settings(deadline=None, max_examples=12)
@given(st.sampled_from([1, 2, 4]), st.integers(1, 60))
@example(4, 100)  # the last hosts have nothing
@example(4, 19)  # nor here in the last batch
def test_the_shares_of_all_hosts_put_together_are_the_evaluation(
    in_memory, on_disk, raw, num_hosts, share
):
    """Of the images that weigh nothing there are more, so that all have as many."""
    batch_size = share * num_hosts
    for data in (in_memory, on_disk, raw):
        shares = [
            list(
                pipeline.evaluation_batches(
                    data.validation,
                    batch_size=batch_size,
                    host=host,
                    num_hosts=num_hosts,
                )
            )
            for host in range(num_hosts)
        ]
        together = [
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            for parts in zip(*shares, strict=True)
        ]
        whole = pipeline.evaluation_batches(data.validation, batch_size=batch_size)
        assert_equal(together, list(whole))


def test_evaluating_twice_gives_the_same(in_memory):
    assert_equal(
        *(
            list(pipeline.evaluation_batches(d, batch_size=64))
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
    with pytest.raises(UserError, match="read: example 17 in train: ") as raised:
        pipeline.prepare(broken, rescale="shorter_side", rescale_size=SIZE)
    assert "Traceback" not in str(raised.value)


def test_files_are_read_beside_one_another(in_memory):
    """A read that waits for another, as all of a disk across a network do."""
    together = threading.Barrier(pipeline.READERS)

    def waits(number):
        together.wait(timeout=60)
        return encoded(number), label(number)

    size = pipeline.READERS
    data = pipeline.Rescaled(
        split("train", range(size), waits), SIZE, "shorter_side", None, None
    )
    batches = list(pipeline.evaluation_batches(data, batch_size=size))
    np.testing.assert_array_equal(batches[0]["label"], label(np.arange(size)))


def test_of_a_prepared_set_the_way_out_is_another():
    good = tf.io.encode_jpeg(np.zeros((SIZE, SIZE, 3), np.uint8)).numpy()

    def read(number):
        return b"no image" if number == 17 else good, 0

    of_jpegs = dataclasses.replace(split("train", range(COUNT), read), form="jpeg")
    data = pipeline.Rescaled(of_jpegs, SIZE, "shorter_side", None, None)
    with pytest.raises(UserError, match="prepare it again") as raised:
        list(pipeline.evaluation_batches(data, batch_size=8))
    assert "example 17 in train" in str(raised.value)
    assert "--skip_bad" not in str(raised.value)


def test_a_batch_that_could_be_read_the_second_time_is_named():
    """As after a network that was away for a moment."""
    failed = []

    def once(number):
        if number == 17 and not failed:
            failed.append(number)
            raise UserError("away")
        return encoded(number), label(number)

    data = pipeline.Rescaled(
        split("train", range(COUNT), once), SIZE, "shorter_side", None, None
    )
    with pytest.raises(UserError, match=r"one of the examples \[16, 17, .*: away"):
        list(pipeline.evaluation_batches(data, batch_size=8))


def test_a_record_that_breaks_in_training_is_said_in_one_message(in_memory):
    data = pipeline.Rescaled(
        split("train", range(COUNT), no_image), SIZE, "shorter_side", None, None
    )
    with pytest.raises(UserError, match=r"read: example 17 in train: .*\n.*--skip_bad"):
        train_batches(pipeline.Data(NUMBERS, data, data, in_memory.statistics))
