"""Times the use of a trained network: images from files to answers, the command, neighbors.

`run.py` runs this module as a process of its own. The network is AlexNet of recipe
torchvision with 1000 classes and random weights. Photographs are classified by
`TrainedNetwork.classify` and by PyTorch, in turns, whole batches each; the command `predict`
is timed from its start to its first answer; and the six nearest of 100,000 rows of 4,096
numbers are found for five queries, in a file that the system has in memory.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.trained.predictions import image_files
from alexnet_jax.trained.similar.exact_search import nearest_rows
from alexnet_jax.trained.similar.feature_cache import FeatureCache
from alexnet_jax.training.cpu_devices import use_all_cores
from benchmarks import torch_baselines
from benchmarks.input_photographs import write_originals
from benchmarks.prediction_baselines import TorchPredictions
from benchmarks.random_network import CLASSES, random_network, save
from benchmarks.timing import jax_environment, set_precision

NUM_PHOTOGRAPHS = 66
BATCHES = 2  # of a turn
ROWS, WIDTH, QUERIES, NEIGHBORS = 100_000, 4096, 5, 6
ROOT = Path(__file__).parent.parent
PACKAGES = ("jax", "jaxlib", "numpy", "pillow")


@contextlib.contextmanager
def files(images: str) -> Iterator[tuple[list[str], str]]:
    """Photographs made for this, or those of a folder, and a note on them."""
    with tempfile.TemporaryDirectory(prefix="alexnet_jax-") as made:
        note = "" if images else write_originals(Path(made), NUM_PHOTOGRAPHS)
        found = list(image_files([images or made]))
        kilobytes = sum(os.path.getsize(path) for path in found) / len(found) / 1000
        yield found, note or f"{len(found):,} images, {kilobytes:.0f} kB on average"


def throughput_row(
    paths: Sequence[str], repeats: int, batch_size: int, num_classes: int = CLASSES
) -> dict[str, Any]:
    """Images/s of each implementation: medians of turns, and the ratios of the turns."""
    network = random_network(num_classes)
    count = BATCHES * batch_size
    given = [paths[number % len(paths)] for number in range(count)]
    forms: dict[str, Callable[[], Any]] = {"ours": lambda: network.classify(given)}
    if torch := torch_baselines.pytorch():
        baseline = TorchPredictions(torch, given, batch_size, num_classes)
        forms |= baseline.forms()
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for repeat in range(repeats + 1):  # the first compiles, and starts workers
        for name, classify in forms.items():
            start = time.perf_counter()
            assert len(classify()) == count
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: count / statistics.median(s) for name, s in seconds.items()}
    others = [name for name in forms if name != "ours"]
    fastest = max(others, key=medians.__getitem__, default=None)
    ratios = (
        [
            theirs / ours
            for ours, theirs in zip(seconds["ours"], seconds[fastest], strict=True)
        ]
        if fastest
        else []
    )
    return {
        "name": "from files",
        "images_per_second": medians,
        "fastest": fastest,
        "ratios": ratios,
        "ratio": statistics.median(ratios) if ratios else None,
    }


def first_answer_rows(image: str, repeats: int) -> list[dict[str, Any]]:
    """Seconds from the start of the command `predict` to its first line, cold and warm."""
    found: dict[str, list[float]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory(prefix="alexnet_jax-") as made:
        trial = Path(made) / "seed0"
        trial.mkdir()
        save(random_network(), trial)
        for repeat in range(repeats):
            cache = Path(made) / f"cache-{repeat}"
            for seconds in found.values():
                seconds.append(first_answer(trial, image, cache))
    return [
        {"name": "first answer", "start": start, "seconds": statistics.median(seconds)}
        for start, seconds in found.items()
    ]


def first_answer(trial: Path, image: str, cache: Path) -> float:
    """Seconds of one command until it has printed the first answer."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "alexnet_jax", "predict", str(trial), image]
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, env=environment, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        answer = process.stdout.readline()
        seconds = time.perf_counter() - start
        process.stdout.read()
    if process.returncode or not json.loads(answer)["classes"]:
        raise RuntimeError("The command predict has failed.")
    return seconds


def neighbors_row(repeats: int, rows: int = ROWS, width: int = WIDTH) -> dict[str, Any]:
    """Seconds to find neighbors among features that are like those of a ReLU."""
    draws = np.random.default_rng(0)

    def batches() -> Iterator[np.ndarray]:
        for first in range(0, rows, 1000):
            shape = min(1000, rows - first), width
            yield np.maximum(draws.standard_normal(shape, dtype=np.float32), 0)

    queries = np.maximum(draws.standard_normal((QUERIES, width), dtype=np.float32), 0)
    seconds = []
    with tempfile.TemporaryDirectory(prefix="alexnet_jax-") as made:
        cache = FeatureCache.open(Path(made), "noise", {}, rows, width)
        cache.write(batches())
        for _ in range(repeats + 1):
            start = time.perf_counter()
            found = nearest_rows(cache.blocks(), queries, NEIGHBORS)
            seconds.append(time.perf_counter() - start)
        assert found.rows.shape == (QUERIES, NEIGHBORS)
    return {
        "name": "neighbors",
        "rows": rows,
        "width": width,
        "queries": QUERIES,
        "seconds": statistics.median(seconds[1:]),
    }


def main() -> None:
    batch_size, repeats, dtype = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    use_all_cores()
    set_precision(dtype)
    with files(sys.argv[6]) as (paths, note):
        rows = [
            throughput_row(paths, repeats, batch_size),
            *first_answer_rows(paths[0], repeats),
            neighbors_row(repeats),
        ]
    report = {
        **jax_environment((*PACKAGES, *torch_baselines.packages())),
        "photographs": note,
        "rows": rows,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
