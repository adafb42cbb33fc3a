"""A prepared set: a source's images rescaled once, kept beside their statistics.

Its folder holds, each file whole or not at all:

  plan.json        what is being prepared and how: written first, never changed
  train-00000.bin  records of consecutive examples, one behind the other: JPEG files, or
                   raw rows of RGB bytes; the last example's shard may be short
  train-00000.npz  of each record its offset, length, CRC-32C, label and index in the
                   source;
                   the bad examples with reasons; the sums for the statistics
  statistics.npz   mean image, eigenvalues and eigenvectors, float64, of the training
                   images as they were before JPEG
  bad_files.tsv    split, place and reason of each bad example, if there are any
  manifest.json    the plan, counts and a fingerprint: written last. Without it the
                   folder is not complete, whatever else it holds
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

from alexnet_jax.data import images
from alexnet_jax.data.source import Source, Split
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.errors import UserError

FORMAT = 2
PLAN, MANIFEST, STATISTICS = "plan.json", "manifest.json", "statistics.npz"
BAD_FILES = "bad_files.tsv"
JPEG_QUALITY = 95
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
NONE = "none"  # in place of a folder: the originals are wanted
WAY_OUT = (
    "Remove that prepared set and prepare it again, or take the original images by "
    f"--config.data.prepared_dir={NONE}."
)


@dataclasses.dataclass(frozen=True)
class Index:
    """A shard's .npz: a row a record, in the order of the source.

    Attributes:
      offset, length, crc: bytes in the .bin, and their CRC-32C.
      label, example: the record's class, and its index in the split of the source.
      bad, reason: indices of the examples left out, and why.
      sha256: of the whole .bin.
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
    def read(shard: Path) -> "Index":
        """The index of the shard `shard`.bin.

        Raises:
          UserError: if either file is not there whole.
        """
        names = [field.name for field in dataclasses.fields(Index)]
        path = shard.with_suffix(".npz")
        try:
            held: dict[str, Any] = dict(read_arrays(path, names))
            size = shard.with_suffix(".bin").stat().st_size
        except UNREADABLE as error:
            raise UserError(_damaged(path, str(error))) from error
        held["sha256"] = str(held["sha256"])
        index = Index(**held)
        if size != index.length.sum():
            what = f"{size:,} bytes instead of {index.length.sum():,}"
            raise UserError(_damaged(shard.with_suffix(".bin"), what))
        return index

    def digest(self) -> bytes:
        """A hash of all that it holds: of the records too, by their own."""
        parts = [self.length, self.label, self.example, self.bad]
        whole = hashlib.sha256(self.sha256.encode())
        for part in parts:
            whole.update(np.ascontiguousarray(part, "<i8").tobytes())
            whole.update(len(part).to_bytes(8, "little"))
        return whole.digest()


def shard_path(folder: Path, split: str, number: int) -> Path:
    """Of a shard's two files, without their ending."""
    return folder / f"{split}-{number:05d}"


def fingerprint(indices: list[Index]) -> str:
    """Of the contents of a prepared set, from all its shards' indices in order."""
    return hashlib.sha256(b"".join(i.digest() for i in indices)).hexdigest()[:16]


def read_json(path: Path) -> dict[str, Any]:
    """What plan.json or manifest.json says.

    Raises:
      UserError: if it cannot be read, or is of another version of this format.
    """
    try:
        held = json.loads(path.read_text())
        version = held["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(_damaged(path, f"{type(error).__name__}: {error}")) from error
    if version != FORMAT:
        raise UserError(
            f"{path} is of format {version}; this code reads format {FORMAT}. Prepare the "
            "set again, into another folder, by python -m alexnet_jax.prepare."
        )
    return held


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Arrays of an .npz by name; only these are read. Raises one of UNREADABLE."""
    with path.open("rb") as file, np.load(file) as held:
        return {name: held[name] for name in names}


def open_prepared(folder: Path) -> Source:
    """Opens the complete prepared set in `folder`.

    Raises:
      UserError: if it is not complete, damaged, or of another version.
    """
    manifest = read_json(folder / MANIFEST)
    indices: list[Index] = []
    splits = []
    for name, facts in manifest["splits"].items():
        shards = [shard_path(folder, name, k) for k in range(facts["shards"])]
        of_split = [Index.read(shard) for shard in shards]
        indices += of_split
        splits.append(_split(name, manifest, shards, of_split))
    if fingerprint(indices) != manifest["prepared_fingerprint"]:
        raise UserError(_damaged(folder, "its shards are not those of its manifest"))
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
    """What experiment.json and report.md say of a prepared set."""
    return {
        "encoding": manifest["encoding"],
        "jpeg_quality": manifest["jpeg_quality"],
        "fingerprint": manifest["prepared_fingerprint"],
        "bad_files": manifest["bad_files"],
    }


def _split(
    name: str, manifest: dict[str, Any], shards: list[Path], indices: list[Index]
) -> Split:
    """Random access to the records of all shards of a split."""
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
        # A part has no checksum: whole, the record is checked when it is first read.
        whole = count == length[i] or not checked[i]
        start, wanted = (0, int(length[i])) if whole else (first, count)
        # Opened anew each time: ImageNet has more shards than a process may open.
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

    form = manifest["encoding"]
    by_part = read_part if form == "raw" else None
    return Split(name, len(offset), read, where, form, by_part)


def _damaged(path: Path, what: str) -> str:
    return f"{path} is not as python -m alexnet_jax.prepare left it: {what}. {WAY_OUT}"


# --- Which set is trained on ------------------------------------------------------


def choose(
    source: Source,
    *,
    folder: Path | None,
    by_hand: bool,
    rescale: str,
    rescale_size: int,
) -> Source:
    """The prepared set of `source` where there is one, else `source`; says which.

    Args:
      folder: where a prepared set would be; None: the originals are wanted.
      by_hand: the folder was named by the user, so it has to hold one.
      rescale, rescale_size: the images needed, as in the configuration.

    Raises:
      UserError: if the folder holds a prepared set that does not match, or was named
        by hand and holds no complete one.
    """
    if folder is None or not (folder.exists() or by_hand):
        _say(f"Images: the originals of {source.name}.")
        return source
    if not (folder / MANIFEST).exists():
        what = (
            "is not complete: no manifest.json" if folder.exists() else "is not there"
        )
        if by_hand:
            raise UserError(
                f"The prepared set {folder} {what}. Make it, or go on making it, by "
                f"python -m alexnet_jax.prepare --config=... "
                f"--output={shlex.quote(str(folder))}, or take the original images by "
                f"--config.data.prepared_dir={NONE}."
            )
        _say(f"Images: the originals of {source.name}; {folder} {what}.")
        return source
    manifest = read_json(folder / MANIFEST)
    wanted = {
        "fingerprint": source.fingerprint,
        "rescale": rescale,
        "rescale_size": rescale_size,
        "resampling": images.RESAMPLING,
    }
    differing = differences(manifest, wanted)
    if differing:
        raise UserError(
            f"The prepared set {folder} does not match {source.name}:\n{differing}\n"
            "Prepare it into another folder, by python -m alexnet_jax.prepare "
            "--output=DIR, and name that by --config.data.prepared_dir=DIR; or take the "
            f"original images by --config.data.prepared_dir={NONE}."
        )
    opened = open_prepared(folder)
    _say(f"Images: the prepared set {folder}, {describe(facts_for_reports(manifest))}.")
    return opened


def describe(facts: Mapping[str, Any]) -> str:
    """ "JPEG of quality 95, fingerprint 0123456789abcdef, 2 bad files left out"."""
    raw = facts["encoding"] == "raw"
    kind = "raw" if raw else f"JPEG of quality {facts['jpeg_quality']}"
    bad = facts["bad_files"]
    left_out = (
        f", {bad:,} bad {'file' if bad == 1 else 'files'} left out" if bad else ""
    )
    return f"{kind}, fingerprint {facts['fingerprint']}{left_out}"


def differences(there: dict[str, Any], now: dict[str, Any]) -> str:
    """A line for each name of `now` whose value is another `there`."""
    return "\n".join(
        f"  {name}: {there.get(name, 'absent')} there, {value} now"
        for name, value in now.items()
        if there.get(name) != value
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
