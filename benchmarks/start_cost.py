"""Times the start of a process up to the end of its first training step.

`loop_cost.py` runs this module as processes of their own,

    python -m benchmarks.start_cost BATCH_SIZE DTYPE WIDTH BEGAN

each of which prints one JSON object to its standard output. BEGAN is the time at which
it was started.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

# Everything that the command imports at its start.
import alexnet_jax.experiment.runner  # noqa: F401
from alexnet_jax.training import loop
from alexnet_jax.training.checkpoint import rehearse_checkpoint
from alexnet_jax.training.cpu_devices import use_all_cores
from alexnet_jax.training.cpu_memory import keep_freed_memory, only_cpus
from alexnet_jax.training.devices import Devices
from benchmarks.noise_trial import noise, started_trial, trial
from benchmarks.timing import set_precision

COUNTED = {
    "/jax/compilation_cache/compile_requests_use_cache": "programs",
    "/jax/compilation_cache/cache_hits": "from the cache",
}

Clock = Callable[[], float]


class Stages:
    """Seconds of successive stages, the first of which began at `started`."""

    def __init__(self, started: float, clock: Clock = time.time) -> None:
        self.started = self.last = started
        self.clock = clock
        self.seconds: dict[str, float] = {}

    def end(self, name: str) -> None:
        """Ends the stage `name`, and begins the next one."""
        now = self.clock()
        self.seconds[name] = now - self.last
        self.last = now


def start(batch_size: int, dtype: str, width: float, stages: Stages) -> dict[str, Any]:
    """What a new process does up to the end of its first step, as `runner` does it.

    The evaluation before that step is left out: its time is that of its images.
    """
    stages.end("imports")
    counted = dict.fromkeys(COUNTED.values(), 0)

    def count(event: str, **_: Any) -> None:
        if event in COUNTED:
            counted[COUNTED[event]] += 1

    jax.monitoring.register_event_listener(count)
    settings = trial(batch_size, dtype, width)
    data = noise(settings)
    stages.end("data")
    devices = Devices(settings.parallel)
    devices.check_batch_size(batch_size)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "run"
        with started_trial(settings, data, devices, folder, shown=False) as group:
            stages.end("initial weights")
            rehearse_checkpoint(group.state_of(0), folder, devices)
            stages.end("checkpoint tried")
            group.trainer = dataclasses.replace(
                group.trainer, diagnose=_ending(group.trainer.diagnose, stages)
            )
            with group.batches() as batches, loop.profiler_of(group) as profiler:
                loop.take_step(group, batches, profiler)  # waits for the first step
                stages.end("first step")
    return {
        "seconds": stages.seconds,
        "whole": stages.last - stages.started,
        "compiled": counted,
    }


def _ending(diagnose: Callable, stages: Stages) -> Callable:
    """The diagnosis, which ends a stage."""

    def timed(*arguments: Any) -> dict[str, Any]:
        found = diagnose(*arguments)
        stages.end("first batch, diagnosis")
        return found

    return timed


def start_rows(arguments: list[str], repeats: int) -> list[dict[str, Any]]:
    """Starts with an empty compilation cache, and again with what these left in it."""
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
            "benchmarks.start_cost",
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
    """The medians of the whole and of each stage."""
    return {
        "seconds": {
            name: statistics.median(run["seconds"][name] for run in runs)
            for name in runs[0]["seconds"]
        },
        "whole": statistics.median(run["whole"] for run in runs),
        "wholes": [run["whole"] for run in runs],
        "compiled": runs[-1]["compiled"],
    }


def main() -> None:
    batch_size, dtype, width, began = sys.argv[1:]
    use_all_cores()
    if only_cpus():
        keep_freed_memory()  # As in a run.
    set_precision(dtype)
    stages = Stages(float(began))
    print(json.dumps(start(int(batch_size), dtype, float(width), stages)))


if __name__ == "__main__":
    main()
