"""From image files on disk to the figure, through the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def command(*arguments, devices=1):
    return subprocess.Popen(
        [sys.executable, "-m", "alexnet_jax.main", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def images(tmp_path):
    """Sixteen JPEGs and PNGs of many sizes, bright and dark."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for i in range(count):
            name = ("bright", "dark")[i % 2]
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True, exist_ok=True)
            low = 150 if name == "bright" else 0
            size = (40 + 3 * i, 60 - 2 * i, 3)
            pixels = rng.integers(low, low + 100, size, dtype=np.uint8)
            suffix = ("jpg", "png", "JPEG")[i % 3]
            Image.fromarray(pixels).save(folder / f"image {i}.{suffix}")
    return tmp_path / "images"


def test_images_on_disk_become_a_figure(images, tmp_path):
    run = tmp_path / "run"
    process = command(
        f"--config=configs/relu_vs_tanh.py:folder={images}",
        "--config.seeds=1",
        "--config.optimizer.learning_rate=0.001",
        "--config.model.width=0.25",
        "--config.training.batch_size=4",
        "--config.training.num_epochs=2",
        "--config.training.log_every_epochs=0.5",
        f"--workdir={run}",
        devices=2,
    )
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert out.strip().splitlines()[-1].endswith("figure.png")
    with Image.open(run / "figure.png") as figure:
        assert figure.width > 500
    summary = json.loads((run / "summary.json").read_text())
    assert summary["dataset"] == "folder=images"
    held = json.loads((run / "experiment.json").read_text())
    assert held["data"][0]["train_examples"] == 12
    assert held["data"][0]["validation_split"] == "val"
    rows = [
        json.loads(line)
        for line in (run / "tanh/learning_rate=0.001/seed0/metrics.jsonl")
        .read_text()
        .splitlines()
    ]
    assert {row["kind"] for row in rows} == {"train", "eval", "diagnosis"}
    rows = [row for row in rows if row["kind"] != "diagnosis"]
    keys = [
        "step",
        "epoch",
        "loss",
        "top1_error",
        "top5_error",
        "learning_rate",
        "images_per_second",
    ]
    assert all(key in row for row in rows for key in keys)


def test_ctrl_c_keeps_the_records_and_explains_how_to_continue(tmp_path):
    run = tmp_path / "run"
    process = command("--config=configs/relu_vs_tanh.py", f"--workdir={run}")
    deadline = time.monotonic() + 200
    # Not rglob: it would enter folders that a save removes concurrently.
    while not list(run.glob("*/*/*/trial.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command continues" in err
    assert "Traceback" not in err
    assert not (run / "summary.json").exists()
    for metrics in run.rglob("metrics.jsonl"):
        for line in metrics.read_text().splitlines():
            json.loads(line)
