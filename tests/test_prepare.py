"""python -m alexnet_jax.prepare: stopped, refused, out of disk, and used by main."""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import bad_pictures
import numpy as np
import pytest
from PIL import Image
from small_trial import learned

from alexnet_jax import experiment, files, preparation
from alexnet_jax.config import base, finish, trials
from alexnet_jax.data import folder, prepared, shards
from alexnet_jax.data.source import open_source
from alexnet_jax.errors import UserError

ROOT = Path(__file__).parent.parent
SIZE = 16


@pytest.fixture
def pictures(tmp_path):
    """30 + 10 JPEGs and PNGs of two classes and many sizes."""
    return write_pictures(tmp_path / "pictures")


def write_pictures(root):
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("val", 10)):
        for i in range(count):
            folder = root / split / ("bright", "dark")[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            size = (20 + 3 * i, 90 - 2 * i, 3)
            low = 100 * (1 - i % 2)
            made = rng.integers(low, low + 150, size, dtype=np.uint8)
            Image.fromarray(made).save(
                folder / f"p {i:02}.{('jpg', 'png')[i % 3 == 0]}"
            )
    return root


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_EXAMPLES", 4)


def job(pictures, folder, *, encoding="jpeg", size=SIZE, how="shorter_side"):
    source = open_source(f"folder={pictures}", tfds_dir="")
    return shards.Job(source, folder, how, size, encoding)


def prepare(pictures, folder, *, skip_bad=False, **form):
    return preparation.prepare(job(pictures, folder, **form), skip_bad=skip_bad)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- The command ------------------------------------------------------------------


def command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "alexnet_jax.prepare", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_prepares_where_main_looks_and_refuses_bad_files(
    pictures, tmp_path
):
    (pictures / "train/dark/broken.jpg").write_bytes(b"")
    config = f"--config={ROOT}/configs/alexnet.py:folder={pictures}"
    refused = command(config, "--config.data.rescale_size=256", cwd=tmp_path)
    folder = tmp_path / "prepared/pictures-256"
    assert refused.returncode == 2
    assert "1 of 41 images cannot be read" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (folder / prepared.MANIFEST).exists()
    done = command(config, "--skip_bad", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "30 train, 10 val images" in done.stdout
    assert "1 bad file left out" in done.stdout
    assert json.loads((folder / prepared.MANIFEST).read_text())["rescale_size"] == 256


def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "alexnet_jax.prepare", "--config=configs/alexnet.py",
         "--config.data.rescale_size=256", f"--output={tmp_path / 'set'}"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job has it ignored, and hands that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("set/*.bin.part")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command goes on" in err
    assert "trial" not in err
    assert "Traceback" not in err
    assert [path.name for path in (tmp_path / "set").iterdir()] == [prepared.PLAN]


def test_flags_are_read_before_the_slow_imports(tmp_path):
    shown = command("--config=nowhere.py", cwd=tmp_path)
    assert shown.returncode == 2
    assert "No such config file" in shown.stderr
    code = (
        "import sys, alexnet_jax.prepare; "
        "print({'jax', 'tensorflow', 'flax', 'matplotlib'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert shown.stdout.strip() == b"set()"


# --- The manifest -----------------------------------------------------------------


def test_the_manifest_tells_what_was_made_of_what(pictures, tmp_path):
    prepare(pictures, tmp_path / "set")
    manifest = json.loads((tmp_path / "set" / prepared.MANIFEST).read_text())
    source = open_source(f"folder={pictures}", tfds_dir="")
    assert manifest["source"] == "folder=pictures"
    assert manifest["fingerprint"] == source.fingerprint
    assert (manifest["rescale"], manifest["rescale_size"]) == ("shorter_side", SIZE)
    assert "antialiased" in manifest["resampling"]
    assert (manifest["encoding"], manifest["jpeg_quality"]) == ("jpeg", 95)
    assert manifest["classes"] == ["bright", "dark"]
    assert manifest["splits"]["train"]["images_per_class"] == [15, 15]
    assert manifest["splits"]["val"]["images_per_class"] == [5, 5]
    assert manifest["bad_files"] == 0
    assert "numpy" in manifest["versions"]
    assert str(tmp_path) not in json.dumps(manifest)
    assert not (tmp_path / "set" / prepared.BAD_FILES).exists()
    size = sum(path.stat().st_size for path in (tmp_path / "set").glob("*.bin"))
    assert manifest["record_bytes"] == size


def test_the_same_command_again_says_that_it_is_complete(pictures, tmp_path):
    prepare(pictures, tmp_path / "set")
    before = contents(tmp_path / "set")
    assert "complete already" in prepare(pictures, tmp_path / "set")
    assert contents(tmp_path / "set") == before


def test_the_disk_needed_is_told_before_the_first_byte(pictures, tmp_path, capsys):
    """Exactly for raw, and never too little for JPEG."""
    for encoding in ("raw", "jpeg"):
        wanted = job(pictures, tmp_path / encoding, encoding=encoding)
        needed = shards.bytes_needed(wanted, wanted.shards())
        preparation.prepare(wanted, skip_bad=False)
        assert preparation.gigabytes(needed) in capsys.readouterr().err
        written = sum(p.stat().st_size for p in (tmp_path / encoding).glob("*.bin"))
        if encoding == "raw":
            assert written == 40 * SIZE * SIZE * 3
        assert written < needed < 1.6 * written + 11 * 4 * SIZE * SIZE * 3


# --- Stopped and started again ----------------------------------------------------

STARTED = """
import os, sys, time
from pathlib import Path
from alexnet_jax import preparation
from alexnet_jax.data import folder, shards
from alexnet_jax.data.source import open_source

to_disk = os.fsync

def told(handle):  # so that the test can kill between any two writes
    os.write(1, b".")
    time.sleep(0.03)
    to_disk(handle)

os.fsync = told
shards.SHARD_EXAMPLES = 4
source = open_source(f"folder={sys.argv[1]}", tfds_dir="")
job = shards.Job(source, Path(sys.argv[2]), "shorter_side", 16, "jpeg")
preparation.prepare(job, skip_bad=True)
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", STARTED, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(pictures, tmp_path):
    """Each time after a random number of writes, and a random time into the next."""
    (pictures / "train/dark/broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    folder = tmp_path / "killed"
    draw = random.Random(0)
    for most in (2, 12, 12, 12):  # of 44 for the shards, and a few for the rest
        with start(pictures, folder) as process:
            for _ in range(draw.randint(1, most)):
                assert process.stdout.read(1) == b"."
            time.sleep(draw.uniform(0, 0.04))
            process.kill()
        assert not (folder / prepared.MANIFEST).exists()
        for index in folder.glob("*-*.npz"):
            prepared.Index.read(index.with_suffix(""))  # whole, and its records too
    assert any(folder.glob("*.npz"))
    prepare(pictures, folder, skip_bad=True)
    prepare(pictures, tmp_path / "undisturbed", skip_bad=True)
    assert contents(folder) == contents(tmp_path / "undisturbed")


def test_only_the_shards_that_lack_are_made(pictures, tmp_path, monkeypatch):
    prepare(pictures, tmp_path / "set")
    before = contents(tmp_path / "set")
    for name in (
        prepared.MANIFEST,
        "train-00002.npz",
        "val-00001.bin",
        "val-00001.npz",
    ):
        (tmp_path / "set" / name).unlink()
    made = []
    write = shards._write_shard
    monkeypatch.setattr(
        shards, "_write_shard", lambda *a: (made.append(a[1].path.name), write(*a))
    )
    prepare(pictures, tmp_path / "set")
    assert made == ["train-00002", "val-00001"]
    assert contents(tmp_path / "set") == before


def test_two_at_once_are_refused(pictures, tmp_path):
    (tmp_path / "set").mkdir()
    with (
        files.only_one(tmp_path / "set", "Another prepare", ""),
        pytest.raises(UserError, match="Another"),
    ):
        prepare(pictures, tmp_path / "set")
    prepare(pictures, tmp_path / "set")


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"encoding": "raw"}, "encoding: jpeg there, raw now"),
        ({"size": 32}, "rescale_size: 16 there, 32 now"),
        ({"how": "warp"}, "rescale: shorter_side there, warp now"),
    ],
)
def test_a_folder_of_another_form_is_refused_naming_both(
    pictures, tmp_path, form, words, complete
):
    prepare(pictures, tmp_path / "set")
    if not complete:
        (tmp_path / "set" / prepared.MANIFEST).unlink()
    before = contents(tmp_path / "set")
    with pytest.raises(UserError, match=words):
        prepare(pictures, tmp_path / "set", **form)
    assert contents(tmp_path / "set") == before


def test_a_folder_of_other_images_is_refused_with_both_fingerprints(pictures, tmp_path):
    prepare(pictures, tmp_path / "set")
    there = open_source(f"folder={pictures}", tfds_dir="").fingerprint
    (pictures / "train/dark/p 01.jpg").unlink()
    now = open_source(f"folder={pictures}", tfds_dir="").fingerprint
    with pytest.raises(UserError, match=f"{there} there, {now} now"):
        prepare(pictures, tmp_path / "set")


def test_other_versions_are_not_mixed_into_a_set_half_made(
    pictures, tmp_path, monkeypatch
):
    prepare(pictures, tmp_path / "set")
    monkeypatch.setattr(shards, "versions", lambda packages: {"numpy": "9.9"})
    assert "complete already" in prepare(pictures, tmp_path / "set")
    (tmp_path / "set" / prepared.MANIFEST).unlink()
    with pytest.raises(UserError, match=r"versions: .* there, \{'numpy': '9\.9'\} now"):
        prepare(pictures, tmp_path / "set")


def test_a_folder_that_holds_something_else_is_left_alone(pictures, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="something else"):
        prepare(pictures, tmp_path / "thesis")
    with pytest.raises(UserError, match="is a file"):
        prepare(pictures, tmp_path / "thesis/thesis.tex")
    with pytest.raises(UserError, match="Cannot make the folder"):
        prepare(pictures, tmp_path / "thesis/thesis.tex/set")
    assert contents(tmp_path / "thesis") == {"thesis.tex": b"years of work"}


# --- Bad files --------------------------------------------------------------------


@pytest.fixture
def with_bad_files(pictures):
    whole = (pictures / "train/dark/p 01.jpg").read_bytes()
    for name, data in (
        ("train/bright/empty.jpg", b""),
        ("train/dark/cut off.jpg", whole[: len(whole) // 2]),
        ("train/dark/p 01\ttab \u2713.png", b"a text named .png"),
        ("val/dark/zeros.jpg", bytes(100)),
    ):
        (pictures / name).write_bytes(data)
    return pictures


def test_bad_files_are_listed_with_reasons_and_the_set_is_not_complete(
    with_bad_files, tmp_path
):
    with pytest.raises(UserError) as refused:
        prepare(with_bad_files, tmp_path / "set")
    assert "4 of 44 images cannot be read" in str(refused.value)
    assert "train/bright/empty.jpg is empty: 0 bytes" in str(refused.value)
    assert "--skip_bad" in str(refused.value)
    assert not (tmp_path / "set" / prepared.MANIFEST).exists()
    lines = (tmp_path / "set" / prepared.BAD_FILES).read_text().splitlines()
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
    assert rows[3][2].startswith("It is no JPEG, PNG")


def test_skip_bad_leaves_them_out_and_counts_them(with_bad_files, tmp_path):
    with pytest.raises(UserError):
        prepare(with_bad_files, tmp_path / "set")
    said = prepare(with_bad_files, tmp_path / "set", skip_bad=True)
    assert "30 train, 10 val images" in said
    assert "4 bad files left out, see bad_files.tsv" in said
    manifest = json.loads((tmp_path / "set" / prepared.MANIFEST).read_text())
    assert manifest["bad_files"] == 4
    assert manifest["splits"]["train"]["bad_files"] == 3
    opened = prepared.open_prepared(tmp_path / "set")
    assert (len(opened.train), len(opened.validation)) == (30, 10)
    labels = [opened.train.read(i)[1] for i in range(30)]
    assert labels == [0] * 15 + [1] * 15


def test_bad_files_change_nothing_of_the_good_ones(pictures, tmp_path):
    prepare(pictures, tmp_path / "good")
    first = min((pictures / "train").iterdir())  # so every shard begins elsewhere
    (first / "a bad one.jpg").write_bytes(b"bad")
    prepare(pictures, tmp_path / "bad", skip_bad=True)
    good, bad = (prepared.open_prepared(tmp_path / name) for name in ("good", "bad"))
    for i in range(30):
        assert bad.train.read(i)[0] == good.train.read(i)[0]
    np.testing.assert_array_equal(bad.statistics.mean_image, good.statistics.mean_image)
    np.testing.assert_array_equal(
        bad.statistics.eigenvectors, good.statistics.eigenvectors
    )


def test_a_class_left_without_an_image_to_train_on_is_refused(pictures, tmp_path):
    for kind in ("only bad", "another"):
        (pictures / "train" / kind).mkdir()
        (pictures / "train" / kind / "bad.jpg").write_bytes(b"bad")
    with pytest.raises(UserError, match="nothing would teach them: another, only bad"):
        prepare(pictures, tmp_path / "set", skip_bad=True)
    assert not (tmp_path / "set" / prepared.MANIFEST).exists()


def test_a_folder_of_every_odd_and_bad_picture_is_prepared(tmp_path):
    """The odd become RGB; the bad are listed, each with its own reason, in one line."""
    odd, reasons = bad_pictures.write(tmp_path / "source/train/class")
    (tmp_path / "source/train/other").mkdir()
    (tmp_path / "source/train/other/good.png").write_bytes(
        bad_pictures.encoded(bad_pictures.smooth(), "PNG")
    )
    shutil.copytree(tmp_path / "source/train/other", tmp_path / "source/val/other")
    with pytest.raises(UserError, match=f"{len(reasons)} of "):
        prepare(tmp_path / "source", tmp_path / "set")
    prepare(tmp_path / "source", tmp_path / "set", skip_bad=True)
    _, *lines = (tmp_path / "set" / prepared.BAD_FILES).read_text().splitlines()
    listed = {
        where: reason for _, where, reason in (line.split("\t") for line in lines)
    }
    assert len(listed) == len(lines) == len(reasons)
    for name, reason in reasons.items():
        (found,) = (listed[w] for w in listed if w.endswith(f"class/{name}"))
        assert re.search(reason, found), name
    manifest = prepared.read_json(tmp_path / "set" / prepared.MANIFEST)
    assert manifest["bad_files"] == len(reasons)
    assert manifest["splits"]["train"]["images_per_class"] == [len(odd), 1]


def test_a_file_that_can_be_read_by_now_is_tried_again(pictures, tmp_path, monkeypatch):
    """As after a disk that was away: neither names nor sizes changed."""
    prepare(pictures, tmp_path / "undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        read = folder._read

        def fails(root, name):
            if Path(name).name == "p 02.jpg":
                raise UserError(f"{name} cannot be read: Permission denied")
            return read(root, name)

        patch.setattr(folder, "_read", fails)
        with pytest.raises(UserError, match=r"2 of 40 .*Permission denied"):
            prepare(pictures, tmp_path / "set")
    prepare(pictures, tmp_path / "set")
    assert contents(tmp_path / "set") == contents(tmp_path / "undisturbed")


def test_a_split_of_bad_files_alone_is_refused(pictures, tmp_path):
    for path in (pictures / "val").rglob("*.*"):
        path.write_bytes(b"bad")
    with pytest.raises(UserError, match="No image of the split 'val'"):
        prepare(pictures, tmp_path / "set", skip_bad=True)
    assert not (tmp_path / "set" / prepared.MANIFEST).exists()


# --- The disk ---------------------------------------------------------------------


def test_too_small_a_disk_is_refused_before_the_first_byte(
    pictures, tmp_path, monkeypatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        preparation.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 20_000, 20_000)
    )
    with pytest.raises(
        UserError, match=r"has 0\.0 MB free; preparing needs about 0\.1"
    ):
        prepare(pictures, tmp_path / "set", encoding="raw")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("at", [1, 2, 5, 12, 40, 43, 45])
def test_a_disk_that_fills_up_leaves_nothing_that_looks_complete(
    pictures, tmp_path, monkeypatch, at
):
    """Full at the first write, in the middle, and at the manifest's."""
    prepare(pictures, tmp_path / "undisturbed")
    to_disk, calls = os.fsync, []

    def fills_up(handle):
        calls.append(handle)
        if len(calls) >= at:
            raise OSError(errno.ENOSPC, "No space left on device")
        to_disk(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fills_up)
        with pytest.raises(UserError, match=r"is full.*are free") as refused:
            prepare(pictures, tmp_path / "set")
    assert "goes on" in str(refused.value)
    left = contents(tmp_path / "set") if (tmp_path / "set").exists() else {}
    assert prepared.MANIFEST not in left
    assert not [name for name in left if name.endswith(".part")]
    prepare(pictures, tmp_path / "set")
    assert contents(tmp_path / "set") == contents(tmp_path / "undisturbed")


# --- main -------------------------------------------------------------------------


@pytest.fixture
def config(pictures, tmp_path, monkeypatch):
    """A few steps of a small network; the current folder is the test's own."""
    monkeypatch.chdir(tmp_path)
    config = base(f"folder={pictures}", network="four_layer")
    config = config.copy_and_resolve_references()
    config.experiment = "tiny"
    config.data.rescale_size, config.data.crop_size = SIZE, 12
    config.data.random_crop = config.data.random_flip = True
    config.model.width = 0.1
    config.training.batch_size = 8
    config.training.num_epochs = 2.0
    config.training.record_every_epochs = 0.5
    config.claim = {
        "section": "6", "text": "t", "metric": "top1_error", "paper": 0.2, "dataset": "x",
    }  # fmt: skip
    return finish(config, {})


def rows(folder, config):
    lines = (
        (folder / trials(config)[0].folder / "metrics.jsonl").read_text().splitlines()
    )
    found = [json.loads(line) for line in lines]
    return learned(found)


def test_main_on_a_raw_set_gives_the_rows_of_the_originals(
    config, pictures, tmp_path, capsys
):
    experiment.run(config, tmp_path / "originals")
    assert "the originals of folder=pictures" in capsys.readouterr().err
    prepare(pictures, tmp_path / f"prepared/pictures-{SIZE}", encoding="raw")
    experiment.run(config, tmp_path / "prepared_run")
    assert "the prepared set" in capsys.readouterr().err
    assert rows(tmp_path / "prepared_run", config) == rows(
        tmp_path / "originals", config
    )
    held = json.loads((tmp_path / "prepared_run/experiment.json").read_text())
    assert held["data"][0]["prepared"]["encoding"] == "raw"
    with pytest.raises(UserError, match="made with other data"):
        experiment.run(config, tmp_path / "originals")
    config = config.copy_and_resolve_references()
    config.data.prepared_dir = "none"
    experiment.run(config, tmp_path / "originals")


def test_main_on_a_jpeg_set_reports_encoding_and_bad_files(
    config, with_bad_files, tmp_path
):
    prepare(with_bad_files, tmp_path / "mine", skip_bad=True)
    config = config.copy_and_resolve_references()
    config.data.prepared_dir = "mine"
    shown = experiment.run(config, tmp_path / "run")
    assert "4 bad files left out" in shown
    report = (tmp_path / "run/report.md").read_text()
    assert "JPEG of quality 95" in report
    assert "bad files left out: 4" in report
    assert json.loads((tmp_path / "run/summary.json").read_text())["bad_files"] == 4
    held = json.loads((tmp_path / "run/experiment.json").read_text())["data"][0]
    assert held["train_examples"] == 30
    manifest = json.loads((tmp_path / "mine" / prepared.MANIFEST).read_text())
    assert held["prepared"] == {
        "encoding": "jpeg",
        "jpeg_quality": 95,
        "fingerprint": manifest["prepared_fingerprint"],
        "bad_files": 4,
    }


def test_main_refuses_a_set_of_other_images(config, pictures, tmp_path):
    prepare(pictures, tmp_path / f"prepared/pictures-{SIZE}")
    (pictures / "train/dark/p 01.jpg").unlink()
    with pytest.raises(UserError, match="does not match folder=pictures"):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
