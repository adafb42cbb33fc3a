"""What the benchmark of both times: the train step, fed by the input pipeline.

`benchmark.py` runs this module as a process of its own,

    python -m alexnet_jax.fed_step both BATCH_SIZE REPEATS DTYPE all

and reads one JSON object from its standard output. Images, batches and step are those
of training, in the recipe that is the default, with 1000 classes.
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

from alexnet_jax import config as configuration
from alexnet_jax.contenders import NUMBERS, set_precision
from alexnet_jax.data.pipeline import Data, Rescaled
from alexnet_jax.data.source import Source
from alexnet_jax.input_contenders import SIZE, images_per_second, photographs
from alexnet_jax.provenance import versions
from alexnet_jax.training import step as steps
from alexnet_jax.training.loop import Trainer, augmented_batches
from alexnet_jax.training.member import Plan
from alexnet_jax.training.parallel import Devices

# Seconds of the step and its input together, for each repeat. All in one piece: what
# was made ahead lasts for a while, and would hide an input that is too slow.
SECONDS = 4.0
PACKAGES = ("jax", "jaxlib", "flax", "tensorflow-cpu", "tensorflow")


def measure(source: Source, batch_size: int, repeats: int, dtype: str) -> dict:
    """Images/s of the input, of the step and of both, and how long the step waited."""
    config = configuration.base()
    config.model.dtype = "bfloat16" if dtype == "bfloat16" else "float32"
    config.training.batch_size = batch_size
    config.training.num_epochs = 1e6  # never the last
    config = configuration.finish(config, {})
    classes = tuple(map(str, range(1000)))
    source = dataclasses.replace(source, class_names=classes)
    train, validation = (
        Rescaled(split, SIZE, config.data.rescale, None, None)
        for split in (source.train, source.validation)
    )
    assert source.statistics is not None
    data = Data(source, train, validation, source.statistics)
    devices = Devices()
    devices.check_batch_size(batch_size)
    trainer = Trainer.of(config, data, devices)
    plan = Plan.of(config, data.train.num_examples)
    mean = devices.place_state(
        trainer.form.mean_of(
            source.statistics.mean_image, source.statistics.channel_mean
        )
    )
    states = [
        devices.place_state(steps.initial_state(trainer.network, 0, trainer.rule))
    ]
    open_input = functools.partial(augmented_batches, config, data, 0, plan, 0, devices)

    def step(batch: dict[str, jax.Array] | None) -> None:
        assert batch is not None  # the plan has more than are timed
        state, counts = trainer.train_step(states.pop(), batch, NUMBERS, mean)
        states.append(jax.block_until_ready((state, counts))[0])

    def step_seconds(batch: dict[str, jax.Array]) -> float:
        start = time.perf_counter()
        step(batch)
        return time.perf_counter() - start

    with contextlib.closing(open_input()) as batches:
        fixed = devices.place_batch(next(batches))
    step(fixed)  # compiles
    alone = statistics.median(step_seconds(fixed) for _ in range(repeats))
    of_input = statistics.median(images_per_second(open_input) for _ in range(repeats))

    count = 0
    with devices.ahead(open_input()) as ahead:
        step(ahead.next())
        start, before = time.perf_counter(), ahead.waited
        while (seconds := time.perf_counter() - start) < SECONDS * repeats:
            step(ahead.next())
            count += batch_size
        waited = ahead.waited - before
    return {
        "input": of_input,
        "step": batch_size / alone,
        "both": count / seconds,
        "waiting": waited / seconds,
    }


def main() -> None:
    batch_size, repeats = map(int, sys.argv[2:4])
    dtype = sys.argv[4]
    set_precision(dtype)
    with photographs() as made:
        # The originals' statistics are those of the sets prepared of them.
        originals = dataclasses.replace(made.originals, statistics=made.jpeg.statistics)
        sources = {"JPEG cache": made.jpeg, "originals": originals}
        rows = [
            {"name": name, **measure(source, batch_size, repeats, dtype)}
            for name, source in sources.items()
        ]
    report: dict[str, Any] = {
        "platform": jax.default_backend(),
        "devices": [device.device_kind for device in jax.local_devices()],
        "versions": versions(PACKAGES),
        "photographs": made.note,
        "rows": rows,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
