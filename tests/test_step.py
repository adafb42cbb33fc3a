"""One step: its counts, its input, its dropout keys, and the update it makes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alexnet_jax.config import base
from alexnet_jax.model.network import build
from alexnet_jax.training import step as steps
from alexnet_jax.training.parallel import Devices

BATCH = 16
SIZE = 16


def make_network():
    """A small net with dropout whose first weights tell images apart."""
    model = base(network="four_layer").model.to_dict() | {
        "width": 0.25,
        "dropout_rate": 0.5,
        "weight_deviations": (0.01, 0.05, 0.05, 0.05),
    }
    return build(model, image_size=SIZE, num_classes=10)


def make_batch(epoch=0):
    """Examples in a pattern that no library's random numbers can change."""
    pixels = np.arange(BATCH * SIZE * SIZE * 3) * 7919 % 10007 % 256
    return {
        "image": pixels.reshape(BATCH, SIZE, SIZE, 3).astype(np.uint8),
        "label": (np.arange(BATCH) * 3 % 10).astype(np.int32),
        "lighting": np.linspace(-20, 20, BATCH * 3)
        .reshape(BATCH, 3)
        .astype(np.float32),
        "example": (np.arange(BATCH) * 5).astype(np.int32),
        "epoch": np.full(BATCH, epoch, np.int32),
        "weight": np.ones(BATCH, np.float32),
    }


MEAN_IMAGE = np.full((SIZE, SIZE, 3), 127.5, np.float32)


def numbers(learning_rate, weight_decay=0.0005, seed=3):
    return steps.Numbers(
        np.float32(learning_rate),
        np.float32(0.9),
        np.float32(weight_decay),
        np.uint32(seed),
    )


# --- Counts -----------------------------------------------------------------------


def count(logits, labels, weights):
    """Sums over the examples, as plain numbers."""
    counts = steps.count(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(weights))
    return tuple(map(float, counts))


def slow_count(logits, labels, weights):
    """One example after the other, in float64."""
    examples, loss, top1, top5 = 0, 0.0, 0, 0
    for row, label, weight in zip(
        logits.astype(np.float64), labels, weights, strict=True
    ):
        if weight == 0:
            continue
        examples += 1
        loss += math.log(np.exp(row - row.max()).sum()) + row.max() - row[label]
        larger = (row > row[label]).sum()
        top1 += larger >= 1
        top5 += larger >= 5
    return examples, loss, top1, top5


@pytest.mark.parametrize("classes", [2, 3, 5, 6, 10, 1000])
def test_counts_are_those_of_a_slow_loop(classes):
    draws = np.random.default_rng(classes)
    logits = 3 * draws.standard_normal((64, classes)).astype(np.float32)
    labels = draws.integers(0, classes, 64).astype(np.int32)
    weights = (draws.random(64) < 0.7).astype(np.float32)
    counted = count(logits, labels, weights)
    assert counted == pytest.approx(slow_count(logits, labels, weights), rel=1e-5)
    if classes <= 5:
        assert counted[3] == 0


def test_examples_of_weight_zero_do_not_count_whatever_they_hold():
    logits = np.zeros((3, 10), np.float32)
    logits[0] = np.nan
    logits[2] = np.inf
    labels, weights = np.array([9, 9, 0], np.int32), np.array([0, 1, 0], np.float32)
    assert count(logits, labels, weights) == pytest.approx((1, math.log(10), 1, 1))


def test_of_equal_logits_the_lower_class_counts_as_the_larger():
    """A network that says nothing is right on class 0 alone, and five in its top five."""
    logits = np.zeros((10, 10), np.float32)
    labels, ones = np.arange(10, dtype=np.int32), np.ones(10, np.float32)
    assert count(logits, labels, ones)[2:] == (9, 5)


def test_large_logits_do_not_overflow():
    logits = np.array([[1e4, 0.0], [0.0, 1e4]], np.float32)
    labels, ones = np.array([1, 1], np.int32), np.ones(2, np.float32)
    assert count(logits, labels, ones) == pytest.approx((2, 1e4, 1, 0))


# --- Input and keys ---------------------------------------------------------------


def test_the_network_sees_grey_levels_less_the_mean_and_with_a_colour_shift():
    images = np.array([0, 255, 100, 7], np.uint8).reshape(2, 1, 2, 1).repeat(3, axis=3)
    mean = np.array([[[10, 20, 30], [1, 2, 3]]], np.float32)
    lighting = np.array([[0, 0, 0], [0.5, -1, 2]], np.float32)
    x = steps.network_input(
        jnp.asarray(images), jnp.asarray(mean), jnp.asarray(lighting)
    )
    assert x.dtype == jnp.float32
    assert x.tolist() == [
        [[[-10, -20, -30], [254, 253, 252]]],
        [[[90.5, 79, 72], [6.5, 4, 6]]],
    ]


def key_data(seed, epochs, examples):
    keys = steps.dropout_keys(
        np.uint32(seed), jnp.asarray(epochs), jnp.asarray(examples)
    )
    return [tuple(row) for row in jax.random.key_data(keys).tolist()]


def test_an_examples_dropout_key_depends_on_seed_epoch_and_example_alone():
    together = key_data(1, [0, 0, 1, 1], [4, 5, 4, 5])
    assert len(set(together)) == 4
    assert key_data(1, [1, 0], [4, 5]) == [together[2], together[1]]
    assert not set(key_data(2, [0, 0, 1, 1], [4, 5, 4, 5])) & set(together)


def test_dropout_keys_of_epoch_and_example_are_not_exchangeable():
    assert key_data(0, [2], [7]) != key_data(0, [7], [2])


# --- Steps ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    return make_network()


@pytest.fixture(scope="module")
def devices():
    return Devices()


@pytest.fixture(scope="module")
def train_step(network, devices):
    return devices.spread_train(steps.make_train_step(network))


def trained(network, devices, train_step, rates, **changes):
    """State and counts after a step at each of the learning rates."""
    state = devices.place_state(steps.initial_state(network, 0))
    mean_image = devices.place_state(MEAN_IMAGE)
    counts = []
    for epoch, rate in enumerate(rates):
        batch = devices.place_batch(make_batch(epoch) | changes)
        state, counted = train_step(state, batch, numbers(rate), mean_image)
        counts.append(counted)
    return state, counts


def by_hand(network, rates):
    """The same steps: the whole batch at once, the rule in numpy."""
    params = jax.tree.map(np.asarray, network.initialize(jax.random.key(0)))
    velocity = jax.tree.map(np.zeros_like, params)

    @jax.jit
    def loss(params, batch):
        images = batch["image"].astype(jnp.float32) - MEAN_IMAGE
        images = images + batch["lighting"][:, None, None, :]
        keys = steps.dropout_keys(np.uint32(3), batch["epoch"], batch["example"])
        logits = network.apply(params, images, keys)
        chosen = jnp.take_along_axis(logits, batch["label"][:, None], axis=1)
        return (jax.nn.logsumexp(logits, axis=1) - chosen[:, 0]).mean()

    losses = []
    for epoch, rate in enumerate(rates):
        value, gradient = jax.value_and_grad(loss)(params, make_batch(epoch))
        losses.append(float(value))
        for name, layer in params.items():
            for kind, decay in (("kernel", 0.0005), ("bias", 0.0)):
                change = rate * (decay * layer[kind] + np.asarray(gradient[name][kind]))
                velocity[name][kind] = 0.9 * velocity[name][kind] - change
                layer[kind] = layer[kind] + velocity[name][kind]
    return params, losses


def test_spread_steps_are_those_by_hand(network, devices, train_step):
    """Eight devices, a drop of the learning rate, dropout and decay."""
    rates = (0.01, 0.01, 0.001)
    state, counts = trained(network, devices, train_step, rates)
    params, losses = by_hand(network, rates)
    assert int(state.step) == 3
    assert [float(one.loss) / BATCH for one in counts] == pytest.approx(
        losses, rel=1e-5
    )
    for name, layer in params.items():
        for kind, expected in layer.items():
            np.testing.assert_allclose(
                state.params[name][kind], expected, rtol=1e-4, atol=1e-6
            )


def test_a_step_counts_its_batch_before_the_update(network, devices, train_step):
    """Even a wild learning rate does not show in the counts of its own step."""
    _, (calm,) = trained(network, devices, train_step, (0.0,))
    _, (wild,) = trained(network, devices, train_step, (1e3,))
    assert calm == wild
    assert int(calm.examples) == BATCH


def test_another_seed_drops_other_units(network, devices, train_step):
    state = devices.place_state(steps.initial_state(network, 0))
    batch = devices.place_batch(make_batch())
    mean_image = devices.place_state(MEAN_IMAGE)
    _, one = train_step(state, batch, numbers(0.01, seed=3), mean_image)
    state = devices.place_state(steps.initial_state(network, 0))
    _, other = train_step(state, batch, numbers(0.01, seed=4), mean_image)
    assert float(one.loss) != float(other.loss)


def test_a_seeded_step_is_pinned(network, devices, train_step):
    """A change of any part of the step would silently change every run.

    The loss, and how far each layer's parameters move: the norm of its gradient, but
    for the decay.
    """
    before = steps.initial_state(network, 0).params
    state, (counts,) = trained(network, devices, train_step, (1.0,))
    norms = {
        name: float(optax.tree.norm(jax.tree.map(jnp.subtract, after, before[name])))
        for name, after in state.params.items()
    }
    assert float(counts.loss) / BATCH == pytest.approx(2.99796, rel=1e-5)
    assert norms == pytest.approx(
        {"conv1": 35.3687, "conv2": 6.99202, "conv3": 9.40758, "fc4": 5.20499}, rel=1e-5
    )


def test_an_evaluation_counts_without_dropout(network, devices):
    eval_step = devices.spread_eval(steps.make_eval_step(network))
    params = steps.initial_state(network, 0).params
    batch = make_batch()
    batch["weight"][::3] = 0.0
    counts = eval_step(
        devices.place_state(params),
        devices.place_batch(batch),
        devices.place_state(MEAN_IMAGE),
    )
    images = batch["image"] - MEAN_IMAGE + batch["lighting"][:, None, None, :]
    logits = np.asarray(network.apply(params, jnp.asarray(images), None))
    expected = slow_count(logits, batch["label"], batch["weight"])
    assert tuple(map(float, counts)) == pytest.approx(expected, rel=1e-4)
