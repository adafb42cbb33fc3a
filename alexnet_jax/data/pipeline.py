"""The way of an image: order -> read -> decode -> rescale -> crop, flip -> batch.

uint8 all the way; one lighting offset is drawn beside each training image. Sets that
fit are decoded and rescaled once and kept in memory, as the paper prepared its data
once; the others are read again each time. Both give the same batches, but for original
JPEGs that have to shrink: see `images.restored_crop`.

What is drawn and what is read is settled for a whole batch at a time; then images that
are encoded pass the decoder one by one, on all cores.
"""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypedDict, cast

import numpy as np
import tensorflow as tf
from jaxtyping import Float32, Int32, Int64, UInt8

from alexnet_jax.data import draws, images, order, prepared, statistics
from alexnet_jax.data.source import Source, Split
from alexnet_jax.data.stream import Stoppable, stream
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
SHARED = 2**32 - 1  # in place of the epoch, for draws that neighbours share

# Files read at a time, of each of two batches: a disk across a network answers late.
READERS, BATCHES_READ = 16, 2

Places = Int64[np.ndarray, " n"]
Columns = dict[str, np.ndarray]  # of one length


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

    def draw(
        self, size: int, count: int, seed: int, places: Places, indices: Places
    ) -> dict[str, np.ndarray]:
        """What is drawn for the examples `indices`, which stand at `places`.

        `size`: of the images; `count`: how many there are. The fields of TrainBatch
        from `offset` to `gain`.
        """
        epochs, sharing = places // count, self.crop_sharing

        def keys(purpose: int) -> draws.Keys:
            if sharing > 1 and purpose != LIGHTING:
                return draws.keys(seed, SHARED, places // sharing, purpose)
            return draws.keys(seed, epochs, indices, purpose)

        offset = np.full((len(places), 2), (size - self.crop_size) // 2, np.int32)
        if self.random_crop:
            # 33 x 33 places for 224 of 256: the paper says 32 x 32, its code does 33.
            side = size - self.crop_size + 1
            offset[:] = np.stack(
                np.divmod(draws.integers(keys(CROP), side**2), side), 1
            )
        mirrored = np.zeros(len(places), np.int32)
        if self.random_flip:
            mirrored = draws.integers(keys(FLIP), 2)
        shift = np.zeros((len(places), 3), np.float32)
        gain = np.ones(len(places), np.float32)
        deviation = self.lighting_deviation
        if deviation > 0:
            on = np.ones(len(places), bool)
            if self.lighting_off_epoch > 0:
                on = places < round(self.lighting_off_epoch * count)
            # components @ alpha with alpha ~ N(0, deviation**2), section 4.1
            alpha = deviation * draws.normals(keys(LIGHTING), 3)
            shift[on] = (alpha @ self.components.T)[on]
            if self.lighting_shrink:
                gain[on] = 1 / (1 + deviation)
        return {"offset": offset, "mirrored": mirrored, "lighting": shift, "gain": gain}


@dataclasses.dataclass(frozen=True)
class Rescaled:
    """A split whose images come rescaled to size x size, by `images.rescale`.

    `images` (n, size, size, 3) and `labels` hold all of them where they fit into
    memory, else None.
    """

    split: Split
    size: int
    how: str
    images: np.ndarray | None
    labels: np.ndarray | None

    @property
    def num_examples(self) -> int:
        return self.split.num_examples

    def pixels(self, index: int, first: int, count: int) -> tuple[np.ndarray, int]:
        """Rows first .. first + count - 1 of an image in memory or raw, and its label.

        Raises:
          UserError: if they cannot be read.
        """
        if self.images is not None and self.labels is not None:
            return self.images[index, first : first + count], int(self.labels[index])
        assert self.split.read_part is not None
        row = self.size * 3
        data, label = self.split.read_part(index, first * row, count * row)
        return np.frombuffer(data, np.uint8).reshape(count, self.size, 3), label


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
            "for their mean and colours; a prepared set (python -m alexnet_jax.prepare) "
            "has them already.",
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
    everything = np.arange(data.num_examples)
    kept = np.empty((len(everything), data.size, data.size, 3), np.uint8)
    labels = np.empty(len(everything), np.int32)
    for batch in evaluation_batches(data, batch_size=READ):
        there = batch["weight"] > 0
        kept[batch["example"][there]] = batch["image"][there]
        labels[batch["example"][there]] = batch["label"][there]
    return dataclasses.replace(data, images=kept, labels=labels)


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
    num_parallel_calls: int = tf.data.AUTOTUNE,
) -> Generator[TrainBatch, None, None]:
    """Batches of steps start_step .. num_steps - 1: of each the share of one host.

    `batch_size` is that of all hosts together; theirs are its slices, one after the
    other. `num_parallel_calls`: how many images, of raw sets batches, are worked on at
    a time; the batches are the same. Close the iterator where it is left early.

    Epochs follow one another without a gap: example i of step s has place
    s * batch_size + i in the endless row of epochs, each a permutation. So a batch can
    hold the end of one epoch and the start of the next, none is lost, and the position
    is the step. An example's lighting depends on (seed, epoch, example) alone, and so
    do its crop and reflection; shared ones depend on (seed, place // crop_sharing).
    """
    share = batch_size // num_hosts
    assert share * num_hosts == batch_size

    def drawn(step: int) -> dict[str, np.ndarray]:
        size, count = data.size, data.num_examples
        places = step * batch_size + host * share + np.arange(share)
        indices = order.examples_at(places, seed=seed, num_examples=count)
        return augmentation.draw(size, count, seed, places, indices) | {
            "example": indices.astype(np.int32),
            "epoch": (places // count).astype(np.int32),
        }

    batches = _batches(
        data,
        range(start_step, num_steps),
        drawn,
        augmentation.crop_size,
        share,
        num_parallel_calls,
    )
    return cast(Generator[TrainBatch, None, None], batches)


def evaluation_batches(
    data: Rescaled, *, batch_size: int, host: int = 0, num_hosts: int = 1
) -> Generator[EvalBatch, None, None]:
    """Every example once, in order, whole: of each batch the share of one host.

    As `train_batches` shares them out. The last batch is filled up, for some hosts
    perhaps with nothing else, so that all have as many.
    """
    share = batch_size // num_hosts
    assert share * num_hosts == batch_size
    count, size = data.num_examples, data.size

    def whole(step: int) -> dict[str, np.ndarray]:
        first = step * batch_size + host * share
        indices = np.arange(
            min(first, count), min(first + share, count), dtype=np.int32
        )
        return {
            "offset": np.zeros((len(indices), 2), np.int32),
            "mirrored": np.zeros(len(indices), np.int32),
            "example": indices,
            "weight": np.ones(len(indices), np.float32),
        }

    all_steps = -(-count // batch_size)
    steps = range(max(0, -(-(count - host * share) // batch_size)))
    batches = _batches(data, steps, whole, size, share, tf.data.AUTOTUNE)
    nothing = _of_pixels(data, whole(all_steps), size)
    with contextlib.closing(batches):
        for batch in itertools.chain(batches, [nothing] * (all_steps - len(steps))):
            yield _filled_up(batch, share)


# --- from indices to batches ------------------------------------------------------


def _batches(
    data: Rescaled,
    steps: range,
    wanted: Callable[[int], Columns],
    crop_size: int,
    share: int,
    num_parallel_calls: int,
) -> Generator[Any, None, None]:
    """A batch a step: the columns `wanted(step)`, and the images and labels they name.

    These have "example", and "offset" and "mirrored" for the crop; up to `share` each.

    Raises:
      UserError: naming the image that cannot be read.
    """
    if data.images is not None:  # at hand: threads would only be in the way
        for step in steps:
            yield _of_pixels(data, wanted(step), crop_size)
        return
    if not steps:
        return

    nothing = {name: column[:0] for name, column in wanted(steps[0]).items()}

    def pixels(step: int) -> Columns:
        return _of_pixels(data, wanted(step), crop_size)

    def read_some(indices: list[int]) -> list[tuple[bytes, int]]:
        return [data.split.read(index) for index in indices]

    def files(step: int) -> Columns:
        columns = wanted(step)
        indices = columns["example"].tolist()
        # By the slice: to hand over one index costs a thread as much as to read it.
        slices = [indices[i::READERS] for i in range(min(READERS, len(indices)))]
        read: list[Any] = [None] * len(indices)
        for i, some in enumerate(readers.map(read_some, slices)):
            read[i::READERS] = some
        image = np.array([encoded for encoded, _ in read], object)
        return {
            "image": image,
            "label": np.array([of for _, of in read], np.int32),
        } | columns

    @tf.autograph.experimental.do_not_convert
    def decoded(one: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        form, size, how = data.split.form, data.size, data.how
        if crop_size == size:
            image = images.restore(one["image"], form, size, how)
        else:
            image = images.restored_crop(
                one["image"], form, size, how, one["offset"], crop_size
            )
        return one | {"image": images.mirror(image, one["mirrored"])}

    def build(numbers: tf.data.Dataset, stoppable: Stoppable) -> tf.data.Dataset:
        if data.split.form == "raw":
            like = _of_pixels(data, nothing, crop_size)
            return _mapped(numbers, pixels, like, num_parallel_calls)
        like = {"image": np.empty(0, object), "label": nothing["example"]} | nothing
        read = stoppable(_mapped(numbers, files, like, BATCHES_READ).unbatch())
        return read.map(decoded, num_parallel_calls, deterministic=True).batch(share)

    numbers = tf.data.Dataset.range(steps.start, steps.stop)
    with (
        concurrent.futures.ThreadPoolExecutor(BATCHES_READ * READERS) as readers,
        contextlib.closing(stream(numbers, build)) as made,
    ):
        for step, batch in zip(steps, made, strict=True):
            if isinstance(batch, tf.errors.OpError):
                indices = wanted(step)["example"].tolist()
                raise UserError(_unreadable(data, indices, batch)) from batch
            yield batch


def _mapped(
    numbers: tf.data.Dataset,
    function: Callable[[int], Columns],
    like: Columns,
    num_parallel_calls: int,
) -> tf.data.Dataset:
    """`function` of each number, run by Python; its columns have the types of `like`."""
    types = [tf.as_dtype(column.dtype) for column in like.values()]

    def columns(number: np.int64) -> list[np.ndarray]:
        made = function(int(number))
        return [made[name] for name in like]

    @tf.autograph.experimental.do_not_convert
    def graph(number: tf.Tensor) -> dict[str, tf.Tensor]:
        made = tf.numpy_function(columns, [number], types, stateful=False)
        return {
            name: tf.ensure_shape(column, (None, *like[name].shape[1:]))
            for name, column in zip(like, made, strict=True)
        }

    return numbers.map(graph, num_parallel_calls, deterministic=True)


def _of_pixels(data: Rescaled, wanted: Columns, size: int) -> Columns:
    """A batch of what needs no decoding."""
    count = len(wanted["example"])
    image = np.empty((count, size, size, 3), np.uint8)
    label = np.empty(count, np.int32)
    columns = [wanted[name].tolist() for name in ("example", "offset", "mirrored")]
    for i, (index, (y, x), mirrored) in enumerate(zip(*columns, strict=True)):
        rows, label[i] = data.pixels(index, y, size)
        images.crop_pixels(image[i], rows, x, mirrored)
    return {"image": image, "label": label, **wanted}


def _filled_up(batch: Any, batch_size: int) -> EvalBatch:
    """The batch with zeros behind it up to `batch_size`: their weight is 0 too."""
    missing = batch_size - len(batch["label"])

    def fill(values: np.ndarray) -> np.ndarray:
        if missing == 0:
            return values
        return np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))

    fields = EvalBatch.__annotations__
    return cast(EvalBatch, {name: fill(batch[name]) for name in fields})


def _unreadable(
    data: Rescaled, examples: Iterable[int], error: tf.errors.OpError
) -> str:
    """What to say of a batch of `examples` that could not be made: which, why, way out."""
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
    else:
        reason = f"one of the examples {sorted(examples)} in {split.name}: {reason}"
    if split.form != "encoded":
        way_out = "" if prepared.WAY_OUT in reason else f"\n{prepared.WAY_OUT}"
    else:
        way_out = (
            "\nMend it or take it away. python -m alexnet_jax.prepare lists all such "
            "files, and with --skip_bad leaves them out."
        )
    return f"An image could not be read: {reason}{way_out}"
