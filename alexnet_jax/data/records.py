"""Random access to the records of TFRecord and ArrayRecord files, as they are."""

import bisect
import functools
import itertools
import os
import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

import google_crc32c
import numpy as np

from alexnet_jax.errors import UserError

# ArrayRecord files kept open, each with its index: a process may often open 1,024 files
# only, and ImageNet has more.
OPEN_READERS = 64

RESTORE = "Restore the file, or delete the set's folder and build it again."


def open_records(paths: Sequence[str], kind: str, lengths: Sequence[int]) -> "Records":
    """Opens files of `kind` "tfrecord" or "array_record" as one row of records.

    They are safe to read from several threads. A record that is not as it was written
    raises UserError, which names file and place, when it is read.

    Args:
      lengths: how many records the set's own description says each file has.

    Raises:
      UserError: if a file is missing, cut off, damaged, or has another number.
    """
    for path in paths:
        if not os.path.isfile(path):
            raise UserError(f"{path} is missing. {RESTORE}")
    files = TFRecords(paths) if kind == "tfrecord" else ArrayRecords(paths)
    for path, expected, found in zip(paths, lengths, files.counts, strict=True):
        if found != expected:
            raise UserError(
                f"{path} holds {found} records instead of {expected}: it is cut off, or "
                f"of another set. {RESTORE}"
            )
    return files


class TFRecords:
    """Records of TFRecord files.

    A record is its length (8 bytes), a checksum of that (4), the data, a checksum of
    that (4). Lengths are checked when a file is opened, data whenever they are read.

    Attributes:
      counts: how many records each file has.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)
        scanned = [_scan_tfrecord(path) for path in self.paths]
        self.counts = [len(places) for places in scanned]
        self._file = np.repeat(np.arange(len(scanned)), self.counts)
        self._place = np.concatenate([np.zeros((0, 2), np.int64), *scanned])

    def __len__(self) -> int:
        return len(self._place)

    def where(self, index: int) -> str:
        """Like "NAME, byte B": there the record begins, with its length."""
        name = os.path.basename(self.paths[self._file[index]])
        return f"{name}, byte {self._place[index, 0]}"

    def read(self, index: int) -> bytes:
        path = self.paths[self._file[index]]
        offset, length = map(int, self._place[index])
        try:
            # Opened anew each time: ImageNet has more shards than a process may open.
            with open(path, "rb", buffering=0) as file:
                stored = os.pread(file.fileno(), length + 4, offset + 12)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        data = stored[:length]
        if len(stored) != length + 4 or stored[length:] != _checksum(data):
            raise UserError(
                f"{path}: the record at byte {offset} is damaged: its data do not match "
                f"their checksum. {RESTORE}"
            )
        return data


def _scan_tfrecord(path: str) -> np.ndarray:
    """int64 (n, 2): where each record begins, and the length of its data."""
    places = []
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        position = 0
        while position < size:
            file.seek(position)
            header = file.read(12)
            if len(header) == 12 and header[8:] != _checksum(header[:8]):
                raise UserError(
                    f"{path}: the record at byte {position} is damaged: its length does "
                    f"not match its checksum. {RESTORE}"
                )
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else size
            if position + 16 + length > size:
                raise UserError(
                    f"{path} is cut off: the record at byte {position} is not whole. "
                    f"{RESTORE}"
                )
            places.append((position, length))
            position += 16 + length
    return np.array(places, np.int64).reshape(-1, 2)


def _checksum(data: bytes) -> bytes:
    """CRC-32C, turned and shifted as TFRecord does, little-endian."""
    crc = google_crc32c.value(data)
    turned = ((crc >> 15) | (crc << 17)) & 0xFFFFFFFF
    return struct.pack("<I", (turned + 0xA282EAD8) & 0xFFFFFFFF)


class ArrayRecords:
    """Records of ArrayRecord files, by the package array_record.

    The format checks its own checksums.

    Attributes:
      counts: how many records each file has.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        try:
            from array_record.python import array_record_module
        except ImportError as error:
            raise UserError(
                f"{paths[0] if paths else 'The set'} is an ArrayRecord file; the package "
                "that reads these is missing: pip install array_record (Linux only). "
                "Or build the set as TFRecord: tfds build NAME --file_format=tfrecord"
            ) from error
        self.paths = list(paths)

        @functools.lru_cache(maxsize=OPEN_READERS)
        def reader(number: int) -> Any:
            # No reading ahead: the next record wanted is anywhere.
            return array_record_module.ArrayRecordReader(
                self.paths[number], "readahead_buffer_size:0,max_parallelism:0"
            )

        self._reader = reader
        self.counts = [self._count(number) for number in range(len(self.paths))]
        self._ends = list(itertools.accumulate(self.counts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def where(self, index: int) -> str:
        """Like "NAME, record K", counted from 0."""
        number, place = self._find(index)
        return f"{os.path.basename(self.paths[number])}, record {place}"

    def read(self, index: int) -> bytes:
        number, place = self._find(index)
        try:
            return self._reader(number).read([place])[0]
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise UserError(
                f"{self.paths[number]}: record {place} is damaged: {_line(error)}. "
                f"{RESTORE}"
            ) from error

    def _find(self, index: int) -> tuple[int, int]:
        number = bisect.bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)

    def _count(self, number: int) -> int:
        try:
            return self._reader(number).num_records()
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"{self.paths[number]} cannot be opened: {_line(error)}. {RESTORE}"
            ) from error


Records: TypeAlias = TFRecords | ArrayRecords


def _line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
