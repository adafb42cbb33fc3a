"""Times the train step fed by the input pipeline, and how long it waits for images.

`run.py` runs this module as a process of its own. Images, batches and the step are those
of training, in the default recipe, with 1000 classes.
"""

import contextlib
import dataclasses
import functools
import json
import statistics
import sys
import time
from typing import Any

import jax
from ml_collections import FrozenConfigDict

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.data.pipeline import Data
from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.data.types import Source
from alexnet_jax.training import step as steps
from alexnet_jax.training.batches import stacked_batches
from alexnet_jax.training.cpu_devices import use_all_cores
from alexnet_jax.training.cpu_memory import keep_freed_memory, only_cpus
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.prefetch import Prefetcher
from alexnet_jax.training.stacking import stack
from alexnet_jax.training.trainer import Trainer
from alexnet_jax.training.trial import TrialSpec
from benchmarks.input_benchmarks import images_per_second
from benchmarks.input_photographs import RESCALE_SIZE, photographs
from benchmarks.step_benchmarks import HYPERPARAMETERS
from benchmarks.timing import jax_environment, set_precision

# Seconds per repeat of the step and its input together, in one piece: prefetched batches
# last for a while, and would hide an input that is too slow.
SECONDS_TOGETHER = 4.0
PACKAGES = ("jax", "jaxlib", "flax", "tensorflow-cpu", "tensorflow")


def settings_of(batch_size: int, dtype: str) -> FrozenConfigDict:
    """The settings of the default recipe, for a trial whose last epoch is never reached."""
    config = base()
    config.model.dtype = "bfloat16" if dtype == "bfloat16" else "float32"
    config.training.batch_size = batch_size
    config.training.num_epochs = 1e6
    return resolve(config, {}).settings


def measure(source: Source, batch_size: int, repeats: int, dtype: str) -> dict:
    """Returns the images/s of the input, of the step and of both together.

    "waiting" is the share of the time together in which the step waits for its input.
    """
    settings = settings_of(batch_size, dtype)
    train, validation = (
        RescaledSplit(split, RESCALE_SIZE, settings.data.rescale)
        for split in (source.train, source.validation)
    )
    assert source.statistics is not None
    data = Data(source, train, validation, source.statistics)
    devices = Devices()
    devices.check_batch_size(batch_size)
    spec = TrialSpec.of(settings, data)
    trainer = Trainer.of(spec.steps, devices)
    mean = trainer.place_mean(data, devices)
    initial = steps.initial_state(trainer.network, 0, trainer.spec)
    states = [devices.place_trials(stack([initial]))]
    hyperparameters = stack([HYPERPARAMETERS])
    open_input = functools.partial(
        stacked_batches,
        spec.augmentation,
        data,
        (0,),
        range(spec.schedule.num_steps),
        batch_size=batch_size,
    )

    def step(batch: dict[str, jax.Array] | None) -> None:
        assert batch is not None  # the schedule has more than are timed
        state, counts = trainer.train_step(states.pop(), batch, hyperparameters, mean)
        states.append(jax.block_until_ready((state, counts))[0])

    def step_seconds(batch: dict[str, jax.Array]) -> float:
        start = time.perf_counter()
        step(batch)
        return time.perf_counter() - start

    with contextlib.closing(open_input()) as batches:
        fixed = devices.place_batch(next(batches))
    step(fixed)  # Compiles.
    alone = statistics.median(step_seconds(fixed) for _ in range(repeats))
    of_input = statistics.median(images_per_second(open_input) for _ in range(repeats))

    count = 0
    with Prefetcher(open_input(), devices.place_batch) as prefetcher:
        step(prefetcher.next())
        start, before = time.perf_counter(), prefetcher.waited
        while (seconds := time.perf_counter() - start) < SECONDS_TOGETHER * repeats:
            step(prefetcher.next())
            count += batch_size
        waited = prefetcher.waited - before
    return {
        "input": of_input,
        "step": batch_size / alone,
        "together": count / seconds,
        "waiting": waited / seconds,
    }


def main() -> None:
    batch_size, repeats = map(int, sys.argv[2:4])
    dtype = sys.argv[4]
    use_all_cores()
    if only_cpus():
        keep_freed_memory()  # As in a run.
    set_precision(dtype)
    with photographs(images=sys.argv[6]) as made:
        # Only prepared datasets hold statistics, which are those of the originals too.
        originals = dataclasses.replace(made.originals, statistics=made.jpeg.statistics)
        class_names = tuple(map(str, range(1000)))
        sources = {
            name: dataclasses.replace(source, class_names=class_names)
            for name, source in (("JPEG cache", made.jpeg), ("originals", originals))
        }
        rows = [
            {"name": name, **measure(source, batch_size, repeats, dtype)}
            for name, source in sources.items()
        ]
    report: dict[str, Any] = {
        **jax_environment(PACKAGES),
        "photographs": made.note,
        "rows": rows,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
