"""Builds a prepared set, from the first check of its folder to its manifest."""

import contextlib
import shutil
from pathlib import Path

from alexnet_jax import files
from alexnet_jax.data.prepared import reader, writer
from alexnet_jax.data.prepared.writer import Job
from alexnet_jax.data.types import Source
from alexnet_jax.errors import DISK_FULL, UserError
from alexnet_jax.progress import Progress


def prepare(
    source: Source,
    folder: Path,
    *,
    rescale: str,
    size: int,
    encoding: str,
    skip_bad: bool,
) -> str:
    """Prepares what a folder lacks, and returns a sentence about the result.

    Args:
      source: The dataset.
      folder: The folder of the prepared set.
      rescale: How images are rescaled, "shorter_side" or "warp".
      size: The side of the rescaled images, in pixels.
      encoding: "jpeg" or "raw".
      skip_bad: Whether the set is complete without the images that cannot be read.

    Raises:
      UserError: If the folder holds something else, the disk is too small or full, or
        images cannot be read and `skip_bad` is false. The set is incomplete then.
    """
    job = Job(source, folder, rescale, size, encoding)
    for split in job.splits:
        if split.num_examples == 0:
            raise UserError(f"The split '{split.name}' of {job.source.name} is empty.")
    check_folder(job)
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"Cannot create the folder {job.folder}: {error.strerror}. Choose another "
            "with --output=DIR."
        ) from error
    with (
        files.lock_folder(
            job.folder,
            "Another python -m alexnet_jax.prepare",
            "choose another folder with --output=DIR",
        ),
        Progress(job.num_images) as progress,
    ):
        try:
            return _prepare(job, skip_bad, progress)
        finally:
            with contextlib.suppress(OSError):
                job.folder.rmdir()  # if nothing was written


def _prepare(job: Job, skip_bad: bool, progress: Progress) -> str:
    """Does the work of `prepare`, while no other process can write into the folder."""
    check_folder(job)
    if (job.folder / reader.MANIFEST).exists():
        opened = reader.open_prepared(job.folder)
        assert opened.prepared is not None
        return f"{job.folder} is already complete: {reader.describe(opened.prepared)}."
    left = writer.missing(job)
    needed = writer.bytes_needed(job, left)
    check_disk(job.folder, needed, progress)
    try:
        if not (job.folder / reader.PLAN).exists():
            files.write_json(job.folder / reader.PLAN, job.plan())
        write(job, left, progress)
        bad = writer.list_bad_files(job)
        if bad and not skip_bad:
            raise UserError(refusal(job, bad))
        manifest = writer.complete(job)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(
            f"The disk of {job.folder} is full: {gigabytes(free(job.folder))} are free, "
            f"and about {gigabytes(needed)} were needed. The prepared set is incomplete "
            "and will not be used; its complete shards are kept. Free some space and run "
            "the same command, which continues. Or choose another folder with "
            "--output=DIR."
        ) from error
    facts = reader.facts_for_reports(manifest)
    images = ", ".join(f"{s['images']:,} {n}" for n, s in manifest["splits"].items())
    return (
        f"{job.folder} is complete: {images} images, "
        f"{gigabytes(manifest['record_bytes'])}, {reader.describe(facts)}"
        + (f", see {reader.BAD_FILES} there." if bad else ".")
    )


def write(job: Job, left: list[writer.Shard], progress: Progress) -> None:
    """Writes the shards that are left, and shows the progress."""
    count = sum(len(shard.examples) for shard in left)
    done = job.num_images - count
    if done:
        progress.print(f"{done:,} of {job.num_images:,} images are already prepared.")
    if count == 0:
        return
    progress.begin(f"preparing {job.source.name}")
    progress.skip(done)
    writer.write_shards(job, left, progress.advance)


def check_folder(job: Job) -> None:
    """Raises UserError if the folder holds something else, or another prepared set."""
    if job.folder.exists() and not job.folder.is_dir():
        raise UserError(
            f"{job.folder} is a file: choose another folder with --output=DIR."
        )
    if not (job.folder / reader.PLAN).exists():
        # A process that was killed at once leaves only the draft of its plan.
        drafts = {reader.PLAN + ".part"}
        if job.folder.exists() and {p.name for p in job.folder.iterdir()} - drafts:
            raise UserError(
                f"{job.folder} holds something other than a prepared set: no "
                f"{reader.PLAN}. Choose another folder with --output=DIR."
            )
        return
    plan = reader.read_json(job.folder / reader.PLAN)
    requested = job.plan()
    del requested["source"]  # A folder may be renamed; the fingerprint identifies it.
    if (job.folder / reader.MANIFEST).exists():
        # The manifest records the versions, and nothing new is mixed in.
        del requested["versions"]
    differing = reader.differences(plan, requested)
    if differing:
        raise UserError(
            f"{job.folder} holds another prepared set, or part of one. These differ:\n"
            f"{differing}\nRemove it, or choose another folder with --output=DIR."
        )


def check_disk(folder: Path, needed: int, progress: Progress) -> None:
    """Reports the disk space needed; raises UserError if the disk does not have it."""
    available = free(folder)
    if needed > available:
        raise UserError(
            f"The disk of {folder} has {gigabytes(available)} free; preparing needs about "
            f"{gigabytes(needed)}. Nothing was written. Free some space, choose another "
            "folder with --output=DIR, or use --encoding=jpeg instead of raw."
        )
    progress.print(
        f"Preparing into {folder}: about {gigabytes(needed)} of {gigabytes(available)} free."
    )


def free(folder: Path) -> int:
    """Returns the bytes that are free where `folder` is, or will be."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def refusal(job: Job, bad: list[tuple[str, str, str]]) -> str:
    """Returns the message about a prepared set with images that cannot be read."""
    split, where, reason = bad[0]
    return (
        f"{len(bad):,} of {job.num_images:,} images cannot be read, so the prepared set is "
        f"incomplete. They are listed with the reasons in "
        f"{job.folder / reader.BAD_FILES}; the first one, of {split}: {where}: {reason}\n"
        "Fix or remove them and prepare again into an empty folder; or leave them out by "
        "adding --skip_bad to the same command, which continues."
    )


def gigabytes(num_bytes: int) -> str:
    """Returns "1.3 GB", or "4.2 MB" if it is less than that."""
    if num_bytes < 1e8:
        return f"{num_bytes / 1e6:.1f} MB"
    return f"{num_bytes / 1e9:.1f} GB"
