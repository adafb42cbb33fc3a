"""What the benchmark of the input times: this project's pipeline and three others.

Photographs of 500 x 375 are made in a temporary folder, and of them prepared sets of
256 x 256 by the project's own means; every form reads them from there and gives batches
of 224 x 224. `benchmark.py` runs this module as a process of its own, on cores chosen
before TensorFlow starts its threads:

    python -m alexnet_jax.input_contenders input BATCH_SIZE REPEATS DTYPE core|all

and reads one JSON object from its standard output.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import io
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import alexnet_jax.data  # noqa: F401  (sets how TensorFlow starts, before it does)

# isort: split
import numpy as np
import PIL.Image
import tensorflow as tf

from alexnet_jax.data import order, pipeline, prepared, shards
from alexnet_jax.data.pipeline import Augmentation, Rescaled, TrainBatch
from alexnet_jax.data.source import Source, Split, open_source
from alexnet_jax.provenance import num_cores, versions

PHOTOGRAPHS = 66  # every tenth is held out, which leaves 60 to train on
PHOTOGRAPH = (500, 375)  # width and height: ImageNet's most frequent
SIZE, CROP = 256, 224
DEVIATION = 0.1  # of the lighting
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
CHANNEL_SCALE = np.array([58.395, 57.12, 57.375], np.float32)

SECONDS = 1.0  # of a turn, at least
IMAGENET = 1_281_167  # training examples
EPOCHS, EPOCH = 10, 1280  # over which memory is watched: how many, of how many images

Batches = Generator[np.ndarray, None, None]  # endless: images (n, 224, 224, 3)

# images/s of ours over those of another form, at least
BARS: dict[str, dict[str, float]] = {
    "ours, originals": {"plain": 1.4, "Pillow": 2.0},
    "ours, JPEG cache": {"plain": 5.0, "Pillow": 8.0, "grain": 1.3},
    "ours, raw": {"plain": 25.0},
}


# --- Photographs ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Photographs:
    """The same pictures in three forms, on disk.

    Attributes:
      note: whose they are.
      paths: of the originals to train on.
      originals, jpeg, raw: sources of them.
    """

    note: str
    paths: list[str]
    originals: Source
    jpeg: Source
    raw: Source

    @property
    def components(self) -> np.ndarray:
        assert self.jpeg.statistics is not None
        return self.jpeg.statistics.components("deviation")


@contextlib.contextmanager
def photographs(count: int = PHOTOGRAPHS) -> Iterator[Photographs]:
    """Makes them in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="alexnet_jax-") as name:
        folder = Path(name)
        note = _write_originals(folder / "photographs", count)
        source = open_source(f"folder={folder / 'photographs'}", tfds_dir="")
        opened = {form: _prepared(source, folder, form) for form in ("jpeg", "raw")}
        paths = [
            str(folder / "photographs" / source.train.where(i))
            for i in range(source.train.num_examples)
        ]
        yield Photographs(note, paths, source, **opened)


def sample_pictures() -> list[Path]:
    """Colour photographs in the wheels of scikit-learn and, if there, scikit-image."""
    held = {
        "sklearn": ("datasets/images", ["china.jpg", "flower.jpg"]),
        "skimage": (
            "data",
            ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"],
        ),
    }
    found = []
    for package, (folder, names) in held.items():
        if (spec := importlib.util.find_spec(package)) and spec.origin:
            found += [Path(spec.origin).parent / folder / name for name in names]
    return found


def _write_originals(folder: Path, count: int) -> str:
    """Parts of the sample pictures, a folder a picture; returns what they are."""
    pictures = sample_pictures()
    draws = np.random.default_rng(0)
    width, height = PHOTOGRAPH
    num_bytes = 0
    for path in pictures:
        of_picture = folder / path.stem
        of_picture.mkdir(parents=True)
        with PIL.Image.open(path) as opened:
            picture = opened.convert("RGB")
        largest = min(picture.width / width, picture.height / height)
        for number in range(count // len(pictures)):
            scale = largest * draws.uniform(0.7, 1)
            w, h = scale * width, scale * height
            x = draws.uniform(0, picture.width - w)
            y = draws.uniform(0, picture.height - h)
            part = picture.resize(
                PHOTOGRAPH, PIL.Image.Resampling.LANCZOS, (x, y, x + w, y + h)
            )
            file = of_picture / f"{number:02d}.jpg"
            part.save(file, quality=95, subsampling="4:2:0")
            num_bytes += file.stat().st_size
    total = count // len(pictures) * len(pictures)
    note = (
        f"{total} parts of {', '.join(path.stem for path in pictures)}, "
        f"{width} x {height}, JPEG of quality 95, {num_bytes / total / 1000:.0f} kB each"
    )
    if importlib.util.find_spec("skimage") is None:
        note += "; scikit-image, which has more, is not installed"
    return note


def _prepared(source: Source, folder: Path, encoding: str) -> Source:
    """As `python -m alexnet_jax.prepare` makes it, without its words."""
    job = shards.Job(source, folder / encoding, "shorter_side", SIZE, encoding)
    job.folder.mkdir()
    shards.write_shards(job, job.shards(), lambda _: None)
    shards.complete(job)
    return prepared.open_prepared(job.folder)


# --- The forms --------------------------------------------------------------------


def our_batches(
    split: Split,
    components: np.ndarray,
    batch_size: int,
    start_step: int = 0,
    num_steps: int = 2**31,
) -> Generator[TrainBatch, None, None]:
    return pipeline.train_batches(
        Rescaled(split, SIZE, "shorter_side", None, None),
        Augmentation(CROP, True, True, 1, DEVIATION, False, 0.0, components),
        seed=0,
        start_step=start_step,
        num_steps=num_steps,
        batch_size=batch_size,
        host=0,
        num_hosts=1,
    )


def our_images(split: Split, components: np.ndarray, batch_size: int) -> Batches:
    with contextlib.closing(our_batches(split, components, batch_size)) as batches:
        for batch in batches:
            yield batch["image"]


def plain_images(
    paths: list[str], components: np.ndarray, batch_size: int, antialias: bool
) -> Batches:
    """tf.data as the Flax ImageNet example has it, with AlexNet's augmentation.

    With `antialias` what is resampled is as good as ours, without it aliased.
    """

    @tf.autograph.experimental.do_not_convert
    def load(path: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        sides = tf.cast(tf.shape(image)[:2], tf.float32)
        scaled = tf.cast(tf.round(sides * SIZE / tf.reduce_min(sides)), tf.int32)
        image = tf.image.resize(image, scaled, "bilinear", antialias=antialias)
        image = tf.image.random_crop(image, (CROP, CROP, 3))
        image = tf.image.random_flip_left_right(image)
        image += tf.linalg.matvec(components, DEVIATION * tf.random.normal([3]))
        return (image - MEAN) / CHANNEL_SCALE

    images = (
        tf.data.Dataset.from_tensor_slices(paths)
        .shuffle(len(paths))
        .repeat()
        .map(load, tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )
    yield from images.as_numpy_iterator()


def pillow_image(path: str, draws: np.random.Generator) -> np.ndarray:
    """torchvision's transforms of a picture by what it calls for them: Pillow."""
    with PIL.Image.open(path) as opened:
        picture = opened.convert("RGB")
    scale = SIZE / min(picture.size)
    sides = (round(picture.width * scale), round(picture.height * scale))
    picture = picture.resize(sides, PIL.Image.Resampling.BILINEAR)
    x, y = (int(draws.integers(side - CROP + 1)) for side in sides)
    picture = picture.crop((x, y, x + CROP, y + CROP))
    if draws.integers(2):
        picture = picture.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    return (np.asarray(picture, np.float32) - MEAN) / CHANNEL_SCALE


def orders(paths: list[str], batch_size: int) -> Iterator[list[str]]:
    """Paths of a batch, endlessly: epochs, each shuffled, without a gap."""
    draws = np.random.default_rng(0)
    shuffled = (
        paths[i] for _ in itertools.count() for i in draws.permutation(len(paths))
    )
    while True:
        yield list(itertools.islice(shuffled, batch_size))


def pillow_images(paths: list[str], batch_size: int) -> Batches:
    """In this process."""
    draws = np.random.default_rng(1)
    for of_batch in orders(paths, batch_size):
        yield np.stack([pillow_image(path, draws) for path in of_batch])


class Workers:
    """Processes that make batches, as PyTorch's DataLoader has them.

    They are kept from turn to turn (its persistent_workers), have two batches each
    under way (its prefetch_factor) and put them into memory that is shared, so that
    none is copied from process to process.
    """

    def __init__(self, count: int, batch_size: int) -> None:
        self.shape = (batch_size, CROP, CROP, 3)
        num_bytes = 4 * int(np.prod(self.shape))
        self.memories = [
            SharedMemory(create=True, size=num_bytes) for _ in range(2 * count)
        ]
        self.pool = multiprocessing.get_context("spawn").Pool(count)

    def images(self, paths: list[str]) -> Batches:
        """A batch is overwritten when two more per worker have been asked for."""
        batches = enumerate(orders(paths, self.shape[0]))

        def submit(memory: SharedMemory) -> tuple[SharedMemory, Any]:
            seed, of_batch = next(batches)
            task = (memory.name, self.shape, of_batch, seed)
            return memory, self.pool.apply_async(fill, task)

        under_way = deque(map(submit, self.memories))
        try:
            while True:
                memory, result = under_way.popleft()
                result.get()
                yield np.ndarray(self.shape, np.float32, memory.buf)
                under_way.append(submit(memory))
        finally:  # nothing of one turn is left to be done in the next
            for _, result in under_way:
                result.wait()

    def close(self) -> None:
        self.pool.close()
        self.pool.join()
        for memory in self.memories:
            memory.unlink()  # what views are left keep it alive until they are gone


def fill(name: str, shape: tuple[int, ...], paths: list[str], seed: int) -> None:
    """A worker's task: the images into the shared memory `name`."""
    draws = np.random.default_rng(seed)
    memory = SharedMemory(name)
    images = np.ndarray(shape, np.float32, memory.buf)
    np.stack([pillow_image(path, draws) for path in paths], out=images)
    del images
    memory.close()


def grain_images(split: Split, batch_size: int) -> Batches:
    """grain over a JPEG cache, as its documentation loads images: by threads.

    Its MapDataset could be put together to batches before its threads take over; then
    they would begin 16 batches at a time, and a turn would be too short to see them.
    """
    import grain

    class Records:
        def __len__(self) -> int:
            return split.num_examples

        def __getitem__(self, index: int) -> bytes:
            return split.read(int(index))[0]

    def load(encoded: bytes, draws: np.random.Generator) -> np.ndarray:
        with PIL.Image.open(io.BytesIO(encoded)) as picture:
            image = np.asarray(picture.convert("RGB"))
        y, x = draws.integers(SIZE - CROP + 1, size=2)
        image = image[y : y + CROP, x : x + CROP]
        return image[:, ::-1] if draws.integers(2) else image

    images = (
        grain.MapDataset.source(Records())
        .shuffle(seed=0)
        .repeat()
        .random_map(load, seed=1)
        .to_iter_dataset()
        .batch(batch_size)
    )
    with contextlib.closing(iter(images)) as batches:
        yield from batches


def make_forms(
    photographs: Photographs, batch_size: int, workers: Workers | None
) -> dict[str, Callable[[], Batches]]:
    """By name, what opens each form; without `workers` Pillow's is in this process."""
    paths, components = photographs.paths, photographs.components
    splits = {
        "ours, originals": photographs.originals.train,
        "ours, JPEG cache": photographs.jpeg.train,
        "ours, raw": photographs.raw.train,
    }
    forms: dict[str, Callable[[], Batches]] = {
        name: functools.partial(our_images, split, components, batch_size)
        for name, split in splits.items()
    }
    plain = functools.partial(plain_images, paths, components, batch_size)
    forms["plain"] = functools.partial(plain, False)
    forms["plain, antialiased"] = functools.partial(plain, True)
    forms["Pillow"] = (
        functools.partial(workers.images, paths)
        if workers
        else functools.partial(pillow_images, paths, batch_size)
    )
    if importlib.util.find_spec("grain"):
        forms["grain"] = functools.partial(
            grain_images, photographs.jpeg.train, batch_size
        )
    return forms


# --- What is measured -------------------------------------------------------------


def images_per_second(
    open_form: Callable[[], Any],
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Of one turn, behind a first batch with which threads and buffers get going.

    Each turn opens the form anew and closes it: what went on making batches would take
    the next one's time, and have batches ready when its own turn comes again.
    """
    with contextlib.closing(open_form()) as batches:
        next(batches)
        count, start, now = 0, clock(), clock()
        while count == 0 or now - start < seconds:
            batch = next(batches)
            count += len(batch["image"] if isinstance(batch, dict) else batch)
            now = clock()
        return count / (now - start)


def turns(
    forms: dict[str, Callable[[], Batches]], repeats: int, clock: Callable[[], float]
) -> list[dict[str, Any]]:
    """A row a form: medians of images/s, and of ours over others' within a repeat."""
    rates: list[dict[str, float]] = [
        {name: images_per_second(form, clock=clock) for name, form in forms.items()}
        for _ in range(repeats)
    ]
    return [
        {
            "name": name,
            "images_per_second": statistics.median(r[name] for r in rates),
            "ratios": {
                other: statistics.median(r[name] / r[other] for r in rates)
                for other in ("plain", "Pillow", "grain")
                if name in BARS and other in forms
            },
            "bars": BARS.get(name, {}),
        }
        for name in forms
    ]


def repeated(split: Split, num_examples: int) -> Split:
    """As long as ImageNet, say, of a few images over and over."""

    def read(index: int) -> tuple[bytes, int]:
        return split.read(index % split.num_examples)

    return dataclasses.replace(split, num_examples=num_examples, read=read)


def first_batch_seconds(
    photographs: Photographs, batch_size: int, repeats: int
) -> dict[str, float]:
    """From the call to the first batch, at the start of an epoch and in its middle."""
    split = repeated(photographs.jpeg.train, IMAGENET)
    steps = {"start": 0, "middle": IMAGENET // 2 // batch_size}
    seconds: dict[str, list[float]] = {place: [] for place in steps}
    for _ in range(repeats):
        for place, step in steps.items():
            order.epoch_order.cache_clear()
            start = time.perf_counter()
            made = our_batches(split, photographs.components, batch_size, step)
            with contextlib.closing(made) as batches:
                next(batches)
                seconds[place].append(time.perf_counter() - start)
    return {place: statistics.median(found) for place, found in seconds.items()}


def memory_over_epochs(
    photographs: Photographs, batch_size: int
) -> dict[str, float] | None:
    """MB of this process after the first epoch and the last, and the most of all.

    None where the system does not say.
    """
    if resident_mb() is None:
        return None
    split = repeated(photographs.jpeg.train, EPOCH)
    steps = EPOCH // batch_size
    made = our_batches(
        split, photographs.components, batch_size, num_steps=EPOCHS * steps
    )
    with contextlib.closing(made) as batches:
        found = [resident_mb() or 0.0 for _ in batches]
    return {"first": found[steps - 1], "last": found[-1], "most": max(found)}


def resident_mb() -> float | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    batch_size, repeats = map(int, sys.argv[2:4])
    one_core = sys.argv[5] == "core"  # the dtype is that of steps
    clock = time.process_time if one_core else time.perf_counter
    report: dict[str, Any] = {
        "platform": "cpu",
        "devices": ["cpu"],
        "versions": versions(("tensorflow-cpu", "tensorflow", "pillow", "grain")),
    }
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(photographs())
        report["photographs"] = made.note
        if not one_core:
            report["first_batch_seconds"] = first_batch_seconds(
                made, batch_size, repeats
            )
            report["memory_mb"] = memory_over_epochs(made, batch_size)
        workers = None
        if not one_core:
            made_by = Workers(num_cores(), batch_size)
            workers = stack.enter_context(contextlib.closing(made_by))
        forms = make_forms(made, batch_size, workers)
        report["rows"] = turns(forms, repeats, clock)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
