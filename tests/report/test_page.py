"""The page, its tables and its figure, from records that the test writes."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.report import page, tables
from alexnet_jax.report.comparison_figure import draw_beside_paper
from alexnet_jax.report.drawing import as_png


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
    plan = resolve(config, {})
    experiment = {
        "command": "python -m alexnet_jax.main --config=x",
        "config": plan.as_json()["config"],
        "recipes": plan.recipes(),
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
    for trial in plan.trials:
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


@pytest.mark.usefixtures("undrawn")
def test_the_printed_answer_ends_with_verdict_and_figure(folder):
    printed = page.write(folder)
    lines = printed.splitlines()
    assert lines[0] == "relu_vs_tanh on digits"
    assert lines[-1].endswith("figure.png")
    assert any(line.startswith("Verdict: On handwritten digits") for line in lines)
    assert any(line.startswith("ReLU") and "0.1" in line for line in lines)
    assert "2 diverged" in printed


@pytest.mark.usefixtures("undrawn")
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


@pytest.mark.usefixtures("undrawn")
def test_the_report_names_claim_figure_data_and_commit(folder):
    page.write(folder)
    text = (folder / "report.md").read_text()
    for words in ("section 3.1", "figure.png", "1,438", "abc with uncommitted", "f00"):
        assert words in text
    assert "measured at its selected tuned values" in text


@pytest.mark.usefixtures("undrawn")
def test_the_report_names_each_arms_recipe_and_what_departs_from_it(folder):
    page.write(folder)
    assert "- recipe of" not in (folder / "report.md").read_text()  # four layers
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment["recipes"] = {
        "ReLU": {"recipe": "caffe", "departures": {"data.crop_size": 64}},
        "tanh": {"recipe": "paper", "departures": {}},
    }
    experiment["arm_layers"] = {
        arm: {"model.activation": "arm", "optimizer.learning_rate": "tuned"}
        for arm in ("ReLU", "tanh")
    }
    (folder / "experiment.json").write_text(json.dumps(experiment))
    page.write(folder)
    lines = (folder / "report.md").read_text().splitlines()
    assert "- recipe of ReLU: caffe, except data.crop_size=64" in lines
    assert "- recipe of tanh: paper" in lines


@pytest.mark.usefixtures("undrawn")
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


def test_the_figure_is_an_image_and_names_its_data(folder):
    page.write(folder)
    with Image.open(folder / "figure.png") as image:
        assert image.width > 800
        assert len(image.convert("RGB").getcolors(2**24)) > 100
    svg = (folder / "figure.svg").read_text()
    ElementTree.fromstring(svg)
    assert "relu_vs_tanh on handwritten digits. The paper, on CIFAR-10: 6" in svg


@pytest.mark.parametrize("name", ["$x_{$ and more", "\u732b"])
def test_any_name_of_a_folder_is_drawn(folder, name):
    """Dollars are no formula, and letters that the font lacks no warning."""
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment["data"][0]["name"] = f"folder={name}"
    (folder / "experiment.json").write_text(json.dumps(experiment))
    page.write(folder)
    ElementTree.fromstring((folder / "figure.svg").read_text())
    summary = json.loads((folder / "summary.json").read_text())
    assert as_png(draw_beside_paper(summary))


@pytest.mark.usefixtures("undrawn")
def test_no_draft_is_left(folder):
    page.write(folder)
    assert not list(folder.glob("*part*"))


@pytest.mark.usefixtures("undrawn")
def test_a_single_arm_is_reported_with_the_papers_number(folder):
    """As in configs/alexnet.py: no comparison and no tuned values."""
    experiment = json.loads((folder / "experiment.json").read_text())
    config = experiment["config"]
    config["arms"] = {"ReLU": {}}
    config["tuned"] = {"optimizer.learning_rate": [0.1]}
    config["claim"] |= {"metric": "top1_error", "compare": None, "paper": 0.4}
    (folder / "experiment.json").write_text(json.dumps(experiment))
    printed = page.write(folder)
    assert "ReLU had a top-1 error of 5.0% (95% interval" in printed
    assert "The paper reports 40.0%." in printed
    assert "selected tuned values" not in (folder / "report.md").read_text()


def test_a_threshold_that_no_arm_reaches_is_reported_everywhere(folder):
    """In summary, table, figure and page: nothing is best, and nothing at an edge."""
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment["config"]["claim"]["threshold"] = 0.01
    (folder / "experiment.json").write_text(json.dumps(experiment))
    printed = page.write(folder).splitlines()
    row = next(line for line in printed if line.startswith("tanh"))
    assert "2 of 2 seeds did not reach it" in row
    verdict = next(line for line in printed if line.startswith("Verdict"))
    assert "2 trials diverged, none at the selected values." in verdict
    assert "edge" not in verdict
    assert verdict.removeprefix("Verdict: ") in (folder / "report.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_the_report_tells_where_values_come_from_if_the_run_records_it(folder):
    page.write(folder)
    assert "(tuned)" not in (folder / "report.md").read_text()
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment["layers"] = {
        "model.activation": "recipe",
        "model.width": "default",
        "optimizer.learning_rate": "recipe",
        "optimizer.momentum": "recipe",
        "training.batch_size": "preset",
        "training.num_epochs": "command line",
    }
    experiment["arm_layers"] = {
        arm: {"model.activation": "arm", "optimizer.learning_rate": "tuned"}
        for arm in ("ReLU", "tanh")
    }
    (folder / "experiment.json").write_text(json.dumps(experiment))
    page.write(folder)
    lines = (folder / "report.md").read_text().splitlines()
    assert "- activation relu (arm) in ReLU, tanh (arm) in tanh" in lines
    assert "- learning_rate 0.1 (tuned)" in lines
    assert "- batch_size 128 (preset)" in lines
    assert "- num_epochs 8.0 (command line)" in lines
    assert not any(line.startswith(("- width", "- momentum")) for line in lines)


@pytest.mark.usefixtures("undrawn")
def test_further_claims_are_printed_and_reported(folder):
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
    assert tables.plain(table) == "a     bbb\ncccc  d"
    assert tables.markdown(table).splitlines()[1] == "| --- | --- |"
