"""What preparing a dataset costs: small JPEG files, of which nothing is rescaled, and photographs.

`run.py` runs this module as a process of its own. Beside it, Pillow on the same files: it
decodes each, rescales and encodes photographs, and sums pixels as for a mean image.
"""

import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from alexnet_jax.data.open import open_source
from alexnet_jax.data.prepared import build
from alexnet_jax.data.types import Source
from alexnet_jax.provenance import versions
from benchmarks import input_photographs

SMALL_FILES, SMALL_SIDE = 100_000, 64
DIFFERENT = 500  # images among the small files
PHOTOGRAPHS = 600
PACKAGES = ("tensorflow-cpu", "tensorflow", "pillow")


def write_small(folder: Path, count: int) -> None:
    """Parts of the sample photographs as JPEG files of 64 x 64 pixels, in ten classes."""
    with PIL.Image.open(input_photographs.sample_images()[0]) as opened:
        image = opened.convert("RGB")
    draws = np.random.default_rng(0)
    contents = []
    for _ in range(min(DIFFERENT, count)):
        x, y = (int(draws.integers(0, side - 128)) for side in image.size)
        part = image.resize((SMALL_SIDE, SMALL_SIDE), box=(x, y, x + 128, y + 128))
        buffer = io.BytesIO()
        part.save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
    for number in range(count):
        path = folder / str(number % 10) / f"{number:06d}.jpg"
        path.write_bytes(contents[number % len(contents)])


def seconds_of(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds of this process with all its threads, and seconds by the wall clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def by_pillow(paths: list[Path], size: int) -> None:
    """Decodes each file; rescales and encodes those of other sizes; sums the pixels."""
    total = np.zeros((size, size, 3))
    for path in paths:
        with PIL.Image.open(path) as opened:
            image = opened.convert("RGB")
        if image.size != (size, size):
            scale = size / min(image.size)
            width, height = (round(scale * side) for side in image.size)
            image = image.resize((width, height), PIL.Image.Resampling.BILINEAR)
            left, top = (width - size) // 2, (height - size) // 2
            image = image.crop((left, top, left + size, top + size))
            image.save(io.BytesIO(), "JPEG", quality=95)
        total += np.asarray(image)


def measure(name: str, folder: Path, size: int, repeats: int) -> dict[str, Any]:
    """Preparing a folder, and Pillow's pass over the same files, in turns; medians."""
    source = open_source(f"folder={folder}", tfds_dir="")
    paths = sorted(folder.rglob("*.jpg"))
    count = source.train.num_examples + source.validation.num_examples
    assert count == len(paths)
    _prepare(source, size)  # TensorFlow starts its threads.
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "Pillow": []}
    for _ in range(repeats):
        times["ours"].append(seconds_of(lambda: _prepare(source, size)))
        times["Pillow"].append(seconds_of(lambda: by_pillow(paths, size)))
    medians = {
        who: [
            1000 * statistics.median(each) / count for each in zip(*runs, strict=True)
        ]
        for who, runs in times.items()
    }
    return {
        "name": name,
        "images": count,
        "cpu_milliseconds": {who: cpu for who, (cpu, _) in medians.items()},
        "milliseconds": {who: wall for who, (_, wall) in medians.items()},
    }


def _prepare(source: Source, size: int) -> None:
    """Prepares a dataset, by the command's own code, into a folder that is then deleted."""
    with tempfile.TemporaryDirectory() as folder:
        build.prepare(
            source,
            Path(folder) / "prepared",
            rescale="shorter_side",
            size=size,
            encoding="jpeg",
            skip_bad=False,
        )


def main() -> None:
    repeats = int(sys.argv[3])
    with tempfile.TemporaryDirectory() as made:
        small, photographs = Path(made) / "small", Path(made) / "photographs"
        write_small(small, SMALL_FILES)
        input_photographs.write_originals(photographs, PHOTOGRAPHS)
        rows = [
            measure("64x64, nothing rescaled", small, SMALL_SIDE, repeats),
            measure(
                "photographs of 500x375",
                photographs,
                input_photographs.RESCALE_SIZE,
                repeats,
            ),
        ]
    report = {
        "platform": "cpu",
        "devices": ["none is used"],
        "versions": versions(PACKAGES),
        "rows": rows,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
