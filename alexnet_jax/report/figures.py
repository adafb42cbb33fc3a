"""Draws the figure of a run folder, in the manner of the paper's Figure 1."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from alexnet_jax.report import claims
from alexnet_jax.report.formatting import field_name, same_dataset
from alexnet_jax.report.run_reader import Outcome

# Arms differ in color and in line, so that they can be told apart in print and by
# readers who are color-blind.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#333333")
LINES = ("-", "--", "-.", ":")


def draw(summary: dict[str, Any], outcomes: list[Outcome], folder: Path) -> None:
    """Writes figure.png and figure.svg: learning curves, and beside them tuned values."""
    settings = summary["at_equal_tuned_values"]
    tuned = len(settings) > 1 and len(_tuned_fields(summary)) == 1
    widths = [5, 4] if tuned else [1]
    figure, axes = plt.subplots(
        1,
        len(widths),
        figsize=(9.6 if tuned else 6, 4.2),
        width_ratios=widths,
        squeeze=False,
        layout="constrained",
    )
    _draw_curves(axes[0, 0], summary, outcomes)
    if tuned:
        _draw_tuned(axes[0, 1], summary)
    figure.suptitle(_title(summary), fontsize=11)
    for suffix, options in (
        ("png", {"dpi": 150}),
        ("svg", {"metadata": {"Date": None}}),
    ):
        draft = folder / f"figure.part.{suffix}"
        figure.savefig(draft, **options)
        draft.replace(folder / f"figure.{suffix}")
    plt.close(figure)


def _title(summary: dict[str, Any]) -> str:
    title = f"{summary['experiment']} on {summary['dataset']}"
    if not same_dataset(summary["dataset"], summary["claim"]["dataset"]):
        title += f" (the paper: {summary['claim']['dataset']})"
    return title


def _styles(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        arm: {"color": COLORS[i % len(COLORS)], "linestyle": LINES[i % len(LINES)]}
        for i, arm in enumerate(summary["arms"])
    }


def _tuned_fields(summary: dict[str, Any]) -> list[str]:
    return list(next(iter(summary["arms"].values()))["tuned"])


def _draw_curves(axes: Axes, summary: dict[str, Any], outcomes: list[Outcome]) -> None:
    """Error against epochs: each arm at its selected values, mean and range over seeds.

    Test errors are drawn with the training errors as thin lines: the space between the
    two shows overfitting.
    """
    claim, styles = summary["claim"], _styles(summary)
    kind, metric = _curve_of(claim)
    any_training = False
    for number, (arm, facts) in enumerate(summary["arms"].items()):
        own = [
            outcome
            for outcome in outcomes
            if outcome.trial.arm == arm and outcome.trial.tuned == facts["tuned"]
        ]
        curves = [outcome.curve(kind, metric) for outcome in own]
        values = (f"{field_name(f)} {value}" for f, value in facts["tuned"].items())
        if not _draw_arm(axes, curves, ", ".join([arm, *values]), styles[arm]):
            continue
        if kind == "eval":
            curves = [outcome.curve("train", metric) for outcome in own]
            any_training |= _draw_training(axes, curves, styles[arm])
        if claims.is_ratio(claim) and facts["mean"] is not None:
            point = (facts["mean"], claim["threshold"])
            _mark_crossing(axes, point, styles[arm]["color"], below=number % 2 == 1)
    if claims.is_ratio(claim):
        _draw_threshold(axes, claim["threshold"])
    axes.set(
        xlabel="epochs",
        ylabel="training error" if kind == "train" else claims.METRICS[metric],
        xlim=(0, None),
        ylim=(0, 1),
    )
    if any_training:
        _make_room_for_training_errors(axes)
    axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
    axes.set_title(_curves_title(summary), fontsize=9)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def _curve_of(claim: dict[str, Any]) -> tuple[str, str]:
    """The kind of row, "train" or "eval", and the error whose curves answer a claim."""
    if claims.is_ratio(claim) or claim["metric"] == "train_top1_error":
        return "train", "top1_error"
    evaluated = claim["metric"] in claims.EVALUATION_METRICS
    return "eval", claim["metric"] if evaluated else "top1_error"


def _curves_title(summary: dict[str, Any]) -> str:
    if summary["seeds"] == 1:
        return "one seed"
    selected = "each arm at its selected value, " if _tuned_fields(summary) else ""
    return f"{selected}mean and range of {summary['seeds']} seeds"


Curve = list[tuple[float, float]]


def _draw_arm(
    axes: Axes, curves: list[Curve], label: str, style: dict[str, Any]
) -> bool:
    """The mean of an arm's curves and their range; whether there is a mean.

    Where the curve of a diverged seed ends, the mean ends too, as that of the other seeds
    would jump. They continue as thin lines.
    """
    epochs, errors = _over_seeds(curves)
    for curve in curves:
        if len(curve) > len(epochs):
            rest = np.array(curve[max(0, len(epochs) - 1) :])
            axes.plot(rest[:, 0], rest[:, 1], linewidth=0.7, **style)
    if not len(epochs):
        return False
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
    return True


def _draw_training(axes: Axes, curves: list[Curve], style: dict[str, Any]) -> bool:
    """The mean training error as a thin line; whether there is one.

    An average of networks has none, because it is not trained.
    """
    epochs, errors = _over_seeds(curves)
    if not len(epochs):
        return False
    axes.plot(epochs, errors.mean(axis=0), linewidth=0.8, alpha=0.8, **style)
    return True


def _over_seeds(curves: list[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs (points,) that all curves have, and their values (seeds, points)."""
    shared = min((len(curve) for curve in curves), default=0)
    if shared == 0:
        return np.zeros(0), np.zeros((0, 0))
    points = np.array([curve[:shared] for curve in curves])
    return points[0, :, 0], points[:, :, 1]


def _mark_crossing(
    axes: Axes, point: tuple[float, float], color: str, *, below: bool
) -> None:
    """A point where an arm reaches the threshold, with its epoch above or below it."""
    axes.plot(*point, "o", color=color, markeredgecolor="white", markersize=9, zorder=3)
    axes.annotate(
        f"{point[0]:.2f}",
        point,
        xytext=(6, -18) if below else (6, 8),
        textcoords="offset points",
        fontweight="bold",
        color=color,
        fontsize=10,
        bbox={"boxstyle": "round,pad=0.15", "color": "white", "alpha": 0.75},
    )


def _draw_threshold(axes: Axes, threshold: float) -> None:
    axes.axhline(threshold, color="0.35", linewidth=0.9)
    axes.annotate(
        claims.percent(threshold),
        (1, threshold),
        fontsize=9,
        xycoords=("axes fraction", "data"),
        xytext=(-3, 3),
        ha="right",
        textcoords="offset points",
        color="0.35",
    )


def _make_room_for_training_errors(axes: Axes) -> None:
    """An axis of square roots, and an entry of the legend for all thin lines.

    Training and test errors end within a few percent: a linear axis would draw them on
    top of each other, and a logarithmic axis has no place for an error of zero.
    """
    axes.plot([], [], color="0.3", linewidth=0.8, label="thin: training error")
    axes.set_yscale("function", functions=(np.sqrt, np.square))
    axes.set_yticks([0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.7, 1])


def _draw_tuned(axes: Axes, summary: dict[str, Any]) -> None:
    """The metric at every tuned value, a point for each seed, and its mean as a line.

    Above them, at each value, the number of seeds that have no value.
    """
    claim, styles = summary["claim"], _styles(summary)
    top = 0.0
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
            top = max([top, *present])
            color = styles[arm]["color"]
            axes.plot(
                [x] * len(present), present, "o", markersize=4, alpha=0.7, color=color
            )
        line = zip(*means, strict=True) if means else ([], [])
        axes.plot(*line, label=arm, linewidth=1.5, **styles[arm])
    height = _note_missing(axes, missing, top or 1.0, styles)
    axes.set(
        xscale="log",
        xlabel=field_name(_tuned_fields(summary)[0]),
        ylabel=claims.describe_metric(claim),
        ylim=(0, height),
    )
    _set_ticks(axes, sorted({x for counts in missing.values() for x in counts}))
    what = "without a value"
    if claims.is_ratio(claim):
        what = f"did not reach {claims.percent(claim['threshold'])}"
    axes.set_title(f"every value tried (n×: n seeds {what})", fontsize=9)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


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
