"""What the benchmark of the loop times: what a run costs besides its steps.

`benchmark.py` runs this module as a process of its own,

    python -m alexnet_jax.loop_cost loop BATCH_SIZE REPEATS DTYPE all

and reads one JSON object from its standard output; that process starts others of this
module, to time starts. The network is that of the recipe that is the default, with 1000
classes. Its images are noise in memory, and batches of them are cut before the clock
starts: what is timed is the loop, not the input.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

# All that a start imports.
import alexnet_jax.experiment  # noqa: F401
from alexnet_jax import config as configuration
from alexnet_jax.contenders import set_precision
from alexnet_jax.data import pipeline
from alexnet_jax.data.pipeline import Data, TrainBatch
from alexnet_jax.data.source import Source, Split
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.provenance import versions
from alexnet_jax.training import loop
from alexnet_jax.training import step as steps
from alexnet_jax.training.checkpoint import Checkpoints, fields_of, try_out
from alexnet_jax.training.member import Member
from alexnet_jax.training.optimizer import Rates
from alexnet_jax.training.parallel import Ahead, Devices
from alexnet_jax.training.record import Progress, Record
from alexnet_jax.training.signals import Signals

IMAGENET = 1_281_167  # training examples, an epoch
IMAGES, CLASSES = 256, 1000  # there are no more images than these; their labels
BATCHES = 4  # cut beforehand, and given over and over
RATE = 1e-6  # of learning: small, so that long training on noise stays finite
RECORD_EVERY = 0.01  # epochs, at most: the default

# A turn takes that many seconds, about, but so many steps at least and at most.
SECONDS, FEWEST, MOST = 5.0, 6, 5000

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorflow-cpu",
    "tensorflow",
)
COUNTED = {
    "/jax/compilation_cache/compile_requests_use_cache": "programs",
    "/jax/compilation_cache/cache_hits": "from the cache",
}

Clock = Callable[[], float]


# --- What is trained --------------------------------------------------------------


def trial(batch_size: int, dtype: str, width: float = 1.0) -> ConfigDict:
    """The configuration: no evaluation ever, no checkpoint but those asked for."""
    config = configuration.base()
    config.model.dtype = "bfloat16" if dtype == "bfloat16" else "float32"
    config.model.width = width
    config.optimizer.learning_rate = RATE
    config.training.batch_size = batch_size
    config.training.num_epochs = config.training.evaluate_every_epochs = 1e6
    config.training.record_every_epochs = RECORD_EVERY
    config.training.checkpoint_every_epochs = 0.0
    config.training.warn_below_spread = 0.0  # noise is no photograph
    config.training.warn_after_steps = 10**9
    return configuration.finish(config, {})


def noise(config: ConfigDict) -> Data:
    """As many examples as ImageNet has, of a few images over and over."""
    size = config.data.rescale_size
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (IMAGES, size * size * 3), np.uint8)
    labels = draws.integers(0, CLASSES, IMAGES).tolist()

    def read_part(index: int, first: int, count: int) -> tuple[bytes, int]:
        here = index % IMAGES
        return images[here, first : first + count].tobytes(), labels[here]

    def split(name: str, count: int) -> Split:
        def read(index: int) -> tuple[bytes, int]:
            return read_part(index, 0, images.shape[1])

        return Split(name, count, read, form="raw", read_part=read_part)

    source = Source(
        "noise",
        tuple(map(str, range(CLASSES))),
        split("train", IMAGENET),
        split("validation", IMAGES),
        fingerprint="noise",
        statistics=Statistics(
            np.full((size, size, 3), 127.5), np.array([3.0, 2.0, 1.0]), np.eye(3)
        ),
    )
    return pipeline.prepare(source, rescale=config.data.rescale, rescale_size=size)


@contextlib.contextmanager
def begun(
    config: ConfigDict, data: Data, devices: Devices, folder: Path, *, shown: bool
) -> Iterator[loop.Run]:
    """A trial before its first step, with all that `experiment` gives to one."""
    with (
        Record(folder, tensorboard=False) as record,
        Checkpoints(folder, fields_of(config), devices) as checkpoints,
        Progress(config.training.batch_size, shown=shown) as progress,
        Signals() as asked,
    ):
        progress.begin("the loop and saves")
        member = Member(
            config,
            seed=0,
            data=data,
            record=record,
            checkpoints=checkpoints,
            label="the loop and saves",
        )
        yield loop.Run([member], data, devices, progress, asked)


def over_and_over(batches: list[TrainBatch]) -> Generator[TrainBatch, None, None]:
    yield from itertools.cycle(batches)


# --- The loop over its steps ------------------------------------------------------


@dataclasses.dataclass
class Stand:
    """A run with its input, to be timed in turns.

    Attributes:
      run, ahead: of one trial, and what it reads.
      fixed: a placed batch, for bare steps.
      numbers: for these.
      count: steps of a turn.
    """

    run: loop.Run
    ahead: Ahead
    fixed: dict[str, jax.Array]
    numbers: steps.Numbers
    count: int = 1
    clock: Clock = time.perf_counter

    @staticmethod
    def of(run: loop.Run, ahead: Ahead, batch: TrainBatch) -> "Stand":
        wanted = run.config.optimizer
        numbers = steps.Numbers(
            Rates(*[np.float32(RATE)] * 4),
            np.float32(wanted.momentum),
            np.float32(wanted.weight_decay),
            np.uint32(run.members[0].seed),
        )
        return Stand(run, ahead, run.devices.place_batch(batch), numbers)

    def set_count(self) -> None:
        """By the time of two steps, the first ones, which compile, behind us."""
        self.loop()
        self.count = 2
        seconds = self.bare() / self.count
        self.count = steps_of_a_turn(seconds)
        # One row a turn, or more: what it takes is part of the loop. A little less than
        # the turn's images, so that no rounding puts a row off to the turn behind.
        images = self.count * self.run.plan.batch_size - 0.01
        every = min(RECORD_EVERY, images / self.run.plan.num_examples)
        with self.run.config.unlocked():
            self.run.config.training.record_every_epochs = every

    def bare(self) -> float:
        """Seconds of so many bare steps, the state donated from one to the next."""
        start, state = self.clock(), self.run.state
        for _ in range(self.count):
            state, counts = self.run.trainer.train_step(
                state, self.fixed, self.numbers, self.run.mean
            )
        self.run.state, _ = jax.block_until_ready((state, counts))
        return self.clock() - start

    def loop(self) -> float:
        """Seconds of as many steps of the training loop."""
        start = self.clock()
        for _ in range(self.count):
            self.one()
        return self.done(start)

    def one(self) -> None:
        self.run.take_step(self.ahead)
        self.run.complete_step()

    def done(self, start: float) -> float:
        self.run.settle()
        jax.block_until_ready(self.run.state)
        return self.clock() - start


def steps_of_a_turn(seconds: float) -> int:
    """How many, if one takes `seconds`."""
    return int(min(MOST, max(FEWEST, SECONDS / seconds)))


def loop_row(stand: Stand, repeats: int) -> dict[str, Any]:
    """Milliseconds a step, bare and in the loop, by turns; bare first every other time."""
    times: dict[str, list[float]] = {"bare": [], "loop": []}
    forms = {"bare": stand.bare, "loop": stand.loop}
    waited = stand.ahead.waited
    for turn in range(repeats):
        for name in ("bare", "loop") if turn % 2 == 0 else ("loop", "bare"):
            times[name].append(forms[name]() / stand.count)
    waited = stand.ahead.waited - waited
    ratios = [
        loop / bare for loop, bare in zip(times["loop"], times["bare"], strict=True)
    ]
    return {
        "name": "loop",
        "steps": stand.count,
        "milliseconds": {
            name: 1000 * statistics.median(of_form) for name, of_form in times.items()
        },
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "waiting": waited / (sum(times["loop"]) * stand.count),
    }


# --- A save -----------------------------------------------------------------------


def save_row(stand: Stand, repeats: int) -> dict[str, Any]:
    """Seconds a save takes from training, those of a restore, and bytes on disk."""
    saves = [one_save(stand) for _ in range(repeats)]
    run, checkpoints = stand.run, stand.run.members[0].checkpoints
    restores = []
    for _ in range(repeats):
        start = stand.clock()
        found = checkpoints.restore(run.state)
        assert found is not None
        assert not found[2], "a save was damaged"
        jax.block_until_ready(found[0])
        restores.append(stand.clock() - start)
        del found
    newest = checkpoints.folder / str(checkpoints.manager.latest_step())
    return {
        "name": "save",
        **{name: statistics.median(save[name] for save in saves) for name in saves[0]},
        "restore": statistics.median(restores),
        "bytes": sum(p.stat().st_size for p in newest.rglob("*") if p.is_file()),
        "state_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(run.state)),
        "saves": saves,
    }


def one_save(stand: Stand) -> dict[str, float]:
    """Seconds: "step" before it, "blocked" in the call, "written" behind it, "extra".

    "extra" is what the steps behind it take longer, for as long as it is written in the
    background; "lost" is what training pays for it, by noise never less than nothing.
    """
    run, member = stand.run, stand.run.members[0]
    manager = member.checkpoints.manager
    step = stand.loop() / stand.count
    position = member.position(due=False)
    start = stand.clock()
    member.checkpoints.save(run.state, position)
    blocked = stand.clock() - start

    start, count, written = stand.clock(), 0, 0.0
    while manager.is_saving_in_progress() or count < 2:
        stand.one()
        count += 1
        written = stand.clock() - start
    seconds = stand.done(start)
    member.checkpoints.wait()
    extra = seconds - count * step
    return {
        "step": step,
        "blocked": blocked,
        "written": written,
        "extra": extra,
        "lost": blocked + max(0.0, extra),
    }


def share_lost(*, lost: float, step: float, steps_between: float) -> float:
    """Of a step's time, what each pays for a save that loses `lost` seconds."""
    return lost / steps_between / step


# --- A start ----------------------------------------------------------------------


class Stages:
    """How long each took, one behind the other since `started`."""

    def __init__(self, started: float, clock: Clock = time.time) -> None:
        self.started = self.last = started
        self.clock = clock
        self.seconds: dict[str, float] = {}

    def end(self, name: str) -> None:
        now = self.clock()
        self.seconds[name] = now - self.last
        self.last = now


def start(batch_size: int, dtype: str, width: float, stages: Stages) -> dict[str, Any]:
    """What a new process does up to the end of its first step, as `experiment` does it.

    But for the evaluation before it, whose time is that of its images.
    """
    stages.end("imports")
    counted = dict.fromkeys(COUNTED.values(), 0)

    def count(event: str, **_: Any) -> None:
        if event in COUNTED:
            counted[COUNTED[event]] += 1

    jax.monitoring.register_event_listener(count)
    config = trial(batch_size, dtype, width)
    data = noise(config)
    stages.end("data")
    devices = Devices(config.parallel)
    devices.check_batch_size(batch_size)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "run"
        trainer = loop.Trainer.of(config, data, devices)
        state = devices.place_state(loop.first_state(config, 0, trainer))
        stages.end("first weights")
        try_out(state, folder, devices)
        del state
        stages.end("checkpoint tried")
        with begun(config, data, devices, folder, shown=False) as run:
            run.resume()
            run.trainer = dataclasses.replace(
                run.trainer, diagnose=_ending(run.trainer.diagnose, stages)
            )
            stages.end("weights again")
            with devices.ahead(run.batches()) as ahead:
                run.take_step(ahead)  # the meter waits for the first step
                stages.end("first step")
    return {
        "seconds": stages.seconds,
        "whole": stages.last - stages.started,
        "compiled": counted,
    }


def _ending(diagnose: Callable, stages: Stages) -> Callable:
    """The diagnosis, its end noted."""

    def timed(*arguments: Any) -> dict[str, Any]:
        found = diagnose(*arguments)
        stages.end("first batch, diagnosis")
        return found

    return timed


def start_rows(arguments: list[str], repeats: int) -> list[dict[str, Any]]:
    """Starts with an empty cache of compiled programs, and again with what they left."""
    runs: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            for name, of_name in runs.items():
                print(f"Timing a {name} start ...", file=sys.stderr, flush=True)
                of_name.append(started(arguments, cache))
    return [{"name": name, **medians(of_name)} for name, of_name in runs.items()]


def started(arguments: list[str], cache: str) -> dict[str, Any]:
    """One process of this module from its start to the end of its first step."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "alexnet_jax.loop_cost",
            "start",
            *arguments,
            repr(time.time()),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": cache},
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the whole and of each part on its own."""
    return {
        "seconds": {
            name: statistics.median(run["seconds"][name] for run in runs)
            for name in runs[0]["seconds"]
        },
        "whole": statistics.median(run["whole"] for run in runs),
        "wholes": [run["whole"] for run in runs],
        "compiled": runs[-1]["compiled"],
    }


# --- All of it --------------------------------------------------------------------


def running_rows(config: ConfigDict, repeats: int) -> list[dict[str, Any]]:
    """The rows of the loop and of a save, of one run in this process."""
    data, devices = noise(config), Devices(config.parallel)
    devices.check_batch_size(config.training.batch_size)
    with (
        tempfile.TemporaryDirectory() as made,
        begun(config, data, devices, Path(made), shown=True) as run,
    ):
        with contextlib.closing(run.batches()) as batches:
            held = list(itertools.islice(batches, BATCHES))
        with devices.ahead(over_and_over(held)) as ahead:
            stand = Stand.of(run, ahead, held[0])
            run.progress.total_is(3 * repeats * FEWEST * run.plan.batch_size)
            stand.set_count()
            run.progress.total_is(3 * repeats * stand.count * run.plan.batch_size)
            rows = [loop_row(stand, repeats), save_row(stand, repeats)]
    rows[1]["share"] = share_lost(
        lost=rows[1]["lost"],
        step=rows[1]["step"],
        steps_between=IMAGENET / config.training.batch_size,
    )
    return rows


def facts(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "platform": jax.default_backend(),
        "devices": [device.device_kind for device in jax.local_devices()],
        "versions": versions(PACKAGES),
        "rows": rows,
    }


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "start":
        batch_size, dtype, width, began = rest
        set_precision(dtype)
        stages = Stages(float(began))
        print(json.dumps(start(int(batch_size), dtype, float(width), stages)))
        return
    batch_size, repeats, dtype = rest[:3]
    # First, before this process takes a GPU's memory.
    starts = start_rows([batch_size, dtype, "1.0"], int(repeats))
    set_precision(dtype)
    print("Timing the loop and saves ...", file=sys.stderr, flush=True)
    running = running_rows(trial(int(batch_size), dtype), int(repeats))
    print(json.dumps(facts([*running, *starts])))


if __name__ == "__main__":
    main()
