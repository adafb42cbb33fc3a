"""Figures of a run folder, in the manner of the paper's Figure 1."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from alexnet_jax.report import claims, words
from alexnet_jax.report.records import Outcome

# Distinguished by colour and by line, so that print and every eye can tell them apart.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#333333")
LINES = ("-", "--", "-.", ":")


def draw(summary: dict[str, Any], outcomes: list[Outcome], folder: Path) -> None:
    """Writes figure.png and figure.svg: the curves, and the tuned values beside."""
    tuned = (
        len(summary["at_equal_tuned_values"]) > 1 and len(_tuned_field(summary)) == 1
    )
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
    if not words.same_dataset(summary["dataset"], summary["claim"]["dataset"]):
        title += f" (the paper: {summary['claim']['dataset']})"
    return title


def _styles(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        arm: {"color": COLORS[i % len(COLORS)], "linestyle": LINES[i % len(LINES)]}
        for i, arm in enumerate(summary["arms"])
    }


def _draw_curves(axes: Axes, summary: dict[str, Any], outcomes: list[Outcome]) -> None:
    """Error against epochs: each arm at its best, mean and range over the seeds.

    Beside test errors the training errors, thin: what lies between is overfitting.
    """
    claim, styles = summary["claim"], _styles(summary)
    crosses = claims.is_ratio(claim)  # a threshold
    on_train = crosses or claim["metric"] == "train_top1_error"
    metric = (
        claim["metric"] if claim["metric"] in claims.OF_EVALUATION else "top1_error"
    )
    kind = "train" if on_train else "eval"
    beside = False  # whether any thin curve is drawn
    for number, (arm, facts) in enumerate(summary["arms"].items()):
        own = [
            outcome
            for outcome in outcomes
            if outcome.trial.arm == arm and outcome.trial.tuned == facts["tuned"]
        ]
        curves = [outcome.curve(kind, metric) for outcome in own]
        epochs, errors = _over_seeds(curves)
        # Where one seed diverged the mean ends: the others go on by themselves, thin.
        for curve in curves:
            if len(curve) > len(epochs):
                rest = np.array(curve[max(0, len(epochs) - 1) :])
                axes.plot(rest[:, 0], rest[:, 1], linewidth=0.7, **styles[arm])
        if not len(epochs):
            continue
        setting = own[0].trial.tuned_name.replace("learning_rate", "learning rate")
        label = arm + (f", {setting.replace('=', ' ')}" if setting else "")
        style = styles[arm] | ({"marker": "o"} if len(epochs) == 1 else {})
        axes.plot(epochs, errors.mean(axis=0), label=label, linewidth=1.8, **style)
        axes.fill_between(
            epochs,
            errors.min(axis=0),
            errors.max(axis=0),
            color=styles[arm]["color"],
            alpha=0.18,
            linewidth=0,
        )
        if not on_train:
            curves = [outcome.curve("train", metric) for outcome in own]
            epochs, errors = _over_seeds(curves)
            if len(epochs):  # an average of networks is not trained
                beside = True
                axes.plot(
                    epochs, errors.mean(axis=0), linewidth=0.8, alpha=0.8, **styles[arm]
                )
        if crosses and facts["mean"] is not None:
            axes.plot(
                facts["mean"],
                claim["threshold"],
                "o",
                color=styles[arm]["color"],
                markeredgecolor="white",
                markersize=9,
                zorder=3,
            )
            axes.annotate(
                f"{facts['mean']:.2f}",
                (facts["mean"], claim["threshold"]),
                xytext=(6, -18) if number % 2 else (6, 8),  # not one on the other
                textcoords="offset points",
                fontweight="bold",
                color=styles[arm]["color"],
                fontsize=10,
                bbox={"boxstyle": "round,pad=0.15", "color": "white", "alpha": 0.75},
            )
    if crosses:
        axes.axhline(claim["threshold"], color="0.35", linewidth=0.9)
        axes.annotate(
            claims.percent(claim["threshold"]),
            (1, claim["threshold"]),
            fontsize=9,
            xycoords=("axes fraction", "data"),
            xytext=(-3, 3),
            ha="right",
            textcoords="offset points",
            color="0.35",
        )
    axes.set(
        xlabel="epochs",
        ylabel="training error" if on_train else claims.METRICS[metric],
        xlim=(0, None),
        ylim=(0, 1),
    )
    if beside:
        axes.plot([], [], color="0.3", linewidth=0.8, label="thin: training error")
        # Training and test end within a few percent: a linear axis lays them on each
        # other, and a logarithmic one has no place for an error of none.
        axes.set_yscale("function", functions=(np.sqrt, np.square))
        axes.set_yticks([0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.7, 1])
    axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
    best = "each arm at its best, " if _tuned_field(summary) else ""
    axes.set_title(
        f"{best}mean and range of {summary['seeds']} seeds"
        if summary["seeds"] > 1
        else "one seed",
        fontsize=9,
    )
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def _over_seeds(
    curves: list[list[tuple[float, float]]],
) -> tuple[np.ndarray, np.ndarray]:
    """Epochs (points,) that all curves have, and their values (seeds, points)."""
    shared = min((len(curve) for curve in curves), default=0)
    if shared == 0:
        return np.zeros(0), np.zeros((0, 0))
    both = np.array([curve[:shared] for curve in curves])
    return both[0, :, 0], both[:, :, 1]


def _tuned_field(summary: dict[str, Any]) -> list[str]:
    return list(next(iter(summary["arms"].values()))["tuned"])


def _draw_tuned(axes: Axes, summary: dict[str, Any]) -> None:
    """The metric at every tuned value, a point a seed; on top how many have none."""
    claim, styles = summary["claim"], _styles(summary)
    top = 0.0
    missing: dict[tuple[str, float], int] = defaultdict(int)
    for arm, facts in summary["arms"].items():
        means = []
        for setting, values in facts["by_tuned"].items():
            x = float(setting.rpartition("=")[2])
            reached = [value for value in values["per_seed"] if value is not None]
            missing[arm, x] = values["without_value"]
            top = max([top, *reached])
            axes.plot(
                [x] * len(reached),
                reached,
                "o",
                markersize=4,
                alpha=0.7,
                color=styles[arm]["color"],
            )
            if values["mean"] is not None:
                means.append((x, values["mean"]))
        if means:
            axes.plot(
                *zip(*means, strict=True), label=arm, linewidth=1.5, **styles[arm]
            )
        else:
            axes.plot([], [], label=arm, **styles[arm])
    rows = {arm: 1 + 0.09 * (number + 1) for number, arm in enumerate(summary["arms"])}
    for (arm, x), count in missing.items():
        if count:
            axes.annotate(
                f"{count}×",
                (x, (top or 1.0) * rows[arm]),
                ha="center",
                va="center",
                fontsize=9,
                color=styles[arm]["color"],
            )
    axes.set(
        xscale="log",
        xlabel=_tuned_field(summary)[0].rpartition(".")[2].replace("_", " "),
        ylabel=claims.describe_metric(claim),
        ylim=(0, (top or 1.0) * (max(rows.values()) + 0.09)),
    )
    tried = sorted({x for _, x in missing})
    if len(tried) <= 12:  # else powers of ten
        axes.set_xticks(tried, [f"{x:g}" for x in tried], rotation=45, fontsize=8)
        axes.minorticks_off()
    if tried[0] > 0:  # also where no value is drawn
        axes.set_xlim(tried[0] / 1.25, tried[-1] * 1.25)
    why = "never got there" if claims.is_ratio(claim) else "have none"
    axes.set_title(f"every value tried (n×: n seeds {why})", fontsize=9)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
