"""A trial that is stopped, killed or damaged goes on to the same last bit."""

import dataclasses
import json
import os
import shutil
import signal

import pytest
from small_trial import STEP, learned, tiny

from alexnet_jax.errors import Stopped, UserError
from alexnet_jax.training import loop
from alexnet_jax.training import step as steps
from alexnet_jax.training.checkpoint import Checkpoints, checksum, fields_of
from alexnet_jax.training.record import Progress, Record
from alexnet_jax.training.signals import Signals


def config_of(**changes):
    return tiny(training__checkpoint_every_epochs=2.9 * STEP, **changes)


def run(config, data, devices, folder, seed=0):
    with (
        Record(folder, tensorboard=False) as record,
        Checkpoints(folder, fields_of(config), devices) as checkpoints,
        Progress(10**6) as progress,
        Signals() as asked,
    ):
        progress.begin("one arm")
        return loop.train(
            config,
            seed=seed,
            data=data,
            devices=devices,
            record=record,
            progress=progress,
            checkpoints=checkpoints,
            asked=asked,
        )


def like(config, data, devices):
    trainer = loop.Trainer.of(config, data, devices)
    return devices.place_state(steps.initial_state(trainer.network, 0, trainer.rule))


def last(config, data, devices, folder):
    """State and position of the newest checkpoint."""
    with Checkpoints(folder, fields_of(config), devices) as checkpoints:
        state, position, damaged = checkpoints.restore(like(config, data, devices))
    assert not damaged
    return state, position


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return learned(map(json.loads, lines))


@pytest.fixture(scope="module")
def undisturbed(data, devices, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    config = config_of()
    assert run(config, data, devices, folder)[0] == "finished"
    state, position = last(config, data, devices, folder)
    assert position.step == 10
    return checksum(state), rows(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
@pytest.mark.parametrize("stopped_in", ["train_step", "eval_step"])
@pytest.mark.parametrize("call", [1, 2, 4, 5, 7])
def test_a_stopped_trial_goes_on_to_the_same_bit(
    data,
    devices,
    undisturbed,
    tmp_path,
    monkeypatch,
    number,
    stopped_in,
    call,
):
    """A signal in any step, or in the midst of an evaluation."""
    config, calls = config_of(), []
    trainer = loop.Trainer.of(config, data, devices)

    def signalled(*arguments):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return getattr(trainer, stopped_in)(*arguments)

    changed = dataclasses.replace(trainer, **{stopped_in: signalled})
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "of", lambda *_: changed)
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


@pytest.mark.parametrize("step", [1, 3, 4, 5, 6, 8, 10])
def test_rows_behind_the_checkpoint_are_cut_off(
    data,
    devices,
    undisturbed,
    tmp_path,
    monkeypatch,
    step,
):
    """As after SIGKILL: whatever was written since the last save is done again."""
    config = config_of()

    class Killed(Exception):
        pass

    trainer = loop.Trainer.of(config, data, devices)
    calls = []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == step:
            raise Killed
        return trainer.train_step(*arguments)

    with monkeypatch.context() as patch:
        changed = dataclasses.replace(trainer, train_step=killed)
        patch.setattr(loop.Trainer, "of", lambda *_: changed)
        with pytest.raises(Killed):
            run(config, data, devices, tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 1')  # in the midst of a line
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


# Orbax leaves coroutines and futures behind where a read fails; Python tells of them.
left_by_orbax = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@left_by_orbax
@pytest.mark.parametrize("damage", [truncate, flip, delete])
def test_no_damaged_file_of_a_checkpoint_gives_wrong_weights_in_silence(
    data, devices, finished, undisturbed, tmp_path, damage
):
    """Of each file by itself: the one before it is used, or nothing was lost."""
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
def test_an_empty_checkpoint_is_named_and_the_one_before_it_used(
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
def test_where_all_are_damaged_the_trial_is_not_silently_begun_again(
    data, devices, finished, tmp_path
):
    folder = shutil.copytree(finished, tmp_path / "copy")
    for file in files_of(folder / "checkpoints"):
        truncate(file)
    with pytest.raises(UserError, match="No checkpoint can be read"):
        run(config_of(), data, devices, folder)
