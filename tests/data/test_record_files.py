"""Random access returns the records as written; a changed byte is reported."""

import contextlib
import os
import re
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from reading import read_by_many_threads

from alexnet_jax.data import record_files
from alexnet_jax.data.types import Split
from alexnet_jax.errors import UserError

KINDS = ["tfrecord", "array_record"]


def write(path, kind, data):
    """Writes records with TensorFlow or the package array_record."""
    if kind == "tfrecord":
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in data:
                writer.write(record)
        return
    module = pytest.importorskip("array_record.python.array_record_module")
    writer = module.ArrayRecordWriter(str(path), "group_size:1")
    for record in data:
        writer.write(record)
    writer.close()


def shards(folder, kind, counts):
    """Files with `counts` records of random lengths; returns (paths, all records)."""
    rng = np.random.default_rng(0)
    paths, everything = [], []
    for number, count in enumerate(counts):
        data = [rng.bytes(int(rng.integers(0, 3000))) for _ in range(count)]
        paths.append(str(folder / f"set.{kind}-{number:05}"))
        write(paths[-1], kind, data)
        everything += data
    return paths, everything


def as_split(opened):
    return Split("train", len(opened), lambda i: (opened.read(i), 0), opened.where)


@contextlib.contextmanager
def few_open_files(*, more):
    """Lets this process open at most `more` files beyond those it has open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/dev/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [[5], [3, 0, 7, 1], [0], []], ids=str)
def test_records_are_those_written(tmp_path, kind, counts):
    paths, written = shards(tmp_path, kind, counts)
    opened = record_files.open_records(paths, kind, counts)
    assert len(opened) == len(written)
    assert [opened.read(i) for i in range(len(opened))] == written
    for i in np.random.default_rng(1).permutation(len(written)):
        assert opened.read(int(i)) == written[i]


@pytest.mark.parametrize("kind", KINDS)
def test_several_threads_read_the_right_records(tmp_path, kind):
    paths, written = shards(tmp_path, kind, [40, 60])
    split = as_split(record_files.open_records(paths, kind, [40, 60]))
    expected = {i: (data, 0) for i, data in enumerate(written)}
    assert all(got == expected for got in read_by_many_threads(split))


@pytest.mark.parametrize("kind", KINDS)
def test_more_shards_than_a_process_may_open_are_read(tmp_path, kind, monkeypatch):
    """ImageNet has 1,024 + 64 shards, and a process may often open 1,024 files."""
    monkeypatch.setattr(record_files, "OPEN_READERS", 10)
    counts = [1] * 60
    paths, written = shards(tmp_path, kind, counts)
    with few_open_files(more=50):
        split = as_split(record_files.open_records(paths, kind, counts))
        expected = {i: (data, 0) for i, data in enumerate(written)}
        assert all(got == expected for got in read_by_many_threads(split))


def test_where_gives_the_tfrecord_file_and_byte_offset(tmp_path):
    paths, _ = shards(tmp_path, "tfrecord", [4, 3])
    opened = record_files.open_records(paths, "tfrecord", [4, 3])
    for i in range(7):
        name, offset = opened.where(i).split(", byte ")
        assert name == os.path.basename(paths[i // 4])
        rest = Path(tmp_path / name).read_bytes()[int(offset) :]
        (tmp_path / "rest").write_bytes(rest)
        first = next(
            tf.data.TFRecordDataset(str(tmp_path / "rest")).as_numpy_iterator()
        )
        assert first == opened.read(i)


def test_where_gives_the_record_number_of_an_array_record_file(tmp_path):
    paths, _ = shards(tmp_path, "array_record", [4, 3])
    opened = record_files.open_records(paths, "array_record", [4, 3])
    assert opened.where(5) == "set.array_record-00001, record 1"


def test_every_flipped_byte_of_a_tfrecord_is_detected_and_named(tmp_path):
    path = tmp_path / "set.tfrecord"
    data = [b"one", b"", b"and the third"]
    write(path, "tfrecord", data)
    whole = path.read_bytes()
    starts = [0, 19, 35]
    for byte in range(len(whole)):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 0x20]) + whole[byte + 1 :])
        number = sum(start <= byte for start in starts) - 1
        expected = rf"set.tfrecord: the record at byte {starts[number]} is damaged"
        got, faults = [], []
        try:
            opened = record_files.open_records([str(path)], "tfrecord", [3])
        except UserError as error:
            faults.append(str(error))
        else:
            for i in range(3):
                try:
                    got.append(opened.read(i))
                except UserError as error:
                    faults.append(str(error))
            assert got == data[:number] + data[number + 1 :]
        assert len(faults) == 1
        assert re.search(expected, faults[0])


@pytest.mark.parametrize("cut", [1, 4, 10, 20, 28])
def test_a_tfrecord_cut_in_the_middle_of_a_record_is_named(tmp_path, cut):
    path = tmp_path / "set.tfrecord"
    write(path, "tfrecord", [b"one", b"and the second"])
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match=r"set.tfrecord is truncated: .* at byte 19"):
        record_files.open_records([str(path)], "tfrecord", [2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_another_number_of_records_is_refused(tmp_path, kind):
    """Nothing else detects a file truncated between two records."""
    paths, _ = shards(tmp_path, kind, [2, 3])
    with pytest.raises(UserError, match=r"-00001 holds 3 records instead of 4"):
        record_files.open_records(paths, kind, [2, 4])


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_named(tmp_path, kind):
    paths, _ = shards(tmp_path, kind, [2, 3])
    Path(paths[1]).unlink()
    with pytest.raises(UserError, match=r"-00001 is missing"):
        record_files.open_records(paths, kind, [2, 3])


def test_a_tfrecord_truncated_after_opening_is_named(tmp_path):
    paths, _ = shards(tmp_path, "tfrecord", [3])
    opened = record_files.open_records(paths, "tfrecord", [3])
    os.truncate(paths[0], os.path.getsize(paths[0]) - 2)
    with pytest.raises(UserError, match="is damaged"):
        opened.read(2)
    Path(paths[0]).unlink()
    with pytest.raises(UserError, match="cannot be read: No such file"):
        opened.read(0)


def test_a_flipped_byte_of_an_array_record_is_named(tmp_path):
    paths, written = shards(tmp_path, "array_record", [200])
    data = bytearray(Path(paths[0]).read_bytes())
    at = data.index(written[120])
    data[at + len(written[120]) // 2] ^= 1
    Path(paths[0]).write_bytes(bytes(data))
    opened = record_files.open_records(paths, "array_record", [200])
    assert opened.read(0) == written[0]
    with pytest.raises(UserError, match=r"array_record-00000: record 120 is damaged: "):
        opened.read(120)


def test_a_cut_array_record_is_named(tmp_path):
    paths, _ = shards(tmp_path, "array_record", [200])
    os.truncate(paths[0], os.path.getsize(paths[0]) // 2)
    with pytest.raises(UserError, match=r"array_record-00000 "):
        record_files.open_records(paths, "array_record", [200])


def test_a_missing_array_record_package_message_says_what_to_install(
    tmp_path, monkeypatch
):
    paths, _ = shards(tmp_path, "array_record", [1])
    monkeypatch.setitem(sys.modules, "array_record.python", None)
    with pytest.raises(
        UserError, match=r"pip install array_record .*file_format=tfrec"
    ):
        record_files.open_records(paths, "array_record", [1])
