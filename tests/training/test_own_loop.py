"""A loop made of a recipe's pieces takes steps bit-identical to those of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import FrozenConfigDict

import alexnet_jax
from alexnet_jax.data import statistics
from alexnet_jax.errors import UserError
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.objective import Objective
from alexnet_jax.training.optimizer import Hyperparameters, OptimizerSpec
from alexnet_jax.training.preprocess import crop_input
from alexnet_jax.training.schedule import Schedule
from alexnet_jax.training.stacking import stack
from alexnet_jax.training.step import initial_state
from alexnet_jax.training.trainer import StepSpec, Trainer

COUNT, SIDE, CLASSES, SEED, STEPS = 64, 72, 7, 5, 4
DRAWS = np.random.default_rng(0)
IMAGES = DRAWS.integers(0, 256, (COUNT, SIDE, SIDE, 3)).astype(np.uint8)
LABELS = DRAWS.integers(0, CLASSES, COUNT).astype(np.int32)
SMALL = {
    "model.channels": (8, 8, 8, 8, 8, 0, 12, 12),
    "model.initialization": "he",  # with the recipes' the first gradients are tiny
    "data.crop_size": 64,
    "training.batch_size": 8,
}
# The rate drops, conv1 stops, and the lighting ends within the steps.
SOURCE = {
    "data.crop_sharing": 4,
    "data.lighting_off_epoch": 0.2,
    "training.num_epochs": 1.0,
    "optimizer.drop_epochs": (0.125, 0.3),
    "optimizer.conv1_drop_epochs": (),
    "optimizer.conv1_stop_epoch": 0.3,
}
LATER = {
    "model.normalization": "group",
    "optimizer.name": "adamw",
    # The gradients of biases before a normalization are zero but for rounding.
    "optimizer.epsilon": 1e-3,
    "optimizer.schedule": "cosine",
    "optimizer.warmup_epochs": 0.25,
    "optimizer.clip_norm": 0.5,
    "optimizer.frozen_layers": 1,
    "training.label_smoothing": 0.1,
    "training.num_epochs": 1.0,
    "data.mixup": 0.2,
    "data.cutmix": 1.0,
}


def made(recipe="paper", **changes):
    return alexnet_jax.recipe(recipe, IMAGES, classes=CLASSES, changes=SMALL | changes)


def rows_of(step):
    return (np.arange(8) * 5 + step * 11) % COUNT


def key_of(step):
    return jax.random.fold_in(jax.random.key(SEED), step)


def by_own_loop(net):
    """The parameters after some steps, and the loss of each."""

    @jax.jit
    def train_step(params, opt_state, step, images, labels):
        key = key_of(step)
        inputs = net.training_input(key, images, step)
        loss, gradients = jax.value_and_grad(net.loss)(params, inputs, labels, key)
        updates, opt_state = net.optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    params = net.initialize(SEED)
    opt_state, losses = net.optimizer.init(params), []
    for step in range(STEPS):
        rows = rows_of(step)
        params, opt_state, loss = train_step(
            params, opt_state, jnp.int32(step), IMAGES[rows], LABELS[rows]
        )
        losses.append(float(loss))
    return params, losses


def by_run(net):
    """The same by the compiled step of a run, of the same crops and keys."""
    settings, devices = net.settings, Devices(devices=jax.devices()[:1])
    spec = StepSpec(
        FrozenConfigDict(settings.model),
        net.form,
        Objective.of(settings),
        OptimizerSpec.of(settings.optimizer, settings.model),
        CLASSES,
        microbatches=1,
        ensemble=1,
    )
    trainer = Trainer.of(spec, devices)
    schedule = Schedule.of(settings.training, settings.optimizer, COUNT)
    images = statistics.compute([IMAGES])
    mean = devices.place_copies(
        net.form.mean_of(images.mean_image, images.channel_mean)
    )
    state = devices.place_trials(
        stack([initial_state(trainer.network, SEED, spec.optimizer)])
    )
    draw, losses = jax.jit(net._input.drawn), []
    for step in range(STEPS):
        rows = rows_of(step)
        drawn = draw(key_of(step), IMAGES[rows], jnp.int32(step))
        batch = {name: np.asarray(values) for name, values in drawn.items()} | {
            "label": LABELS[rows],
            "example": np.arange(len(rows), dtype=np.int32),
            "epoch": np.full(len(rows), step, np.int32),
        }
        numbers = Hyperparameters.of(
            schedule.learning_rates(step + 1),
            momentum=settings.optimizer.momentum,
            weight_decay=settings.optimizer.weight_decay,
            seed=SEED,
        )
        state, counts = trainer.train_step(
            state,
            devices.place_batch(
                {name: values[:, None] for name, values in batch.items()},
                of_trials=True,
            ),
            devices.place_trials(stack([numbers])),
            mean,
        )
        losses.append(float(counts.loss[0] / np.float32(len(rows))))
    return jax.tree.map(lambda leaf: leaf[0], state.params), losses


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("paper", {}),
        ("source2012", SOURCE),
        pytest.param("torchvision", {}, marks=pytest.mark.slow),
        pytest.param("caffe", {}, marks=pytest.mark.slow),
    ],
)
def test_a_loop_of_the_pieces_takes_the_steps_of_a_run(recipe, changes):
    net = made(recipe, **changes)
    params, losses = by_own_loop(net)
    expected, expected_losses = by_run(net)
    assert losses == expected_losses
    initial = net.initialize(SEED)
    for layer, arrays in expected.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(params[layer][name], array, f"{layer} {name}")
            assert np.any(initial[layer][name] != array)


@pytest.mark.slow
def test_so_does_one_with_what_came_after_the_paper():
    """To rounding, which the norm of the gradients and their mean squares amplify."""
    net = made(**LATER)
    params, losses = by_own_loop(net)
    expected, expected_losses = by_run(net)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for one, other in zip(
        jax.tree.leaves(params), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    frozen = net.initialize(SEED)["conv1"]["kernel"]
    np.testing.assert_array_equal(params["conv1"]["kernel"], frozen)


def test_it_evaluates_as_its_trained_network_does():
    net = made()
    params = jax.tree.map(lambda leaf: leaf + 0.01, net.initialize(SEED))
    trained = alexnet_jax.TrainedNetwork.from_training(
        net.settings,
        params,
        class_names=(f"class {n}" for n in range(CLASSES)),
        statistics=net.statistics,
    )
    some = jnp.asarray(IMAGES[:5])
    found = jnp.exp(net.log_probabilities(params, some))
    expected = trained.probabilities(IMAGES[:5], crops=10)  # the paper's
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    logits = net.logits(params, net.evaluation_input(some))
    center = trained.probabilities(IMAGES[:5])
    np.testing.assert_allclose(jax.nn.softmax(logits), center, rtol=1e-4)


def test_the_center_is_what_a_run_evaluates():
    net = made("source2012")
    mean = net.statistics.mean_image[4:68, 4:68]
    expected = crop_input(
        jnp.asarray(IMAGES[:3]),
        np.array((4, 4, 0), np.int32),
        jnp.float32(mean),
        net.form,
    )
    found = net.evaluation_input(jnp.asarray(IMAGES[:3]))
    np.testing.assert_array_equal(found, expected)


def test_a_key_turns_dropout_on():
    net = made()
    params = net.initialize(SEED)
    inputs = net.evaluation_input(jnp.asarray(IMAGES[:4]))
    without, one, again, other = (
        net.logits(params, inputs, key)
        for key in (None, key_of(0), key_of(0), key_of(1))
    )
    np.testing.assert_array_equal(one, again)
    assert np.any(one != other)
    assert np.any(one != without)


def test_it_counts_the_steps_of_its_epochs():
    net = made(**{"training.num_epochs": 2.0, "training.batch_size": 10})
    assert (net.batch_size, net.num_steps, net.num_examples) == (10, 13, COUNT)


def test_batches_of_images_are_as_good_as_all_of_them():
    found = alexnet_jax.recipe(
        "paper", iter(np.array_split(IMAGES, 5)), classes=CLASSES, changes=SMALL
    )
    assert found.num_examples == COUNT
    whole = made().statistics
    for name, array in vars(found.statistics).items():
        np.testing.assert_array_equal(array, getattr(whole, name))


def test_images_of_another_size_than_those_of_training_are_refused():
    net = made()
    params = net.initialize(SEED)
    for function in (
        lambda x: net.training_input(key_of(0), x, 0),
        net.evaluation_input,
        lambda x: net.log_probabilities(params, x),
    ):
        with pytest.raises(UserError, match=r"shape \(n, 72, 72, 3\)"):
            jax.jit(function)(IMAGES[:2, :64, :64])


@pytest.mark.parametrize(
    ("recipe", "given", "wrong"),
    [
        ("papr", {}, "config.recipe='papr': .* Did you mean 'paper'"),
        ("paper", {"classes": 1}, "classes=1: give their number, 2 or more"),
        ("paper", {"images": IMAGES[:0]}, "no images"),
        ("paper", {"changes": {"data.crop_size": 16}}, "pool2 leaves no pixel"),
        ("paper", {"changes": {}}, "crop_size=224 is larger .*data.rescale_size=72"),
    ],
)
def test_what_is_wrong_about_a_recipe_is_said(recipe, given, wrong):
    given = {"images": IMAGES, "classes": CLASSES, "changes": SMALL} | given
    with pytest.raises(UserError, match=wrong):
        alexnet_jax.recipe(recipe, given.pop("images"), **given)
