"""python -m alexnet_jax.prepare, and main on the prepared sets that it writes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from forked import command
from small_trial import learned
from two_classes import SIZE, prepare, write_bad_files, write_two_classes

from alexnet_jax import prepare as prepare_command
from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.data.prepared import reader
from alexnet_jax.errors import UserError
from alexnet_jax.experiment import runner

ROOT = Path(__file__).parents[1]


@pytest.fixture
def images(tmp_path):
    return write_two_classes(tmp_path / "images")


# --- The command ------------------------------------------------------------------


def prepares(*arguments, folder):
    return command("alexnet_jax.prepare", *arguments, folder=folder)


@pytest.mark.slow
def test_the_command_prepares_where_main_looks_and_refuses_bad_files(images, tmp_path):
    (images / "train/dark/broken.jpg").write_bytes(b"")
    config = f"--config={ROOT}/configs/alexnet.py:folder={images}"
    refused = prepares(config, "--config.data.rescale_size=256", folder=tmp_path)
    folder = tmp_path / "prepared/images-256"
    assert refused.returncode == 2
    assert "1 of 41 images cannot be read" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (folder / reader.MANIFEST).exists()
    done = prepares(config, "--skip_bad", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "30 train, 10 val images" in done.stdout
    assert "1 bad file left out" in done.stdout
    assert json.loads((folder / reader.MANIFEST).read_text())["rescale_size"] == 256


@pytest.mark.slow
def test_ctrl_c_reports_that_the_same_command_continues(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "alexnet_jax.prepare", "--config=configs/alexnet.py",
         "--config.data.rescale_size=1024", f"--output={tmp_path / 'set'}"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # A background job of a shell ignores SIGINT, and its children inherit that.
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
    assert "Complete shards kept: 0. The same command continues." in err
    assert "Traceback" not in err
    assert [path.name for path in (tmp_path / "set").iterdir()] == [reader.PLAN]


@pytest.mark.slow
def test_flags_are_read_before_the_slow_imports(tmp_path):
    shown = prepares("--config=nowhere.py", folder=tmp_path)
    assert shown.returncode == 2
    assert "No such config file" in shown.stderr
    code = (
        "import sys, alexnet_jax.prepare; "
        "print({'jax', 'tensorflow', 'flax', 'matplotlib'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert shown.stdout.strip() == b"set()"


def test_prepare_counts_images_in_both_splits(images, tmp_path, monkeypatch, capsys):
    (images / "val/dark/copy.jpg").write_bytes(
        (images / "train/dark/p 01.jpg").read_bytes()
    )
    plan = resolve(base(f"folder={images}", network="four_layer"), {})
    monkeypatch.setattr(prepare_command.cli, "resolved_plan", lambda: plan)
    for name, value in (("OUTPUT", str(tmp_path / "set")), ("ENCODING", "jpeg")):
        monkeypatch.setattr(prepare_command, name, SimpleNamespace(value=value))
    monkeypatch.setattr(prepare_command, "SKIP_BAD", SimpleNamespace(value=False))
    prepare_command.main([])
    counted, done = capsys.readouterr().out.splitlines()
    assert "1 of 11 images of val are also in train" in counted
    assert "is complete" in done
    assert (tmp_path / "set/contact_sheet.png").read_bytes().startswith(b"\x89PNG")


# --- main on a prepared set -------------------------------------------------------


@pytest.fixture
def config(images, tmp_path, monkeypatch):
    """A few steps of a small network, in a working directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    config = base(f"folder={images}", network="four_layer")
    config.experiment = "tiny"
    config.data.rescale_size, config.data.crop_size = SIZE, 12
    config.data.random_crop = config.data.random_flip = True
    config.model.width = 0.1
    config.training.batch_size = 8
    config.training.num_epochs = 2.0
    config.training.log_every_epochs = 0.5
    config.claim = {
        "section": "6", "text": "t", "metric": "top1_error", "paper": 0.2, "dataset": "x",
    }  # fmt: skip
    return config


def run(config, folder):
    return runner.run(resolve(config, {}), folder)


def rows(folder):
    (metrics,) = folder.rglob("metrics.jsonl")
    return learned([json.loads(line) for line in metrics.read_text().splitlines()])


@pytest.mark.slow
def test_main_on_a_raw_set_gives_the_rows_of_the_originals(
    config, images, tmp_path, capsys
):
    run(config, tmp_path / "originals")
    assert "the originals of folder=images" in capsys.readouterr().err
    prepare(images, tmp_path / f"prepared/images-{SIZE}", encoding="raw")
    run(config, tmp_path / "prepared_run")
    assert "the prepared set" in capsys.readouterr().err
    assert rows(tmp_path / "prepared_run") == rows(tmp_path / "originals")
    held = json.loads((tmp_path / "prepared_run/experiment.json").read_text())
    assert held["data"][0]["prepared"]["encoding"] == "raw"
    with pytest.raises(UserError, match="made with other data"):
        run(config, tmp_path / "originals")
    config.data.prepared_dir = "none"
    run(config, tmp_path / "originals")


@pytest.mark.slow
def test_main_on_a_jpeg_set_reports_encoding_and_bad_files(config, images, tmp_path):
    prepare(write_bad_files(images), tmp_path / "mine", skip_bad=True)
    config.data.prepared_dir = "mine"
    shown = run(config, tmp_path / "run")
    assert "4 bad files left out" in shown
    report = (tmp_path / "run/report.md").read_text()
    assert "JPEG of quality 95" in report
    assert "bad files left out: 4" in report
    assert json.loads((tmp_path / "run/summary.json").read_text())["bad_files"] == 4
    held = json.loads((tmp_path / "run/experiment.json").read_text())["data"][0]
    assert held["train_examples"] == 30
    manifest = json.loads((tmp_path / "mine" / reader.MANIFEST).read_text())
    assert held["prepared"] == {
        "encoding": "jpeg",
        "jpeg_quality": 95,
        "fingerprint": manifest["prepared_fingerprint"],
        "bad_files": 4,
    }


def test_main_refuses_a_set_of_other_images(config, images, tmp_path):
    prepare(images, tmp_path / f"prepared/images-{SIZE}")
    (images / "train/dark/p 01.jpg").unlink()
    with pytest.raises(UserError, match="does not match folder=images"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
