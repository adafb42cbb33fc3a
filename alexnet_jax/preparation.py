"""A prepared set from the first look at its folder to its manifest."""

import contextlib
import errno
import shutil
import sys
from pathlib import Path

from alexnet_jax import files
from alexnet_jax.data import prepared, shards
from alexnet_jax.data.shards import Job, Shard
from alexnet_jax.errors import UserError
from alexnet_jax.training.record import Progress

FULL = (errno.ENOSPC, errno.EDQUOT)


def prepare(job: Job, *, skip_bad: bool) -> str:
    """Prepares what `job` still lacks; returns what it came to.

    Raises:
      UserError: if the folder holds something else, the disk is too small or full, or
        images cannot be read and `skip_bad` is not given. The set is not complete then.
    """
    for split in job.splits:
        if split.num_examples == 0:
            raise UserError(f"The split '{split.name}' of {job.source.name} is empty.")
    check_folder(job)
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"Cannot make the folder {job.folder}: {error.strerror}. Give another by "
            "--output=DIR."
        ) from error
    try:
        with files.only_one(
            job.folder,
            "Another python -m alexnet_jax.prepare",
            "give another --output=DIR",
        ):
            return _prepare(job, skip_bad)
    finally:
        with contextlib.suppress(OSError):
            job.folder.rmdir()  # if nothing was written


def _prepare(job: Job, skip_bad: bool) -> str:
    """As `prepare`, while no other process can write into the folder."""
    check_folder(job)
    if (job.folder / prepared.MANIFEST).exists():
        opened = prepared.open_prepared(job.folder)
        assert opened.prepared is not None
        return (
            f"{job.folder} is complete already: {prepared.describe(opened.prepared)}."
        )
    left = shards.missing(job)
    needed = shards.bytes_needed(job, left)
    check_disk(job.folder, needed)
    try:
        if not (job.folder / prepared.PLAN).exists():
            files.write_json(job.folder / prepared.PLAN, job.plan())
        write(job, left)
        bad = shards.list_bad_files(job)
        if bad and not skip_bad:
            raise UserError(refusal(job.folder, bad, job))
        manifest = shards.complete(job)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(
            f"The disk of {job.folder} is full: {gigabytes(free(job.folder))} are free, "
            f"and this start needed about {gigabytes(needed)}. The set is not complete and "
            "is not used; the shards that are whole are kept. Make room and run the same "
            "command: it goes on. Or give another --output=DIR."
        ) from error
    facts = prepared.facts_for_reports(manifest)
    images = ", ".join(f"{s['images']:,} {n}" for n, s in manifest["splits"].items())
    return (
        f"{job.folder} is complete: {images} images, "
        f"{gigabytes(manifest['record_bytes'])}, {prepared.describe(facts)}"
        + (f", see {prepared.BAD_FILES} there." if bad else ".")
    )


def write(job: Job, left: list[Shard]) -> None:
    """Makes the shards that are left, showing how far it is."""
    count = sum(len(shard.examples) for shard in left)
    total = sum(split.num_examples for split in job.splits)
    if count < total:
        _say(f"{total - count:,} of {total:,} images are there already.")
    if count == 0:
        return
    with Progress(count) as progress:
        progress.begin(f"preparing {job.source.name}")
        shards.write_shards(job, left, progress.advance)


def check_folder(job: Job) -> None:
    """Raises UserError if the folder holds something else, or another prepared set."""
    if job.folder.exists() and not job.folder.is_dir():
        raise UserError(f"{job.folder} is a file: give another folder by --output=DIR.")
    if not (job.folder / prepared.PLAN).exists():
        # A start that was killed at once leaves only the draft of its plan.
        drafts = {prepared.PLAN + ".part"}
        if job.folder.exists() and {p.name for p in job.folder.iterdir()} - drafts:
            raise UserError(
                f"{job.folder} holds something else than a prepared set: no "
                f"{prepared.PLAN}. Give another folder by --output=DIR."
            )
        return
    plan = prepared.read_json(job.folder / prepared.PLAN)
    now = job.plan()
    del now["source"]  # a folder may be renamed; the fingerprint tells
    if (job.folder / prepared.MANIFEST).exists():
        del now["versions"]  # written down in the manifest; nothing new is mixed in
    differing = prepared.differences(plan, now)
    if differing:
        raise UserError(
            f"{job.folder} holds, whole or in part, another prepared set; these differ:\n"
            f"{differing}\nRemove it, or give another folder by --output=DIR."
        )


def check_disk(folder: Path, needed: int) -> None:
    """Says what the set will need; raises UserError if the disk has not got it."""
    available = free(folder)
    if needed > available:
        raise UserError(
            f"The disk of {folder} has {gigabytes(available)} free; preparing needs about "
            f"{gigabytes(needed)}. Nothing was written. Make room, give another folder by "
            "--output=DIR, or, if it is raw, take --encoding=jpeg."
        )
    _say(
        f"Preparing into {folder}: about {gigabytes(needed)} of {gigabytes(available)} free."
    )


def free(folder: Path) -> int:
    """Bytes free where `folder` is, or will be."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def refusal(folder: Path, bad: list[tuple[str, str, str]], job: Job) -> str:
    """What is said of a set that has bad files."""
    split, where, reason = bad[0]
    total = sum(split.num_examples for split in job.splits)
    return (
        f"{len(bad):,} of {total:,} images cannot be read, so the set is not complete. "
        f"They are listed with their reasons in {folder / prepared.BAD_FILES}; the first, "
        f"of {split}: {where}: {reason}\nMend or remove them and prepare anew, into an "
        "empty folder; or leave them out by the same command with --skip_bad, which goes "
        "on from here."
    )


def gigabytes(num_bytes: int) -> str:
    """In words for people: "1.3 GB", or "4.2 MB" of less than that."""
    if num_bytes < 1e8:
        return f"{num_bytes / 1e6:.1f} MB"
    return f"{num_bytes / 1e9:.1f} GB"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
