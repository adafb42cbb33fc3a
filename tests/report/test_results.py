"""docs/results.md is what the evidence in experiments/ says."""

import json
import shutil

from alexnet_jax.report import results


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
    measured = dict(
        line.strip("| ").split(" | ", 1) for line in page.splitlines() if " | " in line
    )
    assert measured["solid line"].endswith("after 1.49 [1.38, 1.60] epochs")
    assert measured["dashed line"].endswith("after 0.89 [0.77, 1.00] epochs")
    assert measured["the factor, tanh / ReLU"] == "6 | 0.59 [0.52, 0.68], 4 pairs"
    assert "ReLU 0.004; tanh 0.05; of 6" in measured["learning rates"]
    assert "](../experiments/relu_vs_tanh/cifar10/figure.png)" in page
    assert json.loads(source.read_text())["verdict"] in page
    shutil.rmtree(tmp_path)
