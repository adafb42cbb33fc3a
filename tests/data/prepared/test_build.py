"""Preparing a set completes after interruptions, refusals and full disks."""

import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import odd_images
import pytest
from two_classes import (
    SIZE,
    contents,
    job,
    prepare,
    write_bad_files,
    write_two_classes,
)

from alexnet_jax import files
from alexnet_jax.data import folder
from alexnet_jax.data.open import open_source
from alexnet_jax.data.prepared import build, reader, writer
from alexnet_jax.data.resampling import RESAMPLING
from alexnet_jax.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def images(tmp_path):
    return write_two_classes(tmp_path / "images")


@pytest.fixture
def with_bad_files(images):
    return write_bad_files(images)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(writer, "SHARD_EXAMPLES", 4)


# --- The manifest -----------------------------------------------------------------


def test_the_manifest_records_the_source_and_the_settings(images, tmp_path):
    prepare(images, tmp_path / "set")
    manifest = json.loads((tmp_path / "set" / reader.MANIFEST).read_text())
    source = open_source(f"folder={images}", tfds_dir="")
    assert manifest["source"] == "folder=images"
    assert manifest["fingerprint"] == source.fingerprint
    assert (manifest["rescale"], manifest["rescale_size"]) == ("shorter_side", SIZE)
    assert "area averaging" in manifest["resampling"]
    assert (manifest["encoding"], manifest["jpeg_quality"]) == ("jpeg", 95)
    assert manifest["classes"] == ["bright", "dark"]
    assert manifest["splits"]["train"]["images_per_class"] == [15, 15]
    assert manifest["splits"]["val"]["images_per_class"] == [5, 5]
    assert manifest["bad_files"] == 0
    assert "numpy" in manifest["versions"]
    assert str(tmp_path) not in json.dumps(manifest)
    assert not (tmp_path / "set" / reader.BAD_FILES).exists()
    size = sum(path.stat().st_size for path in (tmp_path / "set").glob("*.bin"))
    assert manifest["record_bytes"] == size


def test_the_same_command_again_reports_that_it_is_complete(images, tmp_path):
    prepare(images, tmp_path / "set")
    before = contents(tmp_path / "set")
    assert "already complete" in prepare(images, tmp_path / "set")
    assert contents(tmp_path / "set") == before


@pytest.mark.slow
def test_the_needed_disk_space_is_printed_before_writing(images, tmp_path, capsys):
    """The figure is exact for raw images and never too low for JPEG."""
    for encoding in ("raw", "jpeg"):
        wanted = job(images, tmp_path / encoding, encoding=encoding)
        needed = writer.bytes_needed(wanted, wanted.shards())
        prepare(images, tmp_path / encoding, encoding=encoding)
        assert build.gigabytes(needed) in capsys.readouterr().err
        written = sum(p.stat().st_size for p in (tmp_path / encoding).glob("*.bin"))
        if encoding == "raw":
            assert written == 40 * SIZE * SIZE * 3
        assert written < needed < 1.6 * written + 11 * 4 * SIZE * SIZE * 3


# --- Interruption and resumption --------------------------------------------------

STARTED = """
import os, sys, time
from pathlib import Path
from alexnet_jax.data.open import open_source
from alexnet_jax.data.prepared import build, writer

to_disk = os.fsync

def notify(handle):  # so that the test can kill between any two writes
    os.write(1, b".")
    time.sleep(0.03)
    to_disk(handle)

os.fsync = notify
writer.SHARD_EXAMPLES = 4
source = open_source(f"folder={sys.argv[1]}", tfds_dir="")
build.prepare(
    source,
    Path(sys.argv[2]),
    rescale="shorter_side",
    size=16,
    encoding="jpeg",
    skip_bad=True,
)
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", STARTED, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )


@pytest.mark.slow
def test_a_killed_preparation_resumes_to_the_same_bytes(images, tmp_path):
    """Killed after a random number of writes and a random delay into the next."""
    (images / "train/dark/broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    folder = tmp_path / "killed"
    draw = random.Random(0)
    for most in (2, 18, 18):  # of 44 writes by the writer, plus a few
        with start(images, folder) as process:
            for _ in range(draw.randint(1, most)):
                assert process.stdout.read(1) == b"."
            time.sleep(draw.uniform(0, 0.04))
            process.kill()
        assert not (folder / reader.MANIFEST).exists()
        for index in folder.glob("*-*.npz"):
            reader.ShardIndex.read(
                index.with_suffix("")
            )  # complete, and its records too
    assert any(folder.glob("*.npz"))
    prepare(images, folder, skip_bad=True)
    prepare(images, tmp_path / "undisturbed", skip_bad=True)
    assert contents(folder) == contents(tmp_path / "undisturbed")


@pytest.mark.slow
def test_only_missing_shards_are_written(images, tmp_path, monkeypatch):
    prepare(images, tmp_path / "set")
    before = contents(tmp_path / "set")
    for name in (
        reader.MANIFEST,
        "train-00002.npz",
        "val-00001.bin",
        "val-00001.npz",
    ):
        (tmp_path / "set" / name).unlink()
    made = []
    write = writer._write_shard
    monkeypatch.setattr(
        writer, "_write_shard", lambda *a: (made.append(a[1].path.name), write(*a))
    )
    prepare(images, tmp_path / "set")
    assert made == ["train-00002", "val-00001"]
    assert contents(tmp_path / "set") == before


def test_a_second_concurrent_preparation_is_refused(images, tmp_path):
    (tmp_path / "set").mkdir()
    with (
        files.lock_folder(tmp_path / "set", "Another prepare", ""),
        pytest.raises(UserError, match="Another"),
    ):
        prepare(images, tmp_path / "set")
    assert (tmp_path / "set").is_dir()  # the first one is about to write into it
    prepare(images, tmp_path / "set")


@pytest.mark.parametrize(
    ("choices", "words", "complete"),
    [
        ({"encoding": "raw"}, "encoding: jpeg there, raw requested", True),
        ({"size": 32}, "rescale_size: 16 there, 32 requested", True),
        ({"rescale": "warp"}, "rescale: shorter_side there, warp requested", False),
    ],
)
def test_a_folder_prepared_differently_is_refused_naming_both(
    images, tmp_path, choices, words, complete
):
    prepare(images, tmp_path / "set")
    if not complete:
        (tmp_path / "set" / reader.MANIFEST).unlink()
    before = contents(tmp_path / "set")
    with pytest.raises(UserError, match=words):
        prepare(images, tmp_path / "set", **choices)
    assert contents(tmp_path / "set") == before


def test_a_folder_of_other_images_is_refused_with_both_fingerprints(images, tmp_path):
    prepare(images, tmp_path / "set")
    there = open_source(f"folder={images}", tfds_dir="").fingerprint
    (images / "train/dark/p 01.jpg").unlink()
    now = open_source(f"folder={images}", tfds_dir="").fingerprint
    with pytest.raises(UserError, match=f"{there} there, {now} requested"):
        prepare(images, tmp_path / "set")


def test_other_versions_cannot_continue_a_partial_set(images, tmp_path, monkeypatch):
    prepare(images, tmp_path / "set")
    monkeypatch.setattr(writer, "versions", lambda packages: {"numpy": "9.9"})
    assert "already complete" in prepare(images, tmp_path / "set")
    (tmp_path / "set" / reader.MANIFEST).unlink()
    with pytest.raises(
        UserError, match=r"versions: .* there, \{'numpy': '9\.9'\} requested"
    ):
        prepare(images, tmp_path / "set")


def test_a_folder_that_holds_something_else_is_left_alone(images, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="something other than a prepared set"):
        prepare(images, tmp_path / "thesis")
    with pytest.raises(UserError, match="is a file"):
        prepare(images, tmp_path / "thesis/thesis.tex")
    with pytest.raises(UserError, match="Cannot create the folder"):
        prepare(images, tmp_path / "thesis/thesis.tex/set")
    assert contents(tmp_path / "thesis") == {"thesis.tex": b"years of work"}


# --- Bad files --------------------------------------------------------------------


def test_bad_files_are_listed_with_reasons_and_the_set_is_not_complete(
    with_bad_files, tmp_path
):
    with pytest.raises(UserError) as refused:
        prepare(with_bad_files, tmp_path / "set")
    assert "4 of 44 images cannot be read" in str(refused.value)
    assert "train/bright/empty.jpg is empty: 0 bytes" in str(refused.value)
    assert "--skip_bad" in str(refused.value)
    assert not (tmp_path / "set" / reader.MANIFEST).exists()
    lines = (tmp_path / "set" / reader.BAD_FILES).read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    assert rows[0] == ["split", "where", "reason"]
    assert [row[:2] for row in rows[1:]] == [
        ["train", "train/bright/empty.jpg"],
        ["train", "train/dark/cut off.jpg"],
        ["train", "train/dark/p 01\\ttab \u2713.png"],
        ["val", "val/dark/zeros.jpg"],
    ]
    assert "is empty: 0 bytes" in rows[1][2]
    assert "Invalid JPEG data" in rows[2][2]
    assert "not a JPEG, PNG" in rows[3][2]


@pytest.mark.slow
def test_skip_bad_omits_and_counts_bad_files(with_bad_files, tmp_path):
    with pytest.raises(UserError):
        prepare(with_bad_files, tmp_path / "set")
    message = prepare(with_bad_files, tmp_path / "set", skip_bad=True)
    assert "30 train, 10 val images" in message
    assert "4 bad files left out, see bad_files.tsv" in message
    manifest = json.loads((tmp_path / "set" / reader.MANIFEST).read_text())
    assert manifest["bad_files"] == 4
    assert manifest["splits"]["train"]["bad_files"] == 3
    opened = reader.open_prepared(tmp_path / "set")
    assert (len(opened.train), len(opened.validation)) == (30, 10)
    labels = [opened.train.read(i)[1] for i in range(30)]
    assert labels == [0] * 15 + [1] * 15


@pytest.mark.slow
def test_bad_files_do_not_change_the_good_ones(images, tmp_path):
    prepare(images, tmp_path / "good")
    first = min((images / "train").iterdir())  # shifts every shard
    (first / "a bad one.jpg").write_bytes(b"bad")
    prepare(images, tmp_path / "bad", skip_bad=True)
    good, bad = (reader.open_prepared(tmp_path / name) for name in ("good", "bad"))
    for i in range(30):
        assert bad.train.read(i)[0] == good.train.read(i)[0]
    np.testing.assert_array_equal(bad.statistics.mean_image, good.statistics.mean_image)
    np.testing.assert_array_equal(
        bad.statistics.eigenvectors, good.statistics.eigenvectors
    )


def test_a_class_left_without_training_images_is_refused(images, tmp_path):
    for kind in ("only bad", "another"):
        (images / "train" / kind).mkdir()
        (images / "train" / kind / "bad.jpg").write_bytes(b"bad")
    with pytest.raises(UserError, match="can be read: another, only bad"):
        prepare(images, tmp_path / "set", skip_bad=True)
    assert not (tmp_path / "set" / reader.MANIFEST).exists()


@pytest.mark.slow
def test_a_folder_of_every_unusual_and_bad_image_is_prepared(tmp_path):
    """Unusual images become RGB; bad ones are listed with reasons, one per line."""
    odd, reasons = odd_images.write(tmp_path / "source/train/class")
    (tmp_path / "source/train/other").mkdir()
    (tmp_path / "source/train/other/good.png").write_bytes(
        odd_images.encoded(odd_images.smooth(), "PNG")
    )
    shutil.copytree(tmp_path / "source/train/other", tmp_path / "source/val/other")
    with pytest.raises(UserError, match=f"{len(reasons)} of "):
        prepare(tmp_path / "source", tmp_path / "set")
    prepare(tmp_path / "source", tmp_path / "set", skip_bad=True)
    _, *lines = (tmp_path / "set" / reader.BAD_FILES).read_text().splitlines()
    listed = {
        where: reason for _, where, reason in (line.split("\t") for line in lines)
    }
    assert len(listed) == len(lines) == len(reasons)
    for name, reason in reasons.items():
        (found,) = (listed[w] for w in listed if w.endswith(f"class/{name}"))
        assert re.search(reason, found), name
    manifest = reader.read_json(tmp_path / "set" / reader.MANIFEST)
    assert manifest["bad_files"] == len(reasons)
    assert manifest["splits"]["train"]["images_per_class"] == [len(odd), 1]


@pytest.mark.slow
def test_a_file_that_has_become_readable_is_read_again(images, tmp_path, monkeypatch):
    """As after a disk failure: neither names nor sizes have changed."""
    prepare(images, tmp_path / "undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        read = folder._read

        def fails(root, name):
            if Path(name).name == "p 02.jpg":
                raise UserError(f"{name} cannot be read: Permission denied")
            return read(root, name)

        patch.setattr(folder, "_read", fails)
        with pytest.raises(UserError, match=r"2 of 40 .*Permission denied"):
            prepare(images, tmp_path / "set")
    prepare(images, tmp_path / "set")
    assert contents(tmp_path / "set") == contents(tmp_path / "undisturbed")


def test_a_split_of_only_bad_files_is_refused(images, tmp_path):
    for path in (images / "val").rglob("*.*"):
        path.write_bytes(b"bad")
    with pytest.raises(UserError, match="No image of the split 'val'"):
        prepare(images, tmp_path / "set", skip_bad=True)
    assert not (tmp_path / "set" / reader.MANIFEST).exists()


# --- The disk ---------------------------------------------------------------------


def test_too_small_a_disk_is_refused_before_writing(images, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        build.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 20_000, 20_000)
    )
    with pytest.raises(
        UserError, match=r"has 0\.0 MB free; preparing needs about 0\.1"
    ):
        prepare(images, tmp_path / "set", encoding="raw")
    assert not (tmp_path / "set").exists()


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_that_looks_complete(images, tmp_path):
    """The disk is full in the middle, then at the manifest, then has room."""
    prepare(images, tmp_path / "undisturbed")
    for last in ("train-00003.bin", reader.MANIFEST):
        refused_by_a_full_disk(images, tmp_path / "set", last)
    prepare(images, tmp_path / "set")
    assert contents(tmp_path / "set") == contents(tmp_path / "undisturbed")


def refused_by_a_full_disk(images, folder, name):
    """The disk takes nothing from the file `name` on."""
    to_disk, refused = os.fsync, []

    def fills_up(handle):
        if refused or name in os.readlink(f"/proc/self/fd/{handle}"):
            refused.append(handle)
            raise OSError(errno.ENOSPC, "No space left on device")
        to_disk(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fills_up)
        with pytest.raises(UserError, match=r"is full.*are free.*--output=DIR"):
            prepare(images, folder)
    assert refused
    left = contents(folder) if folder.exists() else {}
    assert reader.MANIFEST not in left
    assert not [name for name in left if name.endswith(".part")]


# --- Sets of earlier versions -----------------------------------------------------


@pytest.mark.parametrize("complete", [True, False])
def test_a_set_with_an_old_resampling_name_is_used_and_continued(
    images, tmp_path, complete
):
    """The pixels are the same, so the sets are compatible."""
    folder = tmp_path / "set"
    prepare(images, folder)
    before = contents(folder)
    for name in (reader.PLAN, reader.MANIFEST):
        (former,) = reader.FORMER_RESAMPLING
        held = json.loads((folder / name).read_text()) | {"resampling": former}
        files.write_json(folder / name, held)
    if complete:
        chosen = reader.choose(
            open_source(f"folder={images}", tfds_dir=""),
            folder=folder,
            required=True,
            rescale="shorter_side",
            rescale_size=SIZE,
        )
        assert chosen.train.encoding == "jpeg"
        assert "already complete" in prepare(images, folder)
        return
    for name in (reader.MANIFEST, "train-00002.npz"):
        (folder / name).unlink()
    prepare(images, folder)
    after = contents(folder)
    assert json.loads(after[reader.MANIFEST])["resampling"] == RESAMPLING
    assert {n: d for n, d in after.items() if n != reader.PLAN} == {
        n: d for n, d in before.items() if n != reader.PLAN
    }
