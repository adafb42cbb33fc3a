"""Draws the figure of a run folder: curves as in the paper's Figure 1, and the answer."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.files import atomic_file
from alexnet_jax.report import claims, comparison_figure
from alexnet_jax.report.drawing import (
    PAPER_COLOR,
    arm_styles,
    as_png,
    as_svg,
    mark_crossing,
    set_error_scale,
)
from alexnet_jax.report.formatting import (
    dataset_title,
    field_name,
    paper_cell,
    paper_note,
    plural,
)
from alexnet_jax.report.run_reader import Outcome

# The bands of more arms would cover one another: they are drawn as rows of dots.
MAX_CURVES = 4

CURVES_HEIGHT = 3.6  # inches


def draw(
    summary: dict[str, Any],
    outcomes: list[Outcome],
    folder: Path,
) -> None:
    """Draws learning curves and comparisons: figure.png and figure.svg in `folder`."""
    for suffix, content in render(summary, outcomes).items():
        with atomic_file(folder / f"figure.{suffix}") as file:
            file.write(content)


def render(
    summary: dict[str, Any], outcomes: list[Outcome], *, narrow: bool = False
) -> dict[str, bytes]:
    """The content of the figure as "png" and as "svg".

    On top the learning curves or, of many arms, a row of dots for each; beside them the
    tuned values; below, the comparisons of every claim with the paper's number. The title
    is the question and its answer.

    Args:
      summary: the content of summary.json.
      outcomes: the trials, for their curves.
      narrow: whether the tuned values stand below the curves, as for a phone.
    """
    answers = claims.answers(summary)
    curves = len(summary["arms"]) <= MAX_CURVES
    several = summary.get("tuning") or len(summary["at_equal_tuned_values"]) > 1
    tuned = bool(several) and len(_tuned_fields(summary)) == 1
    heights = [comparison_figure.answer_height(answer) for answer in answers]
    # Arms that nothing is compared with are rows of dots below, beside the paper's number.
    top = curves or tuned or bool(summary["comparisons"])
    if top:
        arms_height = 0.9 + 0.3 * len(summary["arms"])
        heights.insert(0, CURVES_HEIGHT if curves or tuned else arms_height)
    if tuned and narrow:
        heights.insert(1, CURVES_HEIGHT)
    width = 5.4 if narrow else 9.6 if tuned else 7.2
    title = _Title(summary, width)
    size = (width, sum(heights) + title.height)
    figure = plt.figure(figsize=size)
    title.draw(figure)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    places = [grid[number] for number in range(len(heights))]
    if tuned and not narrow:
        places[:1] = grid[0].subgridspec(1, 2, width_ratios=[5, 4])
    panels = [figure.add_subplot(place) for place in places]
    if top:
        _draw_arms(panels.pop(0), summary, outcomes, curves=curves)
    if tuned:
        _draw_tuned(panels.pop(0), summary)
    for axes, answer in zip(panels, answers, strict=True):
        comparison_figure.draw_answer(axes, answer)
    contents = {"png": as_png(figure), "svg": as_svg(figure)}
    plt.close(figure)
    return contents


def _draw_arms(
    axes: Axes, summary: dict[str, Any], outcomes: list[Outcome], *, curves: bool
) -> None:
    if curves:
        _draw_curves(axes, summary, outcomes)
        axes.set_title(_curves_title(summary), fontsize=9, loc="left")
        return
    comparison_figure.draw_arms(axes, summary)
    intervals = "" if summary["seeds"] == 1 else ", 95% intervals, and every seed"
    axes.set_title(f"Means{_selected(summary)}{intervals}", fontsize=9, loc="left")


class _Title:
    """The lines above a figure: the question, its answer, and what was measured on what.

    Attributes:
      height: in inches.
    """

    def __init__(self, summary: dict[str, Any], width: float) -> None:
        name = f"{summary['experiment']} on {dataset_title(summary['dataset'])}"
        note = f"{name}. {paper_note(summary['claim'])}".rstrip()
        # Text, size in points, weight, color, and characters an inch.
        parts = [
            (summary["question"], 12.0, "bold", "black", 9.5),
            (summary["answer"], 10.5, "normal", "black", 12.0),
            (note, 9.0, "normal", "0.35", 14.0),
        ]
        self.lines = [
            (line, size, weight, color)
            for text, size, weight, color, density in parts
            for line in textwrap.wrap(text, int(density * width))
        ]
        self.height = 0.2 + sum(map(self._line_height, self.lines))

    @staticmethod
    def _line_height(line: tuple[str, float, str, str]) -> float:
        return 1.45 * line[1] / 72

    def draw(self, figure: Figure) -> None:
        """Writes the lines, and keeps everything else below them."""
        width, height = figure.get_size_inches()
        down = 0.08
        for line in self.lines:
            text, size, weight, color = line
            figure.text(
                0.08 / width,
                1 - down / height,
                text,
                fontsize=size,
                fontweight=weight,
                color=color,
                va="top",
                parse_math=False,  # a folder's name may have dollars
            )
            down += self._line_height(line)
        below = (0, 0, 1, 1 - self.height / height)
        figure.set_layout_engine("constrained", rect=below)


def _tuned_fields(summary: dict[str, Any]) -> list[str]:
    return list(next(iter(summary["arms"].values()))["tuned"])


def _draw_curves(axes: Axes, summary: dict[str, Any], outcomes: list[Outcome]) -> None:
    """Error against epochs: each arm at its selected values, mean and range over seeds.

    Test errors are drawn with the training errors as thin lines: the space between the
    two shows overfitting.
    """
    claim, styles = summary["claim"], arm_styles(summary["arms"])
    kind, metric = _curve_of(claim)
    ends: list[float] = []
    crossings: list[tuple[float, str, bool]] = []
    any_training = False
    for number, (arm, facts) in enumerate(summary["arms"].items()):
        own = [
            outcome
            for outcome in outcomes
            if outcome.trial.arm == arm and outcome.trial.tuned == facts["tuned"]
        ]
        curves = [outcome.curve(kind, metric) for outcome in own]
        values = (f"{field_name(f)} {value}" for f, value in facts["tuned"].items())
        mean = _draw_arm(axes, curves, ", ".join([arm, *values]), styles[arm])
        if not len(mean):
            continue
        ends.append(mean[-1])
        if kind == "eval":
            curves = [outcome.curve("train", metric) for outcome in own]
            training = _draw_training(axes, curves, styles[arm])
            ends += training[-1:].tolist()
            any_training |= len(training) > 0
        if claims.is_ratio(claim) and facts["mean"] is not None:
            crossings.append((facts["mean"], styles[arm]["color"], number % 2 == 1))
    for epochs, color, below in crossings:
        mark_crossing(axes, (epochs, claim["threshold"]), color, below=below)
    if claims.is_ratio(claim):
        _draw_threshold(axes, claim["threshold"])
        ends = []  # The threshold is far from 0.
    elif not summary["comparisons"]:
        ends += _draw_papers_error(axes, claim, claims.METRICS[metric])
    if any_training:
        axes.plot([], [], color="0.3", linewidth=0.8, label="thin: training error")
    name = "training error" if kind == "train" else claims.METRICS[metric]
    set_error_scale(axes, name, min(ends, default=1.0))
    axes.set(xlabel="epochs", xlim=(0, None))
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:  # none before a trial has a value
        # "best" by name: Matplotlib's default warns where a busy machine draws slowly.
        axes.legend(loc="best", framealpha=0.85, edgecolor="none")


def _curve_of(claim: dict[str, Any]) -> tuple[str, str]:
    """The kind of row, "train" or "eval", and the error whose curves answer a claim."""
    if claims.is_ratio(claim) or claim["metric"] == "train_top1_error":
        return "train", "top1_error"
    evaluated = claim["metric"] in claims.EVALUATION_METRICS
    return "eval", claim["metric"] if evaluated else "top1_error"


def _draw_papers_error(axes: Axes, claim: dict[str, Any], drawn: str) -> list[float]:
    """The paper's number, where it is an error of the kind that is drawn; returns it."""
    paper = claim["paper"]
    if not isinstance(paper, (int, float)) or claims.describe_metric(claim) != drawn:
        return []
    label = f"the paper: {paper_cell(claim)}"
    axes.axhline(paper, color=PAPER_COLOR, linestyle="--", linewidth=1.4, label=label)
    return [paper]


def _curves_title(summary: dict[str, Any]) -> str:
    seeds = plural(summary["seeds"], "seed")
    what = "One seed" if summary["seeds"] == 1 else f"Mean and range of {seeds}"
    return f"{what}{_selected(summary)}"


def _selected(summary: dict[str, Any]) -> str:
    return ", each arm at its selected value" if _tuned_fields(summary) else ""


Curve = list[tuple[float, float]]


def _draw_arm(
    axes: Axes, curves: list[Curve], label: str, style: dict[str, Any]
) -> np.ndarray:
    """Draws the mean of an arm's curves and their range; returns the mean (points,).

    Where the curve of a diverged seed ends, the mean ends too, as that of the other seeds
    would jump. They continue as thin lines.
    """
    epochs, errors = _over_seeds(curves)
    for curve in curves:
        if len(curve) > len(epochs):
            rest = np.array(curve[max(0, len(epochs) - 1) :])
            axes.plot(rest[:, 0], rest[:, 1], linewidth=0.7, **style)
    if not len(epochs):
        return np.zeros(0)
    marker = "o" if len(epochs) == 1 else None
    mean = errors.mean(axis=0)
    axes.plot(epochs, mean, label=label, linewidth=1.8, marker=marker, **style)
    axes.fill_between(
        epochs,
        errors.min(axis=0),
        errors.max(axis=0),
        color=style["color"],
        alpha=0.18,
        linewidth=0,
    )
    return mean


def _draw_training(
    axes: Axes, curves: list[Curve], style: dict[str, Any]
) -> np.ndarray:
    """Draws the mean training error as a thin line; returns it (points,).

    An average of networks has none, because it is not trained.
    """
    epochs, errors = _over_seeds(curves)
    if not len(epochs):
        return np.zeros(0)
    mean = errors.mean(axis=0)
    axes.plot(epochs, mean, linewidth=0.8, alpha=0.8, **style)
    return mean


def _over_seeds(curves: list[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs (points,) that all curves have, and their values (seeds, points)."""
    shared = min((len(curve) for curve in curves), default=0)
    if shared == 0:
        return np.zeros(0), np.zeros((0, 0))
    points = np.array([curve[:shared] for curve in curves])
    return points[0, :, 0], points[:, :, 1]


def _draw_threshold(axes: Axes, threshold: float) -> None:
    axes.axhline(threshold, color="0.35", linewidth=0.9)
    axes.annotate(
        claims.percent(threshold),
        (0, threshold),
        fontsize=9,
        xycoords=("axes fraction", "data"),
        xytext=(3, 3),
        textcoords="offset points",
        color="0.35",
    )


def _draw_tuned(axes: Axes, summary: dict[str, Any]) -> None:
    """The metric at every tuned value, a point for each seed, and its mean as a line.

    Above them, at each value, the number of seeds that have no value.
    """
    claim, styles = summary["claim"], arm_styles(summary["arms"])
    top = bottom = 0.0
    missing: dict[str, dict[float, int]] = {}
    for arm, facts in summary["arms"].items():
        by_value = {
            float(name.rpartition("=")[2]): values
            for name, values in facts["by_tuned"].items()
        }
        missing[arm] = {x: values["without_value"] for x, values in by_value.items()}
        means = [(x, v["mean"]) for x, v in by_value.items() if v["mean"] is not None]
        for x, values in by_value.items():
            present = [value for value in values["per_seed"] if value is not None]
            top, bottom = max([top, *present]), min([bottom, *present])
            color = styles[arm]["color"]
            axes.plot(
                [x] * len(present), present, "o", markersize=4, alpha=0.7, color=color
            )
        line = zip(*means, strict=True) if means else ([], [])
        axes.plot(*line, label=arm, linewidth=1.5, **styles[arm])
    height = _note_missing(axes, missing, top or 1.0, styles)
    axes.set(
        xlabel=field_name(_tuned_fields(summary)[0]),
        ylabel=claims.describe_metric(claim),
        ylim=(1.05 * bottom, height),
    )
    tried = sorted({x for counts in missing.values() for x in counts})
    above = [x for x in tried if x > 0]
    if len(above) == len(tried):
        axes.set_xscale("log")
    else:  # such as a weight decay of 0, which a logarithm would leave out
        axes.set_xscale("symlog", linthresh=min(above, default=1.0))
    _set_ticks(axes, tried)
    what = "without a value"
    if claims.is_ratio(claim):
        what = f"did not reach {claims.percent(claim['threshold'])}"
    title = f"Every value tried (n×: n seeds {what})"
    if summary.get("tuning"):  # absent from old files
        seeds = plural(summary["tuning"]["seeds"], "seed")
        title = f"Tuning by {seeds} of its own (n×: n given up or {what})"
    axes.set_title(textwrap.fill(title, 52), fontsize=9, loc="left")
    axes.grid(alpha=0.25)
    axes.legend(loc="best", framealpha=0.85, edgecolor="none")


def _note_missing(
    axes: Axes,
    missing: dict[str, dict[float, int]],
    top: float,
    styles: dict[str, dict[str, Any]],
) -> float:
    """Writes how many seeds lack a value, a row for each arm; returns the axis's height."""
    for row, (arm, counts) in enumerate(missing.items(), start=1):
        for x, count in counts.items():
            if count:
                axes.annotate(
                    f"{count}×",
                    (x, top * (1 + 0.09 * row)),
                    ha="center",
                    va="center",
                    fontsize=9,
                    color=styles[arm]["color"],
                )
    return top * (1 + 0.09 * (len(missing) + 1))


def _set_ticks(axes: Axes, tried: list[float]) -> None:
    """A tick for every value tried, unless they are so many that powers of ten serve."""
    if len(tried) <= 12:
        axes.set_xticks(tried, [f"{x:g}" for x in tried], rotation=45, fontsize=8)
        axes.minorticks_off()
    if tried[0] > 0:  # also values at which nothing is drawn
        axes.set_xlim(tried[0] / 1.25, tried[-1] * 1.25)
