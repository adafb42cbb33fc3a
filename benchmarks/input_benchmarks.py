"""Times this project's input pipeline against plain tf.data, Pillow and grain.

`run.py` runs this module as a process of its own, on cores that were chosen before
TensorFlow starts its threads.
"""

import contextlib
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alexnet_jax.data.types import Split
from alexnet_jax.provenance import num_cores, versions
from benchmarks.input_baselines import (
    Batches,
    PillowWorkers,
    input_pipelines,
    our_batches,
)
from benchmarks.input_photographs import Photographs, photographs

TURN_SECONDS = 1.0  # The least length of a turn.
IMAGENET_EXAMPLES = 1_281_167
MEMORY_EPOCHS, MEMORY_EXAMPLES = 10, 1280  # Epochs over which memory is watched.

# The smallest wanted ratio of our images/s to another pipeline's.
TARGETS: dict[str, dict[str, float]] = {
    "ours, originals": {"plain": 1.4, "Pillow": 2.0},
    "ours, JPEG cache": {"plain": 5.0, "Pillow": 8.0, "grain": 1.3},
    "ours, raw": {"plain": 25.0},
}


def images_per_second(
    open_pipeline: Callable[[], Any],
    seconds: float = TURN_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Returns the throughput of one turn, after a first batch that fills the buffers.

    Each turn opens the pipeline and closes it. One left open would go on making batches
    in the turns of the others, and have them ready for its own next turn.
    """
    with contextlib.closing(open_pipeline()) as batches:
        next(batches)
        count, start, now = 0, clock(), clock()
        while count == 0 or now - start < seconds:
            batch = next(batches)
            count += len(batch["image"] if isinstance(batch, dict) else batch)
            now = clock()
        return count / (now - start)


def time_in_turns(
    pipelines: dict[str, Callable[[], Batches]],
    repeats: int,
    clock: Callable[[], float],
) -> list[dict[str, Any]]:
    """Returns a row for each pipeline: the medians of its throughput and its ratios.

    A ratio sets our throughput against another pipeline's of the same repeat.
    """
    throughputs: list[dict[str, float]] = [
        {
            name: images_per_second(open_pipeline, clock=clock)
            for name, open_pipeline in pipelines.items()
        }
        for _ in range(repeats)
    ]
    return [
        {
            "name": name,
            "images_per_second": statistics.median(t[name] for t in throughputs),
            "ratios": {
                other: statistics.median(t[name] / t[other] for t in throughputs)
                for other in ("plain", "Pillow", "grain")
                if name in TARGETS and other in pipelines
            },
            "targets": TARGETS.get(name, {}),
        }
        for name in pipelines
    ]


def repeat_split(split: Split, num_examples: int) -> Split:
    """Returns a split of `num_examples` examples that repeats those of `split`."""

    def read(index: int) -> tuple[bytes, int]:
        return split.read(index % split.num_examples)

    return dataclasses.replace(split, num_examples=num_examples, read=read)


def first_batch_seconds(
    photographs: Photographs, batch_size: int, repeats: int
) -> dict[str, float]:
    """Returns the time to the first batch at the start and in the middle of an epoch.

    The epoch is as long as ImageNet's; the start in its middle is that of a resumed run.
    """
    split = repeat_split(photographs.jpeg.train, IMAGENET_EXAMPLES)
    steps = {"start": 0, "middle": IMAGENET_EXAMPLES // 2 // batch_size}
    seconds: dict[str, list[float]] = {place: [] for place in steps}
    for _ in range(repeats):
        for place, step in steps.items():
            start = time.perf_counter()
            opened = our_batches(split, photographs.color_components, batch_size, step)
            with contextlib.closing(opened) as batches:
                next(batches)
                seconds[place].append(time.perf_counter() - start)
    return {place: statistics.median(times) for place, times in seconds.items()}


def memory_over_epochs(
    photographs: Photographs, batch_size: int
) -> dict[str, float] | None:
    """Returns the MB of this process after the first and the last epoch, and the most.

    Returns None where the system does not report them.
    """
    if resident_mb() is None:
        return None
    split = repeat_split(photographs.jpeg.train, MEMORY_EXAMPLES)
    steps = MEMORY_EXAMPLES // batch_size
    opened = our_batches(
        split,
        photographs.color_components,
        batch_size,
        num_steps=MEMORY_EPOCHS * steps,
    )
    with contextlib.closing(opened) as batches:
        sizes = [resident_mb() or 0.0 for _ in batches]
    return {"first": sizes[steps - 1], "last": sizes[-1], "most": max(sizes)}


def resident_mb() -> float | None:
    """Returns the resident memory of this process, or None where it is not known."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    batch_size, repeats = map(int, sys.argv[2:4])
    on_one_core = sys.argv[5] == "core"  # The dtype, argument 4, concerns steps only.
    clock = time.process_time if on_one_core else time.perf_counter
    report: dict[str, Any] = {
        "platform": "cpu",
        "devices": ["cpu"],
        "versions": versions(("tensorflow-cpu", "tensorflow", "pillow", "grain")),
    }
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(photographs(images=sys.argv[6]))
        report["photographs"] = made.note
        workers = None
        if not on_one_core:
            report["first_batch_seconds"] = first_batch_seconds(
                made, batch_size, repeats
            )
            report["memory_mb"] = memory_over_epochs(made, batch_size)
            workers = PillowWorkers(num_cores(), batch_size)
            stack.enter_context(contextlib.closing(workers))
        pipelines = input_pipelines(made, batch_size, workers)
        report["rows"] = time_in_turns(pipelines, repeats, clock)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
