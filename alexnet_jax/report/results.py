"""docs/results.md: every claim of the paper, and what was measured on each dataset.

python -m alexnet_jax.report.results

Reads the summary.json files below experiments/ of this checkout, and writes the page. A
test fails where the page and the files disagree.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from alexnet_jax.report import claims
from alexnet_jax.report.formatting import (
    DATASET_TITLES,
    brief,
    describe_comparison,
    paper_cell,
    plural,
    same_dataset,
    show_interval,
)
from alexnet_jax.report.summary import read_summary
from alexnet_jax.report.verdict import Standing

ROOT = Path(__file__).parents[2]
EXPERIMENTS, PAGE = ROOT / "experiments", ROOT / "docs/results.md"

# The datasets of the table, the paper's own first.
DATASETS = ("imagenet2012", "cifar10", "fashion_mnist", "digits")

# How a result stands to the paper's, in a cell.
AGREEMENT = {
    Standing.SAME_CLEAR: "agrees",
    Standing.SAME_UNCLEAR: "agrees, not clear",
    Standing.SAME_ONE_SEED: "agrees, one seed",
    Standing.SAME_BOUND: "agrees, by a bound",
    Standing.NOT_SEEN: "not clear",
    Standing.EQUAL_ONE_SEED: "equal, one seed",
    Standing.OPPOSITE_CLEAR: "**the opposite**",
    Standing.OPPOSITE_ONE_SEED: "the opposite, one seed",
    Standing.OPPOSITE_BOUND: "the opposite, by a bound",
    Standing.NOT_ANSWERED: "not answered",
    Standing.LEFT_OPEN: "left open",
    Standing.DIFFERENCE_CLEAR: "they differ",
    Standing.DIFFERENCE_UNCLEAR: "not clear",
    Standing.ONE_SEED: "one seed",
}

HEAD = """# Results

What this code has measured of the paper's claims. The page is made of the evidence in
`experiments/` by `python -m alexnet_jax.report.results`; a link leads to the command, the machine,
the commit, the figure and what was surprising.
"""

FIGURE_1 = """
## Figure 1 on CIFAR-10

![Training error over epochs, ReLU solid and tanh dashed; the learning rates that were \
tried; the factor beside the paper's]({figure})

| | the paper's Figure 1 | measured, from a JPEG copy ([how]({link})) |
|---|---|---|
| solid line, ReLU: epochs to 25% training error | fewer | {relu} |
| dashed line, tanh: epochs to 25% training error | more | {tanh} |
| the factor, tanh / ReLU | 6 | {factor} |
| learning rates | chosen for each network, to train as fast as possible | {rates} |

{verdict}
"""

CLAIMS = """
## All claims

A cell has the measured value with its 95% interval over paired seeds, and how it stands to the
paper's: "agrees" and "the opposite" are statistically clear at 95% unless the cell says otherwise.
Only the paper's own dataset can confirm or refute a claim; it is named in the column of the paper.
CIFAR-10 is here from a JPEG copy: each image went through one JPEG round trip (quality 75).
Each interval is one by itself: of many, one in twenty excludes zero by chance.

"""


class ClaimRow(NamedTuple):
    """One comparison of one claim, whatever the dataset.

    Attributes:
      section: of the paper.
      experiment: the name of its config.
      what: the metric and the arms.
      paper: the paper's number and its dataset.
    """

    section: str
    experiment: str
    what: str
    paper: str


def page(experiments: Path = EXPERIMENTS, place: Path = PAGE) -> str:
    """The content of docs/results.md.

    Args:
      experiments: the folder with the evidence.
      place: where the page is, for its links.
    """
    cells: dict[ClaimRow, dict[str, str]] = {}
    found = sorted(
        (
            *experiments.glob("*/summary.json"),
            *experiments.glob("*/*/summary.json"),
        ),
        key=lambda path: (len(path.parts), path),
    )
    for path in found:
        summary = read_summary(path)
        if not claims.is_of_paper(summary["claim"]):
            continue  # a question of ours
        link = os.path.relpath(path.parent / "README.md", place.parent)
        named = (d for d in DATASETS if same_dataset(summary["dataset"], d))
        if (dataset := next(named, None)) is None:
            continue  # a folder of images, which has no column
        for row, cell in _cells(summary):
            cells.setdefault(row, {})[dataset] = f"[{cell}]({link})"
    titles = [DATASET_TITLES[dataset] for dataset in DATASETS]
    table = [["section", "claim", "the paper", *titles]]
    for row in sorted(cells, key=lambda row: (_order(row.section), row.experiment)):
        measured = [cells[row].get(dataset, "not run") for dataset in DATASETS]
        name = f"`{row.experiment}`: {row.what}"
        table.append([row.section, name, row.paper, *measured])
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return HEAD + _figure_1(experiments, place) + CLAIMS + rows + "\n"


def _figure_1(experiments: Path, place: Path) -> str:
    """The paper's first figure beside ours, on the paper's data; "" if it was not run."""
    folder = experiments / "relu_vs_tanh/cifar10"
    if not (folder / "summary.json").is_file():
        return ""
    summary = read_summary(folder / "summary.json")
    arms, claim = summary["arms"], summary["claim"]
    (comparison,) = summary["comparisons"]
    rates = "; ".join(
        f"{arm} {facts['tuned'].get('optimizer.learning_rate', 'as configured')}"
        for arm, facts in arms.items()
    )
    tuning = summary.get("tuning")
    seeds = plural(tuning["seeds"], "seed") if tuning else "the measured seeds"
    return FIGURE_1.format(
        figure=os.path.relpath(folder / "figure.png", place.parent),
        link=os.path.relpath(folder / "README.md", place.parent),
        relu=show_interval(arms["ReLU"], claim),
        tanh=show_interval(arms["tanh"], claim),
        factor=f"{brief(comparison, claim)}, {plural(comparison['n'], 'pair')}",
        rates=f"{rates}; by {seeds}{' of their own' if tuning else ''}",
        verdict=summary["verdict"],
    )


def _cells(summary: dict[str, Any]) -> Iterator[tuple[ClaimRow, str]]:
    for answer in claims.answers(summary):
        claim = answer["claim"]
        on = DATASET_TITLES.get(claim["dataset"], claim["dataset"])
        paper = f"{paper_cell(claim)}, on {on}"
        section, experiment = str(claim["section"]), summary["experiment"]
        for each in answer["comparisons"]:
            what = describe_comparison(claim, each)
            value = f"{brief(each, claim)}, {plural(each['n'], 'pair')}"
            standing = AGREEMENT[Standing(each["standing"])]
            yield ClaimRow(section, experiment, what, paper), f"{value}: {standing}"
        if not answer["comparisons"]:
            for arm, facts in answer["arms"].items():
                what = f"{claims.describe_metric(claim)}, {arm}"
                row = ClaimRow(section, experiment, what, paper)
                yield row, f"{show_interval(facts, claim)}: not compared"


def _order(section: str) -> list[int]:
    """The numbers in a section's name, such as [3, 1] of "3.1, Figure 1"."""
    first = section.split(",")[0].split(" ")[0]
    return [int(part) for part in first.split(".") if part.isdigit()]


def main() -> None:
    PAGE.write_text(page())
    print(f"Page: {os.path.relpath(PAGE)}")


if __name__ == "__main__":
    main()
