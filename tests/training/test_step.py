"""One step: counts, dropout keys, update, and averaging over evaluation crops."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from single_trial_step import single_trial_step

from alexnet_jax.config import base
from alexnet_jax.model.network import Network, build
from alexnet_jax.training import step as steps
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.objective import Targets
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
    eval_crops="center",
)
TEN = dataclasses.replace(FORM, eval_crops="ten")
PAPER = OptimizerSpec(lr_inside_momentum=True, bias_decay=False)
PYTORCH = OptimizerSpec(lr_inside_momentum=False, bias_decay=True)
LAYERED = (("conv1", 0.0), ("conv2", 0.1), ("fc4", 10.0))


def make_network():
    """A small network with dropout whose initial weights distinguish images."""
    model = base(network="four_layer").model.to_dict() | {
        "width": 0.25,
        "dropout_rate": 0.5,
        "weight_stds": (0.01, 0.05, 0.05, 0.05),
    }
    return build(ConfigDict(model), image_size=SIZE, num_classes=10)


def pixels(side):
    """Images in a fixed pattern, independent of any library's random numbers."""
    values = np.arange(BATCH * side * side * 3) * 7919 % 10007 % 256
    return values.reshape(BATCH, side, side, 3).astype(np.uint8)


def make_batch(epoch=0):
    """Each example cropped at its own place, every second one flipped."""
    return {
        "image": pixels(SIZE),
        "label": (np.arange(BATCH) * 3 % 10).astype(np.int32),
        "lighting": np.linspace(-20, 20, BATCH * 3)
        .reshape(BATCH, 3)
        .astype(np.float32),
        "gain": np.ones(BATCH, np.float32),
        "offset": (np.arange(BATCH * 2) * 3 % 5).reshape(BATCH, 2).astype(np.int32),
        "mirrored": (np.arange(BATCH) % 2).astype(np.int32),
        "example": (np.arange(BATCH) * 5).astype(np.int32),
        "epoch": np.full(BATCH, epoch, np.int32),
    }


def make_evaluation_batch():
    """Whole images, some of them padding."""
    return {
        "image": pixels(SIDE),
        "label": (np.arange(BATCH) * 3 % 10).astype(np.int32),
        "example": np.arange(BATCH, dtype=np.int32),
        "weight": (np.arange(BATCH) % 3 > 0).astype(np.float32),
    }


GREY = np.full((SIDE, SIDE, 3), 127.5, np.float32)
# The mean differs between positions, channels and reflections.
UNEVEN = np.linspace(60, 190, SIDE * SIDE * 3).reshape(SIDE, SIDE, 3).astype(np.float32)


def rates_of(rate):
    """Different rates for kernels, biases and conv1."""
    return LearningRates(rate, 2 * rate, rate / 2, 3 * rate)


def numbers(rates, weight_decay=0.0005, seed=3):
    return Hyperparameters(
        LearningRates(*map(np.float32, rates)),
        np.float32(0.9),
        np.float32(weight_decay),
        np.uint32(seed),
    )


# --- Counts -----------------------------------------------------------------------


def count(logits, labels, weights):
    """Sums over the examples, as plain numbers."""
    given = [jnp.asarray(each) for each in (logits, labels, weights)]
    counts = steps.count(
        *given, steps.CROSS_ENTROPY.losses(given[0], Targets(given[1]))
    )
    return tuple(map(float, counts))


def slow_count(logits, labels, weights):
    """The counts, one example at a time, in float64."""
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
def test_counts_match_a_slow_loop(classes):
    draws = np.random.default_rng(classes)
    logits = 3 * draws.standard_normal((64, classes)).astype(np.float32)
    labels = draws.integers(0, classes, 64).astype(np.int32)
    weights = (draws.random(64) < 0.7).astype(np.float32)
    counted = count(logits, labels, weights)
    assert counted == pytest.approx(slow_count(logits, labels, weights), rel=1e-5)
    if classes <= 5:
        assert counted[3] == 0


def test_examples_of_weight_zero_do_not_count():
    logits = np.zeros((3, 10), np.float32)
    logits[0] = np.nan
    logits[2] = np.inf
    labels, weights = np.array([9, 9, 0], np.int32), np.array([0, 1, 0], np.float32)
    assert count(logits, labels, weights) == pytest.approx((1, math.log(10), 1, 1))


def test_ties_favor_the_lower_class():
    """Equal logits are right on class 0 alone, and on five classes in the top five."""
    logits = np.zeros((10, 10), np.float32)
    labels, ones = np.arange(10, dtype=np.int32), np.ones(10, np.float32)
    assert count(logits, labels, ones)[2:] == (9, 5)


def test_large_logits_do_not_overflow():
    logits = np.array([[1e4, 0.0], [0.0, 1e4]], np.float32)
    labels, ones = np.array([1, 1], np.int32), np.ones(2, np.float32)
    assert count(logits, labels, ones) == pytest.approx((2, 1e4, 1, 0))


# --- Dropout keys -----------------------------------------------------------------


def key_data(seed, epochs, examples):
    keys = steps.dropout_keys(
        np.uint32(seed), jnp.asarray(epochs), jnp.asarray(examples)
    )
    return [tuple(row) for row in jax.random.key_data(keys).tolist()]


def test_dropout_keys_depend_only_on_seed_epoch_and_example():
    together = key_data(1, [0, 0, 1, 1], [4, 5, 4, 5])
    assert len(set(together)) == 4
    assert key_data(1, [1, 0], [4, 5]) == [together[2], together[1]]
    assert not set(key_data(2, [0, 0, 1, 1], [4, 5, 4, 5])) & set(together)


def test_swapping_epoch_and_example_changes_the_dropout_key():
    assert key_data(0, [2], [7]) != key_data(0, [7], [2])


# --- Steps ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    return make_network()


@pytest.fixture(scope="module")
def devices():
    return Devices()


def stepper(network, devices, rule, microbatches=1):
    return devices.spread_train(single_trial_step(network, FORM, rule, microbatches))


@pytest.fixture(scope="module")
def train_step(network, devices):
    return stepper(network, devices, PAPER)


def trained(network, devices, train_step, rates, *, rule=PAPER, mean=GREY, **changes):
    """State and counts after one step at each of the learning rates."""
    state = devices.place_copies(steps.initial_state(network, 0, rule))
    counts = []
    for epoch, rates_now in enumerate(rates):
        batch = devices.place_batch(make_batch(epoch) | changes)
        state, counted = train_step(
            state, batch, numbers(rates_now), devices.place_copies(mean)
        )
        counts.append(counted)
    return state, counts


def input_by_hand(batch, mean):
    images = []
    for i, (y, x) in enumerate(batch["offset"]):
        part = mean[y : y + SIZE, x : x + SIZE]
        part = part[:, ::-1] if batch["mirrored"][i] else part
        images.append(
            (batch["image"][i] - part + batch["lighting"][i]) * batch["gain"][i]
        )
    return jnp.asarray(np.stack(images), jnp.float32)


def by_hand(network, rates, rule, mean, **changes):
    """The same steps on the whole batch at once, with the update rule in numpy."""
    params = jax.tree.map(np.asarray, network.initialize(jax.random.key(0)))
    velocity = jax.tree.map(np.zeros_like, params)

    @jax.jit
    def loss(params, batch, images):
        keys = steps.dropout_keys(np.uint32(3), batch["epoch"], batch["example"])
        logits = network.apply(params, images, keys)
        chosen = jnp.take_along_axis(logits, batch["label"][:, None], axis=1)
        return (jax.nn.logsumexp(logits, axis=1) - chosen[:, 0]).mean()

    losses = []
    for epoch, rates_now in enumerate(rates):
        batch = make_batch(epoch) | changes
        images = input_by_hand(batch, mean)
        value, gradient = jax.value_and_grad(loss)(params, batch, images)
        losses.append(float(value))
        for name, layer in params.items():
            for kind in layer:
                field = f"conv1_{kind}" if name == "conv1" else kind
                rate = getattr(rates_now, field) * dict(rule.lr_multipliers).get(
                    name, 1
                )
                decay = 0.0005 if kind == "kernel" or rule.bias_decay else 0.0
                change = decay * layer[kind] + np.asarray(gradient[name][kind])
                inside, outside = (rate, 1) if rule.lr_inside_momentum else (1, rate)
                velocity[name][kind] = 0.9 * velocity[name][kind] - inside * change
                layer[kind] = layer[kind] + outside * velocity[name][kind]
    return params, losses


@pytest.mark.parametrize(
    ("rule", "microbatches"),
    [
        (PAPER, 1),
        (PYTORCH, 1),
        (dataclasses.replace(PAPER, lr_multipliers=LAYERED), 2),
        (dataclasses.replace(PYTORCH, lr_multipliers=LAYERED), 1),
    ],
)
def test_distributed_steps_match_hand_computation(network, devices, rule, microbatches):
    """Eight devices, a learning-rate drop, dropout, decay, crops and gains."""
    rates = [rates_of(rate) for rate in (0.01, 0.01, 0.001)]
    given = {"mean": UNEVEN, "gain": np.linspace(0.5, 1.5, BATCH, dtype=np.float32)}
    train_step = stepper(network, devices, rule, microbatches)
    state, counts = trained(network, devices, train_step, rates, rule=rule, **given)
    params, losses = by_hand(network, rates, rule, **given)
    assert int(state.step) == 3
    assert [float(one.loss) / BATCH for one in counts] == pytest.approx(
        losses, rel=1e-5
    )
    for name, layer in params.items():
        for kind, expected in layer.items():
            np.testing.assert_allclose(
                state.params[name][kind], expected, rtol=1e-4, atol=1e-6
            )


@pytest.mark.parametrize(
    ("rule", "how"),
    [
        (PAPER, "pmap"),
        (PYTORCH, "shard_map"),
        pytest.param(PAPER, "shard_map", marks=pytest.mark.slow),
        pytest.param(PYTORCH, "pmap", marks=pytest.mark.slow),
    ],
)
def test_frozen_layers_are_unchanged_in_every_bit(network, how, rule):
    """Also the sign of a weight of zero; their momentum stays zero, the others move."""
    some = Devices(how, jax.devices()[:2])
    rule = dataclasses.replace(rule, lr_multipliers=(("conv1", 0.0), ("conv3", 0.0)))
    state = steps.initial_state(network, 0, rule)
    kernel = np.array(state.params["conv1"]["kernel"])
    kernel[0] = -0.0
    before = {**state.params, "conv1": {**state.params["conv1"], "kernel": kernel}}
    state = some.place_copies(dataclasses.replace(state, params=before))
    train_step = stepper(network, some, rule)
    for epoch in range(2):
        state, counts = train_step(
            state,
            some.place_batch(make_batch(epoch)),
            numbers(rates_of(0.01)),
            some.place_copies(GREY),
        )
    assert float(counts.gradient_norm) > 0
    unmoved = {
        name
        for name, layer in before.items()
        if all(
            np.asarray(state.params[name][kind]).tobytes() == np.asarray(x).tobytes()
            for kind, x in layer.items()
        )
    }
    assert unmoved == {"conv1", "conv3"}
    velocity = jax.tree.leaves(state.opt_state)
    of_layers = jax.tree.unflatten(jax.tree.structure(before), velocity)
    assert {n for n in before if not np.any(of_layers[n]["kernel"])} == unmoved


def test_a_step_counts_its_batch_before_the_update(network, devices, train_step):
    """Even an extreme learning rate does not affect the counts of its own step."""
    _, (calm,) = trained(network, devices, train_step, [rates_of(0.0)])
    _, (wild,) = trained(network, devices, train_step, [rates_of(1e3)])
    assert calm == wild
    assert int(calm.examples) == BATCH


def test_another_seed_drops_different_units(network, devices, train_step):
    losses = []
    for seed in (3, 4):
        _, counts = train_step(
            devices.place_copies(steps.initial_state(network, 0, PAPER)),
            devices.place_batch(make_batch()),
            numbers(rates_of(0.01), seed=seed),
            devices.place_copies(GREY),
        )
        losses.append(float(counts.loss))
    assert losses[0] != losses[1]


def test_a_seeded_step_is_pinned(network, devices, train_step):
    """A change to any part of the step would silently change every run.

    Pins the loss and how far each layer's parameters move: the gradient's norm, apart
    from decay.
    """
    before = steps.initial_state(network, 0, PAPER).params
    ones = LearningRates(1.0, 1.0, 1.0, 1.0)
    state, (counts,) = trained(network, devices, train_step, [ones])
    norms = {
        name: float(optax.tree.norm(jax.tree.map(jnp.subtract, after, before[name])))
        for name, after in state.params.items()
    }
    assert float(counts.loss) / BATCH == pytest.approx(2.99796, rel=1e-5)
    assert norms == pytest.approx(
        {"conv1": 35.3687, "conv2": 6.99202, "conv3": 9.40758, "fc4": 5.20499}, rel=1e-5
    )


# --- Evaluation -------------------------------------------------------------------


def on_the_first(count):
    """The first `count` of this process's eight devices."""
    return Devices(devices=jax.devices()[:count])


def evaluated(network, devices, form, params, batch, mean):
    eval_step = devices.spread_eval(steps.make_eval_step(network, form))
    return eval_step(
        devices.place_copies(params),
        devices.place_batch(batch),
        devices.place_copies(mean),
    )


def log_probabilities(network, params, images):
    """Log-probabilities in float64, without dropout."""
    logits = network.apply(params, jnp.asarray(images, jnp.float32), None)
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_center_crop_evaluation_counts_without_dropout(network, devices):
    params, batch = network.initialize(jax.random.key(0)), make_evaluation_batch()
    counts = evaluated(network, devices, FORM, params, batch, UNEVEN)
    images = (batch["image"] - UNEVEN)[:, 2:18, 2:18]
    expected = slow_count(
        log_probabilities(network, params, images), batch["label"], batch["weight"]
    )
    assert tuple(map(float, counts)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("count", [1, 8])
def test_ten_crop_evaluation_averages_probabilities(network, count):
    """Four corners and the center of whole images, each also flipped."""
    params, batch = network.initialize(jax.random.key(0)), make_evaluation_batch()
    some = on_the_first(count)
    counts = evaluated(network, some, TEN, params, batch, UNEVEN)

    of_views = []
    for y, x in [(0, 0), (0, 4), (2, 2), (4, 0), (4, 4)]:
        view = (batch["image"] - UNEVEN)[:, y : y + SIZE, x : x + SIZE]
        for one in (view, view[:, :, ::-1]):
            of_views.append(log_probabilities(network, params, one))
    rest = batch["label"], batch["weight"]
    expected = slow_count(np.log(np.exp(of_views).mean(axis=0)), *rest)
    assert tuple(map(float, counts)) == pytest.approx(expected, rel=1e-4)
    of_logits = slow_count(np.mean(of_views, axis=0), *rest)
    assert of_logits[1] > 1.01 * expected[1]
    for number in (counts.examples, counts.top1_errors, counts.top5_errors):
        assert number.dtype == jnp.int32


def looked_up(*logits):
    """A network that returns the logits indexed by the image's first pixel."""

    class LookUp(Network):
        def apply(self, params, images, dropout_keys):
            return params["logits"][images[:, 0, 0, 0].astype(int)]

    return object.__new__(LookUp), {"logits": jnp.asarray(logits, jnp.float32)}


ONE_PIXEL = dataclasses.replace(TEN, crop_size=1)


def told_apart(corner):
    """3 x 3 images whose upper left pixel holds `corner`."""
    images = np.zeros((8, 3, 3, 3), np.uint8)
    images[:, 0, 0] = corner
    return {
        "image": images,
        "label": np.zeros(8, np.int32),
        "weight": np.ones(8, np.float32),
    }


@pytest.mark.parametrize("count", [1, 8])
def test_confident_crops_do_not_outvote_the_others(count):
    """Two of ten crops favor class 1 by e^20 to 1, the others class 0 by e to 1.

    Class 0 has mean probability 0.58, although class 1 has the larger mean logit.
    """
    network, params = looked_up([1, 0], [0, 20])
    mean = np.zeros((3, 3, 3), np.float32)
    some = on_the_first(count)
    counts = evaluated(network, some, ONE_PIXEL, params, told_apart(1), mean)
    sure = math.exp(20)
    probability = 0.8 * math.e / (math.e + 1) + 0.2 / (1 + sure)
    assert float(counts.loss) == pytest.approx(-8 * math.log(probability), rel=1e-5)
    assert (int(counts.examples), int(counts.top1_errors)) == (8, 0)


@pytest.mark.parametrize("views", ["ten", "center"])
def test_the_loss_stays_finite_when_the_probability_underflows(views):
    """exp(-300) is 0 in float32."""
    network, params = looked_up([0, 300], [0, 300 - math.log(2)])
    mean = np.zeros((3, 3, 3), np.float32)
    form = dataclasses.replace(ONE_PIXEL, eval_crops=views)
    counts = evaluated(network, on_the_first(8), form, params, told_apart(1), mean)
    # Two of the ten crops have twice the probability of the others.
    expected = 300 - (math.log(1.2) if views == "ten" else 0)
    assert float(counts.loss) == pytest.approx(8 * expected, rel=1e-6)
    assert int(counts.top1_errors) == 8
