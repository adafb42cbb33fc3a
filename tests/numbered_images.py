"""A dataset of numbered images, and its batches, for the tests of the input pipeline."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from alexnet_jax.data import images, pipeline
from alexnet_jax.data.augmentation import Augmentation
from alexnet_jax.data.types import Source, Split

COUNT, HELD, SIZE, CROP = 43, 150, 10, 8
COMPONENTS = np.float32([[40, -6, 2], [38, 2, -4], [36, 5, 3]])

AUGMENTATION = Augmentation(
    crop_size=CROP,
    random_crop=True,
    random_flip=True,
    crop_sharing=1,
    lighting_std=0.1,
    lighting_shrink=False,
    lighting_off_epoch=0.0,
    components=COMPONENTS,
)
OFF = {"random_crop": False, "random_flip": False, "lighting_std": 0.0}

CROPPED = ("offset", "mirrored", "image")
SHIFTED = ("lighting", "gain")


def encoded(number):
    """A different image for each number, in several shapes."""
    shape = (9 + number % 4, 9 + number % 3, 3)
    pixels = np.random.default_rng(number).integers(0, 256, shape)
    return tf.io.encode_png(pixels.astype(np.uint8)).numpy()


def label(number):
    return number * 7 % 5


def split(name, numbers, read=lambda number: (encoded(number), label(number))):
    return Split(name, len(numbers), lambda i: read(numbers[i]))


def raw_split(name, numbers):
    """The same images as a raw prepared set stores them on disk."""
    pixels = rescaled(numbers)

    def read_part(i, first, count):
        return pixels[i].tobytes()[first : first + count], label(numbers[i])

    def read(i):
        return read_part(i, 0, SIZE**2 * 3)

    return Split(name, len(numbers), read, encoding="raw", read_part=read_part)


def source(train, validation):
    return Source("numbers", tuple("abcde"), train, validation, "fingerprint")


def numbered(of_split=split):
    """The source with both of its splits made by `of_split`."""
    return source(
        of_split("train", range(COUNT)), of_split("test", range(1000, 1000 + HELD))
    )


def load(memory_bytes, rescale="shorter_side", of_split=split):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "MEMORY_BYTES", memory_bytes)
        return pipeline.load_data(
            numbered(of_split), rescale=rescale, rescale_size=SIZE
        )


def train_batches(data, **changes):
    run = {"seed": 3, "batch_size": 8, "host": 0, "num_hosts": 1}
    run |= {"num_parallel_calls": tf.data.AUTOTUNE}
    of_run = {name: changes.pop(name, value) for name, value in run.items()}
    steps = range(changes.pop("start_step", 0), changes.pop("num_steps", 12))
    augmentation = dataclasses.replace(AUGMENTATION, **changes)
    return list(pipeline.train_batches(data.train, augmentation, steps=steps, **of_run))


def evaluation_batches(data, **choices):
    return list(pipeline.evaluation_batches(data.validation, **choices))


def rescaled(numbers, method="shorter_side"):
    """The rescaled images, straight from the bytes."""
    return np.stack(
        [
            images.rescale(images.decode(tf.constant(encoded(n))), SIZE, method).numpy()
            for n in numbers
        ]
    )


def joined(batches, name):
    return np.concatenate([batch[name] for batch in batches])


def by_example(batches, names=CROPPED + SHIFTED):
    """Maps (epoch, example) to the bytes of the fields `names`."""
    return {
        (int(epoch), int(example)): tuple(value.tobytes() for value in values)
        for batch in batches
        for epoch, example, *values in zip(
            *(batch[name] for name in ("epoch", "example", *names)), strict=True
        )
    }


def crops_by_position(batches, start=0):
    """(position, its offset and flip) of each, in the endless sequence of epochs."""
    found = np.concatenate(
        [joined(batches, "offset"), joined(batches, "mirrored")[:, None]], axis=1
    )
    return list(enumerate(map(tuple, found.tolist()), start))


def assert_equal(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def joined_shares(shares):
    """The batches of all hosts, put together."""
    return [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*shares, strict=True)
    ]
