"""Writes a prepared set, shard by shard, so that it can be stopped at any moment.

A shard is there if its index is, which is put in place behind its records; so a second
start makes the shards that are not there, and the same bytes come out.
"""

import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import tensorflow as tf

from alexnet_jax import files
from alexnet_jax.data import images, prepared
from alexnet_jax.data.prepared import Index, shard_path
from alexnet_jax.data.source import Source, Split
from alexnet_jax.data.statistics import Sums
from alexnet_jax.data.stream import Stoppable, stream
from alexnet_jax.errors import UserError
from alexnet_jax.provenance import versions

SHARD_EXAMPLES = 2048  # 400 MB raw at 256 x 256; what a stop costs at most
SAMPLE = 64  # images whose size is measured to tell the disk that all need
PACKAGES = (
    "numpy",
    "pillow",
    "tensorflow-cpu",
    "tensorflow",
)  # what the pixels depend on


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be prepared, how, and into which folder.

    `rescale` and `size` (pixels) as in the configuration; encoding "jpeg" or "raw".
    """

    source: Source
    folder: Path
    rescale: str
    size: int
    encoding: str

    @property
    def splits(self) -> tuple[Split, Split]:
        return self.source.train, self.source.validation

    def plan(self) -> dict[str, Any]:
        """plan.json: all that the bytes of the prepared set depend on."""
        return {
            "format": prepared.FORMAT,
            "source": self.source.name,
            "fingerprint": self.source.fingerprint,
            "rescale": self.rescale,
            "rescale_size": self.size,
            "resampling": images.RESAMPLING,
            "encoding": self.encoding,
            "jpeg_quality": prepared.JPEG_QUALITY if self.encoding == "jpeg" else None,
            "shard_examples": SHARD_EXAMPLES,
            "versions": versions(PACKAGES),
        }

    def shards(self) -> list["Shard"]:
        return [
            Shard(
                split,
                number,
                range(first, min(first + SHARD_EXAMPLES, split.num_examples)),
                shard_path(self.folder, split.name, number),
            )
            for split in self.splits
            for number, first in enumerate(range(0, split.num_examples, SHARD_EXAMPLES))
        ]


@dataclasses.dataclass(frozen=True)
class Shard:
    """Consecutive examples of a split, and the path of their files without ending."""

    split: Split
    number: int
    examples: range
    path: Path


@dataclasses.dataclass(frozen=True)
class Prepared:
    """One example ready to be written: its record, class, pixels and their products."""

    record: bytes
    label: int
    image: np.ndarray
    products: np.ndarray


def prepare_examples(
    job: Job, split: Split, indices: Iterable[int]
) -> Generator[Prepared | str, None, None]:
    """Each example of `indices`, in that order, or why it cannot be read: one line."""

    def read(index: np.int64) -> tuple[bytes, np.int32]:
        encoded, label = split.read(int(index))
        return encoded, np.int32(label)

    @tf.autograph.experimental.do_not_convert
    def load(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        encoded, label = tf.numpy_function(
            read, [index], (tf.string, tf.int32), stateful=False
        )
        image = images.rescale(images.decode(encoded), job.size, job.rescale)
        # Whole numbers below 2**53 are exact in float64, which multiplies faster.
        pixels = tf.cast(tf.reshape(image, (-1, 3)), tf.float64)
        products = tf.matmul(pixels, pixels, transpose_a=True)
        record = tf.constant(b"")
        if job.encoding == "jpeg":
            # Colour at half the resolution, as photographs mostly come: at full it is
            # 4 dB nearer at 256 x 256, but a third more bytes and time to decode.
            record = tf.io.encode_jpeg(
                image,
                format="rgb",
                quality=prepared.JPEG_QUALITY,
                chroma_downsampling=True,
            )
        return record, label, image, products

    def build(numbers: tf.data.Dataset, _: Stoppable) -> tf.data.Dataset:
        return numbers.map(load, tf.data.AUTOTUNE, deterministic=True)

    numbers = tf.data.Dataset.from_tensor_slices(np.fromiter(indices, np.int64))
    with contextlib.closing(stream(numbers, build)) as made:
        for found in made:
            if isinstance(found, tf.errors.OpError):
                yield images.reason(found) or type(found).__name__
                continue
            record, label, image, products = found
            data = record if job.encoding == "jpeg" else image.tobytes()
            yield Prepared(data, int(label), image, products.astype(np.int64))


def missing(job: Job) -> list[Shard]:
    """The shards that are not there, or hold as bad what can be read by now."""
    return [
        shard
        for shard in job.shards()
        if not shard.path.with_suffix(".npz").exists() or _is_mended(job, shard)
    ]


def _is_mended(job: Job, shard: Shard) -> bool:
    """Whether a bad example of a shard is none any more: a disk was away, say."""
    bad = Index.read(shard.path).bad
    if len(bad) == 0:
        return False
    again = prepare_examples(job, shard.split, bad.tolist())
    return any(isinstance(example, Prepared) for example in again)


def bytes_needed(job: Job, shards: list[Shard]) -> int:
    """Disk for `shards` and the rest of the set: exact if raw, else of a sample + 10%."""
    count = sum(len(shard.examples) for shard in shards)
    image = job.size**2 * 3
    per_record = float(image)
    if job.encoding == "jpeg":
        sizes = [
            len(example.record)
            for split in job.splits
            for example in prepare_examples(job, split, _sample(split, shards))
            if isinstance(example, Prepared)
        ]
        per_record = 1.1 * sum(sizes) / max(1, len(sizes))
    # An index: 32 bytes a record, and in uint32 the sum of the images.
    return round(count * (per_record + 32) + len(shards) * 4 * image + 8 * image)


def _sample(split: Split, shards: list[Shard]) -> list[int]:
    """Examples of a split that are still to do, spread evenly over them."""
    left = [i for shard in shards if shard.split is split for i in shard.examples]
    return left[:: max(1, len(left) // SAMPLE)]


def write_shards(job: Job, shards: list[Shard], advance: Callable[[int], None]) -> None:
    """Makes the shards, calling `advance(1)` for each example done."""
    for split in job.splits:
        of_split = [shard for shard in shards if shard.split is split]
        indices = itertools.chain.from_iterable(shard.examples for shard in of_split)
        with contextlib.closing(prepare_examples(job, split, indices)) as found:
            for shard in of_split:
                _write_shard(job, shard, found, advance)


def _write_shard(
    job: Job,
    shard: Shard,
    found: Iterator[Prepared | str],
    advance: Callable[[int], None],
) -> None:
    """The records first, then the index that makes them count."""
    shard.path.with_suffix(".npz").unlink(missing_ok=True)
    total = np.zeros((job.size, job.size, 3), np.uint32)  # SHARD_EXAMPLES * 255 fits
    products = np.zeros((3, 3), np.int64)
    rows: list[tuple[int, int, int, int]] = []
    bad: list[tuple[int, str]] = []
    digest = hashlib.sha256()
    with files.whole_file(shard.path.with_suffix(".bin")) as file:
        for index in shard.examples:
            example = next(found)
            if isinstance(example, str):
                bad.append((index, example))
            else:
                file.write(example.record)
                digest.update(example.record)
                crc = google_crc32c.value(example.record)
                rows.append((len(example.record), crc, example.label, index))
                total += example.image
                products += example.products
            advance(1)
    length, crc, label, kept = np.array(rows, np.int64).reshape(-1, 4).T
    columns = Index(
        offset=np.cumsum(length) - length,
        length=length,
        crc=crc.astype(np.uint32),
        label=label.astype(np.int32),
        example=kept,
        bad=np.array([index for index, _ in bad], np.int64),
        reason=np.array([reason for _, reason in bad], np.str_),
        sha256=digest.hexdigest(),
    )
    arrays: dict[str, Any] = dataclasses.asdict(columns)
    if shard.split is job.source.train:
        arrays |= {"total": total, "products": products}
    with files.whole_file(shard.path.with_suffix(".npz")) as file:
        np.savez(file, **arrays)


# --- The whole --------------------------------------------------------------------


def list_bad_files(job: Job) -> list[tuple[str, str, str]]:
    """(split, place, reason) of every bad example; written to bad_files.tsv if any."""
    bad = [
        (shard.split.name, shard.split.where(int(index)), str(reason))
        for shard in job.shards()
        for index, reason in _bad_of(shard)
    ]
    path = job.folder / prepared.BAD_FILES
    if not bad:
        path.unlink(missing_ok=True)  # of an earlier start, mended since
        return []
    # Places and reasons are one printable line each: no cell ends early.
    lines = ["\t".join(row) for row in [("split", "where", "reason"), *bad]]
    with files.whole_file(path) as file:
        file.write(("\n".join(lines) + "\n").encode(errors="backslashreplace"))
    return bad


def _bad_of(shard: Shard) -> Iterable[tuple[int, str]]:
    index = Index.read(shard.path)
    return zip(index.bad, index.reason, strict=True)


def complete(job: Job) -> dict[str, Any]:
    """Writes the statistics, then the manifest; returns that.

    Raises:
      UserError: if a split, or a class to be trained on, has no image left.
    """
    sums = Sums.zero(job.size, job.size)
    indices, splits, bad_files, num_bytes = [], {}, 0, 0
    for split in job.splits:
        shards = [shard for shard in job.shards() if shard.split is split]
        of_split = [Index.read(shard.path) for shard in shards]
        indices += of_split
        labels = np.concatenate([index.label for index in of_split])
        if len(labels) == 0:
            raise UserError(
                f"No image of the split '{split.name}' of {job.source.name} can be read: "
                f"see {job.folder / prepared.BAD_FILES}."
            )
        counts = np.bincount(labels, minlength=len(job.source.class_names))
        untaught = np.flatnonzero(counts == 0).tolist()
        if split is job.source.train and untaught:
            names = ", ".join(job.source.class_names[label] for label in untaught)
            raise UserError(
                f"No image of these classes of {job.source.name} can be read, so nothing "
                f"would teach them: {names}. Mend one of each, or take the class away."
            )
        bad = sum(len(index.bad) for index in of_split)
        splits[split.name] = {
            "shards": len(shards),
            "images": len(labels),
            "bad_files": bad,
            "images_per_class": counts.tolist(),
        }
        bad_files += bad
        num_bytes += sum(int(index.length.sum()) for index in of_split)
        if split is job.source.train:
            sums = sum((_sums_of(shard) for shard in shards), sums)
    found = sums.statistics()
    with files.whole_file(job.folder / prepared.STATISTICS) as file:
        np.savez(file, **dataclasses.asdict(found))
    manifest = job.plan() | {
        "classes": list(job.source.class_names),
        "splits": splits,
        "bad_files": bad_files,
        "record_bytes": num_bytes,
        "prepared_fingerprint": prepared.fingerprint(indices),
    }
    files.write_json(job.folder / prepared.MANIFEST, manifest)
    return manifest


def _sums_of(shard: Shard) -> Sums:
    names = ("length", "total", "products")
    held = prepared.read_arrays(shard.path.with_suffix(".npz"), names)
    return Sums(len(held["length"]), held["total"].astype(np.int64), held["products"])
