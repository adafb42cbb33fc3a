"""The benchmark of the loop: what it takes turns with, what it counts, its table."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from alexnet_jax.training import records
from alexnet_jax.training.group import TrialGroup
from benchmarks import loop_cost, noise_trial, start_cost
from benchmarks.loop_cost import TimedRun
from benchmarks.start_cost import Stages

ROOT = Path(__file__).parents[2]


# --- A run ------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """A thin network on small images, in short turns."""
    monkeypatch.setattr(loop_cost, "SECONDS", 0.01)
    monkeypatch.setattr(loop_cost, "FEWEST", 2)

    def settings(log_every=noise_trial.LOG_EVERY):
        config = ConfigDict(
            noise_trial.trial(8, "float32", width=1 / 16, log_every=log_every)
        )
        config.data.rescale_size, config.data.crop_size = 72, 64
        return FrozenConfigDict(config)

    return settings


@pytest.mark.slow
def test_a_run_is_timed_and_saved(small, monkeypatch, capsys):
    written = []
    write = records.Record.write

    def noted(self, row):
        written.append(row)
        write(self, row)

    monkeypatch.setattr(records.Record, "write", noted)
    loop, save = loop_cost.running_rows(small, 2)
    assert (loop["name"], save["name"]) == ("loop", "save")
    assert loop["steps"] == loop_cost.FEWEST
    assert len(loop["ratios"]) == len(save["saves"]) == 2
    assert set(loop["milliseconds"]) == {"bare", "loop"}
    assert save["bytes"] > 0.5 * save["state_bytes"] > 0
    assert save["share"] == loop_cost.share_lost(
        lost=save["lost"], step=save["step"], steps_between=loop_cost.IMAGENET / 8
    )
    kinds = [row["kind"] for row in written]
    # A run to count the steps of a turn, and one to time; neither evaluates.
    assert kinds.count("diagnosis") == 2
    assert set(kinds) == {"diagnosis", "train"}
    assert kinds.count("train") >= 4  # a row a turn: two of loops, two before saves
    assert "Warning" not in capsys.readouterr().err


def test_noise_is_as_long_as_imagenet(small):
    data = noise_trial.noise(small())
    assert data.train.num_examples == loop_cost.IMAGENET
    far = loop_cost.IMAGENET - 1
    pixels, label = data.train.rows(far, 3, 5)
    assert pixels.shape == (5, 72, 3)
    assert data.train.split.read(far) == data.train.split.read(far % noise_trial.IMAGES)
    assert 0 <= label < noise_trial.CLASSES


# --- What is made of the times ----------------------------------------------------


@dataclasses.dataclass
class Scripted(TimedRun):
    """Turns of given lengths."""

    turns: list = dataclasses.field(default_factory=list)
    bares: list = dataclasses.field(default_factory=list)
    loops: list = dataclasses.field(default_factory=list)

    def bare(self):
        self.turns.append("bare")
        return self.bares.pop(0)

    def loop(self):
        self.turns.append("loop")
        return self.loops.pop(0)

    def one(self):
        self.turns.append("one")


def scripted(**changes):
    batches = loop_cost.Prefetcher(loop_cost.endlessly([]), dict)
    run = Scripted(object.__new__(TrialGroup), batches, {}, count=10)
    return dataclasses.replace(run, **changes)


def test_the_ratio_is_the_median_within_a_turn():
    run = scripted(bares=[10.0, 20.0, 40.0], loops=[11.0, 40.0, 42.0])
    row = loop_cost.loop_row(run, 3)
    assert run.turns == ["bare", "loop", "loop", "bare", "bare", "loop"]
    assert row["ratios"] == [1.1, 2.0, 1.05]
    assert row["ratio"] == 1.1
    assert row["milliseconds"] == {"bare": 2000.0, "loop": 4000.0}


class Saving:
    """Checkpoints that are written in the background for so many looks."""

    def __init__(self, looks):
        self.looks = looks

    @property
    def is_saving(self):
        self.looks -= 1
        return self.looks >= 0

    def wait(self):
        pass


@pytest.mark.parametrize(
    ("looks", "step", "extra", "lost"),
    [
        (3, 0.5, 2.5, 3.5),  # 3 steps in 4 seconds
        (0, 1.0, 1.0, 2.0),  # 2 steps at least, in 3 seconds
        (3, 9.0, -23.0, 1.0),  # noise
    ],
)
def test_a_save_costs_its_call_and_what_later_steps_take_longer(
    looks, step, extra, lost, monkeypatch
):
    checkpoints = Saving(looks)
    trial = SimpleNamespace(checkpoints=checkpoints, status="finished")
    monkeypatch.setattr(TrialGroup, "positions", lambda _: {})
    group = object.__new__(TrialGroup)
    group.trials, group.state = [trial], None
    now = iter(range(100))  # a second passes at each look, which is once a step
    run = scripted(group=group, loops=[10 * step], clock=lambda: float(next(now)))
    found = loop_cost.one_save(run)
    assert run.turns == ["loop"] + ["one"] * max(2, looks)
    assert found["step"] == step
    assert found["blocked"] == 1.0
    assert found["lost"] == lost
    assert found["extra"] == extra


def test_what_is_lost_to_a_save_is_shared_out():
    # 5 s lost at every 1000 steps of 0.1 s: 5 ms of each.
    share = loop_cost.share_lost(lost=5.0, step=0.1, steps_between=1000.0)
    assert share == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("seconds", "count"), [(4.0, 6), (0.5, 10), (0.0125, 400), (1e-9, 5000)]
)
def test_a_turn_has_a_target_of_seconds(seconds, count):
    assert loop_cost.steps_of_a_turn(seconds) == count


# --- A start ----------------------------------------------------------------------


def test_stages_follow_one_another():
    times = iter([12.0, 12.5, 20.0])
    stages = Stages(10.0, lambda: next(times))
    for name in ("imports", "data", "first step"):
        stages.end(name)
    assert stages.seconds == {"imports": 2.0, "data": 0.5, "first step": 7.5}
    assert stages.last - stages.started == sum(stages.seconds.values())


def test_each_pair_of_starts_has_a_cache_of_its_own(monkeypatch, capsys):
    caches, wholes = [], iter([30.0, 10.0, 50.0, 11.0, 31.0, 90.0])

    def started(arguments, cache):
        assert arguments == ["16"]
        assert (Path(cache) / "there").exists() == (len(caches) % 2 == 1)
        (Path(cache) / "there").touch()
        caches.append(cache)
        whole = next(wholes)
        compiled = {"programs": 20, "from the cache": 0}
        return {"whole": whole, "seconds": {"all": whole}, "compiled": compiled}

    monkeypatch.setattr(start_cost, "started", started)
    cold, warm = start_cost.start_rows(["16"], 3)
    assert caches[::2] == caches[1::2]
    assert len(set(caches)) == 3
    assert not any(Path(cache).exists() for cache in caches)
    assert (cold["name"], cold["whole"], cold["seconds"]["all"]) == ("cold", 31.0, 31.0)
    assert (warm["name"], warm["whole"], warm["wholes"]) == ("warm", 11.0, [10, 11, 90])


@pytest.mark.slow
def test_a_process_starts_and_takes_a_step(tmp_path):
    arguments = ["2", "float32", str(1 / 16), repr(time.time())]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.start_cost", *arguments],
        cwd=ROOT,
        env=os.environ
        | {"JAX_NUM_CPU_DEVICES": "1", "JAX_COMPILATION_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found["seconds"]) == [
        "imports",
        "data",
        "initial weights",
        "checkpoint tried",
        "first batch, diagnosis",
        "first step",
    ]
    assert found["whole"] == pytest.approx(sum(found["seconds"].values()))
    assert found["compiled"]["programs"] > 0
    assert found["compiled"]["from the cache"] == 0
    assert any(tmp_path.iterdir())
