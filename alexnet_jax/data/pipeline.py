"""From a dataset to the batches of training and evaluation (sections 2 and 4.1).

Images are uint8 all the way; a lighting offset is drawn beside each training image. A
dataset that fits is decoded and rescaled once and kept in memory, as the paper prepared
its data once; others are read again in every epoch. Both give the same batches, except
for original JPEGs that have to shrink: see `images.restored_crop`.
"""

import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Generator
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from alexnet_jax.data import randaugment, sampling, statistics
from alexnet_jax.data.augmentation import Augmentation
from alexnet_jax.data.loading import AUTOTUNE, BatchLoader
from alexnet_jax.data.resampling import enlarged
from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.data.types import Source
from alexnet_jax.errors import UserError

# Rescaled images are kept in memory up to this many bytes, training and validation
# together: digits, CIFAR-10 and Fashion-MNIST at 32 x 32 are, ImageNet is not.
MEMORY_BYTES = 2**29

# The batch size for reading all images, where no training step uses the batches.
READ_BATCH_SIZE = 256


class TrainBatch(TypedDict):
    """Augmented examples of one step.

    `offset` (y, x) is where the crop begins in the rescaled image, `mirrored` is 1 if
    the crop was then mirrored. `lighting` is to be added to the pixels, in gray levels;
    `gain` multiplies them afterwards. `box` (y, x, height, width) is what is then cut out of
    the image and resized, with random resized crops.
    """

    image: UInt8[np.ndarray, "n h w 3"]
    label: Int32[np.ndarray, " n"]
    offset: Int32[np.ndarray, "n 2"]
    mirrored: Int32[np.ndarray, " n"]
    lighting: Float32[np.ndarray, "n 3"]
    gain: Float32[np.ndarray, " n"]
    example: Int32[np.ndarray, " n"]
    epoch: Int32[np.ndarray, " n"]
    box: NotRequired[Float32[np.ndarray, "n 4"]]


class EvalBatch(TypedDict):
    """Whole rescaled images; `weight` is 0 for the padding of the last batch."""

    image: UInt8[np.ndarray, "n h w 3"]
    label: Int32[np.ndarray, " n"]
    example: Int32[np.ndarray, " n"]
    weight: Float32[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Data:
    """A source, both of its splits rescaled, and the training set's statistics."""

    source: Source
    train: RescaledSplit
    validation: RescaledSplit
    statistics: statistics.Statistics


def load_data(source: Source, *, rescale: str, rescale_size: int) -> Data:
    """Reads what fits into memory and computes the training set's statistics.

    Args:
      source: The dataset.
      rescale: "shorter_side", which cuts out the center, or "warp", both sides.
      rescale_size: The side of the rescaled images, in pixels.

    Raises:
      UserError: If a split is empty, or an image cannot be read.
    """
    for split in (source.train, source.validation):
        if split.num_examples == 0:
            raise UserError(f"The split '{split.name}' of {source.name} is empty.")
    total = source.train.num_examples + source.validation.num_examples
    in_memory = total * rescale_size**2 * 3 <= MEMORY_BYTES
    if not in_memory and source.statistics is None:
        print(
            f"Reading the {source.train.num_examples:,} training images of {source.name} "
            "to compute their mean and color components. A prepared set (python -m "
            "alexnet_jax.prepare) already has them.",
            file=sys.stderr,
            flush=True,
        )
    train, validation = (
        RescaledSplit(split, rescale_size, rescale)
        for split in (source.train, source.validation)
    )
    if in_memory:
        train, validation = _read_into_memory(train), _read_into_memory(validation)
    computed = source.statistics or statistics.compute(
        batch["image"][batch["weight"] > 0]
        for batch in evaluation_batches(train, batch_size=READ_BATCH_SIZE)
    )
    return Data(source, train, validation, computed)


def of_statistics(source: Source, *, rescale: str, rescale_size: int) -> Data:
    """The data of a source whose statistics are known already; reads no images.

    Args:
      source: A dataset with statistics, such as a prepared set.
      rescale: "shorter_side", which cuts out the center, or "warp", both sides.
      rescale_size: The side of the rescaled images, in pixels.
    """
    assert source.statistics is not None
    train, validation = (
        RescaledSplit(split, rescale_size, rescale)
        for split in (source.train, source.validation)
    )
    return Data(source, train, validation, source.statistics)


def _read_into_memory(data: RescaledSplit) -> RescaledSplit:
    images = np.empty((data.num_examples, data.size, data.size, 3), np.uint8)
    labels = np.empty(data.num_examples, np.int32)
    gray = data.split.gray
    if gray is not None and gray.pixels.shape[1] <= data.size:  # without TensorFlow
        labels[:] = gray.labels
        for image, pixels in zip(images, gray.pixels, strict=True):
            image[:] = enlarged(pixels, data.size)[..., None]
        return dataclasses.replace(data, images=images, labels=labels)
    for batch in evaluation_batches(data, batch_size=READ_BATCH_SIZE):
        real = batch["weight"] > 0
        images[batch["example"][real]] = batch["image"][real]
        labels[batch["example"][real]] = batch["label"][real]
    return dataclasses.replace(data, images=images, labels=labels)


def train_batches(
    data: RescaledSplit,
    augmentation: Augmentation,
    *,
    seed: int,
    steps: range,
    batch_size: int,
    host: int,
    num_hosts: int,
    num_parallel_calls: int = AUTOTUNE,
) -> Generator[TrainBatch, None, None]:
    """Yields one host's share of the training batches of `steps`.

    Epochs follow one another without a gap: example i of step s has the position
    s * batch_size + i in the endless sequence of epochs, each a permutation. A batch can
    therefore hold the end of one epoch and the start of the next, no example is lost,
    and the position in the data is the step. An example's crop, flip and lighting depend
    on the seed, the epoch and the example, not on the hosts (`Augmentation.draw`).

    Close the generator if it is left early.

    Args:
      data: The training split.
      augmentation: How its images are augmented.
      seed: The seed of the run.
      steps: The steps, first to last, one by one.
      batch_size: The number of examples in a batch of all hosts together. Each host
        takes one slice of it, in the order of the hosts.
      host: The index of this host.
      num_hosts: The number of hosts, which divides `batch_size`.
      num_parallel_calls: The number of images, or of raw batches, processed at a time.
        It does not change the batches.
    """
    share = _share(batch_size, num_hosts)
    order = sampling.ExampleOrder(seed, data.num_examples)

    def describe(step: int) -> dict[str, np.ndarray]:
        positions = step * batch_size + host * share + np.arange(share)
        return _augmented(data, augmentation, positions, order)

    loader = BatchLoader(
        data, describe, augmentation.crop_size, share, num_parallel_calls
    )
    batches = loader.batches(steps)
    if augmentation.randaugment:
        strength = augmentation.randaugment_magnitude
        batches = randaugment.changed_batches(batches, strength)
    return cast(Generator[TrainBatch, None, None], batches)


def _augmented(
    data: RescaledSplit,
    augmentation: Augmentation,
    positions: np.ndarray,
    order: sampling.ExampleOrder,
) -> dict[str, np.ndarray]:
    """The columns of the examples at `positions` of a run, all but image and label."""
    examples, count = order.at(positions), data.num_examples
    drawn = augmentation.draw(
        positions, examples, image_size=data.size, num_examples=count, seed=order.seed
    )
    return drawn | {
        "example": examples.astype(np.int32),
        "epoch": (positions // count).astype(np.int32),
    }


def examples_at(
    data: RescaledSplit, augmentation: Augmentation, positions: np.ndarray, *, seed: int
) -> tuple[TrainBatch, UInt8[np.ndarray, "n size size 3"]]:
    """The examples at `positions` of a run, as its batches hold them, and uncropped.

    Args:
      data: The training split.
      augmentation: How its images are augmented.
      positions: Positions in the endless sequence of epochs.
      seed: The seed of the run.

    Raises:
      UserError: If an image cannot be read; the message names it.
    """
    order = sampling.ExampleOrder(seed, data.num_examples)
    columns = _augmented(data, augmentation, positions, order)
    whole = columns | {
        "offset": np.zeros_like(columns["offset"]),
        "mirrored": np.zeros_like(columns["mirrored"]),
    }
    batch, uncropped = (
        BatchLoader(data, lambda _: columns, size, len(positions)).single(described)
        for described, size in ((columns, augmentation.crop_size), (whole, data.size))
    )
    if augmentation.randaugment:
        strength = augmentation.randaugment_magnitude
        (batch,) = randaugment.changed_batches((each for each in (batch,)), strength)
    return cast(TrainBatch, batch), uncropped["image"]


def evaluation_batches(
    data: RescaledSplit, *, batch_size: int, host: int = 0, num_hosts: int = 1
) -> Generator[EvalBatch, None, None]:
    """Yields one host's share of all examples, each once, in order, as whole images.

    Each host takes one slice of a batch, in the order of the hosts. The last batch is
    padded to the full size, for some hosts perhaps with nothing but padding, so that all
    hosts have the same number of batches.

    Args:
      data: The split.
      batch_size: The number of examples in a batch of all hosts together.
      host: The index of this host.
      num_hosts: The number of hosts, which divides `batch_size`.
    """
    share = _share(batch_size, num_hosts)
    count = data.num_examples

    def describe(step: int) -> dict[str, np.ndarray]:
        first = step * batch_size + host * share
        examples = np.arange(
            min(first, count), min(first + share, count), dtype=np.int32
        )
        return {
            "offset": np.zeros((len(examples), 2), np.int32),
            "mirrored": np.zeros(len(examples), np.int32),
            "example": examples,
            "weight": np.ones(len(examples), np.float32),
        }

    loader = BatchLoader(data, describe, crop_size=data.size, batch_size=share)
    all_steps = -(-count // batch_size)
    own_steps = max(0, -(-(count - host * share) // batch_size))
    empty = data.crop_rows(describe(all_steps), data.size)
    with contextlib.closing(loader.batches(range(own_steps))) as batches:
        for batch in itertools.chain(batches, [empty] * (all_steps - own_steps)):
            yield _padded(batch, share)


def _share(batch_size: int, num_hosts: int) -> int:
    """The number of examples that each host takes of a batch."""
    assert batch_size % num_hosts == 0
    return batch_size // num_hosts


def _padded(batch: Any, batch_size: int) -> EvalBatch:
    """The batch, padded with zeros to `batch_size`; the weight of the padding is 0."""
    missing = batch_size - len(batch["label"])

    def pad(values: np.ndarray) -> np.ndarray:
        if missing == 0:
            return values
        return np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))

    fields = EvalBatch.__annotations__
    return cast(EvalBatch, {name: pad(batch[name]) for name in fields})
