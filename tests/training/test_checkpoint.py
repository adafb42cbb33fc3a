"""Stopped, killed and damaged trials resume bit-identically."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from small_trial import (
    STEP,
    learned,
    placed_initial_state,
    rows_of,
    tiny,
    train_one,
    trainer_of,
)

from alexnet_jax.config import base, small_data
from alexnet_jax.config.checkpoint_fields import fields_of
from alexnet_jax.config.old_names import RENAMED
from alexnet_jax.data.open import open_source
from alexnet_jax.data.pipeline import load_data
from alexnet_jax.errors import Stopped, UserError
from alexnet_jax.training import checkpoint_files
from alexnet_jax.training.checkpoint import Checkpoints, rehearse_checkpoint
from alexnet_jax.training.checkpoint_files import (
    Position,
    checksum,
)
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.initial_weights import starting_state
from alexnet_jax.training.saved_network import read_weights
from alexnet_jax.training.trainer import Evaluator, Trainer


def config_of(**changes):
    return tiny(training__checkpoint_every_epochs=2.9 * STEP, **changes)


def run(config, data, devices, folder, seed=0):
    trial, _ = train_one(config, data, devices, folder, seed)
    return trial.status, trial.last_row


def like(config, data, devices):
    return placed_initial_state(config, data, devices)


def last(config, data, devices, folder):
    """State and position of the newest checkpoint."""
    with Checkpoints(folder, fields_of(config), devices) as checkpoints:
        state, position, damaged = checkpoints.restore(like(config, data, devices))
    assert not damaged
    return state, position


def rows(folder):
    return learned(rows_of(folder))


@pytest.fixture(scope="module")
def undisturbed(data, devices, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    config = config_of()
    assert run(config, data, devices, folder)[0] == "finished"
    state, position = last(config, data, devices, folder)
    assert position.step == 10
    return checksum(state), rows(folder)


@pytest.mark.parametrize(
    ("number", "stopped_in", "call"),
    [
        (signal.SIGTERM, "train_step", 1),
        (signal.SIGINT, "train_step", 5),
        pytest.param(signal.SIGTERM, "eval_step", 1, marks=pytest.mark.slow),
        (signal.SIGTERM, "eval_step", 7),
    ],
)
def test_a_stopped_trial_resumes_bit_identically(
    data,
    devices,
    undisturbed,
    tmp_path,
    monkeypatch,
    number,
    stopped_in,
    call,
):
    """The signal arrives during a training step or an evaluation."""
    config, calls = config_of(), []
    trainer = trainer_of(config, data, devices)

    def signalled(*arguments):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), number)
            time.sleep(0.2)  # for the thread that receives signals
        return getattr(trainer, stopped_in)(*arguments)

    changed = dataclasses.replace(trainer, **{stopped_in: signalled})
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "of", lambda *_, **__: changed)
        with pytest.raises(Stopped, match=f"{number.name}, saved at step") as stopped:
            run(config, data, devices, tmp_path)
    assert stopped.value.number == number
    _, position = last(config, data, devices, tmp_path)
    assert f"step {position.step}" in str(stopped.value)
    if stopped_in == "train_step":
        assert position.step == call
    assert run(config, data, devices, tmp_path)[0] == "finished"
    state, _ = last(config, data, devices, tmp_path)
    assert (checksum(state), rows(tmp_path)) == undisturbed


@pytest.mark.slow
def test_all_random_draws_resume_bit_identically(devices, tmp_path, monkeypatch):
    """AlexNet with crops, flips, lighting and dropout, in two microbatches."""
    config = small_data(base())
    config.model.width = 0.0625
    config.data.random_flip = True
    config.training.gradient_accumulation = 2
    config.training.num_epochs = 7.9 * 32 / 1438  # eight steps
    config.training.log_every_epochs = 2.9 * 32 / 1438
    assert config.model.dropout_rate > 0
    assert config.data.lighting_std > 0
    assert config.data.random_crop
    data = load_data(
        open_source("digits", tfds_dir=""), rescale="shorter_side", rescale_size=72
    )
    assert run(config, data, devices, tmp_path / "whole")[0] == "finished"
    trainer = trainer_of(config, data, devices)
    with monkeypatch.context() as patch:
        changed = stopped(trainer, "train_step", 4)
        patch.setattr(Trainer, "of", lambda *_, **__: changed)
        with pytest.raises(Stopped):
            run(config, data, devices, tmp_path / "parts")
    assert run(config, data, devices, tmp_path / "parts")[0] == "finished"
    found, expected = (
        (checksum(last(config, data, devices, folder)[0]), rows(folder))
        for folder in (tmp_path / "parts", tmp_path / "whole")
    )
    assert found == expected


@pytest.mark.parametrize("step", [1, 5])
def test_rows_after_the_checkpoint_are_truncated(
    data,
    devices,
    undisturbed,
    tmp_path,
    monkeypatch,
    step,
):
    """As after SIGKILL: everything since the last save is recomputed."""
    config = config_of()

    class Killed(Exception):
        pass

    trainer = trainer_of(config, data, devices)
    calls = []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == step:
            raise Killed
        return trainer.train_step(*arguments)

    with monkeypatch.context() as patch:
        changed = dataclasses.replace(trainer, train_step=killed)
        patch.setattr(Trainer, "of", lambda *_, **__: changed)
        with pytest.raises(Killed):
            run(config, data, devices, tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 1')  # an incomplete line
    assert run(config, data, devices, tmp_path)[0] == "finished"
    state, _ = last(config, data, devices, tmp_path)
    assert (checksum(state), rows(tmp_path)) == undisturbed


def newest(folder):
    return max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name))


def files_of(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def delete(file):
    file.unlink()


@pytest.fixture(scope="module")
def finished(data, devices, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run(config_of(), data, devices, folder)
    return folder


# When a read fails, Orbax leaks coroutines and futures, and Python warns of them.
left_by_orbax = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@left_by_orbax
@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, flip])
def test_a_damaged_checkpoint_file_never_silently_gives_wrong_weights(
    data, devices, finished, undisturbed, tmp_path, damage
):
    """For each file, either nothing is lost or the previous checkpoint is used."""
    initial, used = like(config_of(), data, devices), set()
    relative = [file.relative_to(finished) for file in files_of(newest(finished))]
    for number, name in enumerate(relative):
        folder = shutil.copytree(finished, tmp_path / str(number))
        damage(folder / name)
        with Checkpoints(folder, fields_of(config_of()), devices) as checkpoints:
            state, position, damaged = checkpoints.restore(initial)
        used.add(position.step)
        if position.step == 10:
            assert not damaged
            assert checksum(state) == undisturbed[0]
        else:
            assert len(damaged) == 1
            assert f"{folder / 'checkpoints' / '10'} is damaged" in damaged[0]
            assert checksum(state) != undisturbed[0]
    assert len(used) == 2


@left_by_orbax
def test_an_empty_checkpoint_is_reported_and_the_previous_one_used(
    data, devices, finished, undisturbed, tmp_path, capsys
):
    folder = shutil.copytree(finished, tmp_path / "copy")
    newest_there = newest(folder)
    for file in files_of(newest_there):
        file.unlink()
    assert run(config_of(), data, devices, folder)[0] == "finished"
    assert f"checkpoint {newest_there} is damaged" in capsys.readouterr().err
    state, _ = last(config_of(), data, devices, folder)
    assert (checksum(state), rows(folder)) == undisturbed


@left_by_orbax
def test_a_trial_with_only_damaged_checkpoints_does_not_silently_restart(
    data, devices, finished, tmp_path
):
    folder = shutil.copytree(finished, tmp_path / "copy")
    for file in files_of(folder / "checkpoints"):
        truncate(file)
    with pytest.raises(UserError, match="No checkpoint can be read"):
        run(config_of(), data, devices, folder)


# --- Retention --------------------------------------------------------------------

# Errors by evaluated step; checkpoints are also due at steps 3, 6, 9 and 10.
# Initial weights are never best.
TURNING = {0: 0.9, 2: 0.8, 4: 0.5, 6: 0.5, 8: 0.7, 10: 0.6}
FALLING = {0: 0.9, 2: 0.8, 4: 0.7, 6: 0.6, 8: 0.5, 10: 0.4}
RISING = {0: 0.1, 2: 0.5, 4: 0.6, 6: 0.7, 8: 0.8, 10: 0.9}


def with_errors(monkeypatch, errors):
    rows = Evaluator.rows

    def replaced(self, counts, *, step, **others):
        (row,) = rows(self, counts, step=step, **others)
        return [row | {"top1_error": errors[step]}]

    monkeypatch.setattr(Evaluator, "rows", replaced)


def steps_kept(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def stopped(trainer, stopped_in, call):
    """A trainer that receives SIGTERM in the given call of a step."""
    calls = []

    def signalled(*arguments):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)  # for the thread that receives signals
        return getattr(trainer, stopped_in)(*arguments)

    return dataclasses.replace(trainer, **{stopped_in: signalled})


@pytest.mark.parametrize(
    ("errors", "best", "kept", "call"),
    [
        (TURNING, 4, [4, 9, 10], None),  # the earlier of equal errors
        pytest.param(TURNING, 4, [4, 9, 10], 7, marks=pytest.mark.slow),
        pytest.param(FALLING, 10, [9, 10], 9, marks=pytest.mark.slow),
        (RISING, 2, [2, 9, 10], 2),
    ],
)
def test_the_best_and_the_last_two_checkpoints_are_kept(
    data, devices, tmp_path, monkeypatch, errors, best, kept, call
):
    """Also when the trial is stopped in a step and resumed."""
    with_errors(monkeypatch, errors)
    config = config_of(training__evaluate_every_epochs=1.9 * STEP)
    if call is not None:
        trainer = trainer_of(config, data, devices)
        with monkeypatch.context() as patch:
            changed = stopped(trainer, "train_step", call)
            patch.setattr(Trainer, "of", lambda *_, **__: changed)
            with pytest.raises(Stopped):
                run(config, data, devices, tmp_path)
    assert run(config, data, devices, tmp_path)[0] == "finished"
    assert steps_kept(tmp_path) == kept
    _, position = last(config, data, devices, tmp_path)
    assert (position.best_step, position.best_error) == (best, errors[best])
    assert read_weights(str(tmp_path))[1].name == str(best)


def test_an_interrupted_final_evaluation_can_still_be_the_best(
    data, devices, tmp_path, monkeypatch
):
    with_errors(monkeypatch, FALLING)
    config = config_of(training__evaluate_every_epochs=1.9 * STEP)
    trainer = trainer_of(config, data, devices)
    with monkeypatch.context() as patch:
        changed = stopped(trainer, "eval_step", 17)  # of 18: in the last
        patch.setattr(Trainer, "of", lambda *_, **__: changed)
        with pytest.raises(Stopped, match="saved at step 10"):
            run(config, data, devices, tmp_path)
    assert run(config, data, devices, tmp_path)[0] == "finished"
    assert read_weights(str(tmp_path))[1].name == "10"


# --- Refused checkpoints ----------------------------------------------------------


def restored(config, data, devices, folder):
    with Checkpoints(folder, fields_of(config), devices) as checkpoints:
        return checkpoints.restore(like(config, data, devices))


def test_checkpoints_of_another_configuration_are_refused(
    data, devices, finished, tmp_path
):
    folder = shutil.copytree(finished, tmp_path / "copy")
    other = config_of(optimizer__momentum=0.5, optimizer__weight_decay=0.25)
    with pytest.raises(UserError) as caught:
        restored(other, data, devices, folder)
    assert str(caught.value) == (
        f"Checkpoint {folder}/checkpoints/10 belongs to another configuration; these "
        "fields differ:\n"
        "  optimizer.momentum: 0.9 there, 0.5 now\n"
        "  optimizer.weight_decay: 0.0 there, 0.25 now\n"
        "To start from its weights nevertheless, except those of the last layer, give "
        f"--config.training.init_from={folder}/checkpoints/10 with a new --workdir."
    )
    assert steps_kept(folder) == steps_kept(finished)


def test_execution_settings_may_change_on_resume(data, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "copy")
    other = config_of(
        data__prepared_dir="none",
        training__gradient_accumulation=2,
        training__profile=(3, 5),
        training__tensorboard=True,
    )
    other.training.checkpoint_every_epochs = 0.5
    other.parallel = "shard_map"
    four = Devices("shard_map", jax.devices()[:4])
    assert fields_of(other) == fields_of(config_of())
    _, position, damaged = restored(other, data, four, folder)
    assert (position.step, damaged) == (10, [])


def test_checkpoints_of_another_format_are_refused(
    data, devices, finished, tmp_path, monkeypatch
):
    folder = shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.setattr(checkpoint_files, "FORMAT", 3)
    with Checkpoints(folder, fields_of(config_of()), devices) as checkpoints:
        state = placed_initial_state(config_of(), data, devices)
        checkpoints.save(state, Position(step=11))
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"has checkpoint format 3; this .* 1 to 2"):
        restored(config_of(), data, devices, folder)
    with pytest.raises(UserError, match="has checkpoint format 3"):
        read_weights(str(folder))
    assert 11 in steps_kept(folder)


def in_format_1(folder, state_like):
    """Rewrites the newest checkpoint in format 1, that of the first version.

    It had other names for some fields, the item `momentum`, and flags for the phase.
    """
    place = newest(folder)
    held = json.loads((place / "position" / "metadata").read_text())
    description = checkpoint_files.read_description(place)
    state = checkpoint_files.read_state(description, state_like)
    shutil.rmtree(place)
    momentum = {"step": state.step, "velocity": state.opt_state}
    old_names = {new: old for old, new in RENAMED.items()}
    position = held["position"]
    position["due"] = position.pop("phase") == "step done"
    position["fallen"] = position.pop("start_checked")
    config = {old_names.get(n, n): v for n, v in held["config"].items()}
    old = {
        "format": 1,
        "config": config,
        "position": position,
        "params_checksum": checksum(state.params),
        "momentum_checksum": checksum(momentum),
    }
    old["checksum"] = checkpoint_files._checksum_of_json(old)
    with ocp.CheckpointManager(place.parent) as manager:
        manager.save(
            int(place.name),
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),
                momentum=ocp.args.StandardSave(momentum),
                position=ocp.args.JsonSave(old),
            ),
        )


@pytest.mark.parametrize("call", [6])
def test_a_format_1_checkpoint_resumes_bit_identically(
    data, devices, undisturbed, tmp_path, monkeypatch, call
):
    """Saved before a row that is due, and between two rows."""
    trainer = trainer_of(config_of(), data, devices)
    with monkeypatch.context() as patch:
        changed = stopped(trainer, "train_step", call)
        patch.setattr(Trainer, "of", lambda *_, **__: changed)
        with pytest.raises(Stopped):
            run(config_of(), data, devices, tmp_path)
    in_format_1(tmp_path, like(config_of(), data, devices))
    # On a busy machine the signal arrives a step late.
    assert read_weights(tmp_path, "last")[1].name in (str(call), str(call + 1))
    assert run(config_of(), data, devices, tmp_path)[0] == "finished"
    state, _ = last(config_of(), data, devices, tmp_path)
    assert (checksum(state), rows(tmp_path)) == undisturbed


@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_a_field_missing_from_a_checkpoint_takes_its_default(
    data, devices, finished, tmp_path, momentum
):
    """A new field locks out no old checkpoint, unless it is set to another value."""
    folder, config = shutil.copytree(finished, tmp_path / "copy"), config_of()
    fields = fields_of(config)
    fields["optimizer.momentum"] = momentum
    state = like(config, data, devices)
    lacking = {n: v for n, v in fields.items() if n != "optimizer.momentum"}
    shutil.rmtree(folder / "checkpoints")
    with Checkpoints(folder, lacking, devices) as checkpoints:
        checkpoints.save(state, Position(step=1))
    with Checkpoints(folder, fields, devices) as checkpoints:
        if momentum == 0.9:
            assert checkpoints.restore(state)[1].step == 1
        else:
            with pytest.raises(
                UserError, match=r"optimizer\.momentum: 0\.9 there, 0\.5"
            ):
                checkpoints.restore(state)


# --- Initial weights from another trial -------------------------------------------


def begun(config, data, devices):
    trainer = trainer_of(config, data, devices)
    return jax.device_get(starting_state(config.training.init_from, 3, trainer))


@pytest.mark.parametrize(
    ("given", "classes"),
    [
        ("", 10),
        pytest.param("checkpoints", 12, marks=pytest.mark.slow),
        ("checkpoints/9", 12),
    ],
)
def test_init_from_copies_all_weights_except_the_last_layers(
    data, devices, tmp_path, monkeypatch, given, classes
):
    """Uses the trial's best checkpoint, 4; step and momentum start at zero.

    The number of classes may differ.
    """
    with_errors(monkeypatch, TURNING)
    source = config_of(training__evaluate_every_epochs=1.9 * STEP)
    run(source, data, devices, tmp_path)
    held, folder = read_weights(str(tmp_path / given))
    assert folder.name == ("9" if given.endswith("9") else "4")
    names = tuple(map(str, range(classes)))
    other = dataclasses.replace(
        data, source=dataclasses.replace(data.source, class_names=names)
    )
    state = begun(tiny(training__init_from=str(tmp_path / given)), other, devices)
    fresh = begun(tiny(), other, devices)
    assert int(state.step) == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(state.opt_state))
    assert list(state.params) == ["conv1", "conv2", "conv3", "fc4"]
    for name, layer in state.params.items():
        expected = fresh.params[name] if name == "fc4" else held[name]
        jax.tree.map(np.testing.assert_array_equal, layer, expected)
        if name != "fc4":
            assert (layer["kernel"] != fresh.params[name]["kernel"]).any()
    assert state.params["fc4"]["bias"].shape == (classes,)


@pytest.mark.slow
def test_a_trial_with_init_from_trains_and_resumes(
    data, devices, finished, tmp_path, monkeypatch
):
    """Resuming does not load the other trial's weights again; frozen layers keep them."""
    config = config_of(
        training__init_from=str(finished),
        optimizer__frozen_layers=2,
        optimizer__layer_lr_multipliers="conv3=0.1,last=10",
    )
    whole = tmp_path / "whole"
    assert run(config, data, devices, whole)[0] == "finished"
    trainer = trainer_of(config, data, devices)
    with monkeypatch.context() as patch:
        changed = stopped(trainer, "train_step", 5)
        patch.setattr(Trainer, "of", lambda *_, **__: changed)
        with pytest.raises(Stopped):
            run(config, data, devices, tmp_path / "cut")
    assert run(config, data, devices, tmp_path / "cut")[0] == "finished"
    assert rows(tmp_path / "cut") == rows(whole)
    assert rows(whole) != rows(finished)
    held, origin = read_weights(finished), read_weights(whole, "last")
    same = {
        n: np.array_equal(held[0][n]["kernel"], origin[0][n]["kernel"]) for n in held[0]
    }
    assert same == {"conv1": True, "conv2": True, "conv3": False, "fc4": False}


def test_weights_of_other_layers_are_refused_by_name(data, devices, finished):
    config = tiny(training__init_from=str(finished), model__channels=(32, 48, 64))
    with pytest.raises(UserError) as caught:
        begun(config, data, devices)
    first, *others = str(caught.value).splitlines()
    assert first.startswith("config.training.init_from: the layers of ")
    assert others == [
        "  conv2: bias (8,), kernel (5, 5, 8, 8) there, "
        "bias (12,), kernel (5, 5, 8, 12) here",
        "  conv3: bias (16,), kernel (5, 5, 8, 16) there, "
        "bias (16,), kernel (5, 5, 12, 16) here",
    ]


@left_by_orbax
@pytest.mark.parametrize("damage", [truncate, flip, delete])
@pytest.mark.parametrize("item", ["params", "position"])
def test_damaged_weights_are_refused(data, devices, finished, tmp_path, damage, item):
    folder = shutil.copytree(finished, tmp_path / "copy")
    for file in files_of(newest(folder) / item):
        damage(file)
    config = tiny(training__init_from=str(newest(folder)))
    with pytest.raises(UserError, match="No checkpoint can be read at"):
        begun(config, data, devices)


@pytest.mark.parametrize("made", [[], ["checkpoints"]])
def test_missing_weights_are_refused(data, devices, tmp_path, made):
    for name in made:
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="No checkpoint can be read at"):
        begun(tiny(training__init_from=str(tmp_path)), data, devices)


# --- Test saves -------------------------------------------------------------------


def test_a_test_save_leaves_nothing_behind(data, devices, tmp_path):
    state = like(config_of(), data, devices)
    (tmp_path / "kept").touch()
    rehearse_checkpoint(state, tmp_path, devices)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_a_folder_that_cannot_hold_checkpoints_is_refused_before_training(
    data, devices, tmp_path
):
    (tmp_path / "trial").touch()
    with pytest.raises(UserError, match="Cannot open the checkpoints in"):
        rehearse_checkpoint(
            like(config_of(), data, devices), tmp_path / "trial", devices
        )
    assert (tmp_path / "trial").is_file()


def test_a_checkpoint_that_reads_back_differently_is_refused(
    data, devices, tmp_path, monkeypatch
):
    numbers = itertools.count()
    monkeypatch.setattr(checkpoint_files, "checksum", lambda _: next(numbers))
    with pytest.raises(UserError, match="No checkpoint can be read"):
        rehearse_checkpoint(like(config_of(), data, devices), tmp_path, devices)
    assert list(tmp_path.iterdir()) == []


def test_the_reason_of_tensorstores_error_is_one_short_line():
    error = ValueError(
        "NOT_FOUND: Error reading \"fc8.kernel/.zarray\" [source locations='a.cc:1'] "
        "[tensorstore_spec='{" + "x" * 2000 + "}']\nmore"
    )
    reason = checkpoint_files.reason_of(error)
    assert reason == 'NOT_FOUND: Error reading "fc8.kernel/.zarray"'
    long = checkpoint_files.reason_of(ValueError("word " * 500 + "the cause"))
    assert len(long) < 320
    assert long.endswith("the cause")
    full = (
        "RESOURCE_EXHAUSTED: " + "word " * 500 + "No space left on device [code='28']"
    )
    assert checkpoint_files.reason_of(ValueError(full)) == "No space left on device"
