"""Training gives the same results on any number of devices."""

import dataclasses
import re
from unittest import mock

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from single_trial_step import single_trial_step

from alexnet_jax.config import base
from alexnet_jax.errors import UserError
from alexnet_jax.model.layers import kernel_gradient_cpu, small_maps_cpu
from alexnet_jax.model.network import build
from alexnet_jax.training import step as steps
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.optimizer import Hyperparameters, OptimizerSpec
from alexnet_jax.training.preprocess import InputForm
from alexnet_jax.training.schedule import LearningRates

BATCH = 16
SIDE, SIZE = 20, 16  # side of an image, and of a crop
FORM = InputForm(
    crop_size=SIZE,
    mean="image",
    channel_mean=(),
    channel_scale=(1.0, 1.0, 1.0),
    channel_order="rgb",
    eval_crops="ten",
)
RULE = OptimizerSpec(lr_inside_momentum=True, bias_decay=False)
NUMBERS = Hyperparameters(
    LearningRates(*np.float32([0.01, 0.02, 0.005, 0.015])),
    np.float32(0.9),
    np.float32(0.0005),
    np.uint32(3),
)


def some_devices(count):
    """The first `count` of this process's eight devices."""
    return Devices(devices=jax.devices()[:count])


@pytest.fixture(scope="module")
def devices():
    return Devices()


@pytest.fixture(scope="module")
def network():
    """A network with dropout, whose masks must not depend on the devices."""
    model = base(network="four_layer").model.to_dict() | {
        "width": 0.25,
        "dropout_rate": 0.5,
        "weight_stds": (0.01, 0.05, 0.05, 0.05),
    }
    return build(ConfigDict(model), image_size=SIZE, num_classes=10)


def make_batch(epoch=0, size=SIZE, examples=BATCH):
    draws = np.random.default_rng(epoch)
    return {
        "image": draws.integers(0, 256, (examples, size, size, 3)).astype(np.uint8),
        "label": draws.integers(0, 10, examples).astype(np.int32),
        "offset": draws.integers(0, 5, (examples, 2)).astype(np.int32),
        "mirrored": draws.integers(0, 2, examples).astype(np.int32),
        "lighting": draws.standard_normal((examples, 3)).astype(np.float32),
        "gain": draws.uniform(0.9, 1, examples).astype(np.float32),
        "example": np.arange(examples, dtype=np.int32),
        "epoch": np.full(examples, epoch, np.int32),
    }


def mean_image(size=SIDE):
    values = np.linspace(110, 140, size * size * 3, dtype=np.float32)
    return values.reshape(size, size, 3)


def trained(network, devices, train_step, place_batch, num_steps=3):
    """State after a few steps and the counts of each step, on the host."""
    state = devices.place_copies(steps.initial_state(network, 0, RULE))
    mean = devices.place_copies(mean_image())
    counts = []
    for epoch in range(num_steps):
        state, counted = train_step(
            state, place_batch(make_batch(epoch)), NUMBERS, mean
        )
        counts.append(tuple(map(float, counted)))
    return jax.device_get(state), counts


@pytest.fixture(scope="module")
def train_step(network, devices):
    return devices.spread_train(single_trial_step(network, FORM, RULE))


@pytest.fixture(scope="module")
def on_eight(network, devices, train_step):
    return trained(network, devices, train_step, devices.place_batch)


def test_tests_have_eight_devices(devices):
    assert len(devices.devices) == 8


# --- Equal results ----------------------------------------------------------------


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_any_number_of_devices_gives_the_same_training(network, on_eight, count):
    """Up to rounding: masks, sums and updates do not depend on the devices."""
    fewer = some_devices(count)
    assert len(fewer.devices) == count
    train_step = fewer.spread_train(single_trial_step(network, FORM, RULE))
    state, counts = trained(network, fewer, train_step, fewer.place_batch)
    np.testing.assert_allclose(counts, on_eight[1], rtol=1e-5)
    leaves, structure = jax.tree.flatten(state)
    expected, other_structure = jax.tree.flatten(on_eight[0])
    assert structure == other_structure
    for one, other in zip(leaves, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


SPREADS = ("pmap", "shard_map")


def small_alexnet():
    """A two-tower AlexNet with dropout, for 40 x 40 images."""
    model = base().model.to_dict() | {"width": 1 / 24}
    return build(ConfigDict(model), image_size=40, num_classes=10)


def alexnet_step(accumulation=1):
    form = dataclasses.replace(FORM, crop_size=40)
    return single_trial_step(small_alexnet(), form, RULE, accumulation)


@pytest.fixture(scope="module")
def spread_alexnet():
    """By `how`: Devices and a small AlexNet's step on all eight, compiled once."""
    all_eight = {how: Devices(how) for how in SPREADS}
    return {
        how: (some, some.spread_train(alexnet_step()))
        for how, some in all_eight.items()
    }


def after_three_steps(spread_alexnet, hows):
    """State and counts after three steps, each distributed as `hows` says."""
    state, counts = steps.initial_state(small_alexnet(), 0, RULE), []
    state = spread_alexnet[hows[0]][0].place_copies(state)
    for epoch, how in enumerate(hows):
        some, train_step = spread_alexnet[how]
        batch = some.place_batch(make_batch(epoch, size=40))
        mean = some.place_copies(mean_image(48))
        state, counted = train_step(state, batch, NUMBERS, mean)
        counts.append(jax.device_get(counted))
    return jax.device_get(state), counts


def assert_same_bits(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def alexnet_by_pmap(spread_alexnet):
    return after_three_steps(spread_alexnet, ["pmap"] * 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "hows",
    [
        ["shard_map"] * 3,
        ["shard_map", "pmap", "shard_map"],
    ],
    ids="-".join,
)
def test_pmap_and_shard_map_train_bit_identically(
    spread_alexnet, alexnet_by_pmap, hows
):
    """AlexNet's params, velocity and counts; each can continue the other's state."""
    state, counts = after_three_steps(spread_alexnet, hows)
    assert int(state.step) == 3
    assert_same_bits((state, counts), alexnet_by_pmap)


def test_shard_map_refuses_a_step_without_a_gradient_all_reduce(network, monkeypatch):
    """check_vma, on by default, raises while the step is traced."""
    some = Devices("shard_map")
    state = jax.eval_shape(lambda: steps.initial_state(network, 0, RULE))

    def traced():
        train_step = some.spread_train(single_trial_step(network, FORM, RULE))
        return train_step.trace(state, make_batch(), NUMBERS, mean_image())

    traced()
    monkeypatch.setattr(steps.lax, "psum", lambda values, axis: values)
    with pytest.raises(ValueError, match=r"varying manual axes|vma"):
        traced()


def test_every_device_ends_with_the_same_params(network, devices, train_step):
    state, _ = train_step(
        devices.place_copies(steps.initial_state(network, 0, RULE)),
        devices.place_batch(make_batch()),
        NUMBERS,
        devices.place_copies(mean_image()),
    )
    for leaf in jax.tree.leaves(state):
        first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        assert len(others) == 7
        for other in others:
            np.testing.assert_array_equal(first, other)


def test_evaluation_sums_over_all_devices(network, devices):
    params = steps.initial_state(network, 0, RULE).params
    batch = make_batch(size=SIDE)
    batch = {name: batch[name] for name in ("image", "label", "example")}
    batch["weight"] = (np.arange(BATCH) < BATCH - 3).astype(np.float32)  # padded
    counted = []
    for some in (devices, some_devices(1)):
        eval_step = some.spread_eval(steps.make_eval_step(network, FORM))
        placed = some.place_batch(batch)
        counts = eval_step(
            some.place_copies(params), placed, some.place_copies(mean_image())
        )
        counted.append(tuple(map(float, counts)))
    assert counted[0] == pytest.approx(counted[1], rel=1e-5)
    assert counted[0][0] == BATCH - 3


# --- Gradient accumulation --------------------------------------------------------


@pytest.mark.slow
def test_gradient_accumulation_gives_the_update_of_the_whole_batch(network):
    """Three steps with dropout, to 2e-6 of each leaf's maximum (measured: 3e-7)."""
    some, found = Devices("shard_map"), {}
    for parts in (1, 4):
        step = single_trial_step(network, FORM, RULE, parts)
        train_step = some.spread_train(step)
        state = some.place_copies(steps.initial_state(network, 0, RULE))
        counts = []
        for epoch in range(3):
            batch = some.place_batch(make_batch(epoch, examples=64))
            mean = some.place_copies(mean_image())
            state, counted = train_step(state, batch, NUMBERS, mean)
            counts.append(counted)
        found[parts] = jax.device_get((state, counts))
    whole_state, whole_counts = found.pop(1)
    for state, counts in found.values():
        assert int(state.step) == 3
        for one, whole in zip(
            jax.tree.leaves((state.opt_state, state.params)),
            jax.tree.leaves((whole_state.opt_state, whole_state.params)),
            strict=True,
        ):
            assert np.abs(one - whole).max() <= 2e-6 * np.abs(whole).max()
        for one, whole in zip(counts, whole_counts, strict=True):
            assert one.loss == pytest.approx(whole.loss, rel=1e-6)
            assert one.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-6)
            for name in ("examples", "top1_errors", "top5_errors"):
                assert getattr(one, name) == getattr(whole, name)


# --- The compiled step ------------------------------------------------------------

SHARE = 13  # examples per device; no other size in the network below is 13


@pytest.fixture(
    scope="module",
    params=[
        ("pmap", "by the library"),
        pytest.param(("shard_map", "in a loop"), marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def compiled(request):
    """A small two-tower AlexNet's compiled step on eight devices, and its state.

    Kernel gradients are computed as at this width, or as at width 1 on CPUs; the maps count
    as large, as they are at full size.
    """
    how, kernels = request.param
    looped = kernels == "in a loop"
    with (
        mock.patch.object(kernel_gradient_cpu, "is_faster", return_value=looped),
        mock.patch.object(small_maps_cpu, "is_faster", return_value=False),
    ):
        text, state = compile_step(how)
    # Forward 8, since 3 layers have two towers; backward 7 for the inputs and 8 for the
    # kernels.
    assert text.count(" convolution(") == (15 if looped else 23)
    return text, state


def compile_step(how, accumulation=1):
    devices = Devices(how)
    state = jax.eval_shape(lambda: steps.initial_state(small_alexnet(), 0, RULE))
    share = SHARE * accumulation
    shape = (8, share) if how == "pmap" else (8 * share,)
    batch = {
        name: jax.ShapeDtypeStruct((*shape, *values.shape[1:]), values.dtype)
        for name, values in make_batch(size=40, examples=1).items()
    }
    train_step = devices.spread_train(alexnet_step(accumulation))
    text = train_step.lower(state, batch, NUMBERS, mean_image(48)).compile().as_text()
    return text, state


def instructions(text):
    """name -> (sizes of its outputs, operation, names of its operands)."""
    found = {}
    for line in text.splitlines():
        match = re.match(
            r"\s*(?:ROOT )?%(\S+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)(?:,|$)", line
        )
        if match:
            name, shapes, operation, operands = match.groups()
            sizes = [
                [int(size) for size in dimensions.split(",") if size]
                for dimensions in re.findall(r"\w\[([\d,]*)\]", shapes)
            ]
            found[name] = sizes, operation, re.findall(r"%([\w.-]+)", operands)
    return found


@pytest.mark.slow
def test_each_convolution_sees_only_its_devices_share_of_the_batch(compiled):
    """XLA may gather the whole batch on each device for a grouped convolution."""
    found = instructions(compiled[0])
    convolutions = [one for one in found.values() if one[1] == "convolution"]
    assert len(convolutions) >= 15
    for outputs, _, operands in convolutions:
        arrays = outputs + [sizes for name in operands for sizes in found[name][0]]
        # The share is the batch size of input and output, or is summed over.
        assert sum(SHARE in sizes for sizes in arrays) >= 2
    # No other instruction has the whole batch either.
    assert not any(8 * SHARE in sizes for one in found.values() for sizes in one[0])


def test_no_device_gathers_other_devices_data(compiled):
    operations = {operation for _, operation, _ in instructions(compiled[0]).values()}
    assert "all-reduce" in operations
    moving = ("all-gather", "all-to-all", "collective-permute")
    assert not [name for name in operations if name.startswith(moving)]


def assert_reduced_once(text, state):
    reduced = [
        [tuple(sizes) for sizes in outputs]
        for outputs, operation, _ in instructions(text).values()
        if operation == "all-reduce"
    ]
    # One all-reduce of all gradients and the loss, and one of the integer counts.
    gradients = [leaf.shape for leaf in jax.tree.leaves(state.params)]
    assert sorted(map(sorted, reduced)) == sorted(
        map(sorted, ([*gradients, ()], [(), (), ()]))
    )


def test_gradients_are_summed_in_one_all_reduce(compiled):
    assert_reduced_once(*compiled)


@pytest.mark.slow
@pytest.mark.parametrize("how", SPREADS)
@pytest.mark.parametrize("accumulation", [4])
def test_gradient_accumulation_all_reduces_only_the_sum(how, accumulation):
    """The all-reduce follows the loop over the microbatches."""
    text, state = compile_step(how, accumulation)
    assert_reduced_once(text, state)
    assert f'"known_trip_count":{{"n":"{accumulation}"}}' in text
    looped, entry = text.split("\nENTRY ")
    assert " convolution(" in looped
    assert "all-reduce(" not in looped
    assert entry.count("all-reduce(") == 2


def test_no_pooling_gradient_is_scattered(compiled):
    """XLA rejects select-and-scatter on GPUs when results must be deterministic."""
    assert "select-and-scatter" not in compiled[0]


# --- Placing batches --------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "advice"),
    [(12, "use 8 or 16"), (127, "use 120 or 128"), (5, "use 8"), (1, "use 8")],
)
def test_accelerators_refuse_an_indivisible_batch_with_the_nearest_sizes(
    devices, monkeypatch, batch_size, advice
):
    monkeypatch.setattr(Devices, "may_leave_out", False)
    with pytest.raises(UserError) as caught:
        devices.check_batch_size(batch_size)
    assert str(caught.value) == (
        f"config.training.batch_size={batch_size} cannot be divided among 8 devices: "
        f"{advice}."
    )


@pytest.mark.parametrize("batch_size", [8, 16, 128])
def test_a_divisible_batch_is_accepted(devices, batch_size):
    devices.check_batch_size(batch_size)


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "advice"),
    [
        (24, 2, "8 devices x 2 microbatches: use 16 or 32"),
        (8, 2, "8 devices x 2 microbatches: use 16"),
        (48, 4, "8 devices x 4 microbatches: use 32 or 64"),
    ],
)
def test_accelerators_refuse_an_indivisible_microbatch(
    devices, monkeypatch, batch_size, accumulation, advice
):
    monkeypatch.setattr(Devices, "may_leave_out", False)
    devices.check_batch_size(batch_size)
    devices.check_batch_size(4 * batch_size, accumulation)
    with pytest.raises(UserError) as caught:
        devices.check_batch_size(batch_size, accumulation)
    assert str(caught.value) == (
        f"config.training.batch_size={batch_size} cannot be divided among {advice}."
    )


def test_a_batch_is_divided_into_microbatches_on_any_device(devices):
    with pytest.raises(UserError, match="1 device x 3 microbatches: use 6 or 9"):
        devices.check_batch_size(8, 3)


def test_one_device_accepts_any_batch_size():
    some_devices(1).check_batch_size(127)


def test_sizes_are_rounded_up_to_a_multiple_of_the_devices(devices):
    assert [devices.rounded_up(size) for size in (1, 8, 9, 128)] == [8, 8, 16, 128]


def test_a_placed_batch_keeps_its_order(devices):
    batch = {"example": np.arange(24), "pixel": np.arange(48).reshape(24, 2)}
    placed = devices.place_batch(batch)
    assert placed["example"].shape == (8, 3)
    for name, values in batch.items():
        flat = np.asarray(placed[name]).reshape(values.shape)
        np.testing.assert_array_equal(flat, values)
    shards = placed["example"].addressable_shards
    shares = {shard.device: shard.data.ravel().tolist() for shard in shards}
    assert [shares[device] for device in devices.devices] == [
        [3 * i, 3 * i + 1, 3 * i + 2] for i in range(8)
    ]


def test_a_step_donates_its_state_but_not_the_original(network, devices, train_step):
    """The new weights reuse the placed state's memory."""
    original = steps.initial_state(network, 0, RULE)
    before = jax.tree.map(np.copy, original.params)
    state = devices.place_copies(original)
    batch, mean = devices.place_batch(make_batch()), devices.place_copies(mean_image())
    after, _ = train_step(state, batch, NUMBERS, mean)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    others = jax.tree.leaves((after, batch, mean))
    assert not any(leaf.is_deleted() for leaf in others)
    jax.tree.map(np.testing.assert_array_equal, original.params, before)


@pytest.mark.parametrize("how", SPREADS)
def test_batch_shapes_are_those_of_the_placed_batch(how):
    some, batch = Devices(how), make_batch()
    shapes = some.batch_shapes(batch)
    for name, values in some.place_batch(batch).items():
        assert shapes[name].shape == values.shape
        assert shapes[name].dtype == values.dtype
        assert shapes[name].sharding == values.sharding
