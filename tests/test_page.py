"""The page, its tables and its figure, from records written by the test."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from alexnet_jax.config import base, departures, finish, trials
from alexnet_jax.report import page


@pytest.fixture
def folder(tmp_path):
    """A run in which tanh takes twice as long as ReLU, and ReLU diverges at 0.3."""
    config = base(network="four_layer").copy_and_resolve_references()
    config.experiment = "relu_vs_tanh"
    config.arms = {
        "ReLU": {"model.activation": "relu"},
        "tanh": {"model.activation": "tanh"},
    }
    config.tuned = {"optimizer.learning_rate": (0.1, 0.3)}
    config.seeds = 2
    config.training.num_epochs = 8.0
    config.claim = {
        "section": "3.1",
        "text": "faster",
        "metric": "epochs_to_train_error",
        "threshold": 0.25,
        "compare": ("tanh", "ReLU"),
        "paper": 6.0,
        "dataset": "cifar10",
    }
    config = finish(config, {})
    experiment = {
        "command": "python -m alexnet_jax.main --config=x",
        "config": config.to_dict(),
        "recipes": departures(config),
        "data": [
            {
                "name": "digits",
                "fingerprint": "f00",
                "train_examples": 1438,
                "validation_examples": 359,
                "validation_split": "test",
            }
        ],
        "git": {"commit": "abc", "dirty": True},
        "versions": {"jax": "1"},
        "devices": ["cpu"],
        "platform": "Linux",
        "started": "2026",
        "continued": [],
    }
    (tmp_path / "experiment.json").write_text(json.dumps(experiment))
    for trial in trials(config):
        write_trial(tmp_path / trial.folder, trial)
    return tmp_path


def write_trial(folder, trial):
    folder.mkdir(parents=True)
    diverges = trial.arm == "ReLU" and "0.3" in trial.tuned_name
    slow = (2.0 if trial.arm == "tanh" else 1.0) + 0.1 * trial.seed
    rows = [
        {
            "kind": kind,
            "step": step,
            "epoch": float(step),
            "top1_error": max(0.05, 1 - 0.3 * step / slow),
            "top5_error": 0.1,
        }
        for step in range(1, 9)
        for kind in ("train", "eval")
    ]
    if diverges:
        rows = [
            {
                "kind": "train",
                "step": 1,
                "epoch": 1.0,
                "top1_error": None,
                "diverged": True,
            }
        ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    status = {"status": "diverged" if diverges else "finished"}
    (folder / "trial.json").write_text(json.dumps(status))


def test_what_is_printed_ends_in_the_verdict_and_the_figure(folder):
    printed = page.write(folder)
    lines = printed.splitlines()
    assert lines[0] == "relu_vs_tanh on digits"
    assert lines[-1].endswith("figure.png")
    assert any(line.startswith("Verdict: In the paper's direction") for line in lines)
    assert any(line.startswith("ReLU") and "0.1" in line for line in lines)
    assert "2 diverged" in printed


def test_the_summary_is_computed_from_the_records(folder):
    page.write(folder)
    summary = json.loads((folder / "summary.json").read_text())
    # Errors fall linearly, 0.3 / slow an epoch; a row stands half an epoch before its
    # end: 25% is crossed at 2.5 * slow - 0.5.
    expected = [2.5 * 1.0 - 0.5, 2.5 * 1.1 - 0.5]
    assert summary["arms"]["ReLU"]["per_seed"] == pytest.approx(expected)
    assert summary["diverged_trials"] == 2
    assert (
        summary["arms"]["ReLU"]["by_tuned"]["learning_rate=0.3"]["without_value"] == 2
    )


def test_the_report_names_claim_figure_data_and_commit(folder):
    page.write(folder)
    text = (folder / "report.md").read_text()
    for words in ("section 3.1", "figure.png", "1,438", "abc with uncommitted", "f00"):
        assert words in text


def test_the_report_names_each_arms_recipe_and_what_departs_from_it(folder):
    page.write(folder)
    assert "- recipe of" not in (folder / "report.md").read_text()  # four layers
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment["recipes"] = {
        "ReLU": {"recipe": "caffe", "departures": {"data.crop_size": 64}},
        "tanh": {"recipe": "paper", "departures": {}},
    }
    (folder / "experiment.json").write_text(json.dumps(experiment))
    page.write(folder)
    lines = (folder / "report.md").read_text().splitlines()
    assert "- recipe of ReLU: caffe but data.crop_size=64" in lines
    assert "- recipe of tanh: paper" in lines


def test_the_report_repeats_the_warnings_of_the_trials(folder):
    page.write(folder)
    assert "Warnings" not in (folder / "report.md").read_text()
    records = folder / "tanh/learning_rate=0.1/seed1/metrics.jsonl"
    row = {
        "kind": "diagnosis",
        "step": 0,
        "epoch": 0.0,
        "warning": "it may never start",
    }
    records.write_text(json.dumps(row) + "\n" + records.read_text())
    page.write(folder)
    lines = (folder / "report.md").read_text().splitlines()
    assert "## Warnings" in lines
    assert "- tanh learning_rate=0.1 seed1: it may never start" in lines


def test_the_figure_is_a_picture_and_says_whose_data_it_shows(folder):
    page.write(folder)
    with Image.open(folder / "figure.png") as picture:
        assert picture.width > 800
        assert len(picture.convert("RGB").getcolors(2**24)) > 100
    svg = (folder / "figure.svg").read_text()
    ElementTree.fromstring(svg)
    assert "relu_vs_tanh on digits (the paper: cifar10)" in svg


def test_nothing_half_written_is_left(folder):
    page.write(folder)
    assert not list(folder.glob("*part*"))


def test_an_arm_alone_is_reported_beside_the_papers_number(folder):
    """As configs/alexnet.py: nothing compared, no tuned values."""
    experiment = json.loads((folder / "experiment.json").read_text())
    config = experiment["config"]
    config["arms"] = {"ReLU": {}}
    config["tuned"] = {"optimizer.learning_rate": [0.1]}
    config["claim"] |= {"metric": "top1_error", "compare": None, "paper": 0.4}
    (folder / "experiment.json").write_text(json.dumps(experiment))
    printed = page.write(folder)
    assert "ReLU: top-1 error 5.0% [5.0%, 5.0%]. The paper: 40.0%." in printed


def test_a_threshold_that_no_arm_reaches_is_said_whole(folder):
    """By summary, table, figure and page: nothing best, nothing at an edge."""
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment["config"]["claim"]["threshold"] = 0.01
    (folder / "experiment.json").write_text(json.dumps(experiment))
    printed = page.write(folder).splitlines()
    row = next(line for line in printed if line.startswith("tanh"))
    assert "not reached by 2 of 2 seeds" in row
    verdict = next(line for line in printed if line.startswith("Verdict"))
    assert verdict == (
        "Verdict: Not answered: trials diverged, never got there or are not done. Epochs "
        "to 1% training error, tanh / ReLU: no answer (tanh not there in 2 seeds, ReLU not "
        "there in 2 seeds). The paper: 6. 2 trials diverged, at the values compared none. "
        "Measured on digits, not on the paper's cifar10: it neither confirms nor refutes "
        "the paper."
    )
    assert verdict.removeprefix("Verdict: ") in (folder / "report.md").read_text()


def test_what_the_paper_says_also_is_printed_and_reported(folder):
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment["config"]["claim"]["also"] = [
        {"metric": "top5_error", "paper": 0.012, "text": "fewer top-5 errors"}
    ]
    (folder / "experiment.json").write_text(json.dumps(experiment))
    printed = page.write(folder)
    heading = next(line for line in printed.splitlines() if line.startswith("arm"))
    assert "epochs to 25% training error  top-5 error" in heading
    row = "top-5 error, tanh - ReLU"
    assert any(
        line.startswith(row) and "1.2 points" in line for line in printed.splitlines()
    )
    assert "Also, top-5 error: " in printed
    text = (folder / "report.md").read_text()
    assert "**Also, top-5 error.** fewer top-5 errors. " in text
    (also,) = json.loads((folder / "summary.json").read_text())["also"]
    assert also["arms"]["ReLU"]["mean"] == pytest.approx(0.1)
    assert also["claim"]["paper"] == 0.012


def test_tables_line_up():
    table = [["a", "bbb"], ["cccc", "d"]]
    assert page.plain(table) == "a     bbb\ncccc  d"
    assert page.markdown(table).splitlines()[1] == "| --- | --- |"
