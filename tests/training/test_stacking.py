"""One trial's step as a step of a group: bit-identical, without copying the state."""

import jax
import numpy as np
import pytest
from test_devices import FORM, NUMBERS, RULE, make_batch, mean_image, small_alexnet

from alexnet_jax.training import step as steps
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.stacking import (
    SeedSlots,
    stack,
    stack_batches,
    stack_eval_step,
    stack_train_step,
    stacked_shapes,
    unstack,
)

SIZE = 40


@pytest.fixture(scope="module")
def network():
    return small_alexnet()


def form():
    return steps.InputForm(**{**vars(FORM), "crop_size": SIZE})


def plain_step(network, microbatches=1):
    gradient_step = steps.make_gradient_step(network, form(), microbatches)
    return steps.joined(gradient_step, steps.make_update(RULE))


def stacked_step(network, seed_index, microbatches=1):
    gradient_step = steps.make_gradient_step(network, form(), microbatches)
    return stack_train_step(gradient_step, steps.make_update(RULE), seed_index)


@pytest.mark.slow
def test_the_state_of_a_single_trial_is_updated_in_place(network):
    """The compiled step copies no more than the plain one, in as much memory.

    A copy of the state would be one of each of its 33 arrays. The forms for CPUs may need
    a small one more.
    """
    devices = Devices(devices=jax.devices()[:2])
    batch, mean = make_batch(size=SIZE), mean_image(48)
    shapes = steps.state_shapes(network, RULE)
    plain, stacked = (
        devices.spread_train(step).lower(*arguments).compile()
        for step, arguments in (
            (
                plain_step(network),
                (shapes, devices.batch_shapes(batch), NUMBERS, mean),
            ),
            (
                stacked_step(network, (0,)),
                (
                    stacked_shapes(shapes, 1),
                    devices.batch_shapes(stack_batches([batch])),
                    stack([NUMBERS]),
                    mean,
                ),
            ),
        )
    )
    copies = [each.as_text().count(" copy(") for each in (plain, stacked)]
    assert copies[1] <= copies[0] + 2
    of_plain, of_stacked = (each.memory_analysis() for each in (plain, stacked))
    assert of_stacked.alias_size_in_bytes == of_plain.alias_size_in_bytes
    assert of_stacked.temp_size_in_bytes <= 1.01 * of_plain.temp_size_in_bytes


@pytest.mark.slow
def test_a_single_trials_steps_are_bit_identical_to_plain_steps(network):
    devices, microbatches = Devices(devices=jax.devices()[:2]), 2
    mean = devices.place_copies(mean_image(48))
    initial = steps.initial_state(network, 0, RULE)
    plain, stacked = (
        devices.place_copies(initial),
        devices.place_copies(stack([initial])),
    )
    plain_train = devices.spread_train(plain_step(network, microbatches))
    stacked_train = devices.spread_train(stacked_step(network, (0,), microbatches))
    for epoch in range(3):
        batch = make_batch(epoch, size=SIZE)
        plain, counts = plain_train(plain, devices.place_batch(batch), NUMBERS, mean)
        stacked, stacked_counts = stacked_train(
            stacked, devices.place_batch(stack_batches([batch])), stack([NUMBERS]), mean
        )
        for one, other in zip(counts, stacked_counts, strict=True):
            np.testing.assert_array_equal(one, other[0])
    own = unstack(stacked, 0, devices.replicated)
    jax.tree.map(np.testing.assert_array_equal, own, plain)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(stacked))

    eval_step = steps.make_eval_step(network, form())
    batch = make_batch(size=48)
    batch = {name: batch[name] for name in ("image", "label", "example")}
    batch["weight"] = np.ones(len(batch["label"]), np.float32)
    placed = devices.place_batch(batch)
    counts = devices.spread_eval(eval_step)(plain.params, placed, mean)
    stacked_eval = devices.spread_eval(stack_eval_step(eval_step, 1))
    for one, other in zip(
        counts, stacked_eval(stacked.params, placed, mean), strict=True
    ):
        np.testing.assert_array_equal(one, other[0])


def test_trials_with_the_same_seed_share_a_batch_index():
    assert SeedSlots.of([7, 2, 7]) == SeedSlots((7, 2), (0, 1, 0), 1)
    assert SeedSlots.of([5]) == SeedSlots((5,), (0,), 1)


@pytest.mark.parametrize("count", [1, 3])
def test_unstacking_reverses_stacking(devices, count):
    trees = [{"a": np.full((2, 3), n), "b": np.float32(n)} for n in range(count)]
    stacked = stack(trees)
    assert stacked["a"].shape == (count, 2, 3)
    assert stacked["b"].shape == (count,)
    placed = devices.place_copies(stacked)
    for number, tree in enumerate(trees):
        own = unstack(placed, number, devices.replicated)
        jax.tree.map(np.testing.assert_array_equal, own, tree)
    batches = [{"image": np.full((4, 2), n)} for n in range(count)]
    image = stack_batches(batches)["image"]
    assert image.shape == (4, count, 2)
    assert (image == np.arange(count)[None, :, None]).all()
