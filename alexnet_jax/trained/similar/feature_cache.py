"""Features of a dataset on disk: computed once, read in blocks with bounded memory.

An entry is a folder with `features.npy`, float32 (images, numbers), and `about.json`: whose
features they are, and the checksum of each block of 4 MiB. While it is written the file is
called `features.npy.part`; what `about.json` names of it is on the disk, and a later run
continues there. ImageNet's 1.28 million images take 21 GB with the 4,096 numbers of fc7.
"""

import dataclasses
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from jaxtyping import Float32

from alexnet_jax.errors import UserError
from alexnet_jax.files import lock_folder, write_json

FORMAT = 1
BLOCK_BYTES = 2**22  # of a block: a search finds it in the processor's cache
BLOCKS_SAVED = 16  # after so many blocks about.json is written again
WRITTEN, COMPLETE = "features.npy.part", "features.npy"


@dataclasses.dataclass
class FeatureCache:
    """The features of one dataset by one layer of one network.

    Attributes:
      folder: the entry.
      key: what they depend on, as JSON values.
      rows, width: images, and numbers of each.
      checksums: CRC-32C of each block that is on the disk, in order.
    """

    folder: Path
    key: Mapping[str, Any]
    rows: int
    width: int
    checksums: list[int] = dataclasses.field(default_factory=list)

    @staticmethod
    def open(
        caches: Path, name: str, key: Mapping[str, Any], rows: int, width: int
    ) -> "FeatureCache":
        """The entry of `key` in the folder of all `caches`, as far as it was written.

        What is left of a truncated one is kept, and an entry whose about.json cannot be
        read is begun again.

        Args:
          name: begins the name of the entry's folder, for people.

        Raises:
          UserError: if the folder cannot be made.
        """
        parts = json.dumps([FORMAT, key, rows, width], sort_keys=True)
        digest = hashlib.sha256(parts.encode()).hexdigest()[:16]
        cache = FeatureCache(caches / f"{name}-{digest}", key, rows, width)
        try:
            cache.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"Features cannot be kept at {caches}: {error.strerror or error}. Choose "
                "another folder with --cache=FOLDER."
            ) from error
        cache.checksums = cache._found()
        return cache

    # --- How far it is ----------------------------------------------------------------

    @property
    def block_rows(self) -> int:
        """Rows of a block, of which only the last has fewer."""
        return max(1, BLOCK_BYTES // (4 * self.width))

    @property
    def rows_done(self) -> int:
        """The rows on the disk."""
        return min(self.rows, len(self.checksums) * self.block_rows)

    @property
    def complete(self) -> bool:
        return self.rows_done == self.rows

    @property
    def num_bytes(self) -> int:
        """The bytes of the complete file."""
        return len(self._header()) + 4 * self.width * self.rows

    def _found(self) -> list[int]:
        """The checksums in about.json of those blocks that the file is long enough for."""
        try:
            about = json.loads((self.folder / "about.json").read_text())
            same = about["format"] == FORMAT and about["key"] == dict(self.key)
            checksums = [int(each) for each in about["checksums"]] if same else []
        except (OSError, ValueError, KeyError, TypeError):
            return []
        path = self._path()
        size = path.stat().st_size if path.is_file() else 0
        rows = (size - len(self._header())) // (4 * self.width)
        last = -(-self.rows // self.block_rows)
        whole = last if rows >= self.rows else max(0, rows) // self.block_rows
        return checksums[:whole]

    def _path(self) -> Path:
        complete = self.folder / COMPLETE
        return complete if complete.is_file() else self.folder / WRITTEN

    def _header(self) -> bytes:
        header = io.BytesIO()
        shape = (self.rows, self.width)
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        return header.getvalue()

    # --- Writing ----------------------------------------------------------------------

    def write(self, batches: Iterator[Float32[np.ndarray, "n width"]]) -> None:
        """Appends the features of the images from number `rows_done` on.

        Raises:
          UserError: if there is too little space, or another process writes to it.
          OSError: if the disk fails.
        """
        missing = 4 * self.width * (self.rows - self.rows_done)
        if missing > (free := shutil.disk_usage(self.folder).free):
            raise UserError(
                f"The features of {self.rows:,} images with {self.width:,} numbers each "
                f"take {self.num_bytes:,} bytes, and {self.folder} has room for {free:,}: "
                "choose another disk with --cache=FOLDER."
            )
        otherwise = "choose another folder with --cache=FOLDER"
        with lock_folder(self.folder, "A command that computes features", otherwise):
            self._write(batches)

    def _write(self, batches: Iterator[np.ndarray]) -> None:
        path = self.folder / WRITTEN
        if (self.folder / COMPLETE).is_file():  # truncated
            os.replace(self.folder / COMPLETE, path)
        with path.open("r+b" if path.is_file() else "w+b") as file:
            header = self._header()
            file.write(header)
            file.truncate(len(header) + 4 * self.width * self.rows_done)
            file.seek(0, os.SEEK_END)
            self._append(file, batches)
        os.replace(path, self.folder / COMPLETE)

    def _append(self, file: BinaryIO, batches: Iterator[np.ndarray]) -> None:
        held = np.zeros((0, self.width), np.float32)
        done = self.rows_done
        try:
            for batch in batches:
                held = np.concatenate([held, batch]).astype("<f4", copy=False)
                done += len(batch)
                while len(held) >= self.block_rows or (done == self.rows and len(held)):
                    block, held = held[: self.block_rows], held[self.block_rows :]
                    file.write(block.tobytes())
                    self.checksums.append(checksum(block))
                    if len(self.checksums) % BLOCKS_SAVED == 0:
                        self._save(file)
        finally:  # An interrupted run continues with the next block.
            self._save(file)
        assert done == self.rows

    def _save(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        about = {
            "format": FORMAT,
            "key": dict(self.key),
            "rows": self.rows,
            "width": self.width,
            "block_rows": self.block_rows,
            "checksums": self.checksums,
        }
        write_json(self.folder / "about.json", about)

    # --- Reading ----------------------------------------------------------------------

    def blocks(self) -> Iterator[Float32[np.ndarray, "n width"]]:
        """All rows in order, in blocks that are overwritten by the next one.

        Raises:
          UserError: if a block is not as it was written.
        """
        assert self.complete
        path = self.folder / COMPLETE
        buffer = np.empty((min(self.block_rows, self.rows), self.width), "<f4")
        with path.open("rb", buffering=0) as file:
            file.seek(len(self._header()))
            for number, expected in enumerate(self.checksums):
                first = number * self.block_rows
                block = buffer[: min(self.block_rows, self.rows - first)]
                room = block.data.cast("B")
                filled = 0
                while count := file.readinto(room[filled:]):  # at most 2 GiB at once
                    filled += count
                if filled < len(room) or checksum(block) != expected:
                    raise UserError(
                        f"{path} is damaged: its block of images {first:,} to "
                        f"{first + len(block) - 1:,} is not as it was written. Remove "
                        f"{self.folder}; the command then computes it again."
                    )
                yield block


def checksum(block: Float32[np.ndarray, "n width"]) -> int:
    """CRC-32C of a block's bytes."""
    flat = block.reshape(-1).view(np.uint8)
    flat.flags.writeable = False  # the library asks for it
    return google_crc32c.value(flat)
