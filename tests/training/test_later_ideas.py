"""What came after the paper, all at once: resumed, on other devices, in a population."""

import dataclasses
import functools
import os
import signal
import time

import jax
import numpy as np
import optax
import pytest
from small_trial import STEP, learned, opened, rows_of, tiny, train_one, trainer_of

from alexnet_jax.errors import Stopped
from alexnet_jax.model.network import split
from alexnet_jax.training import loop
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.initial_weights import starting_state
from alexnet_jax.training.optimizer import (
    Hyperparameters,
    OptimizerSpec,
    initial_opt_state,
)
from alexnet_jax.training.saved_network import read_weights
from alexnet_jax.training.schedule import LearningRates
from alexnet_jax.training.step import Changes, TrainState, make_update
from alexnet_jax.training.trainer import Trainer

ALL = {
    "model__activation": "gelu",
    "model__normalization": "batch",
    "model__initialization": "he",
    "optimizer__name": "adamw",
    # Beside it the gradients of biases, which batch normalization makes zero but for
    # rounding, are small: with 1e-8 Adam would make whole steps of them.
    "optimizer__epsilon": 1e-3,
    "optimizer__schedule": "cosine",
    "optimizer__warmup_epochs": 2.9 * STEP,
    "optimizer__clip_norm": 0.5,
    "optimizer__ema_decay": 0.7,
    "training__label_smoothing": 0.1,
    "data__random_resized_crop": 0.3,
    "data__randaugment": 2,
    "data__mixup": 0.2,
    "data__cutmix": 1.0,
}
pytestmark = pytest.mark.slow

ONE = Devices(devices=jax.devices()[:1])


def left_in(folder):
    """The parameters after the last step, and the rows."""
    params, _ = read_weights(str(folder / "checkpoints" / "10"))
    return params, learned(rows_of(folder))


def trained(config, data, devices, folder):
    trial, _ = train_one(config, data, devices, folder)
    assert trial.status == "finished"
    return left_in(folder)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """On one device."""
    return trained(tiny(**ALL), data, ONE, tmp_path_factory.mktemp("whole"))


def assert_close(found, expected):
    """To rounding, which ten steps amplify."""
    for one, other in zip(
        jax.tree.leaves(found[0]), jax.tree.leaves(expected[0]), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-4)
    for row, other in zip(found[1], expected[1], strict=True):
        if "loss" in row:
            assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)


def test_it_learns_and_keeps_statistics(whole):
    params, rows = whole
    _, statistics = split(params)
    assert set(statistics) == {"conv1_norm", "conv2_norm", "conv3_norm"}
    assert all((of["var"] > 0).all() and of["mean"].any() for of in statistics.values())
    evaluated = [row for row in rows if row["kind"] == "eval"]
    for of in (evaluated, [row["beside"]["raw"] for row in evaluated]):
        assert of[-1]["loss"] < of[0]["loss"]
    assert evaluated[-1]["loss"] != evaluated[-1]["beside"]["raw"]["loss"]


@pytest.mark.parametrize("parts", [1, 2])
def test_stopped_it_resumes_bit_identically(whole, parts, data, tmp_path, monkeypatch):
    """Also where each step's gradient is that of two microbatches."""
    config, calls = tiny(**ALL, training__gradient_accumulation=parts), []
    folder = tmp_path / "uninterrupted"
    expected = whole if parts == 1 else trained(config, data, ONE, folder)
    trainer = trainer_of(config, data, ONE)

    def signalled(*arguments):
        calls.append(1)
        if len(calls) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)  # for the thread that receives signals
        return trainer.train_step(*arguments)

    changed = dataclasses.replace(trainer, train_step=signalled)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "of", lambda *_, **__: changed)
        with pytest.raises(Stopped):
            train_one(config, data, ONE, tmp_path)
    params, rows = trained(config, data, ONE, tmp_path)
    assert rows == expected[1]
    jax.tree.map(np.testing.assert_array_equal, params, expected[0])


@pytest.mark.parametrize(
    ("count", "how"),
    [
        (2, "pmap"),
        (4, "shard_map"),
        (8, "shard_map"),
    ],
)
def test_devices_normalize_by_the_whole_batch(whole, data, tmp_path, count, how):
    devices = Devices(how, jax.devices()[:count])
    assert_close(trained(tiny(**ALL), data, devices, tmp_path), whole)


def test_in_a_population_each_is_as_alone(whole, data, tmp_path):
    """Trials of two rates and two seeds."""
    configs, seeds = [tiny(**ALL) for _ in range(3)], (0, 0, 1)
    configs[1].optimizer.learning_rate = 0.01
    folders = [tmp_path / str(number) for number in range(3)]
    with opened(configs, data, ONE, folders, seeds=seeds) as (trials, context):
        loop.train(trials, context)
    alone = [whole]
    for number in (1, 2):
        folder = tmp_path / f"alone{number}"
        train_one(configs[number], data, ONE, folder, seed=seeds[number])
        alone.append(left_in(folder))
    for found, expected in zip(map(left_in, folders), alone, strict=True):
        assert_close(found, expected)
    losses = {rows[-1]["loss"] for _, rows in alone}
    assert len(losses) == 3
    assert max(losses) > 1.01 * min(losses)  # ten times what assert_close allows


def test_microbatches_are_normalized_one_by_one(data, tmp_path):
    """Their statistics enter the running ones as their mean, here after one step.

    The first layer is linear in the images: the mean of two means is that of all, and the
    mean of two variances is less.
    """
    given = ALL | {"optimizer__ema_decay": 0.0, "training__num_epochs": 0.9 * STEP}
    found = []
    for parts in (1, 2):
        config = tiny(**given, training__gradient_accumulation=parts)
        train_one(config, data, ONE, tmp_path / str(parts))
        params, _ = read_weights(str(tmp_path / str(parts) / "checkpoints" / "1"))
        found.append(params["conv1_norm"])
    whole, halves = found
    assert abs(whole["mean"]).max() > 1
    np.testing.assert_allclose(halves["mean"], whole["mean"], rtol=1e-4, atol=1e-4)
    assert (halves["var"] < whole["var"]).all()
    assert (halves["var"] > 0.9 * whole["var"]).any()


def test_a_frozen_layer_keeps_its_statistics(data, tmp_path):
    config = tiny(**ALL, optimizer__frozen_layers=1)
    params, _ = trained(config, data, ONE, tmp_path)
    assert not params["conv1_norm"]["mean"].any()
    assert (params["conv1_norm"]["var"] == 1).all()
    assert (params["conv1_norm"]["scale"] == 1).all()
    assert params["conv2_norm"]["mean"].any()


# --- The average of the parameters ------------------------------------------------------


def some_params(seed):
    draws = np.random.default_rng(seed)
    return {
        "conv1": {"kernel": draws.normal(size=(3, 3)), "bias": draws.normal(size=3)},
        "conv1_norm": {kind: draws.normal(size=3) for kind in ("mean", "scale", "var")},
    }


def single(leaf):
    return jax.numpy.asarray(leaf, jax.numpy.float32)


def test_the_average_is_that_of_a_slow_loop_and_of_optax():
    """Of running statistics too; what is averaged is what it would be without."""
    plain = OptimizerSpec(lr_inside_momentum=True, bias_decay=False)
    averaging = dataclasses.replace(plain, ema_decay=0.6)
    params = jax.tree.map(single, some_params(0))
    opt_state = initial_opt_state(plain, split(params)[0])
    without = TrainState(jax.numpy.int32(0), params, opt_state)
    state = TrainState(jax.numpy.int32(0), params, opt_state, raw=params)
    rates = LearningRates(0.1, 0.1, 0.1, 0.1)
    numbers = Hyperparameters.of(rates, momentum=0.9, weight_decay=0.01, seed=0)
    expected, of_optax = jax.tree.map(np.float64, params), params
    for step in range(12):
        changes = Changes(*split(jax.tree.map(single, some_params(1 + step))))
        without = make_update(plain)(without, changes, numbers)
        state = make_update(averaging)(state, changes, numbers)
        jax.tree.map(np.testing.assert_array_equal, state.raw, without.params)
        kept = min(0.6, (1 + step) / (10 + step))
        expected = jax.tree.map(
            lambda mean, new, kept=kept: kept * mean + (1 - kept) * np.float64(new),
            expected,
            state.raw,
        )
        of_optax = optax.incremental_update(state.raw, of_optax, 1 - kept)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, state.params, expected)
    jax.tree.map(close, state.params, of_optax)


def test_an_average_starts_at_a_trained_network(data, tmp_path):
    """Whether or not that is an average, it and what it averages are its weights."""
    train_one(tiny(), data, ONE, tmp_path)
    origin = str(tmp_path / "checkpoints" / "10")
    config = tiny(optimizer__ema_decay=0.9)
    state = starting_state(origin, 0, trainer_of(config, data, ONE))
    held, _ = read_weights(origin)
    for params in (state.params, state.raw):
        np.testing.assert_array_equal(
            params["conv2"]["kernel"], held["conv2"]["kernel"]
        )
    assert not np.shares_memory(
        state.params["conv2"]["kernel"], state.raw["conv2"]["kernel"]
    )
