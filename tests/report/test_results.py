"""docs/results.md is what the evidence in experiments/ says."""

import json
import shutil

from alexnet_jax.report import results
from alexnet_jax.report.formatting import brief, show_interval


def test_the_page_is_that_of_the_evidence():
    assert results.PAGE.read_text() == results.page(), (
        "docs/results.md is stale: python -m alexnet_jax.report.results"
    )


def test_every_experiment_of_the_paper_and_every_link_stands_on_the_page():
    page = results.page()
    for path in results.EXPERIMENTS.glob("*/summary.json"):
        of_paper = path.parent.name != "finetune"
        assert (f"](../experiments/{path.parent.name}/README.md)" in page) == of_paper
    assert "not run" in page


def test_a_result_on_the_papers_data_gets_its_column(tmp_path):
    source = results.EXPERIMENTS / "relu_vs_tanh/summary.json"
    for dataset in ("digits", "cifar10:3.0.2"):
        folder = tmp_path / "experiments/relu_vs_tanh" / dataset.partition(":")[0]
        folder.mkdir(parents=True)
        summary = json.loads(source.read_text()) | {"dataset": dataset}
        (folder / "summary.json").write_text(json.dumps(summary))
    page = results.page(tmp_path / "experiments", tmp_path / "docs/results.md")
    heading, _, row = page.splitlines()[-3:]
    cells = dict(zip(heading.split(" | "), row.split(" | "), strict=True))
    assert "relu_vs_tanh/cifar10/README.md" in cells["CIFAR-10"]
    assert "relu_vs_tanh/digits/README.md" in cells["handwritten digits |"]
    assert cells["Fashion-MNIST"] == "not run"
    shown = _figure_1(page)
    summary = json.loads(source.read_text())
    relu, tanh = (
        show_interval(summary["arms"][arm], summary["claim"])
        for arm in ("ReLU", "tanh")
    )
    assert shown["solid line, ReLU: epochs to 25% training error"] == f"fewer | {relu}"
    assert shown["dashed line, tanh: epochs to 25% training error"] == f"more | {tanh}"
    (comparison,) = summary["comparisons"]
    factor = brief(comparison, summary["claim"])
    assert shown["the factor, tanh / ReLU"] == f"6 | {factor}, {comparison['n']} pairs"
    rates = (
        f"{arm} {summary['arms'][arm]['tuned']['optimizer.learning_rate']}"
        for arm in ("ReLU", "tanh")
    )
    assert "; ".join(rates) + "; by 1 seed of their own" in shown["learning rates"]
    assert "](../experiments/relu_vs_tanh/cifar10/figure.png)" in page
    assert summary["verdict"] in page
    shutil.rmtree(folder)
    page = results.page(tmp_path / "experiments", tmp_path / "docs/results.md")
    assert "## Figure 1" not in page
    shutil.rmtree(tmp_path)


def _figure_1(page):
    """The rows of its table, by their first cell."""
    lines = page.partition("## Figure 1")[2].partition("## All claims")[0].splitlines()
    return dict(line.strip("| ").split(" | ", 1) for line in lines if " | " in line)


def test_an_arm_that_never_gets_there_has_a_row_too(tmp_path):
    source = results.EXPERIMENTS / "relu_vs_tanh/summary.json"
    summary = json.loads(source.read_text()) | {"tuning": None}
    never = {"mean": None, "low": None, "high": None, "n": 0, "without_value": 4}
    summary["arms"]["tanh"] |= never | {"reached": 0, "per_seed": [None] * 4}
    folder = tmp_path / "experiments/relu_vs_tanh/cifar10"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    shown = _figure_1(results.page(tmp_path / "experiments", tmp_path / "results.md"))
    said = shown["dashed line, tanh: epochs to 25% training error"]
    assert said == "more | 4 of 4 seeds did not reach it"
    assert shown["learning rates"].endswith("; by the measured seeds")
