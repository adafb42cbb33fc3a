"""Files written by version 0.1 are read, reported and continued.

version_0_1.tar.gz holds a run folder (one trial finished, one with only a checkpoint of
step 34 of 45), the training records that version 0.1 then wrote for the second trial,
and a prepared set of an image folder. Made at commit 1ccadb4 on one CPU device.
"""

import json
import sys
import tarfile
from pathlib import Path

import pytest
from small_trial import learned

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.data.open import open_source
from alexnet_jax.data.prepared.reader import choose
from alexnet_jax.errors import UserError
from alexnet_jax.experiment import runner

ARCHIVE = Path(__file__).parent / "version_0_1.tar.gz"


@pytest.fixture
def old(tmp_path, monkeypatch):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(**changes):
    """The experiment run by version 0.1, in today's field names."""
    config = base("digits", network="four_layer")
    config.experiment = "old"
    config.data.rescale_size = config.data.crop_size = 16
    config.model.width = 0.25
    config.model.weight_stds = (0.01, 0.03, 0.03, 0.03)
    config.training.batch_size = 64
    config.training.num_epochs = 2.0
    config.training.log_every_epochs = 0.2
    config.training.evaluate_every_epochs = 0.5
    config.training.checkpoint_every_epochs = 0.5
    config.arms = {"ReLU": {}, "tanh": {"model.activation": "tanh"}}
    config.seeds = 1
    config.optimizer.learning_rate = 0.01
    config.claim = {
        "section": "3.1",
        "text": "ReLU learns faster",
        "metric": "train_top1_error",
        "compare": ("tanh", "ReLU"),
        "paper": "higher",
        "dataset": "cifar10",
    }
    for name, value in changes.items():
        section, _, field = name.partition("__")
        config[section][field] = value
    return resolve(config, {})


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_is_continued_from_its_checkpoint_and_reported(old, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main"])
    finished = (old / "run/ReLU/seed0/metrics.jsonl").read_bytes()
    answer = runner.run(plan(), old / "run")
    assert (old / "run/ReLU/seed0/metrics.jsonl").read_bytes() == finished
    found = learned(rows(old / "run/tanh/seed0/metrics.jsonl"))
    expected = learned(rows(old / "expected_tanh.jsonl"))
    assert [(row["kind"], row["step"]) for row in found] == [
        (row["kind"], row["step"]) for row in expected
    ]
    for row, other in zip(found, expected, strict=True):
        if row["kind"] != "diagnosis":
            # This test runs on eight devices: equal up to rounding.
            assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)
            assert row["top1_error"] == pytest.approx(other["top1_error"], abs=0.01)
    summary = json.loads((old / "run/summary.json").read_text())
    assert summary["unfinished_trials"] == 0
    assert "tanh" in answer


def test_a_run_of_another_experiment_is_still_refused(old):
    with pytest.raises(UserError, match=r"optimizer\.momentum"):
        runner.run(plan(optimizer__momentum=0.5), old / "run")


def test_a_prepared_set_is_read(old):
    opened = choose(
        open_source("folder=images", tfds_dir=""),
        folder=old / "prepared",
        required=True,
        rescale="shorter_side",
        rescale_size=16,
    )
    assert opened.prepared is not None
    train, validation = opened.train, opened.validation
    assert (train.num_examples, validation.num_examples) == (20, 10)
    labels = [train.read(i)[1] for i in range(train.num_examples)]
    assert sorted(labels) == [0] * 10 + [1] * 10
