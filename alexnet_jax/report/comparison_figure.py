"""A figure of comparisons: what was measured with its interval, and the paper's number."""

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.report import claims, formatting, wording
from alexnet_jax.report.figures import COLORS


def draw_beside_paper(summary: dict[str, Any]) -> "Drawing":
    """The comparisons of a summary with their intervals, and the paper's numbers."""
    answers = claims.answers(summary)
    rows = [max(1, len(answer["comparisons"])) for answer in answers]
    height = sum(0.9 + 0.35 * count for count in rows)
    figure = Drawing(figsize=(8, height), layout="constrained")
    axes = figure.subplots(len(answers), height_ratios=rows, squeeze=False)[:, 0]
    labels: dict[str, Any] = {}
    for axis, answer in zip(axes, answers, strict=True):
        _draw_answer(axis, answer)
        handles, names = axis.get_legend_handles_labels()
        labels |= zip(names, handles, strict=True)
    figure.legend(
        labels.values(), labels, fontsize=7, frameon=False, loc="outside right"
    )
    dataset, other = summary["dataset"], summary["claim"]["dataset"]
    same = formatting.same_dataset(dataset, other)
    where = dataset if same else f"{dataset} (the paper: {other})"
    figure.suptitle(f"{summary['experiment']} on {where}", fontsize=9)
    return figure


def _draw_answer(axis: Axes, answer: dict[str, Any]) -> None:
    """A row for each comparison of a claim; the title has a paper without a number."""
    claim, found = answer["claim"], answer["comparisons"]
    ratio = claims.is_ratio(claim)
    scale, no_effect = (1.0, 1.0) if ratio else (100.0, 0.0)
    for row, each in enumerate(found):
        if each["mean"] is None:  # seeds without a value: at best there is a bound
            text = formatting.show_comparison(each, claim)
            axis.annotate(text, (no_effect, row), va="center", fontsize=8)
            continue
        ends = (each["low"], each["high"])
        if None not in ends:
            axis.plot([scale * end for end in ends], [row, row], color=COLORS[0])
        axis.plot(scale * each["mean"], row, "o", color=COLORS[0], label="measured")
    paper = claim["paper"]
    if isinstance(paper, (int, float)):
        axis.axvline(scale * paper, color=COLORS[1], ls="--", label="paper")
    else:
        axis.set_title(wording.paper_sentence(claim), fontsize=8)
    axis.axvline(no_effect, color="0.5", lw=0.8)
    if ratio:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("{x:g}")
    names = [formatting.show_pair(each, claim) for each in found]
    axis.set_yticks(range(len(found)), names, fontsize=8)
    axis.set_ylim(len(found) - 0.5, -0.5)
    unit = "ratio" if ratio else "difference in points"
    axis.set_xlabel(f"{claims.describe_metric(claim)}, {unit}", fontsize=8)
    axis.tick_params(axis="x", which="both", labelsize=8)


class Drawing(Figure):
    """A figure that a notebook shows at the end of a cell, with any backend."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=80)
        return file.getvalue()
