"""Trials trained together by one vmapped step match trials trained alone."""

import dataclasses
import json
import os
import shutil
import signal
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from few_digits import few_digits
from small_trial import (
    BATCH,
    STEP,
    learned,
    opened,
    rows_of,
    tiny,
    train_one,
)

from alexnet_jax.config import base
from alexnet_jax.config.grouping import group_trials
from alexnet_jax.config.layered import flatten
from alexnet_jax.config.resolve import resolve
from alexnet_jax.data.pipeline import load_data
from alexnet_jax.errors import Stopped, UserError
from alexnet_jax.experiment import runner
from alexnet_jax.experiment.datasets import Datasets
from alexnet_jax.model import layers
from alexnet_jax.training import loop
from alexnet_jax.training import step as steps
from alexnet_jax.training.batches import augmented_batches, stacked_batches
from alexnet_jax.training.checkpoint_files import Phase
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.group import resume
from alexnet_jax.training.trainer import Trainer
from alexnet_jax.training.trial import TrialSpec

# Two trials share a seed; each has three hyperparameters.
SEEDS = (0, 1, 0)
NUMBERS = (
    {"learning_rate": 0.002, "momentum": 0.9, "weight_decay": 0.0},
    {"learning_rate": 0.002, "momentum": 0.9, "weight_decay": 0.0},
    {"learning_rate": 0.001, "momentum": 0.5, "weight_decay": 0.01},
)


def configs(**changes):
    """One configuration per trial; only optimizer hyperparameters differ."""
    return [
        tiny(**changes, **{f"optimizer__{name}": value for name, value in one.items()})
        for one in NUMBERS
    ]


def together_in(configs, data, devices, folder, *, seeds=SEEDS, further_crops=()):
    """Trials in numbered folders, and their context."""
    folders = [folder / str(number) for number in range(len(configs))]
    return opened(
        configs, data, devices, folders, seeds=seeds, further_crops=further_crops
    )


def trained(configs, data, devices, folder, **how):
    """Trains them together; the status and rows of each."""
    with together_in(configs, data, devices, folder, **how) as (trials, context):
        loop.train(trials, context)
    return [(one.status, rows(folder / str(n))) for n, one in enumerate(trials)]


def alone(configs, data, devices, folder, *, seeds=SEEDS, further_crops=()):
    """Trains them one after the other; the status and rows of each."""
    return [
        trained(
            [config],
            data,
            devices,
            folder / str(number),
            seeds=[seed],
            further_crops=further_crops,
        )[0]
        for number, (config, seed) in enumerate(zip(configs, seeds, strict=True))
    ]


def sent(number):
    """Sends a signal to this process and gives the receiving thread time."""
    os.kill(os.getpid(), number)
    time.sleep(0.3)


def rows(folder):
    return learned(rows_of(folder))


def assert_same(together, apart, rel=1e-4):
    """Asserts that counts and ids are equal, and sums up to rounding."""
    for (status, ours), (other_status, others) in zip(together, apart, strict=True):
        assert status == other_status
        assert [row["kind"] for row in ours] == [row["kind"] for row in others]
        for row, other in zip(ours, others, strict=True):
            assert row.keys() == other.keys()
            ours_flat, others_flat = flatten(row), flatten(other)
            assert ours_flat.keys() == others_flat.keys()
            for name, value in ours_flat.items():
                if isinstance(value, float):
                    near = pytest.approx(others_flat[name], rel=rel, abs=1e-7)
                    assert value == near, name
                else:
                    assert value == others_flat[name], name


def few_held_out(size):
    """Digits, with few held-out ones."""
    return load_data(
        few_digits(held_out=103), rescale="shorter_side", rescale_size=size
    )


@pytest.fixture(scope="module")
def data():
    return few_held_out(16)


@pytest.fixture(scope="module")
def one_device():
    return Devices(devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def undisturbed(data, one_device, tmp_path_factory):
    """The statuses and rows of an uninterrupted population."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return trained(configs(), data, one_device, folder)


AUGMENTED = {
    "data__crop_size": 12,
    "data__random_crop": True,
    "data__random_flip": True,
    "data__lighting_std": 0.1,
    "model__dropout_rate": 0.5,
    "optimizer__frozen_layers": 1,
    "optimizer__layer_lr_multipliers": "conv2=0.5,last=2",
}


@pytest.fixture(scope="module")
def augmented_alone(data, one_device, tmp_path_factory):
    """The statuses and rows of augmented trials, each trained alone on one device."""
    folder = tmp_path_factory.mktemp("alone")
    return alone(configs(**AUGMENTED), data, one_device, folder)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["one", "pmap", "shard_map"])
def test_a_population_matches_its_trials_trained_alone(
    data, one_device, augmented_alone, tmp_path, how
):
    """On one device, and with the batch split between two by pmap or shard_map."""
    devices = one_device if how == "one" else Devices(how, jax.devices()[:2])
    together = trained(configs(**AUGMENTED), data, devices, tmp_path / "together")
    assert_same(together, augmented_alone)
    losses = {ours[-1]["loss"] for _, ours in together}
    assert len(losses) == 3  # three different trials


@pytest.mark.slow
def test_a_population_with_gradient_accumulation_matches_too(
    data, undisturbed, tmp_path
):
    devices = Devices("shard_map", jax.devices()[:2])
    everything = configs(training__gradient_accumulation=2)
    assert_same(trained(everything, data, devices, tmp_path), undisturbed)


@pytest.mark.slow
def test_alexnet_in_a_population_matches_alexnet_alone(one_device, tmp_path):
    """Towers, both normalizations, overlapping pools, dropout; ten and center crops."""
    data = few_held_out(48)
    config = base("digits")
    config.model.width = 1 / 24
    config.data.rescale_size, config.data.crop_size = 48, 40
    config.data.eval_crops = "ten"
    config.training.batch_size = BATCH
    config.training.num_epochs = 2.9 * STEP
    config.training.log_every_epochs = 0.9 * STEP
    other = config.copy_and_resolve_references()
    other.optimizer.learning_rate = 0.02
    given = {"seeds": (3, 4), "further_crops": ("center",)}
    both = [config, other]
    together = trained(both, data, one_device, tmp_path / "together", **given)
    apart = alone(both, data, one_device, tmp_path / "alone", **given)
    assert_same(together, apart, rel=1e-3)
    by_crops = [ours[-1]["beside"]["center"]["loss"] for _, ours in together]
    assert by_crops[0] != by_crops[1]


def test_a_populations_batches_are_bit_identical_to_its_trials(data):
    config = tiny(data__crop_size=12, data__random_crop=True, data__lighting_std=0.1)
    seeds, steps = (7, 2), range(3, 10)
    spec = TrialSpec.of(config, data)
    size = {"batch_size": spec.schedule.batch_size}
    together = list(stacked_batches(spec.augmentation, data, seeds, steps, **size))
    assert len(together) == 7
    for place, seed in enumerate(seeds):
        own = augmented_batches(spec.augmentation, data, seed, steps, **size)
        for whole, batch in zip(together, own, strict=True):
            assert whole.keys() == batch.keys()
            for name, values in batch.items():
                assert whole[name].dtype == values.dtype
                np.testing.assert_array_equal(whole[name][:, place], values)


@pytest.mark.slow
def test_each_trial_follows_its_own_plateau(data, one_device, tmp_path):
    """Learning rates drop at different steps."""
    everything = configs(
        optimizer__schedule="plateau",
        optimizer__plateau_epochs=0.5 * STEP,
        training__evaluate_every_epochs=0.9 * STEP,
        training__log_every_epochs=0.9 * STEP,
    )
    together = trained(everything, data, one_device, tmp_path / "together")
    apart = alone(everything, data, one_device, tmp_path / "alone")
    assert_same(together, apart)
    falls = [
        [row["step"] for row in ours if row["kind"] == "schedule"]
        for _, ours in together
    ]
    assert falls[0] != falls[1]


@pytest.mark.slow
def test_a_diverging_trial_ends_and_the_others_continue(data, one_device, tmp_path):
    everything = configs(training__checkpoint_every_epochs=2.9 * STEP)
    everything[1].optimizer.learning_rate = 1e12
    with together_in(everything, data, one_device, tmp_path / "t") as (
        together,
        context,
    ):
        context.progress.set_total(3 * 10 * BATCH)
        loop.train(together, context)
        assert context.progress.done == context.progress.total
    statuses = [one.status for one in together]
    assert statuses == ["finished", "diverged", "finished"]
    apart = alone(everything, data, one_device, tmp_path / "alone")
    assert_same(
        [(s, rows(tmp_path / "t" / str(n))) for n, s in enumerate(statuses)], apart
    )
    last = rows(tmp_path / "t/1")[-1]
    assert last["diverged"] is True
    assert last["loss"] is None
    # From its own seed's batch, not another trial's.
    assert last.get("examples") == apart[1][1][-1].get("examples")


@pytest.mark.slow
def test_overflowing_initial_weights_end_one_trial_before_its_first_step(
    data, one_device, tmp_path, monkeypatch
):
    def overflowing(network, seed, spec):
        state = steps.initial_state(network, seed, spec)
        return jax.tree.map(lambda leaf: leaf + np.inf, state) if seed == 1 else state

    monkeypatch.setattr(
        "alexnet_jax.training.initial_weights.initial_state", overflowing
    )
    (first, other), (status, found), (third, _) = trained(
        configs(), data, one_device, tmp_path
    )
    assert (first, status, third) == ("finished", "diverged", "finished")
    assert [(row["kind"], row["step"]) for row in found] == [("eval", 0)]
    assert other[-1]["step"] == 10


@pytest.mark.slow
@pytest.mark.parametrize("call", [1, 4])
def test_a_stopped_population_resumes_together_or_alone(
    data, one_device, undisturbed, tmp_path, monkeypatch, call
):
    """The rows are those of an uninterrupted run."""
    everything = configs()
    of, calls = Trainer.of, []

    def stopping(*given, **changes):
        trainer = of(*given, **changes)

        def signalled(*given):
            calls.append(1)
            if len(calls) == call:
                sent(signal.SIGTERM)
            return trainer.train_step(*given)

        return dataclasses.replace(trainer, train_step=signalled)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "of", stopping)
        with pytest.raises(Stopped, match="saved at step"):
            trained(everything, data, one_device, tmp_path / "cut")
    for number in range(3):
        held = [int(p.name) for p in (tmp_path / f"cut/{number}/checkpoints").iterdir()]
        assert max(held) in (call, call + 1)  # the thread receives it within a step
    # The first resumes alone, so the other two are at a different step.
    train_one(everything[0], data, one_device, tmp_path / "cut/0", SEEDS[0])
    steps_begun = []
    with monkeypatch.context() as patch:

        def counting(*given, **changes):
            trainer = of(*given, **changes)

            def counted(state, *others):
                steps_begun.append(len(state.step))
                return trainer.train_step(state, *others)

            return dataclasses.replace(trainer, train_step=counted)

        patch.setattr(Trainer, "of", counting)
        again = trained(everything, data, one_device, tmp_path / "cut")
    assert 0 < len(steps_begun) <= 10 - call  # only those after the checkpoint
    assert set(steps_begun) == {2}
    assert_same(again, undisturbed, rel=1e-6)


@pytest.mark.slow
def test_after_a_kill_between_two_saves_each_trial_keeps_its_phase(
    data, one_device, undisturbed, tmp_path
):
    """At the same step, one was saved before its evaluation and another after it."""
    everything = configs(training__checkpoint_every_epochs=4.9 * STEP)
    cut = tmp_path / "cut"
    trained(everything, data, one_device, cut)
    for number in range(3):
        shutil.rmtree(cut / f"{number}/checkpoints/10")  # back to 5, row written
    # Puts the first back to the same step before that row and its evaluation.
    place = cut / "0"
    with together_in(everything[:1], data, one_device, cut, seeds=SEEDS[:1]) as (
        (one,),
        context,
    ):
        (group,) = resume([one], context)
        assert (group.step, group.phase) == (5, Phase.BOOKKEEPING_DONE)
        group.place()
        lines = (place / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        before = next(i for i, line in enumerate(lines) if b'"step": 5' in line)
        one.record.resume(len(b"".join(lines[:before])))
        one.checkpoints.manager.delete(5)
        one.best_step = 0
        group.phase = Phase.STEP_DONE
        group.save(group.positions())
    again = trained(everything, data, one_device, cut)
    assert_same(again, undisturbed, rel=1e-6)


@pytest.mark.slow
def test_a_checkpoint_due_for_one_trial_is_saved_for_all(data, one_device, tmp_path):
    """After a kill they are thus at one step and resume together."""
    everything = configs(training__checkpoint_every_epochs=1000.0)
    trained(everything, data, one_device, tmp_path)
    kept = [
        sorted(int(p.name) for p in (tmp_path / f"{n}/checkpoints").iterdir())
        for n in range(3)
    ]
    assert kept[0] == kept[1] == kept[2]
    assert kept[0][-1] == 10


@pytest.mark.slow
def test_a_save_request_saves_all_trials_and_training_continues(
    data, one_device, tmp_path, monkeypatch
):
    everything = configs(training__checkpoint_every_epochs=0.0)
    of, calls = Trainer.of, []

    def asking(*given, **changes):
        trainer = of(*given, **changes)

        def signalled(*given):
            calls.append(1)
            if len(calls) == 4:
                sent(signal.SIGUSR1)
            return trainer.train_step(*given)

        return dataclasses.replace(trainer, train_step=signalled)

    monkeypatch.setattr(Trainer, "of", asking)
    ended = trained(everything, data, one_device, tmp_path)
    assert [status for status, _ in ended] == ["finished"] * 3
    for number in range(3):
        (held,) = (tmp_path / f"{number}/checkpoints").iterdir()
        assert int(held.name) in (4, 5)


@pytest.mark.slow
def test_a_damaged_trial_resumes_from_the_previous_checkpoint(
    data, one_device, undisturbed, tmp_path, capsys
):
    everything = configs(training__checkpoint_every_epochs=4.9 * STEP)
    trained(everything, data, one_device, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/1/checkpoints/10/params")
    again = trained(everything, data, one_device, tmp_path / "cut")
    assert "Warning, trial 1: checkpoint" in capsys.readouterr().err
    assert_same(again, undisturbed, rel=1e-6)


# --- Grouping of trials ------------------------------------------------------------


def question(**changes):
    """A configuration of three arms at two learning rates, two seeds each."""
    config = tiny(**changes)
    config.experiment = "tiny"
    config.arms = {
        "decay": {"optimizer.weight_decay": 0.001},
        "none": {"optimizer.weight_decay": 0.0},
        "tanh": {"model.activation": "tanh"},
    }
    config.tuned = {"optimizer.learning_rate": (0.001, 0.002)}
    config.seeds = 2
    config.claim = {
        "section": "5",
        "text": "t",
        "metric": "top1_error",
        "compare": ("none", "decay"),
        "paper": "higher",
        "dataset": "imagenet2012",
    }
    return config


def grouped(config, largest):
    """The configuration's trials in groups, with `population` set."""
    config.population = True
    plan = resolve(config, {})
    return group_trials(plan.trials, population=True, largest=largest, num_devices=1)


@pytest.mark.parametrize(("platform", "sizes"), [("cpu", [4, 4, 4]), ("gpu", [8, 4])])
def test_on_a_cpu_populations_are_smaller(
    one_device, tmp_path, monkeypatch, platform, sizes
):
    config, groups = question(), []
    config.population = True
    plan = resolve(config, {})
    monkeypatch.setattr(
        runner, "run_together", lambda group, *_, **__: groups.append(len(group))
    )
    datasets = Datasets(plan)
    monkeypatch.setattr(one_device, "devices", [SimpleNamespace(platform=platform)])
    runner.run_trials(list(plan.trials), tmp_path, plan, datasets, one_device)
    assert groups == sizes


def test_trials_that_differ_in_seed_and_hyperparameters_share_a_group():
    groups = grouped(question(), 32)
    assert [{trial.arm for trial in group} for group in groups] == [
        {"decay", "none"},
        {"tanh"},
    ]
    assert [len(group) for group in groups] == [8, 4]
    for group in groups:
        own = [trial.settings for trial in group]
        assert len({str(one.model) + str(one.data) for one in own}) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer.bias_decay", True),
        ("optimizer.lr_inside_momentum", False),
        ("training.num_epochs", 3.0),
        ("training.batch_size", 8),
        ("data.random_flip", True),
        ("model.biases", (1.0, 1.0, 1.0, 1.0)),
    ],
)
def test_trials_that_differ_in_compilation_or_data_are_separate(field, value):
    config = tiny()
    config.arms = {"one": {}, "other": {field: value}}
    config.claim = question().claim | {"compare": ("one", "other")}
    groups = grouped(config, 32)
    assert [len(group) for group in groups] == [1, 1]


def test_a_population_does_not_exceed_the_largest_size():
    config = question()
    config.seeds = 20
    for most, expected in ((32, [32, 32, 16, 32, 8]), (70, [70, 10, 40])):
        groups = grouped(config, most)
        assert [len(group) for group in groups] == expected


@pytest.mark.slow
def test_an_experiment_gives_the_same_summary_with_a_population(
    one_device, tmp_path, monkeypatch, capsys
):
    """An experiment started without a population can be resumed with one."""
    monkeypatch.setattr(runner, "Devices", lambda *_: one_device)
    config = question()
    config.tuned = {}
    del config.arms["tanh"]
    plan = resolve(config, {})
    runner.run(plan, tmp_path / "alone")
    config.population = True
    together = resolve(config, {})
    capsys.readouterr()
    runner.run(together, tmp_path / "together")
    summaries = [
        json.loads((tmp_path / name / "summary.json").read_text())
        for name in ("alone", "together")
    ]
    for arm, one in summaries[0]["arms"].items():
        other = summaries[1]["arms"][arm]
        assert one["tuned"] == other["tuned"]
        assert one["per_seed"] == pytest.approx(other["per_seed"])
    for trial in plan.trials:
        ends = [
            json.loads((tmp_path / name / trial.folder / "trial.json").read_text())
            for name in ("alone", "together")
        ]
        for end in ends:
            del end["spread"]  # over the devices
        assert ends[0] == ends[1]
    (tmp_path / "alone" / plan.trials[0].folder / "trial.json").unlink()
    runner.run(together, tmp_path / "alone")
    assert "3 of 4 trials are already done" in capsys.readouterr().err


@pytest.mark.slow
def test_a_trial_that_diverged_before_a_stop_has_ended(
    one_device, tmp_path, monkeypatch, capsys
):
    """Only the other trials resume."""
    monkeypatch.setattr(runner, "Devices", lambda *_: one_device)
    config = question()
    config.population, config.seeds = True, 1
    config.tuned = {"optimizer.learning_rate": (0.001, 1e12)}
    del config.arms["tanh"]
    plan = resolve(config, {})
    of = Trainer.of

    def stopping(*given, **changes):
        trainer = of(*given, **changes)

        def signalled(state, *given):
            if int(np.max(state.step)) == 7:
                sent(signal.SIGTERM)
            return trainer.train_step(state, *given)

        return dataclasses.replace(trainer, train_step=signalled)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "of", stopping)
        with pytest.raises(Stopped):
            runner.run(plan, tmp_path / "run")
    ended = {
        path.parent.parent.name: json.loads(path.read_text())["status"]
        for path in (tmp_path / "run").rglob("trial.json")
    }
    assert ended == {"learning_rate=1000000000000.0": "diverged"}
    assert (
        "learning_rate=1000000000000.0 seed0 diverged: its" in capsys.readouterr().err
    )
    runner.run(plan, tmp_path / "run")
    ended = list((tmp_path / "run").rglob("trial.json"))
    assert len(ended) == len(plan.trials) == 4


def test_a_population_of_several_processes_is_refused(tmp_path, monkeypatch):
    config = question()
    config.population = True
    plan = resolve(config, {})
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match=r"config\.population trains small networks"):
        runner.run(plan, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_out_of_memory_message_names_a_remedy(
    data, one_device, tmp_path, monkeypatch
):
    everything, of = configs(), Trainer.of

    class Full:
        def __init__(self, lower):
            self.lower = lower

        def __call__(self, *_):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    def full(*given, **changes):
        trainer = of(*given, **changes)
        return dataclasses.replace(trainer, train_step=Full(trainer.train_step.lower))

    monkeypatch.setattr(Trainer, "of", full)
    with pytest.raises(UserError, match=r"3 trials at once: without --config\.popul"):
        trained(everything, data, one_device, tmp_path)


# --- Convolutions on a CPU --------------------------------------------------------


def test_vmapped_convolutions_are_not_grouped_on_a_cpu():
    """XLA's grouped convolution is several times slower; see convolution_cpu.py."""

    def loss(x, kernel):
        return (
            layers.convolve(x, kernel, stride=1, padding=((2, 2), (2, 2))) ** 2
        ).sum()

    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 8, 8, 2)), jnp.float32)
    kernel = jnp.asarray(
        np.random.default_rng(1).normal(size=(3, 5, 5, 2, 6)), jnp.float32
    )
    gradients = jax.jit(jax.vmap(jax.grad(loss, (0, 1))))
    text = gradients.lower(x, kernel).as_text()
    # One forward and two gradient convolutions for each of three trials.
    assert text.count("stablehlo.convolution") == 9
    groups = {part.split(" ")[0] for part in text.split("feature_group_count = ")[1:]}
    assert groups == {"1"}
    own = [jax.grad(loss, (0, 1))(x[i], kernel[i]) for i in range(3)]
    for ours, others in zip(gradients(x, kernel), zip(*own, strict=True), strict=True):
        np.testing.assert_allclose(ours, np.stack(others), rtol=1e-5, atol=1e-5)
    shared = jax.vmap(jax.grad(loss, 1), in_axes=(None, 0))(x[0], kernel)
    np.testing.assert_allclose(
        shared[2], jax.grad(loss, 1)(x[0], kernel[2]), rtol=1e-5, atol=1e-5
    )
