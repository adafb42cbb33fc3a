"""Devices share out whole trials, their batches, or both; results agree however they do."""

import json
import shutil

import jax
import numpy as np
import pytest
from small_trial import BATCH, STEP, learned, opened, rows_of, tiny, train_one

from alexnet_jax.errors import UserError
from alexnet_jax.training import loop
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.group import resume
from alexnet_jax.training.stacking import SeedSlots

RATES = (0.002, 0.001, 0.003, 0.002)
SEEDS = (0, 1, 0, 2)


def some(count, how="auto"):
    return Devices(how, jax.devices()[:count])


def trained(data, devices, folder, numbers, **changes):
    """Trains trials of these numbers together; their rows."""
    configs = [
        tiny(optimizer__learning_rate=RATES[number], **changes) for number in numbers
    ]
    folders = [folder / str(number) for number in numbers]
    seeds = [SEEDS[number] for number in numbers]
    with opened(configs, data, devices, folders, seeds=seeds) as (trials, context):
        loop.train(trials, context)
    return [learned(rows_of(each)) for each in folders]


def assert_near(ours, others):
    assert [row["kind"] for row in ours] == [row["kind"] for row in others]
    for row, other in zip(ours, others, strict=True):
        for name in ("loss", "gradient_norm", "top1_error"):
            if row.get(name) is not None:
                assert row[name] == pytest.approx(other[name], rel=1e-4)
        assert row["step"] == other["step"]


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """Each trial by itself on one device."""
    folder = tmp_path_factory.mktemp("alone")
    return [trained(data, some(1), folder, [number])[0] for number in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(0, 1), (0, 2)], ids=["two seeds", "one seed"])
def test_a_trial_beside_another_is_the_same_to_the_last_bit(
    data, tmp_path, alone, numbers
):
    """Each device computes the same program as it does for one trial by itself."""
    together = trained(data, some(2), tmp_path, numbers)
    assert together == [alone[number] for number in numbers]
    ended = json.loads((tmp_path / f"{numbers[0]}/trial.json").read_text())
    assert ended["spread"] == "whole trials side by side on 2 devices"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "shape"),
    [
        (2, (2, 1)),  # two trials on each device
        (8, (4, 2)),  # each batch shared out too
    ],
)
def test_four_trials_on_a_mesh_agree_with_each_alone(
    data, tmp_path, alone, count, shape
):
    devices = some(count)
    arranged = devices.arranged(4, batch_size=16)
    assert (arranged.trial_parts, arranged.batch_parts) == shape
    together = trained(data, devices, tmp_path, range(4))
    for ours, others in zip(together, alone, strict=True):
        assert_near(ours, others)


@pytest.mark.slow
def test_trials_are_spread_in_microbatches_too(data, tmp_path, alone):
    parts = {"training__gradient_accumulation": 2}
    for ours, others in zip(
        trained(data, some(4), tmp_path, [0, 1], **parts), alone, strict=False
    ):
        assert_near(ours, others)


@pytest.mark.slow
def test_a_run_stopped_on_two_devices_resumes_on_one(data, tmp_path, alone):
    """The state is bit-identical to that of the checkpoint; later steps agree to rounding.

    On one device the two trials go on as a population of their own.
    """
    every = {"training__checkpoint_every_epochs": 4.9 * STEP}
    trained(data, some(2), tmp_path, [0, 1], **every)
    for number in (0, 1):
        shutil.rmtree(tmp_path / f"{number}/checkpoints/10")
    config, folder = tiny(optimizer__learning_rate=RATES[0], **every), tmp_path / "0"
    states = []
    for count in (1, 2):
        given = [config], data, some(count), [folder]
        with opened(*given, seeds=[SEEDS[0]]) as (trials, context):
            (group,) = resume(trials, context)
            group.place()
            assert group.step == 5
            states.append(jax.device_get(group.state_of(0)))
    jax.tree.map(np.testing.assert_array_equal, *states)
    shutil.copytree(tmp_path / "0", tmp_path / "of batches" / "0")
    again = trained(data, some(1), tmp_path, [0, 1], **every)
    for ours, others in zip(again, alone, strict=False):
        assert_near(ours, others)
    # By itself one of the trials has its batch shared out among both devices.
    assert some(2).arranged(1, batch_size=BATCH).batch_parts == 2
    (shared_out,) = trained(data, some(2), tmp_path / "of batches", [0], **every)
    assert_near(shared_out, alone[0])


# --- The rule ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "trials", "batch_size", "shape"),
    [
        (1, 4, 128, (1, 1)),
        (2, 4, 128, (2, 1)),
        (2, 1, 128, (1, 2)),
        (6, 4, 128, (2, 2)),  # a third device for each batch would not divide it
        (8, 3, 128, (1, 8)),
        (7, 1, 128, (1, 4)),
        (8, 1, 32, (1, 4)),  # eight images a device at least
        (8, 1, 100, (1, 5)),
        (8, 1, 7, (1, 1)),
        (8, 8, 7, (8, 1)),
    ],
)
def test_cpu_devices_are_arranged_by_trials_first(count, trials, batch_size, shape):
    arranged = some(count).arranged(trials, batch_size=batch_size)
    assert (arranged.trial_parts, arranged.batch_parts) == shape
    assert len(arranged.devices) == shape[0] * shape[1]


@pytest.mark.parametrize(("batch_size", "parts"), [(32, 1), (128, 2), (1024, 8)])
def test_a_large_network_is_shared_out_among_fewer_devices(batch_size, parts):
    """64 images a device at least: AlexNet with 61 million parameters."""
    arranged = some(8).arranged(
        1, batch_size=batch_size, num_parameters=61_000_000, spread_trials=False
    )
    assert arranged.batch_parts == parts


@pytest.mark.parametrize(("batch_size", "parts"), [(34, 1), (36, 3), (128, 8), (33, 1)])
def test_pairs_of_images_stay_on_one_device(batch_size, parts):
    """Those that mixup mixes; a batch of no whole pairs is refused elsewhere."""
    arranged = some(8).arranged(1, batch_size=batch_size, images_together=2)
    assert arranged.batch_parts == parts


def test_microbatches_divide_each_devices_share():
    arranged = some(8).arranged(1, batch_size=96, microbatches=4)
    assert arranged.batch_parts == 3  # 3 x 4 parts of eight images


@pytest.mark.parametrize("how", ["auto", "pmap"])
def test_trials_stay_together_where_their_batches_are_shared_out(how):
    """By the rule for large networks, and by pmap, which does that only."""
    arranged = some(4, how).arranged(4, batch_size=128, spread_trials=how == "pmap")
    assert (arranged.trial_parts, arranged.batch_parts) == (1, 4)
    assert arranged.how == "pmap"


def test_equal_arrangements_are_one_object():
    """So that their steps are compiled once."""
    devices = some(4)
    assert devices.arranged(2, batch_size=64) is devices.arranged(6, batch_size=64)


def test_accelerators_must_divide_the_batch(monkeypatch):
    """CPU devices that do not are left out."""
    some(8).check_batch_size(100)
    monkeypatch.setattr(Devices, "may_leave_out", False)
    devices = some(8)
    spread = devices.arranged(24, batch_size=100)
    assert spread.trial_parts == 8
    spread.check_batch_size(100)  # each device takes whole batches
    assert devices.arranged(1, batch_size=16).batch_parts == 8
    with pytest.raises(UserError, match="batch_size=100 cannot be divided among 8"):
        devices.check_batch_size(100)


@pytest.mark.parametrize(
    ("seeds", "parts", "expected"),
    [
        ([7, 2, 7], 1, SeedSlots((7, 2), (0, 1, 0), 1)),
        ([0, 1, 0, 1], 2, SeedSlots((0, 1, 0, 1), (0, 1), 2)),
        ([0, 0, 1, 1], 2, SeedSlots((0, 1), (0, 0), 2)),
        ([0, 0, 1, 2], 2, SeedSlots((0, 0, 1, 2), (0, 1), 2)),
        ([0, 1, 0], 3, SeedSlots((0, 1, 0), (0,), 3)),
    ],
)
def test_each_part_of_the_trials_finds_its_images_in_the_same_slots(
    seeds, parts, expected
):
    slots = SeedSlots.of(seeds, parts)
    assert slots == expected
    assert [slots.seeds[slots.slot_of(i)] for i in range(len(seeds))] == seeds


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_a_step_is_compiled_once(how, data, tmp_path, caplog):
    """The state that a step returns is placed as the one it was given."""
    devices = Devices(how, jax.devices()[:2])
    config = tiny(model__width=0.27)  # a network of its own
    with jax.log_compiles(), caplog.at_level("WARNING"):
        train_one(config, data, devices, tmp_path)
    said = [record.getMessage() for record in caplog.records]
    compiled = [
        text
        for text in said
        if text.startswith(("Compiling jit(of_one)", "Compiling jit(_fun)"))
        and ("uint8[2,8," if how == "pmap" else "uint8[16,") in text
    ]
    assert len(compiled) == 1
