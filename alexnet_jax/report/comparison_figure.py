"""Dot plots with intervals: arms or comparisons, one row each, and the paper's number."""

import dataclasses
import textwrap
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from alexnet_jax.report import claims, formatting
from alexnet_jax.report.drawing import MEASURED_COLOR, PAPER_COLOR, Drawing
from alexnet_jax.report.headline import question, short_answer

TITLE_WIDTH = 96  # characters of a title in a figure of 8 inches


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a dot plot.

    Attributes:
      label: on the left.
      text: on the right: the numbers, or why there are none.
      mean, low, high: the dot and its interval, each None if there is none.
      bound: where there is no mean: the smallest or largest value it can have, and the
        direction in which it lies.
      seeds: the values of single seeds.
    """

    label: str
    text: str
    mean: float | None
    low: float | None
    high: float | None
    bound: tuple[float, str] | None = None
    seeds: tuple[float, ...] = ()


def draw_beside_paper(summary: dict[str, Any]) -> Drawing:
    """The comparisons of a summary with their intervals, and the paper's numbers."""
    answers = claims.answers(summary)
    heights = [answer_height(answer) + 0.5 for answer in answers]
    figure = Drawing(figsize=(8, sum(heights) + 0.4), layout="constrained")
    figure.colors = 64  # enough for black, red and gray
    axes = figure.subplots(len(answers), height_ratios=heights, squeeze=False)[:, 0]
    for axis, answer in zip(axes, answers, strict=True):
        draw_answer(axis, answer)
        lines = [
            line
            for text in (question(answer), short_answer(answer))
            for line in textwrap.wrap(text, TITLE_WIDTH)
        ]
        axis.set_title("\n".join(lines), fontsize=9, loc="left", pad=16)
    title = formatting.dataset_title(summary["dataset"])
    name = f"{summary['experiment']} on {title}"
    figure.suptitle(name, fontsize=9, parse_math=False)
    return figure


def answer_height(answer: Mapping[str, Any]) -> float:
    """The height in inches that `draw_answer` needs."""
    return 0.8 + 0.28 * len(answer["comparisons"] or answer["arms"])


def draw_answer(axes: Axes, answer: Mapping[str, Any]) -> None:
    """A row for each comparison of a claim, or for each arm if it compares none.

    The paper's number is a dashed line; where it only gives a direction, an arrow.
    """
    claim, found = answer["claim"], answer["comparisons"]
    ratio = bool(found) and claims.is_ratio(claim)
    no_effect = (1.0 if ratio else 0.0) if found else None
    rows = [_comparison_row(each, claim) for each in found] or arm_rows(answer)
    _draw_rows(axes, rows)
    shown = [value for row in rows for value in _values(row)]
    if no_effect is not None:
        axes.axvline(no_effect, color="0.5", lw=0.9, zorder=0)
        shown.append(no_effect)
    paper = claim["paper"]
    number = None
    if isinstance(paper, (int, float)):
        number = paper if claims.is_ratio(claim) else 100 * paper
        axes.axvline(number, color=PAPER_COLOR, ls="--", lw=1.4, zorder=1)
        shown.append(number)
    _set_horizontal_scale(axes, shown, ratio=ratio)
    if number is not None:
        _note_above(axes, number, f"the paper: {formatting.show_value(paper, claim)}")
    elif no_effect is not None and paper is not None:
        arrow = f"{paper} →" if paper == "higher" else f"← {paper}"
        _note_above(axes, no_effect, f"the paper: {arrow}")
    unit = _unit(claim, compares=bool(found))
    if any(row.low is not None for row in rows):
        unit = f"{unit}, 95% intervals"
    axes.set_xlabel(unit, fontsize=9)


def draw_arms(axes: Axes, answer: Mapping[str, Any]) -> None:
    """A row for each arm at its selected values: mean, interval, and its seeds."""
    rows = arm_rows(answer)
    _draw_rows(axes, rows)
    shown = [value for row in rows for value in _values(row)]
    _set_horizontal_scale(axes, [*shown, 0.0], ratio=False)
    axes.set_xlabel(_unit(answer["claim"], compares=False), fontsize=9)


def arm_rows(answer: Mapping[str, Any]) -> list[Row]:
    """A row for each arm; errors are in percent."""
    claim = answer["claim"]
    scale = 1.0 if claims.is_ratio(claim) else 100.0
    return [
        Row(
            label=arm,
            text=formatting.show_interval(facts, claim),
            mean=_scaled(facts["mean"], scale),
            low=_scaled(facts["low"], scale),
            high=_scaled(facts["high"], scale),
            seeds=tuple(scale * v for v in facts["per_seed"] if v is not None),
        )
        for arm, facts in answer["arms"].items()
    ]


def _comparison_row(each: Mapping[str, Any], claim: Mapping[str, Any]) -> Row:
    scale = 1.0 if claims.is_ratio(claim) else 100.0
    bound, text = None, formatting.brief(each, claim)
    if each["mean"] is None:
        text = "no answer"
        for key, words, side in (("at_least", "≥", ">"), ("at_most", "≤", "<")):
            if each[key] is not None:
                bound = (each[key], side)
                text = f"{words} {formatting.show_value(each[key], claim)}, a bound"
    elif each["low"] is None:
        text = f"{formatting.show_value(each['mean'], claim)} (no interval)"
    mean, low, high = (_scaled(each[key], scale) for key in ("mean", "low", "high"))
    return Row(formatting.show_pair(each, claim), text, mean, low, high, bound)


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def _values(row: Row) -> list[float]:
    """What has to be within the axis."""
    found = [row.mean, row.low, row.high, row.bound and row.bound[0], *row.seeds]
    return [value for value in found if value is not None]


def _draw_rows(axes: Axes, rows: list[Row]) -> None:
    """Dots, intervals and seeds, with a label on the left and the numbers on the right."""
    for place, row in enumerate(rows):
        look: dict[str, Any] = {"color": MEASURED_COLOR, "zorder": 3}
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], lw=2.2, **look)
        if len(row.seeds) > 1:
            at = [place + 0.22] * len(row.seeds)
            axes.plot(row.seeds, at, "|", color="0.35", markersize=6)
        if row.mean is not None:
            axes.plot(row.mean, place, "o", markersize=7, **look)
        if row.bound is not None:
            axes.plot(row.bound[0], place, row.bound[1], markersize=8, **look)
        axes.annotate(
            textwrap.fill(row.text, 26),
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    labels = [textwrap.fill(row.label, 30) for row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=9.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=9)
    axes.grid(alpha=0.25)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _note_above(axes: Axes, x: float, text: str) -> None:
    """A note at a place of the horizontal axis, which does not stand out on the sides."""
    place, _ = axes.transAxes.inverted().transform(axes.transData.transform((x, 0)))
    sides = {"left": place < 0.25, "right": place > 0.75}
    axes.annotate(
        text,
        (x, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha=next((side for side, applies in sides.items() if applies), "center"),
        va="bottom",
        fontsize=9,
        color=PAPER_COLOR,
    )


def _set_horizontal_scale(axes: Axes, shown: list[float], *, ratio: bool) -> None:
    """Room around every value; for ratios a logarithmic axis with numbers at its ticks."""
    if not shown:  # no trial has a value yet
        axes.set_xticks([])
        return
    low, high = min(shown), max(shown)
    if not ratio:
        margin = 0.06 * (high - low) or 1.0
        axes.set_xlim(low - margin, high + margin)
        return
    axes.set_xscale("log")
    margin = max((high / low) ** 0.08, 1.05)
    axes.set_xlim(low / margin, high * margin)
    wide = high / low > 4
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")


def _unit(claim: Mapping[str, Any], *, compares: bool) -> str:
    metric = claims.describe_metric(claim)
    if not compares:
        return metric if claims.is_ratio(claim) else f"{metric} in %"
    if claims.is_ratio(claim):
        return f"{metric}, ratio (1: no effect; log scale)"
    return f"{metric} in points (0: no effect)"
