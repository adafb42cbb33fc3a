"""The way of an image: order -> read -> decode -> rescale -> crop, flip -> batch.

uint8 all the way; one lighting offset is drawn beside each training image. Sets that
fit are decoded and rescaled once and kept in memory, as the paper prepared its data
once; the others are read again each time. Both give the same batches.
"""

import dataclasses
import functools
import re
import sys
from collections.abc import Iterator
from typing import Any, TypedDict, cast

import numpy as np
import tensorflow as tf
from jaxtyping import Float32, Int32, UInt8

from alexnet_jax.data import images, order, statistics
from alexnet_jax.data.source import Source, Split
from alexnet_jax.errors import UserError

# TensorFlow must leave the accelerators to JAX.
for kind in ("GPU", "TPU"):
    tf.config.set_visible_devices([], kind)

# Rescaled images up to this many bytes are kept in memory, training and validation
# together: digits, CIFAR-10 and Fashion-MNIST at 32 x 32 do, ImageNet does not.
MEMORY_BYTES = 2**29

# Random draws of one example, told apart.
CROP, FLIP, LIGHTING = 0, 1, 2
PURPOSES = 3


class Batch(TypedDict):
    """Examples of one step; `weight` is 0 for those that only fill up the last batch."""

    image: UInt8[np.ndarray, "n h w 3"]
    label: Int32[np.ndarray, " n"]
    lighting: Float32[np.ndarray, "n 3"]
    example: Int32[np.ndarray, " n"]
    epoch: Int32[np.ndarray, " n"]
    weight: Float32[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True, eq=False)
class Rescaled:
    """A split whose images come rescaled and centre-cropped to size x size.

    `images` and `labels` hold all of them where they fit into memory, else None.
    """

    split: Split
    size: int
    images: tf.Tensor | None
    labels: tf.Tensor | None

    @property
    def num_examples(self) -> int:
        return self.split.num_examples

    def load(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Image (size, size, 3) uint8 and label of one example, in a tf.data graph."""
        if self.images is not None:
            return tf.gather(self.images, index), tf.gather(self.labels, index)
        encoded, label = tf.numpy_function(
            self._read, [index], (tf.string, tf.int32), stateful=False
        )
        image = images.rescale(images.decode(encoded), self.size)
        return image, tf.ensure_shape(label, ())

    def _read(self, index: np.int64) -> tuple[bytes, np.int32]:
        encoded, label = self.split.read(int(index))
        return encoded, np.int32(label)


@dataclasses.dataclass(frozen=True)
class Data:
    """A source made ready: both splits rescaled, and the training set's statistics."""

    source: Source
    train: Rescaled
    validation: Rescaled
    statistics: statistics.Statistics


def prepare(source: Source, *, rescale_size: int) -> Data:
    """Rescales what fits into memory and computes the training set's statistics.

    Raises:
      UserError: if a split is empty, or an image cannot be read.
    """
    for split in (source.train, source.validation):
        if split.num_examples == 0:
            raise UserError(f"The split '{split.name}' of {source.name} is empty.")
    total = source.train.num_examples + source.validation.num_examples
    in_memory = total * rescale_size**2 * 3 <= MEMORY_BYTES
    if not in_memory:
        print(
            f"Reading the {source.train.num_examples:,} training images of {source.name} "
            "once for their mean and colours.",
            file=sys.stderr,
            flush=True,
        )
    train = _rescaled(source.train, rescale_size, in_memory)
    validation = _rescaled(source.validation, rescale_size, in_memory)
    computed = statistics.compute(
        batch["image"][batch["weight"] > 0]
        for batch in evaluation_batches(train, batch_size=256, crop_size=rescale_size)
    )
    return Data(source, train, validation, computed)


def _rescaled(split: Split, size: int, in_memory: bool) -> Rescaled:
    rescaled = Rescaled(split, size, None, None)
    if not in_memory:
        return rescaled
    batches = list(evaluation_batches(rescaled, batch_size=256, crop_size=size))
    pixels = np.concatenate([batch["image"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    with tf.device("CPU"):
        count = split.num_examples
        return Rescaled(
            split, size, tf.constant(pixels[:count]), tf.constant(labels[:count])
        )


def train_batches(
    data: Rescaled,
    *,
    seed: int,
    start_step: int,
    num_steps: int,
    batch_size: int,
    crop_size: int,
    random_crop: bool,
    random_flip: bool,
    lighting_deviation: float,
    components: Float32[np.ndarray, "3 3"],
) -> Iterator[Batch]:
    """Batches of steps start_step .. num_steps - 1.

    Epochs follow one another without a gap: example i of step s is number
    s * batch_size + i of the endless row of epochs, each a permutation. So a batch can
    hold the end of one epoch and the start of the next, none is lost, and the position
    is the step. An example's augmentation depends on (seed, epoch, example) alone.
    """
    count = data.num_examples
    first, last = start_step * batch_size, num_steps * batch_size
    components = tf.constant(components)

    @tf.autograph.experimental.do_not_convert
    def epoch_indices(epoch: tf.Tensor) -> tf.data.Dataset:
        indices = tf.numpy_function(
            lambda epoch: order.epoch_order(seed, int(epoch), count)[
                max(0, first - int(epoch) * count) : last - int(epoch) * count
            ],
            [epoch],
            tf.int64,
            stateful=False,
        )
        indices = tf.ensure_shape(indices, (None,))
        epochs = tf.fill(tf.shape(indices), epoch)
        return tf.data.Dataset.from_tensor_slices((epochs, indices))

    @tf.autograph.experimental.do_not_convert
    def load(epoch: tf.Tensor, index: tf.Tensor) -> dict[str, tf.Tensor]:
        def draw(purpose: int) -> tf.Tensor:
            return tf.stack([(seed << 32) + epoch, index * PURPOSES + purpose])

        image, label = data.load(index)
        offset = tf.zeros(tf.concat([tf.shape(index), [3]], axis=0))
        if random_crop:
            image = images.random_crop(image, crop_size, draw(CROP))
        else:
            image = images.center_crop(image, crop_size)
        if random_flip:
            image = images.random_flip(image, draw(FLIP))
        if lighting_deviation > 0:
            offset = images.lighting(components, lighting_deviation, draw(LIGHTING))
        return _example(image, label, offset, index, epoch)

    epochs = tf.data.Dataset.range(first // count, -(-last // count))
    one_by_one = random_crop or random_flip or lighting_deviation > 0
    return _numpy(
        _batched(epochs.flat_map(epoch_indices), load, data, batch_size, one_by_one)
    )


def evaluation_batches(
    data: Rescaled, *, batch_size: int, crop_size: int
) -> Iterator[Batch]:
    """Every example once, in order, its central crop; the last batch is filled up."""
    for batch in _numpy(_evaluation_dataset(data, batch_size, crop_size)):
        yield _filled_up(batch, batch_size)


@functools.cache  # tracing the graph costs more than going through a small split
def _evaluation_dataset(
    data: Rescaled, batch_size: int, crop_size: int
) -> tf.data.Dataset:
    @tf.autograph.experimental.do_not_convert
    def load(index: tf.Tensor) -> dict[str, tf.Tensor]:
        image, label = data.load(index)
        offset = tf.zeros(tf.concat([tf.shape(index), [3]], axis=0))
        image = images.center_crop(image, crop_size)
        return _example(image, label, offset, index, tf.zeros_like(index))

    indices = tf.data.Dataset.range(data.num_examples)
    return _batched(indices, load, data, batch_size, one_by_one=False)


def _batched(
    examples: tf.data.Dataset, load, data: Rescaled, batch_size: int, one_by_one: bool
) -> tf.data.Dataset:
    """Loads and batches; what lies in memory and needs no draws, a batch at a time.

    That is one gather instead of a graph call an example: 90,000 images/s, not 24,000
    (16 x 16 pixels, two CPU cores).
    """
    if data.images is not None and not one_by_one:
        return examples.batch(batch_size).map(load)
    return examples.map(
        load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    ).batch(batch_size)


def _example(image, label, lighting, index, epoch) -> dict[str, tf.Tensor]:
    return {
        "image": image,
        "label": label,
        "lighting": lighting,
        "example": tf.cast(index, tf.int32),
        "epoch": tf.cast(epoch, tf.int32),
        "weight": tf.ones(tf.shape(index)),
    }


def _filled_up(batch: Batch, batch_size: int) -> Batch:
    """The batch with zeros behind it up to `batch_size`: their weight is 0 too."""
    missing = batch_size - len(batch["label"])
    if missing == 0:
        return batch

    def fill(values: Any) -> np.ndarray:
        return np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))

    return cast(Batch, {name: fill(values) for name, values in batch.items()})


def _numpy(dataset: tf.data.Dataset) -> Iterator[Batch]:
    """The batches as numpy arrays, prefetched; reading errors said to the user."""
    options = tf.data.Options()
    options.autotune.enabled = True
    options.autotune.ram_budget = 2**30
    batches = dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
    try:
        yield from batches.as_numpy_iterator()
    except tf.errors.OpError as error:
        reason = error.message.split("\nTraceback")[0]  # of a Python function
        reason = re.sub(r"\s*(\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*)", "", reason)
        raise UserError(f"An image could not be read: {reason.strip()}") from error
