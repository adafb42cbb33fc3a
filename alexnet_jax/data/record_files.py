"""Random access to the records of TFRecord and ArrayRecord files, as they are on disk."""

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

# The number of ArrayRecord files kept open, each with its index. The limit of a process
# is often 1,024 files, and ImageNet has more.
OPEN_READERS = 64

RESTORE = "Restore the file, or delete the dataset's folder and build it again."


def open_records(paths: Sequence[str], kind: str, lengths: Sequence[int]) -> "Records":
    """Opens files as one sequence of records.

    The records may be read from several threads. Reading a record that differs from what
    was written raises UserError, which names the file and the place.

    Args:
      paths: The files, in order.
      kind: "tfrecord" or "array_record".
      lengths: The number of records of each file, according to the dataset's own
        description.

    Raises:
      UserError: If a file is missing, truncated or damaged, or holds another number of
        records.
    """
    for path in paths:
        if not os.path.isfile(path):
            raise UserError(f"{path} is missing. {RESTORE}")
    files = TFRecords(paths) if kind == "tfrecord" else ArrayRecords(paths)
    for path, expected, found in zip(paths, lengths, files.counts, strict=True):
        if found != expected:
            raise UserError(
                f"{path} holds {found} records instead of {expected}: it is truncated, or "
                f"belongs to another dataset. {RESTORE}"
            )
    return files


class TFRecords:
    """Records of TFRecord files.

    A record consists of its length (8 bytes), a checksum of the length (4), the data and
    a checksum of the data (4). Lengths are checked when a file is opened, data whenever
    they are read.

    Attributes:
      counts: The number of records of each file.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)
        scanned = [_scan_tfrecord(path) for path in self.paths]
        self.counts = [len(positions) for positions in scanned]
        self._file = np.repeat(np.arange(len(scanned)), self.counts)
        self._place = np.concatenate([np.zeros((0, 2), np.int64), *scanned])

    def __len__(self) -> int:
        return len(self._place)

    def where(self, index: int) -> str:
        """Returns "NAME, byte B", where the record begins, with its length."""
        name = os.path.basename(self.paths[self._file[index]])
        return f"{name}, byte {self._place[index, 0]}"

    def read(self, index: int) -> bytes:
        path = self.paths[self._file[index]]
        offset, length = map(int, self._place[index])
        try:
            # The file is opened each time: ImageNet has more shards than a process may
            # keep open.
            with open(path, "rb", buffering=0) as file:
                stored = os.pread(file.fileno(), length + 4, offset + 12)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        data = stored[:length]
        if len(stored) != length + 4 or stored[length:] != _checksum(data):
            raise UserError(
                f"{path}: the record at byte {offset} is damaged: its data do not match "
                f"the checksum. {RESTORE}"
            )
        return data


def _scan_tfrecord(path: str) -> np.ndarray:
    """Returns int64 (n, 2): where each record begins, and the length of its data."""
    positions = []
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        position = 0
        while position < size:
            file.seek(position)
            header = file.read(12)
            if len(header) == 12 and header[8:] != _checksum(header[:8]):
                raise UserError(
                    f"{path}: the record at byte {position} is damaged: its length does "
                    f"not match the checksum. {RESTORE}"
                )
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else size
            if position + 16 + length > size:
                raise UserError(
                    f"{path} is truncated: the record at byte {position} is incomplete. "
                    f"{RESTORE}"
                )
            positions.append((position, length))
            position += 16 + length
    return np.array(positions, np.int64).reshape(-1, 2)


def _checksum(data: bytes) -> bytes:
    """CRC-32C, rotated and offset as TFRecord does, little-endian."""
    crc = google_crc32c.value(data)
    rotated = ((crc >> 15) | (crc << 17)) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


class ArrayRecords:
    """Records of ArrayRecord files, read by the package array_record.

    The package verifies the format's own checksums.

    Attributes:
      counts: The number of records of each file.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        try:
            # Only datasets in this format need the package.
            from array_record.python import array_record_module
        except ImportError as error:
            raise UserError(
                f"{paths[0] if paths else 'The dataset'} is an ArrayRecord file, and the "
                "package that reads it is missing: pip install array_record (Linux only). "
                "Or build the dataset as TFRecord: tfds build NAME --file_format=tfrecord"
            ) from error
        self.paths = list(paths)

        @functools.lru_cache(maxsize=OPEN_READERS)
        def reader(number: int) -> Any:
            # No readahead, because the next record can be anywhere.
            return array_record_module.ArrayRecordReader(
                self.paths[number], "readahead_buffer_size:0,max_parallelism:0"
            )

        self._reader = reader
        self.counts = [self._count(number) for number in range(len(self.paths))]
        self._ends = list(itertools.accumulate(self.counts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def where(self, index: int) -> str:
        """Returns "NAME, record K", counted from 0."""
        number, record = self._find(index)
        return f"{os.path.basename(self.paths[number])}, record {record}"

    def read(self, index: int) -> bytes:
        number, record = self._find(index)
        try:
            return self._reader(number).read([record])[0]
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise UserError(
                f"{self.paths[number]}: record {record} is damaged: {_line(error)}. "
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
