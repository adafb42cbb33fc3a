"""Reads a prepared set: images of a source, rescaled once and kept with their statistics.

The folder of a prepared set holds these files, each written atomically:

  plan.json        What is prepared, and how: written first, never changed.
  train-00000.bin  The records of consecutive examples, one after the other: JPEG files,
                   or raw rows of RGB bytes. The last shard may be shorter.
  train-00000.npz  For each record its offset, length, CRC-32C, label and index in the
                   source; the unreadable examples with the reasons; the sums for the
                   statistics.
  statistics.npz   Mean image, eigenvalues and eigenvectors, float64, of the training
                   images as they were before JPEG compression.
  bad_files.tsv    Split, place and reason of each unreadable example, if there are any.
  manifest.json    The plan, counts and a fingerprint: written last. Without it the
                   prepared set is incomplete, whatever else the folder holds.
"""

import dataclasses
import hashlib
import json
import os
import shlex
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from jaxtyping import Int32, Int64, UInt32

from alexnet_jax.data import resampling
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.data.types import Source, Split
from alexnet_jax.errors import UserError

FORMAT = 2
PLAN, MANIFEST, STATISTICS = "plan.json", "manifest.json", "statistics.npz"
BAD_FILES = "bad_files.tsv"
JPEG_QUALITY = 95
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
NONE = "none"  # Requests the original images, in place of a folder.
WAY_OUT = (
    "Remove that prepared set and prepare it again, or use the original images: "
    f"--config.data.prepared_dir={NONE}."
)
# Earlier names of resampling.RESAMPLING, for the same computation.
FORMER_RESAMPLING = (
    "means over areas where no side grows, else bilinear, antialiased",
)


@dataclasses.dataclass(frozen=True)
class ShardIndex:
    """The .npz of a shard: one row per record, in the order of the source.

    Attributes:
      offset, length, crc: The record's bytes in the .bin, and their CRC-32C.
      label, example: The record's class, and its index in the split of the source.
      bad, reason: The indices of the unreadable examples, and the reasons.
      sha256: The SHA-256 of the whole .bin.
    """

    offset: Int64[np.ndarray, " n"]
    length: Int64[np.ndarray, " n"]
    crc: UInt32[np.ndarray, " n"]
    label: Int32[np.ndarray, " n"]
    example: Int64[np.ndarray, " n"]
    bad: Int64[np.ndarray, " b"]
    reason: np.ndarray
    sha256: str

    @staticmethod
    def read(shard: Path) -> "ShardIndex":
        """Reads the index of the shard `shard`.bin.

        Raises:
          UserError: If either file is missing or incomplete.
        """
        names = [field.name for field in dataclasses.fields(ShardIndex)]
        path = shard.with_suffix(".npz")
        try:
            held: dict[str, Any] = dict(read_arrays(path, names))
            size = shard.with_suffix(".bin").stat().st_size
        except UNREADABLE as error:
            raise UserError(_damaged(path, str(error))) from error
        held["sha256"] = str(held["sha256"])
        index = ShardIndex(**held)
        if size != index.length.sum():
            what = f"{size:,} bytes instead of {index.length.sum():,}"
            raise UserError(_damaged(shard.with_suffix(".bin"), what))
        return index

    def digest(self) -> bytes:
        """Returns a hash of the index, and through `sha256` of the records."""
        parts = [self.length, self.label, self.example, self.bad]
        whole = hashlib.sha256(self.sha256.encode())
        for part in parts:
            whole.update(np.ascontiguousarray(part, "<i8").tobytes())
            whole.update(len(part).to_bytes(8, "little"))
        return whole.digest()


def shard_path(folder: Path, split: str, number: int) -> Path:
    """Returns the path of a shard's two files, without the suffix."""
    return folder / f"{split}-{number:05d}"


def fingerprint(indices: list[ShardIndex]) -> str:
    """Returns a hash of a prepared set's contents, from all its indices in order."""
    return hashlib.sha256(b"".join(i.digest() for i in indices)).hexdigest()[:16]


def read_json(path: Path) -> dict[str, Any]:
    """Reads plan.json or manifest.json.

    Raises:
      UserError: If it cannot be read, or has another version of this format.
    """
    try:
        held = json.loads(path.read_text())
        version = held["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(_damaged(path, f"{type(error).__name__}: {error}")) from error
    if version != FORMAT:
        raise UserError(
            f"{path} has format {version}; this code reads format {FORMAT}. Prepare the "
            "set again, into another folder, with python -m alexnet_jax.prepare."
        )
    if held.get("resampling") in FORMER_RESAMPLING:
        held["resampling"] = resampling.RESAMPLING
    return held


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Reads the named arrays of an .npz, and only these. Raises one of UNREADABLE."""
    with path.open("rb") as file, np.load(file) as held:
        return {name: held[name] for name in names}


def open_prepared(folder: Path) -> Source:
    """Opens the prepared set in `folder`.

    Raises:
      UserError: If it is incomplete, damaged, or has another version.
    """
    manifest = read_json(folder / MANIFEST)
    indices: list[ShardIndex] = []
    splits = []
    for name, facts in manifest["splits"].items():
        shards = [shard_path(folder, name, k) for k in range(facts["shards"])]
        of_split = [ShardIndex.read(shard) for shard in shards]
        indices += of_split
        splits.append(_split(name, manifest, shards, of_split))
    if fingerprint(indices) != manifest["prepared_fingerprint"]:
        raise UserError(_damaged(folder, "its shards do not belong to its manifest"))
    path = folder / STATISTICS
    try:
        names = [field.name for field in dataclasses.fields(Statistics)]
        statistics = Statistics(**read_arrays(path, names))
    except UNREADABLE as error:
        raise UserError(_damaged(path, str(error))) from error
    train, validation = splits
    return Source(
        manifest["source"],
        tuple(manifest["classes"]),
        train,
        validation,
        manifest["fingerprint"],
        statistics,
        facts_for_reports(manifest),
    )


def facts_for_reports(manifest: dict[str, Any]) -> dict[str, Any]:
    """Returns what experiment.json and report.md say about a prepared set."""
    return {
        "encoding": manifest["encoding"],
        "jpeg_quality": manifest["jpeg_quality"],
        "fingerprint": manifest["prepared_fingerprint"],
        "bad_files": manifest["bad_files"],
    }


def _split(
    name: str, manifest: dict[str, Any], shards: list[Path], indices: list[ShardIndex]
) -> Split:
    """A split with random access to the records of all its shards."""
    paths = [str(shard.with_suffix(".bin")) for shard in shards]
    counts = [len(index.offset) for index in indices]
    shard = np.repeat(np.arange(len(paths)), counts)
    offset = np.concatenate([index.offset for index in indices])
    length = np.concatenate([index.length for index in indices])
    label = np.concatenate([index.label for index in indices])
    crc = np.concatenate([index.crc for index in indices])
    example = np.concatenate([index.example for index in indices])
    checked = np.zeros(len(offset), bool)

    def where(i: int) -> str:
        return (
            f"{paths[shard[i]]}, byte {offset[i]} (example {example[i]} of the source)"
        )

    def read(i: int) -> tuple[bytes, int]:
        return read_part(i, 0, int(length[i]))

    def read_part(i: int, first: int, count: int) -> tuple[bytes, int]:
        # A part has no checksum: the whole record is read and checked the first time.
        whole = count == length[i] or not checked[i]
        start, wanted = (0, int(length[i])) if whole else (first, count)
        # The file is opened each time: ImageNet has more shards than a process may keep
        # open.
        file = os.open(paths[shard[i]], os.O_RDONLY)
        try:
            data = os.pread(file, wanted, int(offset[i]) + start)
        finally:
            os.close(file)
        if len(data) != wanted or (whole and google_crc32c.value(data) != crc[i]):
            what = f"the record at byte {offset[i]} is not what was written"
            raise UserError(_damaged(Path(paths[shard[i]]), what))
        checked[i] = True
        return data[first - start : first - start + count], int(label[i])

    encoding = manifest["encoding"]
    by_part = read_part if encoding == "raw" else None
    return Split(name, len(offset), read, where, encoding, by_part)


def _damaged(path: Path, what: str) -> str:
    return f"{path} differs from what python -m alexnet_jax.prepare wrote: {what}. {WAY_OUT}"


# --- Whether the prepared set is used ---------------------------------------------


def choose(
    source: Source,
    *,
    folder: Path | None,
    required: bool,
    rescale: str,
    rescale_size: int,
) -> Source:
    """Returns the prepared set of `source` if there is one, else `source`; says which.

    Args:
      source: The dataset.
      folder: Where a prepared set would be; None requests the original images.
      required: Whether the folder must hold one, because the user named it.
      rescale: How the images must be rescaled.
      rescale_size: The side they must have, in pixels.

    Raises:
      UserError: If the folder holds a prepared set that does not match, or is required
        to hold one and holds none that is complete.
    """
    if folder is None or not (folder.exists() or required):
        _say(f"Images: the originals of {source.name}.")
        return source
    if not (folder / MANIFEST).exists():
        what = (
            "is incomplete: no manifest.json" if folder.exists() else "does not exist"
        )
        if required:
            raise UserError(
                f"The prepared set {folder} {what}. Create or continue it with "
                f"python -m alexnet_jax.prepare --config=... "
                f"--output={shlex.quote(str(folder))}, or use the original images: "
                f"--config.data.prepared_dir={NONE}."
            )
        _say(f"Images: the originals of {source.name}; {folder} {what}.")
        return source
    manifest = read_json(folder / MANIFEST)
    wanted = {
        "fingerprint": source.fingerprint,
        "rescale": rescale,
        "rescale_size": rescale_size,
        "resampling": resampling.RESAMPLING,
    }
    differing = differences(manifest, wanted)
    if differing:
        raise UserError(
            f"The prepared set {folder} does not match {source.name}:\n{differing}\n"
            "Prepare another folder with python -m alexnet_jax.prepare --output=DIR, and "
            "name it with --config.data.prepared_dir=DIR; or use the original images: "
            f"--config.data.prepared_dir={NONE}."
        )
    opened = open_prepared(folder)
    _say(f"Images: the prepared set {folder}, {describe(facts_for_reports(manifest))}.")
    return opened


def describe(facts: Mapping[str, Any]) -> str:
    """Returns "JPEG of quality 95, fingerprint 0123456789abcdef, 2 bad files left out"."""
    raw = facts["encoding"] == "raw"
    kind = "raw" if raw else f"JPEG of quality {facts['jpeg_quality']}"
    bad = facts["bad_files"]
    left_out = (
        f", {bad:,} bad {'file' if bad == 1 else 'files'} left out" if bad else ""
    )
    return f"{kind}, fingerprint {facts['fingerprint']}{left_out}"


def differences(held: dict[str, Any], requested: dict[str, Any]) -> str:
    """Returns one line for each name of `requested` whose value in `held` differs."""
    return "\n".join(
        f"  {name}: {held.get(name, 'absent')} there, {value} requested"
        for name, value in requested.items()
        if held.get(name) != value
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
