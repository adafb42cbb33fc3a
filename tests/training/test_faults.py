"""The command resumes bit-identically after kills, signals, full disks and damage.

It runs in separate processes, on one virtual device unless stated otherwise.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from forked import Forked, Server
from small_trial import STEP, learned

from alexnet_jax.training.checkpoint_files import checksum
from alexnet_jax.training.saved_network import read_weights

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STEPS = 48
CONFIG = f"""
from alexnet_jax.config import base

def get_config(dataset="digits"):
    config = base(dataset, network="four_layer")
    config.experiment = "faults"
    config.claim = {{
        "section": "2",
        "text": "It goes on",
        "metric": "top1_error",
        "paper": 0.0,
        "dataset": "digits",
    }}
    config.data.rescale_size = config.data.crop_size = 16
    config.model.width = 0.25
    config.model.weight_stds = (0.01, 0.03, 0.03, 0.03)
    config.optimizer.learning_rate = 0.001
    config.training.batch_size = 16
    # A row a step, a checkpoint every five, an evaluation every eight.
    config.training.num_epochs = {(STEPS - 0.1) * STEP}
    config.training.log_every_epochs = {0.99 * STEP}
    config.training.checkpoint_every_epochs = {4.95 * STEP}
    config.training.evaluate_every_epochs = {7.95 * STEP}
    return config
"""
ONLY_WHEN_ASKED = "--config.training.checkpoint_every_epochs=0"


# --- Processes --------------------------------------------------------------------


class Spawned:
    """A process of the command, started as a user starts it."""

    def __init__(self, output, arguments, devices, cache):
        self.output = output
        environment = {
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_COMPILATION_CACHE_DIR": str(cache),
        }
        with (output / "out").open("w") as out, (output / "err").open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "alexnet_jax.main", *arguments],
                cwd=ROOT,
                env=os.environ | environment,
                stdout=out,
                stderr=err,
            )
        self.pid = self.process.pid

    def poll(self):
        return self.process.poll()

    @property
    def said(self):
        return (self.output / "err").read_text()


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


class Runs:
    """Starts the command, always with the same run folder."""

    def __init__(self, server, place):
        self.server = server
        self.folder = place / "run"
        self.trial = self.folder / "faults" / "seed0"
        self.output = place / "output"
        self.output.mkdir()
        self.config = self.output / "small.py"
        self.config.write_text(CONFIG)
        self.started = []

    def start(self, *more, devices=1, cache=None, spawned=False):
        arguments = [f"--config={self.config}", f"--workdir={self.folder}", *more]
        cache = cache or os.environ["JAX_COMPILATION_CACHE_DIR"]
        if spawned:
            process = Spawned(self.output, arguments, devices, cache)
        else:
            process = Forked(self.server, self.output, arguments, devices, cache=cache)
        self.started.append(process)
        return process

    def finish(self, *more, **how):
        """Runs the command to its end and returns its stderr."""
        process = self.start(*more, **how)
        assert ended(process) == 0, process.said
        assert "Traceback" not in process.said
        return process.said

    # Contents of the run folder.

    @property
    def content(self):
        file = self.trial / "metrics.jsonl"
        return file.read_bytes() if file.exists() else b""

    def rows(self):
        """The complete rows so far."""
        *lines, _ = self.content.split(b"\n")
        return [json.loads(line) for line in lines]

    @property
    def checkpoints(self):
        return self.trial / "checkpoints"

    def steps(self):
        """Steps of the complete checkpoints."""
        if not self.checkpoints.is_dir():
            return []
        return sorted(
            int(p.name) for p in self.checkpoints.iterdir() if p.name.isdigit()
        )

    def unfinished(self):
        """Saves that are in progress or were cut short."""
        return list(self.checkpoints.glob("*.orbax-checkpoint-tmp*"))

    def held(self, step):
        """A checkpoint's own metadata."""
        file = self.checkpoints / str(step) / "position" / "metadata"
        return json.loads(file.read_text())

    def learned(self):
        """All that a trial leaves, except speed and memory, which vary between runs."""
        assert json.loads((self.trial / "trial.json").read_text())["step"] == STEPS
        params, folder = read_weights(str(self.checkpoints / str(STEPS)))
        assert folder.name == str(STEPS)
        rest = self.held(STEPS)["state_checksum"]
        return checksum(params), rest, learned(self.rows())


@pytest.fixture
def runs(server, tmp_path):
    runs = Runs(server, tmp_path)
    yield runs
    for process in runs.started:  # left by a failed test
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            ended(process)


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory):
    """An uninterrupted run, started as a user starts it."""
    runs = Runs(server, tmp_path_factory.mktemp("undisturbed"))
    runs.finish(spawned=True)
    return runs


@pytest.fixture(scope="module")
def undisturbed(whole):
    """Results of an uninterrupted run."""
    return whole.learned()


PATIENCE = 240  # seconds until a process that makes no progress is given up


def until(condition, process=None, *, pause=0.002):
    """Waits for the condition and returns it; fails if the process ends first."""
    give_up = time.monotonic() + PATIENCE
    while not (found := condition()):
        if process is not None:
            assert process.poll() is None, process.said
        assert time.monotonic() < give_up
        time.sleep(pause)
    return found


def hear(process, words):
    """Waits until the process has printed the words."""
    until(lambda: words in process.said, process)


def ended(process):
    """Waits for the exit status; -9 if killed."""
    until(lambda: process.poll() is not None, pause=0.02)
    return process.poll()


def trained(runs, process, steps):
    """Waits for rows up to `steps` more steps than the last checkpoint has."""
    before, start = runs.content, max(runs.steps(), default=0)

    def there():
        # Rows after the checkpoint remain until the process truncates them.
        rows = runs.rows() if runs.content != before else []
        return rows and rows[-1]["step"] >= start + steps

    until(there, process)


@contextlib.contextmanager
def halted(process):
    """Suspends the process inside the context."""
    os.kill(process.pid, signal.SIGSTOP)
    state = Path("/proc") / str(process.pid) / "stat"
    until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def stop(process, number=signal.SIGTERM):
    """Sends the signal and returns the step at which the trial was saved."""
    os.kill(process.pid, number)
    return stopped(process, number)


def stopped(process, number=signal.SIGTERM):
    assert ended(process) == 128 + number, process.said
    name = signal.Signals(number).name
    found = re.search(rf"Stopped by {name}, saved at step (\d+)\.", process.said)
    assert found, process.said
    return int(found[1])


# --- Kills ------------------------------------------------------------------------


def test_a_trial_killed_four_times_resumes_bit_identically(runs, undisturbed):
    """At random moments; every second kill is timed to hit a save."""
    chance = random.Random(0)
    in_a_save, kept, resumed_from = 0, b"", [0]
    for kill in range(4):
        process = runs.start()
        trained(runs, process, chance.randint(2, 9))
        if kill % 2:
            until(runs.unfinished, process, pause=0)
            time.sleep(chance.uniform(0, 0.02))
        else:
            time.sleep(chance.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        assert ended(process) == -signal.SIGKILL
        # Recorded speeds are unchanged too: no saved step was run again.
        assert runs.content.startswith(kept)
        in_a_save += bool(runs.unfinished())
        resumed_from.append(max(runs.steps(), default=0))
        if resumed_from[-1]:
            size = runs.held(resumed_from[-1])["position"]["record_bytes"]
            kept = runs.content[:size]
            assert len(kept) == size
    print("killed in a save:", in_a_save, "left at:", resumed_from)
    assert resumed_from == sorted(resumed_from)
    assert 0 < resumed_from[-1] < STEPS
    assert in_a_save >= 1
    assert "damaged" not in runs.finish()
    assert not runs.unfinished()
    assert runs.content.startswith(kept)
    assert runs.learned() == undisturbed


# --- Signals ----------------------------------------------------------------------


def test_the_command_saves_on_sigusr1_and_stops_on_sigterm(runs, undisturbed):
    process = runs.start(ONLY_WHEN_ASKED, spawned=True)
    trained(runs, process, 10)
    assert runs.steps() == []
    os.kill(process.pid, signal.SIGUSR1)
    (step,) = until(runs.steps, process)
    assert f"Saving at step {step}, as requested." in process.said
    trained(runs, process, 10)
    assert runs.steps() == [step]
    last = stop(process)
    assert step + 10 <= last < STEPS
    assert runs.steps() == [step, last]
    runs.finish()
    assert runs.learned() == undisturbed


def test_interrupted_in_training(runs, undisturbed):
    process = runs.start(ONLY_WHEN_ASKED)
    trained(runs, process, 20)
    with halted(process):
        step = runs.rows()[-1]["step"]
        os.kill(process.pid, signal.SIGINT)
    last = stopped(process, signal.SIGINT)
    assert "Traceback" not in process.said
    print("stopped", last - step, "steps later")
    # The current step, whose row is not written yet, is finished, and perhaps one more
    # if the check for a stop had just passed.
    assert step <= last <= step + 2
    assert runs.steps() == [last]
    runs.finish()
    assert runs.learned() == undisturbed


def test_stopped_in_an_evaluation(runs, undisturbed):
    """The evaluation is repeated: the step has a train row but no eval row."""
    process = runs.start(ONLY_WHEN_ASKED)
    trained(runs, process, 1)
    step = 0
    while not step:
        assert process.poll() is None, process.said
        with halted(process):
            row = runs.rows()[-1]
            if row["kind"] == "train" and row["step"] % 8 == 0:
                step = row["step"]
                os.kill(process.pid, signal.SIGTERM)
    last = stopped(process)
    print("stopped", last - step, "steps later")
    assert step <= last <= step + 1
    assert runs.held(last)["position"]["phase"] == "step done"
    runs.finish()
    assert runs.learned() == undisturbed


def compiling(runs, cache):
    """A process that is compiling its first step, which takes a while."""
    before = runs.content
    process = runs.start(cache=cache)
    # The record of an earlier process remains until this one truncates it.
    until(lambda: runs.content != before, process)
    until(lambda: runs.rows() and runs.rows()[-1]["kind"] == "diagnosis", process)
    return process


def test_signaled_while_it_compiles(runs, undisturbed, tmp_path):
    """A second interrupt leaves at once; a single signal waits for the first step."""
    process = compiling(runs, tmp_path / "one")
    os.kill(process.pid, signal.SIGINT)
    hear(process, "SIGINT: finishing the step")
    os.kill(process.pid, signal.SIGINT)
    assert ended(process) == 130
    assert "leaving at once." in process.said
    assert "Traceback" not in process.said
    assert runs.steps() == []

    process = compiling(runs, tmp_path / "other")
    os.kill(process.pid, signal.SIGTERM)
    hear(process, "SIGTERM: finishing the step")
    assert runs.rows()[-1]["kind"] == "diagnosis"  # signaled during compilation
    assert stopped(process) == 1
    runs.finish()
    assert runs.learned() == undisturbed


# --- Other devices ----------------------------------------------------------------


def test_a_trial_resumes_with_fewer_devices(runs, whole):
    """Not bit-identically: sums over other shares of a batch round differently.

    At this learning rate training hardly amplifies the difference.
    """
    for devices in (4, 2):
        process = runs.start(devices=devices)
        trained(runs, process, 15)
        stop(process)
    runs.finish(devices=1)
    experiment = json.loads((runs.folder / "experiment.json").read_text())
    seen = [experiment["devices"], *(c["devices"] for c in experiment["continued"])]
    assert [len(devices) for devices in seen] == [4, 2, 1]
    found, expected = (
        read_weights(str(each.checkpoints / str(STEPS)))[0] for each in (runs, whole)
    )
    differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), found, expected)
    print("largest difference:", max(jax.tree.leaves(differences)))
    assert max(jax.tree.leaves(differences)) < 1e-5


# --- The disk ---------------------------------------------------------------------


def mount(*arguments):
    return subprocess.run(["mount", *arguments], capture_output=True, text=True)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB that can be enlarged by remounting."""
    place = tmp_path / "small_disk"
    place.mkdir()
    done = mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place))
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place, *, but):
    """Fills a file system except for `but` bytes."""
    with (place / "filler").open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(b"\1" * 4096)
        file.truncate(file.tell() - but)


@pytest.mark.parametrize("what", ["checkpoint", "record"])
def test_a_full_disk_ends_the_run_and_free_space_lets_it_resume(
    runs, undisturbed, small_disk, what
):
    runs.folder = small_disk / "run"
    runs.trial = runs.folder / "faults" / "seed0"
    process = runs.start()
    until(runs.steps, process)
    if what == "record":  # no save precedes the next row
        stop(process)
        process = runs.start(ONLY_WHEN_ASKED)
        trained(runs, process, 3)
    with halted(process):
        # Room for a page of rows, but not for a checkpoint's files.
        fill(small_disk, but=8192 if what == "checkpoint" else 0)
    assert ended(process) == 2, process.said
    assert "Traceback" not in process.said
    said = process.said.splitlines()[-1]
    print(said)
    assert "No space left on device" in said
    assert str(runs.trial) in said
    newest = runs.steps()[-1]
    if what == "checkpoint":
        assert f"checkpoint of step {newest} is still there" in said
    read_weights(str(runs.checkpoints / str(newest)))  # intact

    process = runs.start()  # the disk is still full
    assert ended(process) == 2, process.said
    assert "Traceback" not in process.said
    assert "No space left on device" in process.said
    assert newest in runs.steps()

    assert mount("-o", "remount,size=64m", str(small_disk)).returncode == 0
    runs.finish()
    assert runs.learned() == undisturbed


def test_checkpoints_replaced_while_training(runs, undisturbed):
    for by in ("nothing", "a file"):
        before = runs.steps()
        process = runs.start()
        until(lambda before=before: runs.steps() != before, process)
        with halted(process):
            aside = runs.checkpoints.rename(runs.trial / "aside")
            if by == "a file":
                runs.checkpoints.write_text("not a folder")
        assert ended(process) == 2, process.said
        print(process.said.splitlines()[-1])
        assert "Traceback" not in process.said
        assert str(runs.checkpoints) in process.said
        if by == "a file":
            runs.checkpoints.unlink()
        elif runs.checkpoints.exists():
            shutil.rmtree(runs.checkpoints)
        aside.rename(runs.checkpoints)
    runs.finish()
    assert runs.learned() == undisturbed


# --- Damage -----------------------------------------------------------------------


def truncate(folder):
    file = largest(folder)
    os.truncate(file, file.stat().st_size // 2)


def flip(folder):
    file = largest(folder)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def largest(folder):
    """The largest file, of the weights or the momentum."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return max(files, key=lambda file: file.stat().st_size)


def test_a_damaged_checkpoint_is_reported_and_the_previous_one_used(runs, undisturbed):
    process = runs.start()
    for damage in (truncate, flip, empty):
        trained(runs, process, 10)
        stop(process)
        before, newest = runs.steps()[-2:]
        damage(runs.checkpoints / str(newest))
        process = runs.start()
        folder = runs.checkpoints / str(newest)
        hear(process, f"checkpoint {folder} is damaged")
        assert "The one before it is used." in process.said
        assert before in runs.steps()
    assert ended(process) == 0, process.said
    assert runs.learned() == undisturbed
