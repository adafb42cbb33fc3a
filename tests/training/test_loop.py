"""Training one trial: schedule, rows, end, and each example counted once."""

import dataclasses
import math
import os
import signal
import threading
import time
import types

import jax
import numpy as np
import pytest
from small_trial import (
    BATCH,
    STEP,
    TRAIN,
    learned,
    placed_initial_state,
    rows_of,
    tiny,
    train_one,
    trainer_of,
)

from alexnet_jax import progress
from alexnet_jax.config.checkpoint_fields import fields_of
from alexnet_jax.data import sampling
from alexnet_jax.data.pipeline import evaluation_batches
from alexnet_jax.errors import Stopped
from alexnet_jax.training import loop, preprocess
from alexnet_jax.training import step as steps
from alexnet_jax.training.batches import augmented_batches
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.group import TrialGroup
from alexnet_jax.training.optimizer import Hyperparameters, OptimizerSpec
from alexnet_jax.training.prefetch import Prefetcher
from alexnet_jax.training.profile import ProfilerWindow
from alexnet_jax.training.schedule import LearningRates
from alexnet_jax.training.stacking import stack, stack_batches
from alexnet_jax.training.trainer import Evaluator, Trainer
from alexnet_jax.training.trial import TrialSpec


@pytest.fixture(autouse=True)
def _no_progress(monkeypatch):
    """Disables the progress line that appears after ten seconds on a busy machine."""
    monkeypatch.setattr(progress, "PLAIN_SECONDS", math.inf)


def trained(config, data, devices, folder, seed=0):
    """A trial's status, last row, all rows, and the images that progress counted."""
    trial, advanced = train_one(config, data, devices, folder, seed)
    return trial.status, trial.last_row, rows_of(folder), advanced


def measured(rows):
    """The rows of means: all but the diagnosis."""
    return [row for row in rows if row["kind"] != "diagnosis"]


def held_out(data):
    """Float images and labels of the validation split."""
    batches = list(evaluation_batches(data.validation, batch_size=128))
    real = np.concatenate([batch["weight"] for batch in batches]) > 0
    images = np.concatenate([batch["image"] for batch in batches])[real]
    labels = np.concatenate([batch["label"] for batch in batches])[real]
    return images.astype(np.float64), labels


def logits_of(trainer, params, x):
    return np.asarray(
        trainer.network.apply(params, jax.numpy.float32(x), None), np.float64
    )


def mean_loss(logits, labels):
    of_label = logits[np.arange(len(labels)), labels]
    return (np.log(np.exp(logits).sum(axis=1)) - of_label).mean()


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
        ("diagnosis", 0),
        ("train", 4),
        ("eval", 5),
        ("train", 8),
        ("train", 10),
        ("eval", 10),
    ]
    assert advanced == 10 * BATCH


def test_every_row_has_the_expected_fields_and_ranges(run):
    keys = {
        *("kind", "step", "epoch", "loss", "top1_error", "top5_error"),
        *("learning_rate", "images_per_second"),
    }
    more = {
        "eval": {"split"},
        "train": {
            *("gradient_norm", "input_wait", "peak_host_bytes", "peak_device_bytes")
        },
    }
    for row in measured(run[2]):
        assert set(row) == keys | more[row["kind"]]
        if row["kind"] == "train":
            assert row["gradient_norm"] > 0
            assert 0 <= row["input_wait"] <= 1
            assert 10**8 < row["peak_host_bytes"] < 10**11
            assert row["peak_device_bytes"] is None  # not available on CPUs
        assert row["epoch"] == pytest.approx(row["step"] * STEP)
        assert 0 <= row["top5_error"] <= row["top1_error"] <= 1
        assert 0 < row["loss"] < 10
        assert row["learning_rate"] == 0.001
        assert row["images_per_second"] > 0
        assert row.get("split", "test") == "test"


def test_a_trial_run_again_gives_the_same_numbers(run, data, devices, tmp_path):
    again = trained(tiny(), data, devices, tmp_path)[2]
    assert learned(again) == learned(run[2])


def test_another_seed_gives_other_initial_weights_and_batches(
    run, data, devices, tmp_path
):
    other = trained(tiny(), data, devices, tmp_path, seed=1)[2]
    for one, another in zip(run[2], other, strict=True):
        name = "logit_spread" if one["kind"] == "diagnosis" else "loss"
        assert one[name] != another[name]


def test_every_step_gets_its_learning_rates_and_hyperparameters(
    data, devices, tmp_path, monkeypatch
):
    config = tiny(
        optimizer__drop_epochs=(5.5 * STEP,),
        optimizer__bias_lr_multiplier=2.0,
        optimizer__bias_drops=False,
        optimizer__conv1_stop_epoch=7.5 * STEP,
        optimizer__weight_decay=0.25,
    )
    trainer, given = trainer_of(config, data, devices), []

    def recording(state, batch, hyperparameters, mean):
        leaves = jax.tree.leaves(hyperparameters)
        assert [leaf.dtype for leaf in leaves] == [np.float32] * 6 + [np.uint32]
        given.append([float(leaf[0]) for leaf in leaves])
        return trainer.train_step(state, batch, hyperparameters, mean)

    changed = dataclasses.replace(trainer, train_step=recording)
    monkeypatch.setattr(Trainer, "of", lambda *_, **__: changed)
    rows = trained(config, data, devices, tmp_path, seed=7)[2]
    # Step 7 is the first after the drop, step 9 the first after conv1 stops.
    rates = [0.001] * 6 + [0.0001] * 4
    of_all = [
        LearningRates(rate, 0.002, *((rate, 0.002) if step <= 8 else (0.0, 0.0)))
        for step, rate in enumerate(rates, start=1)
    ]
    assert given == [pytest.approx([*one, 0.9, 0.25, 7]) for one in of_all]
    for row in measured(rows):
        assert row["learning_rate"] == pytest.approx(rates[max(0, row["step"] - 1)])


def test_a_batch_that_arrives_while_the_devices_work_adds_no_input_wait(tmp_path):
    """Only waiting with idle devices counts as waiting for input."""
    devices_are_idle, counted = threading.Event(), []

    def batches():
        devices_are_idle.wait(timeout=10)
        yield {"image": jax.numpy.zeros(1)}

    class OneStep(TrialGroup):
        """A group whose devices need another 0.2 seconds for the previous step."""

        active = (None,)
        step, state, mean = 2, None, None
        trainer = types.SimpleNamespace(train_step=lambda *_: (None, None))

        def __init__(self):
            pass

        def drain(self):
            devices_are_idle.set()
            time.sleep(0.2)

        def begin_step(self, waited):
            counted.append(waited)

        def hyperparameters(self):
            return None

        def end_step(self, counts, batch):
            pass

    profiler = ProfilerWindow((), tmp_path)
    with Prefetcher(batches(), dict) as ahead, profiler:
        loop.take_step(OneStep(), ahead, profiler)
    assert counted == [0.0]


def test_trials_that_differ_in_traced_hyperparameters_share_a_compilation(
    data, devices
):
    one = trainer_of(tiny(), data, devices)
    traced = {
        "optimizer__learning_rate": 0.5,
        "optimizer__momentum": 0.5,
        "optimizer__weight_decay": 0.5,
        "optimizer__conv1_stop_epoch": 0.5,
        "data__random_flip": True,
    }
    assert trainer_of(tiny(**traced), data, devices) is one
    compiled_in = {
        "model__activation": "tanh",
        "data__mean": "channel",
        "data__channel_scale": (74.0, 74.0, 74.0),
        "data__channel_order": "bgr",
        "data__eval_crops": "ten",
        "optimizer__lr_inside_momentum": False,
        "optimizer__bias_decay": True,
    }
    others = [
        trainer_of(tiny(**{name: value}), data, devices)
        for name, value in compiled_in.items()
    ]
    assert len({id(other) for other in (one, *others)}) == 1 + len(compiled_in)


def test_the_steps_use_the_trials_input_form_and_optimizer_spec(data, devices):
    """Both come from the configuration, not from their own defaults."""
    config = tiny(
        data__crop_size=12,
        data__mean="channel",
        data__channel_mean=(1.0, 2.0, 3.0),
        data__channel_scale=(4.0, 5.0, 6.0),
        data__channel_order="bgr",
        data__eval_crops="ten",
        optimizer__lr_inside_momentum=False,
    )
    trainer = trainer_of(config, data, devices)
    assert trainer.form == preprocess.InputForm(
        12, "channel", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "bgr", "ten"
    )
    assert trainer.spec == OptimizerSpec(lr_inside_momentum=False, bias_decay=False)
    other = trainer_of(tiny(optimizer__bias_decay=True), data, devices)
    assert other.spec == OptimizerSpec(lr_inside_momentum=True, bias_decay=True)


def test_training_learns(data, devices, tmp_path):
    config = tiny(
        training__num_epochs=2.0,
        training__log_every_epochs=2.0,
        training__evaluate_every_epochs=2.0,
    )
    rows = trained(config, data, devices, tmp_path)[2]
    before, after = (row for row in rows if row["kind"] == "eval")
    assert [row for row in rows if row.get("warning")] == []
    assert before["top1_error"] > 0.7
    assert after["top1_error"] < 0.15


@pytest.mark.slow
def test_a_trial_evaluates_with_its_own_mean(data, devices, tmp_path):
    """Before training too, channel means replace the mean image."""
    config = tiny(data__mean="channel", training__num_epochs=0.9 * STEP)
    first = trained(config, data, devices, tmp_path)[2][0]
    trainer = trainer_of(config, data, devices)
    params = trainer.network.initialize(jax.random.key(0))
    images, labels = held_out(data)
    means = data.statistics.mean_image.mean(axis=(0, 1))
    logits = logits_of(trainer, params, images - means)
    assert first["loss"] == pytest.approx(mean_loss(logits, labels), rel=1e-5)
    others = logits_of(trainer, params, images - data.statistics.mean_image)
    assert first["loss"] != pytest.approx(mean_loss(others, labels), rel=1e-5)


def batches_at(steps, spec, data):
    """The batches of seed 0."""
    batch_size = spec.schedule.batch_size
    return augmented_batches(spec.augmentation, data, 0, steps, batch_size=batch_size)


def batches_of(config, data):
    spec = TrialSpec.of(config, data)
    steps = range(spec.schedule.num_steps)
    batches = list(batches_at(steps, spec, data))
    assert len(batches) == len(steps)
    return {name: np.concatenate([one[name] for one in batches]) for name in batches[0]}


def test_training_batches_are_augmented_as_the_configuration_says(data):
    config = tiny(
        data__crop_size=12,
        data__random_crop=True,
        data__random_flip=True,
        data__crop_sharing=4,
        data__lighting_std=0.25,
        data__lighting_scale="standard_deviation",
        data__lighting_shrink=True,
        data__lighting_off_epoch=2 * STEP,
    )
    shown = batches_of(config, data)
    assert shown["image"].shape == (10 * BATCH, 12, 12, 3)
    groups = np.column_stack([shown["offset"], shown["mirrored"]]).reshape(-1, 4, 3)
    assert (groups == groups[:, :1]).all()
    assert (groups.min(axis=(0, 1)) == 0).all()
    assert (groups.max(axis=(0, 1)) == [4, 4, 1]).all()
    on = np.arange(10 * BATCH) < 2 * BATCH
    np.testing.assert_allclose(shown["gain"], np.where(on, 0.8, 1.0), rtol=1e-6)
    np.testing.assert_array_equal((shown["lighting"] != 0).any(axis=1), on)

    config.data.lighting_scale = "eigenvalue"
    other = batches_of(config, data)["lighting"][on]
    lengths = np.sqrt(data.statistics.eigenvalues[0])  # one: digits are gray
    expected = shown["lighting"][on] * lengths / 255
    np.testing.assert_allclose(other, expected, rtol=1e-3, atol=1e-4)


def test_by_default_these_batches_are_not_augmented(data):
    shown = batches_of(tiny(data__crop_size=12), data)
    assert (shown["offset"] == 2).all()
    assert not shown["mirrored"].any()
    assert not shown["lighting"].any()
    assert (shown["gain"] == 1).all()


@pytest.mark.parametrize(
    ("num_steps", "record_every", "evaluate_every"),
    [
        (10, 5, 10),
        (10, 10, 10),
        (10, 10, 2),  # the evaluation of the weights precedes the row with the loss
        (1, 1, 1),  # the only step's own loss is finite, the new weights are not usable
    ],
)
def test_a_non_finite_loss_ends_a_trial_as_diverged(
    data, devices, tmp_path, num_steps, record_every, evaluate_every
):
    config = tiny(
        optimizer__learning_rate=1e30,
        training__num_epochs=(num_steps - 0.1) * STEP,
        training__log_every_epochs=(record_every - 0.1) * STEP,
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


def spoiled(trainer, step, name, number):
    """A trainer that reports `number` as count `name` of that step, and its calls."""
    calls = []

    def train_step(*given):
        state, counts = trainer.train_step(*given)
        calls.append(int(state.step[0]))
        if calls[-1] == step:
            counts = counts._replace(**{name: np.float32([number])})
        return state, counts

    return dataclasses.replace(trainer, train_step=train_step), calls


@pytest.mark.parametrize(
    ("name", "what", "number"),
    [
        ("loss", "loss", np.nan),
        ("loss", "loss", -np.inf),
        ("gradient_norm", "gradient norm", np.inf),
    ],
)
# Checkpoints are due at 3, 6, 9 and 10, rows at 4, 8 and 10, evaluations at 5 and 10.
@pytest.mark.parametrize("step", [1, pytest.param(7, marks=pytest.mark.slow), 10])
def test_a_non_finite_step_is_the_last_and_its_examples_are_recorded(
    run, data, devices, tmp_path, monkeypatch, name, what, number, step
):
    """At any step: earlier rows are unchanged, and nothing later is kept."""
    config = tiny(training__checkpoint_every_epochs=2.9 * STEP)
    changed, calls = spoiled(trainer_of(config, data, devices), step, name, number)
    monkeypatch.setattr(Trainer, "of", lambda *_, **__: changed)
    status, last, rows, _ = trained(config, data, devices, tmp_path)
    assert status == "diverged"
    assert last == rows[-1]
    assert (last["kind"], last["step"]) == ("train", step)
    assert (last["diverged"], last["loss"], last["not_finite"]) == (True, None, what)
    places = np.arange((step - 1) * BATCH, step * BATCH)
    examples = sampling.ExampleOrder(0, TRAIN).at(places)
    assert last["examples"] == examples.tolist()
    assert last["example_epochs"] == [0] * BATCH
    assert learned(rows[:-1]) == learned(row for row in run[2] if row["step"] < step)
    # Only the steps already in flight still run, and none of them is kept.
    assert calls == list(range(1, len(calls) + 1))
    assert step <= len(calls) <= step + 2
    with Checkpoints(tmp_path, fields_of(config), devices) as checkpoints:
        saved = list(checkpoints.manager.all_steps())
        found = checkpoints.restore(placed_initial_state(config, data, devices))
    assert all(one < step for one in saved)
    if step <= 3:
        assert found is None
        return
    after, position, damaged = found
    assert not damaged
    assert int(after.step) == position.step == max(saved)
    assert step - position.step <= 3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))


def test_overflowing_initial_weights_end_a_trial_before_its_first_step(
    data, devices, tmp_path, monkeypatch
):
    def overflowing(*args):
        return jax.tree.map(lambda leaf: leaf + np.inf, steps.initial_state(*args))

    monkeypatch.setattr(
        "alexnet_jax.training.initial_weights.initial_state", overflowing
    )
    status, last, rows, advanced = trained(tiny(), data, devices, tmp_path)
    assert status == "diverged"
    assert rows == [last]
    assert (last["step"], last["loss"], last["diverged"]) == (0, None, True)
    assert advanced == 0


# --- Execution settings -----------------------------------------------------------


@pytest.mark.slow
def test_gradient_accumulation_changes_a_trial_only_by_rounding(run, data, tmp_path):
    """On four devices with four images each, in two microbatches."""
    four = Devices(devices=jax.devices()[:4])
    config = tiny(training__gradient_accumulation=2)
    rows = trained(config, data, four, tmp_path)[2]
    assert [(row["kind"], row["step"]) for row in rows] == [
        (row["kind"], row["step"]) for row in run[2]
    ]
    for one, whole in zip(measured(rows), measured(run[2]), strict=True):
        assert one["loss"] == pytest.approx(whole["loss"], rel=1e-5)
        assert one["top1_error"] == whole["top1_error"]
        if one["kind"] == "train":
            assert one["gradient_norm"] == pytest.approx(
                whole["gradient_norm"], rel=1e-5
            )


@pytest.mark.slow
@pytest.mark.parametrize("last", [5, 50])
def test_the_profiler_window_writes_a_trace(run, data, devices, tmp_path, capsys, last):
    """Also if the trial ends within the window; the results do not change."""
    config = tiny(training__profile=(3, last))
    status, _, rows, _ = trained(config, data, devices, tmp_path)
    assert status == "finished"
    assert learned(rows) == learned(run[2])
    traces = [file for file in (tmp_path / "profile").rglob("*") if file.is_file()]
    assert any(file.name.endswith(".xplane.pb") for file in traces)
    jax.profiler.start_trace(
        str(tmp_path / "other")
    )  # raises while another trace is running
    jax.profiler.stop_trace()


# The learning rate drops at each evaluation without a new lowest error.
PLATEAU = {
    "optimizer__schedule": "plateau",
    "optimizer__plateau_epochs": 1.5 * STEP,
    "optimizer__plateau_drops": 2,
    "optimizer__drop_factor": 0.1,
    "training__evaluate_every_epochs": 1.9 * STEP,
    "training__log_every_epochs": 0.9 * STEP,
    "training__checkpoint_every_epochs": 2.9 * STEP,
}
# By evaluated step: the error falls until 4 and stalls at 6, 8 and 10.
ERRORS = {0: 0.9, 2: 0.8, 4: 0.7, 6: 0.7, 8: 0.75, 10: 0.7}


@pytest.fixture
def given_errors(monkeypatch):
    rows = Evaluator.rows

    def replaced(self, counts, *, step, **others):
        (row,) = rows(self, counts, step=step, **others)
        return [row | {"top1_error": ERRORS[step]}]

    monkeypatch.setattr(Evaluator, "rows", replaced)


def test_the_learning_rate_drops_at_the_evaluation_that_finds_a_plateau(
    given_errors, data, devices, tmp_path
):
    rows = trained(tiny(**PLATEAU), data, devices, tmp_path)[2]
    falls = [row for row in rows if row["kind"] == "schedule"]
    assert [row["step"] for row in falls] == [6, 8]  # at most two drops
    assert [row["epoch"] for row in falls] == pytest.approx([6 * STEP, 8 * STEP])
    assert "not below 0.7 " in falls[0]["why"]
    assert "to 0.0001 (drop 1 of 2)" in falls[0]["why"]
    assert "to 1e-05 (drop 2 of 2)" in falls[1]["why"]
    rates = {
        row["step"]: row["learning_rate"] for row in rows if row["kind"] == "train"
    }
    expected = [0.001] * 6 + [0.0001] * 2 + [0.00001] * 2
    assert [rates[step] for step in range(1, 11)] == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("call", [5, 8])
def test_a_trial_stopped_at_a_plateau_resumes_it(
    given_errors, data, devices, tmp_path, monkeypatch, call
):
    """The checkpoint holds the plateau, so the rows are bit-identical."""
    config = tiny(**PLATEAU)
    whole = trained(config, data, devices, tmp_path / "whole")[2]
    trainer, calls = trainer_of(config, data, devices), []

    def signalled(*given):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)  # for the thread that receives signals
        return trainer.train_step(*given)

    changed = dataclasses.replace(trainer, train_step=signalled)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "of", lambda *_, **__: changed)
        with pytest.raises(Stopped, match=f"step {call}"):
            trained(config, data, devices, tmp_path / "cut")
    state = placed_initial_state(config, data, devices)
    with Checkpoints(tmp_path / "cut", fields_of(config), devices) as checkpoints:
        plateau = checkpoints.restore(state)[1].plateau
    assert plateau["drops"] == sum(fall < call for fall in (6, 8))
    assert plateau["best"] == 0.7
    again = trained(config, data, devices, tmp_path / "cut")[2]
    assert learned(again) == learned(whole)


# --- Warnings ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_start_that_cannot_learn_is_diagnosed_before_training(
    data, devices, tmp_path, capsys
):
    """The first row from `warn_after_steps` on warns again: the loss has not fallen."""
    config = tiny(
        model__weight_stds=(1e-4, 1e-3, 1e-3, 1e-4),
        optimizer__learning_rate=1e-9,
        training__log_every_epochs=1.9 * STEP,
        training__warn_after_steps=5,
    )
    rows = trained(config, data, devices, tmp_path)[2]
    diagnosis = rows[1]
    assert (diagnosis["kind"], diagnosis["step"]) == ("diagnosis", 0)
    assert diagnosis["images"] == BATCH
    assert list(diagnosis["layers"]) == ["conv1", "conv2", "conv3", "fc4"]
    train_rows = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in train_rows] == [2, 4, 6, 8, 10]
    assert [row["step"] for row in train_rows if "warning" in row] == [6]
    assert capsys.readouterr().err.splitlines() == [
        f"Warning, trial 0: {diagnosis['warning']}",
        f"Warning, trial 0: {train_rows[2]['warning']}",
    ]


def test_a_good_start_is_diagnosed_without_a_warning(data, devices, tmp_path, capsys):
    rows = trained(tiny(), data, devices, tmp_path)[2]
    assert rows[1]["warning"] is None
    assert [row for row in rows if row.get("warning")] == []
    assert capsys.readouterr().err == ""


def test_the_diagnosis_uses_the_first_batch(data, devices, tmp_path):
    """Before the first step, with the batch's augmentation and the initial weights."""
    config = tiny(data__random_flip=True)
    diagnosis = trained(config, data, devices, tmp_path)[2][1]
    trainer = trainer_of(config, data, devices)
    params = trainer.network.initialize(jax.random.key(0))
    batch = next(batches_at(range(1), TrialSpec.of(config, data), data))
    mean = data.statistics.mean_image
    means = np.where(batch["mirrored"][:, None, None, None] == 1, mean[:, ::-1], mean)
    x = batch["image"] - means
    assert diagnosis["input_std"] == pytest.approx(x.std(), rel=1e-5)
    spread = logits_of(trainer, params, x).std(axis=0).mean()
    assert diagnosis["logit_spread"] == pytest.approx(spread, rel=1e-4)


def test_overflowing_numbers_of_a_diagnosis_are_null(data, devices, tmp_path):
    """The variance of outputs of 1e25 overflows float32; their loss is finite."""
    config = tiny(
        model__weight_stds=(0.01, 1e8, 1e8, 1e8), training__num_epochs=0.9 * STEP
    )
    rows = trained(config, data, devices, tmp_path)[2]
    assert rows[0]["loss"] > 1e20
    assert rows[1]["logit_spread"] is None
    assert rows[1]["layers"]["fc4"]["std"] is None
    assert rows[1]["layers"]["conv1"]["std"] > 0


# --- bfloat16 ---------------------------------------------------------------------


def small(dtype):
    """The configuration of a small network for forty steps."""
    config = tiny()
    config.model.dtype = dtype
    config.training.num_epochs = 39.9 * STEP
    config.training.log_every_epochs = 0.9 * STEP
    config.training.evaluate_every_epochs = 1000.0
    return config


def last_state(config, data, devices, folder, seed):
    """A trial's rows, its initial state, and the state in its last checkpoint."""
    status, _, rows, _ = trained(config, data, devices, folder, seed)
    assert status == "finished"
    trainer = trainer_of(config, data, devices)
    first = steps.initial_state(trainer.network, seed, trainer.spec)
    with Checkpoints(folder, fields_of(config), devices) as checkpoints:
        state, _, _ = checkpoints.restore(devices.place_copies(first))
    return rows, first, state


def length(tree):
    return math.sqrt(
        sum(float(np.square(leaf, dtype=np.float64).sum()) for leaf in tree)
    )


def share_of_bfloat16(numbers):
    """Share of the nonzero numbers that bfloat16 holds exactly; small for float32."""
    numbers = np.asarray(numbers, np.float32).ravel()
    numbers = numbers[numbers != 0]
    return (numbers == numbers.astype(jax.numpy.bfloat16).astype(np.float32)).mean()


@pytest.mark.slow
def test_a_bfloat16_trial_ends_near_the_float32_trial(data, tmp_path):
    """For seeds 0 to 4 they ended 0.04 to 0.15 of the params' total movement apart.

    Rounding the params themselves (0.06 to 0.19) would show only in their bits, as
    would a loss or a norm summed in bfloat16.
    """
    one_device = Devices(devices=jax.devices()[:1])
    (rows, first, state), (other_rows, _, other) = (
        last_state(small(dtype), data, one_device, tmp_path / dtype, 0)
        for dtype in ("float32", "bfloat16")
    )
    ended, other_ended, began = (
        list(map(np.asarray, jax.tree.leaves(one.params)))
        for one in (state, other, first)
    )
    apart = length(one - two for one, two in zip(ended, other_ended, strict=True))
    moved = length(one - two for one, two in zip(ended, began, strict=True))
    assert 0 < apart / moved <= 0.25
    for held in (other.params, other.opt_state):
        leaves = list(map(np.asarray, jax.tree.leaves(held)))
        assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
        assert (
            share_of_bfloat16(np.concatenate([leaf.ravel() for leaf in leaves])) < 0.1
        )

    of_train = [row for row in other_rows if row["kind"] == "train"]
    expected = next(row for row in rows if row["kind"] == "train")
    # From equal initial weights: the rounding of one step.
    assert of_train[0]["loss"] == pytest.approx(expected["loss"], rel=1e-3)
    norm = expected["gradient_norm"]
    assert of_train[0]["gradient_norm"] == pytest.approx(norm, rel=0.01)
    for name in ("loss", "gradient_norm"):
        assert share_of_bfloat16([row[name] for row in of_train]) < 0.1


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_sums_over_devices_are_float32_or_integer(data, how):
    """A bfloat16 network's gradients are converted to float32 before the sum."""
    config, some = small("bfloat16"), Devices(how)
    trainer = trainer_of(config, data, some)
    state = steps.initial_state(trainer.network, 0, trainer.spec)
    batch = next(batches_at(range(1), TrialSpec.of(config, data), data))
    numbers = Hyperparameters(
        LearningRates(*np.float32([0.1] * 4)),
        np.float32(0.9),
        np.float32(0),
        np.uint32(0),
    )
    mean = trainer.place_mean(data, some)
    placed = some.place_batch(stack_batches([batch]))
    text = str(
        jax.make_jaxpr(trainer.train_step)(
            stack([state]), placed, stack([numbers]), mean
        )
    )
    assert "bf16" in text
    summed = [line for line in text.splitlines() if "= psum" in line]
    assert summed
    assert not [line for line in summed if "bf16" in line]
