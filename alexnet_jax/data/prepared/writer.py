"""Writes a prepared set, shard by shard, so that it can be interrupted at any moment.

A shard exists if its index does, which is written after its records. A second start
makes the missing shards, and the result is bit-identical.
"""

import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import tensorflow as tf

from alexnet_jax import files
from alexnet_jax.data import images, resampling
from alexnet_jax.data.prepared import reader
from alexnet_jax.data.prepared.reader import ShardIndex, shard_path
from alexnet_jax.data.statistics import Sums
from alexnet_jax.data.stream import Stoppable, stream
from alexnet_jax.data.types import Source, Split
from alexnet_jax.errors import UserError
from alexnet_jax.provenance import versions

SHARD_EXAMPLES = 2048  # 400 MB raw at 256 x 256; the most that an interruption costs.
# Examples that go through the graph together: at most so many, and so many pixels.
MOST_TOGETHER, PIXELS_TOGETHER = 64, 2**19
SAMPLE = 64  # The number of images whose size is measured to estimate the disk space.
# The pixels depend on the versions of these packages.
PACKAGES = ("numpy", "pillow", "tensorflow-cpu", "tensorflow")


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be prepared, how, and into which folder.

    Attributes:
      source: The dataset.
      folder: The folder of the prepared set.
      rescale: How images are rescaled, "shorter_side" or "warp".
      size: The side of the rescaled images, in pixels.
      encoding: "jpeg" or "raw".
    """

    source: Source
    folder: Path
    rescale: str
    size: int
    encoding: str

    @property
    def splits(self) -> tuple[Split, Split]:
        return self.source.train, self.source.validation

    @property
    def num_images(self) -> int:
        return sum(split.num_examples for split in self.splits)

    def plan(self) -> dict[str, Any]:
        """Returns plan.json: everything the bytes of the prepared set depend on."""
        return {
            "format": reader.FORMAT,
            "source": self.source.name,
            "fingerprint": self.source.fingerprint,
            "rescale": self.rescale,
            "rescale_size": self.size,
            "resampling": resampling.RESAMPLING,
            "encoding": self.encoding,
            "jpeg_quality": reader.JPEG_QUALITY if self.encoding == "jpeg" else None,
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
    """Consecutive examples of a split, and their files' path without the suffix."""

    split: Split
    number: int
    examples: range
    path: Path


@dataclasses.dataclass(frozen=True)
class PreparedExample:
    """An example that is ready to be written: record, label, pixels and their products."""

    record: bytes
    label: int
    image: np.ndarray
    products: np.ndarray


def prepare_examples(
    job: Job, split: Split, indices: Iterable[int]
) -> Generator[PreparedExample | str, None, None]:
    """Yields each example of `indices`, in order, or in one line why it is unreadable.

    Several go through the graph together: handing over one at a time takes longer than
    to decode a small image. A group with an unreadable one is done again one by one.
    """
    load = _loading(job, split)
    every = np.fromiter(indices, np.int64)
    together = max(1, min(MOST_TOGETHER, PIXELS_TOGETHER // job.size**2))
    with contextlib.closing(_groups(load, every, together)) as made:
        for start, found in zip(range(0, len(every), together), made, strict=True):
            if not isinstance(found, tf.errors.OpError):
                yield from _split_up(job, found)
                continue
            with contextlib.closing(
                _groups(load, every[start : start + together], 1)
            ) as singles:
                for one in singles:
                    if isinstance(one, tf.errors.OpError):
                        yield images.reason(one) or type(one).__name__
                    else:
                        yield from _split_up(job, one)


Load = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]


def _groups(
    load: Load, every: np.ndarray, together: int
) -> Generator[list[np.ndarray] | tf.errors.OpError, None, None]:
    """What `load` returns for each group of so many examples, or why it failed."""

    @tf.autograph.experimental.do_not_convert
    def build(numbers: tf.data.Dataset, _: Stoppable) -> tf.data.Dataset:
        return numbers.map(load, tf.data.AUTOTUNE, deterministic=True)

    return stream(tf.data.Dataset.from_tensor_slices(every).batch(together), build)


def _loading(job: Job, split: Split) -> Load:
    """A graph from the numbers of examples to their records, labels, pixels, products."""

    def read(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [split.read(int(index)) for index in indices]
        encoded = np.array([data for data, _ in found], object)
        return encoded, np.array([label for _, label in found], np.int32)

    def prepare(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = images.rescale(images.decode(encoded), job.size, job.rescale)
        record = tf.constant(b"")
        if job.encoding == "jpeg":
            # Color has half the resolution, as in most photographs. At full resolution
            # the images are 4 dB better at 256 x 256, but take a third more bytes and
            # time to decode.
            record = tf.io.encode_jpeg(
                image,
                format="rgb",
                quality=reader.JPEG_QUALITY,
                chroma_downsampling=True,
            )
        return record, image

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64)], autograph=False)
    def load(indices: tf.Tensor) -> tuple[tf.Tensor, ...]:
        encoded, label = tf.numpy_function(
            read, [indices], (tf.string, tf.int32), stateful=False
        )
        # One after the other: tf.data runs several groups at the same time.
        record, image = tf.map_fn(
            prepare,
            tf.ensure_shape(encoded, (None,)),
            parallel_iterations=1,
            fn_output_signature=(
                tf.TensorSpec((), tf.string),
                tf.TensorSpec((job.size, job.size, 3), tf.uint8),
            ),
        )
        # Integers below 2**53 are exact in float64, which multiplies faster.
        pixels = tf.cast(tf.reshape(image, (-1, job.size**2, 3)), tf.float64)
        products = tf.matmul(pixels, pixels, transpose_a=True)
        return record, label, image, products

    return load


def _split_up(job: Job, found: Sequence[np.ndarray]) -> Iterator[PreparedExample]:
    record, label, image, products = found
    for number, of_class in enumerate(label.tolist()):
        pixels = image[number]
        data = record[number] if job.encoding == "jpeg" else pixels.tobytes()
        yield PreparedExample(data, of_class, pixels, products[number].astype(np.int64))


def missing(job: Job) -> list[Shard]:
    """Returns the shards that do not exist, or list as bad what is readable by now."""
    return [
        shard
        for shard in job.shards()
        if not shard.path.with_suffix(".npz").exists() or _is_repaired(job, shard)
    ]


def _is_repaired(job: Job, shard: Shard) -> bool:
    """Whether a bad example of a shard can be read by now, as after a disk failure."""
    bad = ShardIndex.read(shard.path).bad
    if len(bad) == 0:
        return False
    again = prepare_examples(job, shard.split, bad.tolist())
    return any(isinstance(example, PreparedExample) for example in again)


def bytes_needed(job: Job, shards: list[Shard]) -> int:
    """Returns the disk space for `shards` and the rest of the prepared set.

    It is exact for raw images, and estimated from a sample, plus 10%, for JPEG.
    """
    count = sum(len(shard.examples) for shard in shards)
    image = job.size**2 * 3
    per_record = float(image)
    if job.encoding == "jpeg":
        sizes = [
            len(example.record)
            for split in job.splits
            for example in prepare_examples(job, split, _sample(split, shards))
            if isinstance(example, PreparedExample)
        ]
        per_record = 1.1 * sum(sizes) / max(1, len(sizes))
    # An index takes 32 bytes per record, and the sum of the images in uint32.
    return round(count * (per_record + 32) + len(shards) * 4 * image + 8 * image)


def _sample(split: Split, shards: list[Shard]) -> list[int]:
    """A sample of the remaining examples of a split, evenly spaced."""
    left = [i for shard in shards if shard.split is split for i in shard.examples]
    return left[:: max(1, len(left) // SAMPLE)]


def write_shards(job: Job, shards: list[Shard], advance: Callable[[int], None]) -> None:
    """Writes the shards, calling `advance(1)` after each example."""
    for split in job.splits:
        of_split = [shard for shard in shards if shard.split is split]
        indices = itertools.chain.from_iterable(shard.examples for shard in of_split)
        with contextlib.closing(prepare_examples(job, split, indices)) as found:
            for shard in of_split:
                _write_shard(job, shard, found, advance)


def _write_shard(
    job: Job,
    shard: Shard,
    found: Iterator[PreparedExample | str],
    advance: Callable[[int], None],
) -> None:
    """Writes the records, then the index that makes the shard exist."""
    shard.path.with_suffix(".npz").unlink(missing_ok=True)
    total = np.zeros((job.size, job.size, 3), np.uint32)  # SHARD_EXAMPLES * 255 fits.
    products = np.zeros((3, 3), np.int64)
    rows: list[tuple[int, int, int, int]] = []
    bad: list[tuple[int, str]] = []
    digest = hashlib.sha256()
    with files.atomic_file(shard.path.with_suffix(".bin")) as file:
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
    columns = ShardIndex(
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
    with files.atomic_file(shard.path.with_suffix(".npz")) as file:
        np.savez(file, **arrays)


# --- All shards together ----------------------------------------------------------


def list_bad_files(job: Job) -> list[tuple[str, str, str]]:
    """Returns (split, place, reason) of each bad example, and writes bad_files.tsv.

    Without bad examples there is no such file.
    """
    bad = [
        (shard.split.name, shard.split.where(int(index)), str(reason))
        for shard in job.shards()
        for index, reason in _bad_of(shard)
    ]
    path = job.folder / reader.BAD_FILES
    if not bad:
        path.unlink(missing_ok=True)  # An earlier start may have left one.
        return []
    # Places and reasons are one printable line each, so they cannot break the table.
    lines = ["\t".join(row) for row in [("split", "where", "reason"), *bad]]
    with files.atomic_file(path) as file:
        file.write(("\n".join(lines) + "\n").encode(errors="backslashreplace"))
    return bad


def _bad_of(shard: Shard) -> Iterable[tuple[int, str]]:
    index = ShardIndex.read(shard.path)
    return zip(index.bad, index.reason, strict=True)


def complete(job: Job) -> dict[str, Any]:
    """Writes the statistics, then the manifest, and returns the manifest.

    Raises:
      UserError: If no image of a split, or of a class of the training split, is left.
    """
    sums = Sums.zero(job.size, job.size)
    indices, splits, bad_files, num_bytes = [], {}, 0, 0
    for split in job.splits:
        shards = [shard for shard in job.shards() if shard.split is split]
        of_split = [ShardIndex.read(shard.path) for shard in shards]
        indices += of_split
        labels = np.concatenate([index.label for index in of_split])
        if len(labels) == 0:
            raise UserError(
                f"No image of the split '{split.name}' of {job.source.name} can be read: "
                f"see {job.folder / reader.BAD_FILES}."
            )
        counts = np.bincount(labels, minlength=len(job.source.class_names))
        empty = np.flatnonzero(counts == 0).tolist()
        if split is job.source.train and empty:
            names = ", ".join(job.source.class_names[label] for label in empty)
            raise UserError(
                f"No training image of these classes of {job.source.name} can be read: "
                f"{names}. Fix one image of each, or remove the class."
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
    with files.atomic_file(job.folder / reader.STATISTICS) as file:
        np.savez(file, **dataclasses.asdict(found))
    manifest = job.plan() | {
        "classes": list(job.source.class_names),
        "splits": splits,
        "bad_files": bad_files,
        "record_bytes": num_bytes,
        "prepared_fingerprint": reader.fingerprint(indices),
    }
    files.write_json(job.folder / reader.MANIFEST, manifest)
    return manifest


def _sums_of(shard: Shard) -> Sums:
    names = ("length", "total", "products")
    held = reader.read_arrays(shard.path.with_suffix(".npz"), names)
    return Sums(len(held["length"]), held["total"].astype(np.int64), held["products"])
