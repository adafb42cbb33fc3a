"""One trial: its plan, its rows, its end, each example counted once."""

import json
import math
from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alexnet_jax.config import base
from alexnet_jax.data.pipeline import evaluation_batches, prepare
from alexnet_jax.data.source import open_source
from alexnet_jax.training import loop
from alexnet_jax.training import step as steps
from alexnet_jax.training.loop import Evaluator, Plan, Trainer
from alexnet_jax.training.parallel import Devices
from alexnet_jax.training.record import Progress, Record

TRAIN, HELD_OUT = 1438, 359
BATCH = 16
STEP = BATCH / TRAIN  # epochs


def tiny(**changes):
    """A four-layer net of a few kernels on 16 x 16 digits, for a few steps."""
    config = base("digits", network="four_layer")
    config.data.rescale_size = config.data.crop_size = 16
    config.model.width = 0.25
    config.model.weight_deviations = (0.01, 0.03, 0.03, 0.03)
    config.training.batch_size = BATCH
    # Ten steps, a row every four, an evaluation every five: completed a tenth of a step
    # before its end, whichever way a fraction is rounded.
    config.training.num_epochs = 9.9 * STEP
    config.training.record_every_epochs = 3.9 * STEP
    config.training.evaluate_every_epochs = 4.9 * STEP
    for name, value in changes.items():
        section, _, field = name.partition("__")
        config[section][field] = value
    return config


@pytest.fixture(scope="module")
def data():
    return prepare(open_source("digits", tfds_dir=""), rescale_size=16)


@pytest.fixture(scope="module")
def devices():
    return Devices()


def trained(config, data, devices, folder, seed=0):
    """How a trial ended, its last row, and the rows it wrote."""
    with Record(folder, tensorboard=False) as record, Progress(10**6) as progress:
        status, row = loop.train(
            config,
            seed=seed,
            data=data,
            devices=devices,
            record=record,
            progress=progress,
        )
        advanced = progress.done
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return status, row, [json.loads(line) for line in lines], advanced


# --- Plan -------------------------------------------------------------------------

decimals = st.integers(1, 200).map(lambda number: number / 100)


def plan_of(num_examples, batch_size, num_epochs):
    config = base()
    config.training.batch_size = batch_size
    config.training.num_epochs = num_epochs
    return Plan.of(config, num_examples)


def exact(number):
    """The decimal that a float is written as."""
    return Fraction(str(number))


@settings(deadline=None)
@given(st.integers(1, 2000), st.integers(1, 300), decimals)
@example(100, 10, 1.1)
def test_a_trial_has_the_fewest_steps_that_show_its_epochs_images(
    num_examples, batch_size, num_epochs
):
    plan = plan_of(num_examples, batch_size, num_epochs)
    steps = exact(num_epochs) * num_examples / batch_size
    assert plan.num_steps == max(1, math.ceil(steps))
    assert plan.num_images == plan.num_steps * batch_size


def test_the_papers_trial_has_900_820_steps():
    """1,281,167 images, 90 times, in batches of 128: 10,009 steps an epoch."""
    plan = Plan.of(base("imagenet2012"), 1_281_167)
    assert plan.num_steps == math.ceil(90 * 1_281_167 / 128) == 900_821
    assert plan.epoch(10_009) == pytest.approx(1, abs=1e-4)


def test_an_epoch_is_a_number_of_images_not_of_whole_steps():
    plan = plan_of(num_examples=10, batch_size=4, num_epochs=2.0)
    assert plan.num_steps == 5
    assert [plan.epoch(step) for step in range(6)] == [0, 0.4, 0.8, 1.2, 1.6, 2.0]


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 64), decimals, decimals)
@example(10, 1, 1.0, 0.1)
@example(400, 1, 1.0, 0.01)
@example(50_000, 125, 1.0, 0.01)
def test_each_period_is_due_once_at_the_step_that_completes_it(
    num_examples, batch_size, num_epochs, every
):
    plan = plan_of(num_examples, batch_size, num_epochs)
    due = [step for step in range(1, plan.num_steps + 1) if plan.due(step, every)]
    period = exact(every) * num_examples / batch_size  # in steps
    periods = math.floor(plan.num_steps / period)
    completing = {math.ceil(number * period) for number in range(1, periods + 1)}
    assert due == sorted(completing | {plan.num_steps})


def test_the_last_step_is_always_due():
    plan = plan_of(num_examples=100, batch_size=10, num_epochs=1.0)
    assert [step for step in range(1, 11) if plan.due(step, 50.0)] == [10]


def test_the_learning_rate_of_a_step_is_that_of_the_epoch_it_starts_at():
    config = base()
    config.training.batch_size = 50
    config.training.num_epochs = 4.0
    config.optimizer.drop_epochs = (1.0, 2.25)
    plan = Plan.of(config, 100)
    rates = [plan.learning_rate(step) for step in range(1, 9)]
    # Steps start at 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5 epochs.
    expected = [0.01, 0.01, 0.001, 0.001, 0.001, 0.0001, 0.0001, 0.0001]
    assert rates == pytest.approx(expected)


# --- Training ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(data, devices, tmp_path_factory):
    return trained(tiny(), data, devices, tmp_path_factory.mktemp("run"))


def test_a_trial_writes_a_row_for_each_period_and_evaluation(run):
    status, last, rows, advanced = run
    assert status == "finished"
    assert last == rows[-1]
    assert [(row["kind"], row["step"]) for row in rows] == [
        ("eval", 0),
        ("train", 4),
        ("eval", 5),
        ("train", 8),
        ("train", 10),
        ("eval", 10),
    ]
    assert advanced == 10 * BATCH


def test_every_row_says_what_how_far_and_how_well(run):
    keys = {
        *("kind", "step", "epoch", "loss", "top1_error", "top5_error"),
        *("learning_rate", "images_per_second"),
    }
    for row in run[2]:
        assert set(row) == (keys | {"split"} if row["kind"] == "eval" else keys)
        assert row["epoch"] == pytest.approx(row["step"] * STEP)
        assert 0 <= row["top5_error"] <= row["top1_error"] <= 1
        assert 0 < row["loss"] < 10
        assert row["learning_rate"] == 0.001
        assert row["images_per_second"] > 0
        assert row.get("split", "test") == "test"


def test_a_trial_run_again_gives_the_same_numbers(run, data, devices, tmp_path):
    again = trained(tiny(), data, devices, tmp_path)[2]
    for one, other in zip(run[2], again, strict=True):
        assert one | {"images_per_second": 0} == other | {"images_per_second": 0}


def test_another_seed_gives_other_first_weights_and_other_batches(
    run, data, devices, tmp_path
):
    other = trained(tiny(), data, devices, tmp_path, seed=1)[2]
    assert all(
        one["loss"] != another["loss"]
        for one, another in zip(run[2], other, strict=True)
    )


def test_every_step_gets_its_learning_rate_and_the_trials_numbers(
    data, devices, tmp_path, monkeypatch
):
    given, numbers = [], steps.Numbers

    def recording(*values):
        given.append(tuple(map(float, values)))
        return numbers(*values)

    monkeypatch.setattr(steps, "Numbers", recording)
    config = tiny(optimizer__drop_epochs=(5.5 * STEP,), optimizer__weight_decay=0.25)
    rows = trained(config, data, devices, tmp_path, seed=7)[2]
    # Step 7 is the first to start behind the drop.
    rates = [0.001] * 6 + [0.0001] * 4
    expected = [pytest.approx((rate, 0.9, 0.25, 7)) for rate in rates]
    assert given == expected
    for row in rows:
        assert row["learning_rate"] == pytest.approx(rates[max(0, row["step"] - 1)])


def test_trials_that_differ_in_traced_numbers_share_a_compilation(data, devices):
    one = Trainer.of(tiny(), data, devices)
    assert Trainer.of(tiny(optimizer__learning_rate=0.5), data, devices) is one
    assert Trainer.of(tiny(model__activation="tanh"), data, devices) is not one


def test_training_learns(data, devices, tmp_path):
    config = tiny(
        training__num_epochs=2.0,
        training__record_every_epochs=2.0,
        training__evaluate_every_epochs=2.0,
    )
    rows = trained(config, data, devices, tmp_path)[2]
    before, after = (row for row in rows if row["kind"] == "eval")
    assert before["top1_error"] > 0.7
    assert after["top1_error"] < 0.15


@pytest.mark.parametrize(
    ("num_steps", "record_every", "evaluate_every"),
    [
        (10, 5, 10),
        (10, 10, 10),
        (10, 10, 2),  # an evaluation sees the weights before a row sees the loss
        (1, 1, 1),  # the only step spoils the weights: its own loss is finite
    ],
)
def test_a_loss_that_is_not_finite_ends_a_trial_as_diverged(
    data, devices, tmp_path, num_steps, record_every, evaluate_every
):
    config = tiny(
        optimizer__learning_rate=1e30,
        training__num_epochs=(num_steps - 0.1) * STEP,
        training__record_every_epochs=(record_every - 0.1) * STEP,
        training__evaluate_every_epochs=(evaluate_every - 0.1) * STEP,
    )
    status, last, rows, _ = trained(config, data, devices, tmp_path)
    assert status == "diverged"
    assert rows[-1] == last
    assert last["diverged"] is True
    assert last["loss"] is None
    assert [row for row in rows if row.get("diverged")] == [last]
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text


def test_first_weights_that_overflow_end_a_trial_before_its_first_step(
    data, devices, tmp_path, monkeypatch
):
    initial_state = steps.initial_state

    def overflowing(*args):
        return jax.tree.map(lambda leaf: leaf + np.inf, initial_state(*args))

    monkeypatch.setattr(steps, "initial_state", overflowing)
    status, last, rows, advanced = trained(tiny(), data, devices, tmp_path)
    assert status == "diverged"
    assert rows == [last]
    assert (last["step"], last["loss"], last["diverged"]) == (0, None, True)
    assert advanced == 0


# --- Evaluation -------------------------------------------------------------------


def test_an_evaluation_counts_each_example_once(data, devices):
    """359 do not divide among 8 devices: the last batch is filled up."""
    config = tiny()
    trainer = Trainer.of(config, data, devices)
    params = trainer.network.initialize(jax.random.key(5))
    mean_image = data.statistics.crop_mean(16)
    evaluator = Evaluator(
        trainer,
        data,
        config,
        devices.place_state(mean_image),
        devices,
        Plan.of(config, TRAIN),
    )
    row = evaluator.row(devices.place_state(params), 0)

    batches = list(evaluation_batches(data.validation, batch_size=128, crop_size=16))
    examples = np.concatenate([batch["example"] for batch in batches])
    weights = np.concatenate([batch["weight"] for batch in batches])
    assert weights.sum() == HELD_OUT
    assert examples[weights > 0].tolist() == list(range(HELD_OUT))

    images = np.concatenate([batch["image"] for batch in batches])[weights > 0]
    labels = np.concatenate([batch["label"] for batch in batches])[weights > 0]
    inputs = images.astype(np.float32) - mean_image
    logits = np.asarray(trainer.network.apply(params, jax.numpy.asarray(inputs), None))
    assert row["top1_error"] == pytest.approx(
        (logits.argmax(axis=1) != labels).sum() / HELD_OUT, rel=1e-12
    )
    of_label = logits[np.arange(HELD_OUT), labels]
    losses = np.log(np.exp(logits.astype(np.float64)).sum(axis=1)) - of_label
    assert row["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert row["split"] == "test"


def test_an_evaluation_that_lost_an_example_is_an_error(data, devices, monkeypatch):
    config = tiny()
    trainer = Trainer.of(config, data, devices)
    params = devices.place_state(trainer.network.initialize(jax.random.key(5)))
    mean_image = devices.place_state(data.statistics.crop_mean(16))

    def without_the_last(*args, **kwargs):
        yield from list(evaluation_batches(*args, **kwargs))[:-1]

    monkeypatch.setattr(loop, "evaluation_batches", without_the_last)
    plan = Plan.of(config, TRAIN)
    evaluator = Evaluator(trainer, data, config, mean_image, devices, plan)
    with pytest.raises(AssertionError):
        evaluator.row(params, 0)
