"""Times what a run costs besides its steps: the loop around them, and saves.

The benchmark command runs this module as a process of its own,

    python -m benchmarks.loop_cost loop BATCH_SIZE REPEATS DTYPE all

and reads one JSON object from its standard output; that process runs others of
`start_cost.py` to time starts. Batches are cut before the clock starts: what is timed is
the loop, not the input.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import FrozenConfigDict

from alexnet_jax.data.pipeline import Data
from alexnet_jax.provenance import versions
from alexnet_jax.training import loop
from alexnet_jax.training.batches import stacked_batches
from alexnet_jax.training.cpu_devices import use_all_cores
from alexnet_jax.training.cpu_memory import keep_freed_memory, only_cpus
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.group import TrialGroup
from alexnet_jax.training.prefetch import Prefetcher
from alexnet_jax.training.profile import ProfilerWindow
from benchmarks.noise_trial import IMAGENET, LOG_EVERY, noise, started_trial, trial
from benchmarks.start_cost import Clock, start_rows
from benchmarks.timing import set_precision

BATCHES = 4  # cut beforehand, and given over and over

# A turn takes about so many seconds, but at least and at most so many steps.
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


def endlessly(
    batches: list[dict[str, np.ndarray]],
) -> Generator[dict[str, np.ndarray], None, None]:
    yield from itertools.cycle(batches)


# --- The loop over its steps ------------------------------------------------------


@dataclasses.dataclass
class TimedRun:
    """A run with its input, to be timed in turns.

    Attributes:
      group: a single trial on the devices.
      batches: what it reads.
      fixed: a placed batch, for bare steps.
      count: steps of a turn.
    """

    group: TrialGroup
    batches: Prefetcher
    fixed: dict[str, jax.Array]
    count: int
    clock: Clock = time.perf_counter

    def bare(self) -> float:
        """Seconds of so many bare steps, the state donated from one to the next."""
        group = self.group
        hyperparameters = group.hyperparameters()
        start, state = self.clock(), group.state
        for _ in range(self.count):
            state, counts = group.trainer.train_step(
                state, self.fixed, hyperparameters, group.mean
            )
        group.state, _ = jax.block_until_ready((state, counts))
        return self.clock() - start

    def loop(self) -> float:
        """Seconds of as many steps of the training loop."""
        start = self.clock()
        for _ in range(self.count):
            self.one()
        return self.done(start)

    def one(self) -> None:
        """One step of the training loop, with its bookkeeping."""
        loop.take_step(self.group, self.batches, ProfilerWindow((), None))
        loop.do_bookkeeping(self.group)

    def done(self, start: float) -> float:
        """Seconds since `start`, once all steps are done."""
        self.group.drain()
        jax.block_until_ready(self.group.state)
        return self.clock() - start


@contextlib.contextmanager
def timed_run(
    settings: FrozenConfigDict, data: Data, devices: Devices, *, count: int
) -> Iterator[TimedRun]:
    """A trial with batches that are cut already, before its first step."""
    with (
        tempfile.TemporaryDirectory() as made,
        started_trial(settings, data, devices, Path(made), shown=True) as group,
    ):
        with contextlib.closing(
            stacked_batches(
                group.spec.augmentation,
                data,
                group.slots.seeds,
                range(group.schedule.num_steps),
                batch_size=group.schedule.batch_size,
            )
        ) as batches:
            held = list(itertools.islice(batches, BATCHES))
        place = functools.partial(group.devices.place_batch, of_trials=True)
        with Prefetcher(endlessly(held), place) as prefetcher:
            yield TimedRun(group, prefetcher, place(held[0]), count)


def steps_of_a_turn(seconds: float) -> int:
    """How many steps, if one takes `seconds`."""
    return int(min(MOST, max(FEWEST, SECONDS / seconds)))


def loop_row(run: TimedRun, repeats: int) -> dict[str, Any]:
    """Milliseconds a step, bare and in the loop, in turns; bare first every other time."""
    times: dict[str, list[float]] = {"bare": [], "loop": []}
    forms = {"bare": run.bare, "loop": run.loop}
    waited = run.batches.waited
    for turn in range(repeats):
        for name in ("bare", "loop") if turn % 2 == 0 else ("loop", "bare"):
            times[name].append(forms[name]() / run.count)
    waited = run.batches.waited - waited
    ratios = [
        loop / bare for loop, bare in zip(times["loop"], times["bare"], strict=True)
    ]
    return {
        "name": "loop",
        "steps": run.count,
        "milliseconds": {
            name: 1000 * statistics.median(of_form) for name, of_form in times.items()
        },
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "waiting": waited / (sum(times["loop"]) * run.count),
    }


# --- A save -----------------------------------------------------------------------


def save_row(run: TimedRun, repeats: int) -> dict[str, Any]:
    """Seconds a save takes from training, those of a restore, and bytes on disk."""
    saves = [one_save(run) for _ in range(repeats)]
    group = run.group
    checkpoints = group.trials[0].checkpoints
    restores, like = [], group.state_of(0)
    for _ in range(repeats):
        start = run.clock()
        found = checkpoints.restore(like)
        assert found is not None
        assert not found[2], "a save was damaged"
        jax.block_until_ready(found[0])
        restores.append(run.clock() - start)
        del found
    newest = checkpoints.newest()
    assert newest is not None
    return {
        "name": "save",
        **{name: statistics.median(save[name] for save in saves) for name in saves[0]},
        "restore": statistics.median(restores),
        "bytes": sum(p.stat().st_size for p in newest.rglob("*") if p.is_file()),
        "state_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(group.state)),
        "saves": saves,
    }


def one_save(run: TimedRun) -> dict[str, float]:
    """Seconds: "step" before it, "blocked" in the call, "written" after it, "extra".

    "extra" is what the steps after it take longer, for as long as it is written in the
    background; "lost" is what training pays for it, by noise never less than nothing.
    """
    group = run.group
    checkpoints = group.trials[0].checkpoints
    step = run.loop() / run.count
    positions = group.positions()
    start = run.clock()
    group.save(positions)
    blocked = run.clock() - start

    start, count, written = run.clock(), 0, 0.0
    while checkpoints.is_saving or count < 2:
        run.one()
        count += 1
        written = run.clock() - start
    seconds = run.done(start)
    checkpoints.wait()
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


# --- All of it --------------------------------------------------------------------


def running_rows(
    settings_of: Callable[[float], FrozenConfigDict], repeats: int
) -> list[dict[str, Any]]:
    """The rows of the loop and of a save, of one run in this process.

    Args:
      settings_of: from epochs between train rows to the trial's settings.
      repeats: turns.
    """
    settings = settings_of(LOG_EVERY)
    data, devices = noise(settings), Devices(settings.parallel)
    batch_size = settings.training.batch_size
    devices.check_batch_size(batch_size)
    with timed_run(settings, data, devices, count=1) as run:
        run.loop()  # compiles
        run.count = 2
        count = steps_of_a_turn(run.bare() / run.count)
    # At least one row a turn: what it takes is part of the loop. A little less than the
    # turn's images, so that no rounding moves a row to the next turn.
    log_every = min(LOG_EVERY, (count * batch_size - 0.01) / IMAGENET)
    settings = settings_of(log_every)
    with timed_run(settings, data, devices, count=count) as run:
        run.group.context.progress.set_total(3 * repeats * count * batch_size)
        run.loop()  # its first step is not timed
        rows = [loop_row(run, repeats), save_row(run, repeats)]
    rows[1]["share"] = share_lost(
        lost=rows[1]["lost"],
        step=rows[1]["step"],
        steps_between=IMAGENET / batch_size,
    )
    return rows


def facts(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows, and what they were measured with."""
    return {
        "platform": jax.default_backend(),
        "devices": [device.device_kind for device in jax.local_devices()],
        "versions": versions(PACKAGES),
        "rows": rows,
    }


def main() -> None:
    batch_size, repeats, dtype = sys.argv[2:5]
    # First, before this process takes a GPU's memory.
    starts = start_rows([batch_size, dtype, "1.0"], int(repeats))
    use_all_cores()
    if only_cpus():
        keep_freed_memory()  # As in a run.
    set_precision(dtype)
    print("Timing the loop and saves ...", file=sys.stderr, flush=True)
    running = running_rows(
        lambda log_every: trial(int(batch_size), dtype, log_every=log_every),
        int(repeats),
    )
    print(json.dumps(facts([*running, *starts])))


if __name__ == "__main__":
    main()
