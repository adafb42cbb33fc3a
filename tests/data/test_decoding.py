"""Images are read in parallel and only when needed; unreadable ones are named."""

import contextlib
import dataclasses
import threading

import numpy as np
import pytest
import tensorflow as tf
from numbered_images import (
    AUGMENTATION,
    COUNT,
    SIZE,
    encoded,
    label,
    numbered,
    source,
    split,
    train_batches,
)

from alexnet_jax.data import decoding, loading, pipeline, sampling
from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.data.types import Split
from alexnet_jax.errors import UserError


def rescaled_split(read, count=COUNT):
    return RescaledSplit(split("train", range(count), read), SIZE, "shorter_side")


def test_starting_in_the_middle_reads_no_earlier_images():
    count = 1_281_167
    read = []

    def note(i):
        read.append(i)
        return encoded(i % 50), 0

    start = count // 2 // 32
    batches = pipeline.train_batches(
        RescaledSplit(Split("train", count, note), SIZE, "shorter_side"),
        AUGMENTATION,
        seed=3,
        steps=range(start, 10**9),
        batch_size=32,
        host=0,
        num_hosts=1,
    )
    with contextlib.closing(batches):
        first = next(batches)
    expected = sampling.epoch_order(3, 0, count)
    np.testing.assert_array_equal(first["example"], expected[start * 32 :][:32])
    # Threads prefetch up to a gigabyte beyond the first batch.
    assert len(read) < 3000
    assert set(read) <= set(expected[start * 32 :][: len(read) + 200].tolist())


def test_files_are_read_in_parallel():
    """Each read waits until all readers have started."""
    together = threading.Barrier(decoding.READERS)

    def waits(number):
        together.wait(timeout=60)
        return encoded(number), label(number)

    size = decoding.READERS
    data = rescaled_split(waits, size)
    batches = list(pipeline.evaluation_batches(data, batch_size=size))
    np.testing.assert_array_equal(batches[0]["label"], label(np.arange(size)))


# --- Unreadable images ------------------------------------------------------------


def no_image(number):
    return (b"no image", 0) if number == 17 else (encoded(number), label(number))


def vanished(number):
    if number == 17:
        raise FileNotFoundError(2, "No such file", "images/17.png")
    return encoded(number), label(number)


@pytest.mark.parametrize("read", [no_image, vanished])
@pytest.mark.parametrize("memory_bytes", [2**29, 0], ids=["in memory", "on disk"])
def test_a_record_that_is_not_an_image_is_reported_in_one_message(
    monkeypatch, read, memory_bytes
):
    monkeypatch.setattr(pipeline, "MEMORY_BYTES", memory_bytes)
    broken = source(split("train", range(COUNT), read), numbered().validation)
    with pytest.raises(UserError, match="example 17 in train: ") as raised:
        pipeline.load_data(broken, rescale="shorter_side", rescale_size=SIZE)
    assert "Traceback" not in str(raised.value)


def test_an_unreadable_prepared_record_message_names_another_remedy():
    good = tf.io.encode_jpeg(np.zeros((SIZE, SIZE, 3), np.uint8)).numpy()

    def read(number):
        return b"no image" if number == 17 else good, 0

    of_jpegs = dataclasses.replace(split("train", range(COUNT), read), encoding="jpeg")
    data = RescaledSplit(of_jpegs, SIZE, "shorter_side")
    with pytest.raises(UserError, match="prepare it again") as raised:
        list(pipeline.evaluation_batches(data, batch_size=8))
    assert "example 17 in train" in str(raised.value)
    assert "--skip_bad" not in str(raised.value)


def test_if_a_second_read_succeeds_the_whole_batch_is_named():
    """As after a brief network outage."""
    failed = []

    def once(number):
        if number == 17 and not failed:
            failed.append(number)
            raise UserError("away")
        return encoded(number), label(number)

    with pytest.raises(UserError, match=r"examples \[16, 17, .*: away"):
        list(pipeline.evaluation_batches(rescaled_split(once), batch_size=8))


def test_a_record_that_fails_in_training_is_reported_in_one_message(in_memory):
    data = rescaled_split(no_image)
    broken = pipeline.Data(numbered(), data, data, in_memory.statistics)
    with pytest.raises(UserError, match=r"example 17 in train: .*\n.*--skip_bad"):
        train_batches(broken)


def test_an_unreadable_one_of_a_few_images_is_named():
    def read(i):
        return (b"no image" if i == 3 else encoded(i)), label(i)

    loader = loading.BatchLoader(rescaled_split(read), lambda _: {}, SIZE, 4)
    described = {
        "example": np.arange(4),
        "offset": np.zeros((4, 2), np.int32),
        "mirrored": np.zeros(4, np.int32),
    }
    with pytest.raises(UserError, match="example 3 in train"):
        loader.single(described)
