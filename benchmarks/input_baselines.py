"""This project's input pipeline and three others: plain tf.data, Pillow and grain.

All of them read the same photographs and give endless batches of 224 x 224 images, by a
random crop and a random horizontal flip.
"""

import contextlib
import functools
import importlib.util
import io
import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterator
from multiprocessing.shared_memory import SharedMemory
from typing import Any

# Sets the environment in which TensorFlow starts, so it must be imported first.
import alexnet_jax.data  # noqa: F401

# isort: split
import numpy as np
import PIL.Image
import tensorflow as tf

from alexnet_jax.data import pipeline
from alexnet_jax.data.augmentation import Augmentation
from alexnet_jax.data.pipeline import TrainBatch
from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.data.types import Split
from benchmarks.input_photographs import CROP_SIZE, RESCALE_SIZE, Photographs

LIGHTING_STD = 0.1
CHANNEL_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
CHANNEL_SCALE = np.array([58.395, 57.12, 57.375], np.float32)

Batches = Generator[np.ndarray, None, None]  # endless, images (n, 224, 224, 3)


def our_batches(
    split: Split,
    color_components: np.ndarray,
    batch_size: int,
    start_step: int = 0,
    num_steps: int = 2**31,
) -> Generator[TrainBatch, None, None]:
    """Returns the batches that training reads, with all their fields."""
    return pipeline.train_batches(
        RescaledSplit(split, RESCALE_SIZE, "shorter_side"),
        Augmentation(
            CROP_SIZE, True, True, 1, LIGHTING_STD, False, 0.0, color_components
        ),
        seed=0,
        steps=range(start_step, num_steps),
        batch_size=batch_size,
        host=0,
        num_hosts=1,
    )


def our_images(split: Split, color_components: np.ndarray, batch_size: int) -> Batches:
    with contextlib.closing(
        our_batches(split, color_components, batch_size)
    ) as batches:
        for batch in batches:
            yield batch["image"]


def plain_images(
    paths: list[str], color_components: np.ndarray, batch_size: int, antialias: bool
) -> Batches:
    """Runs tf.data as in the Flax ImageNet example, with AlexNet's augmentation.

    Images are float32. With `antialias` they are resampled as well as ours; without it
    they are aliased.
    """

    @tf.autograph.experimental.do_not_convert
    def load(path: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        sides = tf.cast(tf.shape(image)[:2], tf.float32)
        scaled = tf.cast(
            tf.round(sides * RESCALE_SIZE / tf.reduce_min(sides)), tf.int32
        )
        image = tf.image.resize(image, scaled, "bilinear", antialias=antialias)
        image = tf.image.random_crop(image, (CROP_SIZE, CROP_SIZE, 3))
        image = tf.image.random_flip_left_right(image)
        lighting = LIGHTING_STD * tf.random.normal([3])
        image += tf.linalg.matvec(color_components, lighting)
        return (image - CHANNEL_MEAN) / CHANNEL_SCALE

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
    """Loads an image (224, 224, 3) by the Pillow calls of torchvision's transforms."""
    with PIL.Image.open(path) as opened:
        image = opened.convert("RGB")
    scale = RESCALE_SIZE / min(image.size)
    sides = (round(image.width * scale), round(image.height * scale))
    image = image.resize(sides, PIL.Image.Resampling.BILINEAR)
    x, y = (int(draws.integers(side - CROP_SIZE + 1)) for side in sides)
    image = image.crop((x, y, x + CROP_SIZE, y + CROP_SIZE))
    if draws.integers(2):
        image = image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    return (np.asarray(image, np.float32) - CHANNEL_MEAN) / CHANNEL_SCALE


def shuffled_batches(paths: list[str], batch_size: int) -> Iterator[list[str]]:
    """Yields the paths of each batch, endlessly: epoch after epoch, each shuffled."""
    draws = np.random.default_rng(0)
    shuffled = (
        paths[i] for _ in itertools.count() for i in draws.permutation(len(paths))
    )
    while True:
        yield list(itertools.islice(shuffled, batch_size))


def pillow_images(paths: list[str], batch_size: int) -> Batches:
    """Loads images by Pillow in this process."""
    draws = np.random.default_rng(1)
    for batch in shuffled_batches(paths, batch_size):
        yield np.stack([pillow_image(path, draws) for path in batch])


class PillowWorkers:
    """Processes that load batches by Pillow, in the manner of PyTorch's DataLoader.

    They are kept from turn to turn (its persistent_workers), have two batches each in
    flight (its prefetch_factor) and write them into shared memory, so that no batch is
    copied from process to process.
    """

    def __init__(self, count: int, batch_size: int) -> None:
        self.shape = (batch_size, CROP_SIZE, CROP_SIZE, 3)
        num_bytes = 4 * int(np.prod(self.shape))
        self.memories = [
            SharedMemory(create=True, size=num_bytes) for _ in range(2 * count)
        ]
        self.pool = multiprocessing.get_context("spawn").Pool(count)

    def images(self, paths: list[str]) -> Batches:
        """Yields batches; one is overwritten after two more per worker were taken."""
        batches = enumerate(shuffled_batches(paths, self.shape[0]))

        def submit(memory: SharedMemory) -> tuple[SharedMemory, Any]:
            seed, batch = next(batches)
            task = (memory.name, self.shape, batch, seed)
            return memory, self.pool.apply_async(fill_memory, task)

        in_flight = deque(map(submit, self.memories))
        try:
            while True:
                memory, result = in_flight.popleft()
                result.get()
                yield np.ndarray(self.shape, np.float32, memory.buf)
                in_flight.append(submit(memory))
        finally:  # The next turn must not pay for batches of this one.
            for _, result in in_flight:
                result.wait()

    def close(self) -> None:
        self.pool.close()
        self.pool.join()
        for memory in self.memories:
            memory.unlink()  # Arrays that still view it keep it until they are gone.


def fill_memory(name: str, shape: tuple[int, ...], paths: list[str], seed: int) -> None:
    """Loads one batch into the shared memory `name`: the task of a worker."""
    draws = np.random.default_rng(seed)
    memory = SharedMemory(name)
    images = np.ndarray(shape, np.float32, memory.buf)
    np.stack([pillow_image(path, draws) for path in paths], out=images)
    del images
    memory.close()


def grain_images(split: Split, batch_size: int) -> Batches:
    """Reads a prepared JPEG dataset by grain's threads, as grain's documentation does.

    Batching before `to_iter_dataset` would have grain's threads start with 16 batches at
    a time, which a turn is too short to measure.
    """
    import grain  # An optional package.

    class Records:
        def __len__(self) -> int:
            return split.num_examples

        def __getitem__(self, index: int) -> bytes:
            return split.read(int(index))[0]

    def load(encoded: bytes, draws: np.random.Generator) -> np.ndarray:
        with PIL.Image.open(io.BytesIO(encoded)) as opened:
            image = np.asarray(opened.convert("RGB"))
        y, x = draws.integers(RESCALE_SIZE - CROP_SIZE + 1, size=2)
        image = image[y : y + CROP_SIZE, x : x + CROP_SIZE]
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


def input_pipelines(
    photographs: Photographs, batch_size: int, workers: PillowWorkers | None
) -> dict[str, Callable[[], Batches]]:
    """Returns by name what opens each pipeline.

    Without `workers`, Pillow loads images in this process. Without the package grain,
    there is no pipeline of that name.
    """
    paths, components = photographs.paths, photographs.color_components
    splits = {
        "ours, originals": photographs.originals.train,
        "ours, JPEG cache": photographs.jpeg.train,
        "ours, raw": photographs.raw.train,
    }
    pipelines: dict[str, Callable[[], Batches]] = {
        name: functools.partial(our_images, split, components, batch_size)
        for name, split in splits.items()
    }
    plain = functools.partial(plain_images, paths, components, batch_size)
    pipelines["plain"] = functools.partial(plain, False)
    pipelines["plain, antialiased"] = functools.partial(plain, True)
    pipelines["Pillow"] = (
        functools.partial(workers.images, paths)
        if workers
        else functools.partial(pillow_images, paths, batch_size)
    )
    if importlib.util.find_spec("grain"):
        pipelines["grain"] = functools.partial(
            grain_images, photographs.jpeg.train, batch_size
        )
    return pipelines
