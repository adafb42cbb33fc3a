"""The way of an image: order -> read -> decode -> rescale -> crop, flip -> batch.

uint8 all the way; one lighting offset is drawn beside each training image. Sets that
fit are decoded and rescaled once and kept in memory, as the paper prepared its data
once; the others are read again each time. Both give the same batches.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
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

# Images of a batch where no step uses it.
READ = 256

# Random draws of one example, told apart.
CROP, FLIP, LIGHTING = 0, 1, 2
PURPOSES = 3
SHARED = 2**32 - 1  # in place of the epoch, for draws that neighbours share


class TrainBatch(TypedDict):
    """Augmented examples of one step.

    `offset` (y, x) is where in the rescaled image the crop begins, `mirrored` whether
    it was then reflected. `lighting` is to be added to the pixels, `gain` to multiply
    them afterwards.
    """

    image: UInt8[np.ndarray, "n h w 3"]
    label: Int32[np.ndarray, " n"]
    offset: Int32[np.ndarray, "n 2"]
    mirrored: Int32[np.ndarray, " n"]
    lighting: Float32[np.ndarray, "n 3"]
    gain: Float32[np.ndarray, " n"]
    example: Int32[np.ndarray, " n"]
    epoch: Int32[np.ndarray, " n"]


class EvalBatch(TypedDict):
    """Whole rescaled images; `weight` is 0 for what only fills up the last batch."""

    image: UInt8[np.ndarray, "n h w 3"]
    label: Int32[np.ndarray, " n"]
    example: Int32[np.ndarray, " n"]
    weight: Float32[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to a training image, by the names of the configuration's `data`.

    `components` (3, 3): what the lighting draws multiply, `Statistics.components`.
    """

    crop_size: int
    random_crop: bool
    random_flip: bool
    crop_sharing: int
    lighting_deviation: float
    lighting_shrink: bool
    lighting_off_epoch: float
    components: Float32[np.ndarray, "3 3"]

    @property
    def is_random(self) -> bool:
        return self.random_crop or self.random_flip or self.lighting_deviation > 0


@dataclasses.dataclass(frozen=True, eq=False)
class Rescaled:
    """A split whose images come rescaled to size x size, by `images.rescale`.

    `images` and `labels` hold all of them where they fit into memory, else None.
    """

    split: Split
    size: int
    how: str
    images: tf.Tensor | None
    labels: tf.Tensor | None

    @property
    def num_examples(self) -> int:
        return self.split.num_examples

    def load(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Image (size, size, 3) uint8 and label of an example, in a tf.data graph.

        From memory also those of a batch.
        """
        if self.images is not None:
            return tf.gather(self.images, index), tf.gather(self.labels, index)
        return self.load_crop(index, 0, self.size)

    def load_crop(
        self, index: tf.Tensor, offset: tf.Tensor | int, crop_size: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The part of `load`'s image from `offset` (y, x) on, and the label.

        Of prepared JPEGs on disk only that part is decoded.
        """
        if self.images is not None:
            image, label = self.load(index)
            return images.crop(image, offset, crop_size), label
        encoded, label = self._encoded(index)
        image = images.restored_crop(
            encoded, self.split.form, self.size, self.how, offset, crop_size
        )
        return image, label

    def _encoded(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        encoded, label = tf.numpy_function(
            self._read, [index], (tf.string, tf.int32), stateful=False
        )
        return encoded, tf.ensure_shape(label, ())

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


def prepare(source: Source, *, rescale: str, rescale_size: int) -> Data:
    """Rescales what fits into memory and computes the training set's statistics.

    Raises:
      UserError: if a split is empty, or an image cannot be read.
    """
    for split in (source.train, source.validation):
        if split.num_examples == 0:
            raise UserError(f"The split '{split.name}' of {source.name} is empty.")
    total = source.train.num_examples + source.validation.num_examples
    in_memory = total * rescale_size**2 * 3 <= MEMORY_BYTES
    if not in_memory and source.statistics is None:
        print(
            f"Reading the {source.train.num_examples:,} training images of {source.name} "
            "once for their mean and colours.",
            file=sys.stderr,
            flush=True,
        )
    train = _rescaled(
        Rescaled(source.train, rescale_size, rescale, None, None), in_memory
    )
    validation = _rescaled(
        Rescaled(source.validation, rescale_size, rescale, None, None), in_memory
    )
    computed = source.statistics or statistics.compute(
        batch["image"][batch["weight"] > 0]
        for batch in evaluation_batches(train, batch_size=READ)
    )
    return Data(source, train, validation, computed)


def _rescaled(data: Rescaled, in_memory: bool) -> Rescaled:
    """The same, with its images read into memory if they fit."""
    if not in_memory:
        return data
    indices = tf.data.Dataset.range(data.num_examples)
    load = tf.autograph.experimental.do_not_convert(
        lambda index: dict(zip(("image", "label"), data.load(index), strict=True))
    )
    dataset = _batched(indices, load, data, READ, one_by_one=True)
    batches = list(_numpy(dataset, data, _in_order(data, READ)))
    with tf.device("CPU"):
        return dataclasses.replace(
            data,
            images=tf.constant(np.concatenate([batch["image"] for batch in batches])),
            labels=tf.constant(np.concatenate([batch["label"] for batch in batches])),
        )


def train_batches(
    data: Rescaled,
    augmentation: Augmentation,
    *,
    seed: int,
    start_step: int,
    num_steps: int,
    batch_size: int,
    host: int,
    num_hosts: int,
) -> Iterator[TrainBatch]:
    """Batches of steps start_step .. num_steps - 1: of each the share of one host.

    `batch_size` is that of all hosts together; theirs are its slices, one after the
    other.

    Epochs follow one another without a gap: example i of step s has place
    s * batch_size + i in the endless row of epochs, each a permutation. So a batch can
    hold the end of one epoch and the start of the next, none is lost, and the position
    is the step. An example's lighting depends on (seed, epoch, example) alone, and so
    do its crop and reflection; shared ones depend on (seed, place // crop_sharing).
    """
    count, share = data.num_examples, batch_size // num_hosts
    assert share * num_hosts == batch_size
    first, last = start_step * batch_size, num_steps * batch_size

    @tf.autograph.experimental.do_not_convert
    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        begin = tf.maximum(np.int64(0), first - epoch * count)
        indices = tf.numpy_function(
            lambda epoch, begin: order.epoch_order(seed, int(epoch), count)[
                begin : last - int(epoch) * count
            ],
            [epoch, begin],
            tf.int64,
            stateful=False,
        )
        indices = tf.ensure_shape(indices, (None,))
        places = epoch * count + begin + tf.range(tf.size(indices, tf.int64))
        ours = places % batch_size // share == host
        return tf.data.Dataset.from_tensor_slices((places[ours], indices[ours]))

    @tf.autograph.experimental.do_not_convert
    def load(place: tf.Tensor, index: tf.Tensor) -> dict[str, tf.Tensor]:
        augmented = _augmented(data, augmentation, seed, place, index)
        epoch = tf.cast(place // count, tf.int32)
        return augmented | {
            "example": tf.cast(index, tf.int32),
            "epoch": epoch,
        }

    epochs = tf.data.Dataset.range(first // count, -(-last // count))
    examples = epochs.flat_map(of_epoch)
    dataset = _batched(examples, load, data, share, augmentation.is_random)

    def examples_of(number: int) -> Iterator[int]:
        begin = first + number * batch_size + host * share
        for place in range(begin, begin + share):
            yield int(order.epoch_order(seed, place // count, count)[place % count])

    return cast(Iterator[TrainBatch], _numpy(dataset, data, examples_of))


def _augmented(
    data: Rescaled,
    augmentation: Augmentation,
    seed: int,
    place: tf.Tensor,
    index: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """An image cropped and reflected, its label, and what is yet to be done to pixels.

    Or, where nothing is random, those of a batch.
    """
    size, sharing = augmentation.crop_size, augmentation.crop_sharing
    count = data.num_examples

    def draw(purpose: int) -> tf.Tensor:
        if sharing > 1 and purpose != LIGHTING:
            return tf.stack(
                [(seed << 32) + SHARED, place // sharing * PURPOSES + purpose]
            )
        return tf.stack([(seed << 32) + place // count, index * PURPOSES + purpose])

    shape = tf.shape(index)
    offset = images.center_offset(data.size, size)
    if augmentation.random_crop:
        offset = images.random_offset(data.size, size, draw(CROP))
    image, label = data.load_crop(index, offset, size)
    mirrored = tf.zeros(shape, tf.int32)
    if augmentation.random_flip:
        mirrored = images.random_mirror(draw(FLIP))
        image = images.mirror(image, mirrored)
    shift = tf.zeros(tf.concat([shape, [3]], axis=0))
    gain = tf.ones(shape)
    deviation = augmentation.lighting_deviation
    if deviation > 0:
        components = tf.constant(augmentation.components)
        shift = images.lighting(components, deviation, draw(LIGHTING))
        if augmentation.lighting_shrink:
            gain = tf.constant(1 / (1 + deviation), tf.float32)
        if augmentation.lighting_off_epoch > 0:
            on = place < round(augmentation.lighting_off_epoch * count)
            shift = tf.where(on, shift, 0.0)
            gain = tf.where(on, gain, 1.0)
    return {
        "image": image,
        "label": label,
        "offset": tf.broadcast_to(offset, tf.concat([shape, [2]], axis=0)),
        "mirrored": mirrored,
        "lighting": shift,
        "gain": gain,
    }


def evaluation_batches(data: Rescaled, *, batch_size: int) -> Iterator[EvalBatch]:
    """Every example once, in order, whole; the last batch is filled up."""
    dataset = _evaluation_dataset(data, batch_size)
    for batch in _numpy(dataset, data, _in_order(data, batch_size)):
        yield _filled_up(batch, batch_size)


def _in_order(data: Rescaled, batch_size: int) -> Callable[[int], Iterable[int]]:
    """Which examples the n-th batch holds, where they come in order."""
    return lambda number: range(
        number * batch_size, min((number + 1) * batch_size, data.num_examples)
    )


@functools.cache  # tracing the graph costs more than going through a small split
def _evaluation_dataset(data: Rescaled, batch_size: int) -> tf.data.Dataset:
    @tf.autograph.experimental.do_not_convert
    def load(index: tf.Tensor) -> dict[str, tf.Tensor]:
        image, label = data.load(index)
        return {
            "image": image,
            "label": label,
            "example": tf.cast(index, tf.int32),
            "weight": tf.ones(tf.shape(index)),
        }

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


def _filled_up(batch: Any, batch_size: int) -> EvalBatch:
    """The batch with zeros behind it up to `batch_size`: their weight is 0 too."""
    missing = batch_size - len(batch["label"])
    if missing == 0:
        return batch

    def fill(values: Any) -> np.ndarray:
        return np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))

    return cast(EvalBatch, {name: fill(values) for name, values in batch.items()})


def _numpy(
    dataset: tf.data.Dataset,
    data: Rescaled,
    examples_of: Callable[[int], Iterable[int]],
) -> Iterator[Any]:
    """The batches as numpy arrays, prefetched; reading errors said to the user.

    `examples_of` gives the indices of the n-th batch: the one that fails is looked
    through for the example to be named.
    """
    options = tf.data.Options()
    options.autotune.enabled = True
    options.autotune.ram_budget = 2**30
    batches = dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
    number = 0
    try:
        for batch in batches.as_numpy_iterator():
            yield batch
            number += 1
    except tf.errors.OpError as error:
        raise UserError(_unreadable(data, examples_of(number), error)) from error


def _unreadable(
    data: Rescaled, examples: Iterable[int], error: tf.errors.OpError
) -> str:
    split, reason = data.split, images.reason(error)
    for index in examples:
        try:
            encoded, _ = split.read(index)
            images.restore(tf.constant(encoded), split.form, data.size, data.how)
        except (UserError, OSError, tf.errors.OpError) as found:
            is_tf = isinstance(found, tf.errors.OpError)
            reason = images.reason(found) if is_tf else str(found)
            reason = f"{split.where(index)} in {split.name}: {reason}"
            break
    return (
        f"An image could not be read: {reason}\nMend it or take it away. python -m "
        "alexnet_jax.prepare lists all such files, and with --skip_bad leaves them out."
    )
