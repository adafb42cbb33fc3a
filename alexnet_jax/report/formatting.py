"""Numbers, comparisons and names as a report shows them."""

import math
from collections.abc import Mapping
from typing import Any

from alexnet_jax.config.dataset_names import short_name
from alexnet_jax.report.claims import describe_metric, is_of_paper, is_ratio

DATASET_TITLES = {
    "digits": "handwritten digits",
    "cifar10": "CIFAR-10",
    "fashion_mnist": "Fashion-MNIST",
    "imagenet2012": "ImageNet (ILSVRC-2012)",
    "imagenet2010": "ImageNet (ILSVRC-2010)",
}


def run_title(summary: Mapping[str, Any]) -> str:
    """For example "relu on cifar10", from the content of a summary.json."""
    return f"{summary['experiment']} on {summary['dataset']}"


def dataset_title(dataset: str) -> str:
    """A dataset's usual name; for example "CIFAR-10" for "cifar10:3.0.2"."""
    name = short_name(dataset)
    if name.startswith("folder="):
        return f"the folder {name.removeprefix('folder=')}"
    if name.startswith("npz="):
        return f"the arrays of {name.removeprefix('npz=')}"
    return DATASET_TITLES.get(name, name)


def same_dataset(measured_on: str, paper: str) -> bool:
    """Whether two names mean the same dataset, in whatever version."""
    return short_name(measured_on) == paper


def field_name(field: str) -> str:
    """The last part of a dotted field name, in words."""
    return field.rpartition(".")[2].replace("_", " ")


def show_value(value: float, claim: Mapping[str, Any]) -> str:
    """A ratio, such as "1.5"; a difference, "1.4 points"; or a single error, "1.4%"."""
    number = show_number(value, claim)
    if is_ratio(claim):
        return number
    return f"{number} points" if claim.get("compare") else f"{number}%"


def show_number(value: float, claim: Mapping[str, Any]) -> str:
    """A value of a claim's metric, without its unit."""
    return _ratio(value) if is_ratio(claim) else _points(value)


def _ratio(value: float) -> str:
    """Two significant digits; more for a ratio near 1, which "1" would call no effect."""
    if value >= 10:
        return f"{value:.0f}"
    shown = (f"{value:.{digits}g}" for digits in (2, 3, 4))
    return next((text for text in shown if float(text) != 1), "1")


def _points(value: float) -> str:
    """In percent to one decimal; to two for one that "0.0" would call no effect."""
    percent = 100 * value
    if math.isclose(round(percent, 1), 0.0) and abs(percent) >= 0.005:
        return f"{percent:.2f}"
    return f"{round(percent, 1) + 0.0:.1f}"  # + 0.0: never "-0.0"


def show_pair(comparison: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """For example "tanh / ReLU", or "without - with"."""
    return (" / " if is_ratio(claim) else " - ").join(comparison["compare"])


def describe_comparison(claim: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    """For example "top-1 error, without - with"."""
    return f"{describe_metric(claim)}, {show_pair(comparison, claim)}"


def show_comparison(comparison: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """For example "0.61 (95% interval 0.47 to 0.79, 3 paired seeds)"."""
    seeds_per_group = comparison.get("seeds_per_group", 1)  # absent from old files
    if comparison["mean"] is not None:
        return show_mean(comparison, seeds_per_group, claim)
    reason = missing_values(comparison, claim)
    for bound, words in (("at_least", "at least"), ("at_most", "at most")):
        if comparison[bound] is not None:
            return f"{words} {show_value(comparison[bound], claim)} ({reason})"
    finished = comparison.get("finished_pairs")
    if finished is None:
        return f"no answer ({reason})"
    alone = show_mean(finished, seeds_per_group, claim)
    return f"no answer ({reason}); of the finished pairs alone: {alone}"


def brief(comparison: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """For example "0.61 [0.47, 0.79]", without the number of pairs."""
    if comparison["low"] is None:
        return show_comparison(comparison, claim)
    low, high = (show_number(comparison[end], claim) for end in ("low", "high"))
    return f"{show_value(comparison['mean'], claim)} [{low}, {high}]"


def show_mean(
    facts: Mapping[str, Any], seeds_per_group: int, claim: Mapping[str, Any]
) -> str:
    """The mean of a comparison, and in parentheses how well it is known."""
    known = uncertainty(facts, seeds_per_group, claim)
    return f"{show_value(facts['mean'], claim)} ({known})"


def uncertainty(
    facts: Mapping[str, Any], seeds_per_group: int, claim: Mapping[str, Any]
) -> str:
    """For example "95% interval 0.47 to 0.79, 3 paired seeds"."""
    if facts["low"] is None:
        return f"{pairs_counted(1, seeds_per_group)}, no interval"
    low = show_number(facts["low"], claim)
    high = show_value(facts["high"], claim)
    return f"95% interval {low} to {high}, {pairs_counted(facts['n'], seeds_per_group)}"


def pairs_counted(count: int, seeds_per_group: int) -> str:
    """For example "3 paired seeds", or "3 groups of 5 seeds"."""
    if seeds_per_group > 1:
        return f"{plural(count, 'group')} of {seeds_per_group} seeds"
    return "one seed" if count == 1 else f"{count} paired seeds"


def missing_values(comparison: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """For example "tanh: 3 seeds did not reach it"."""
    unit = "group" if comparison.get("seeds_per_group", 1) > 1 else "seed"
    counts = (comparison["missing_first"], comparison["missing_second"])
    return "; ".join(
        f"{arm}: {plural(count, unit)} "
        + ("did not reach it" if is_ratio(claim) else "without a value")
        for arm, count in zip(comparison["compare"], counts, strict=True)
        if count
    )


def show_interval(facts: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """An arm's mean and interval, "1.49 [1.35, 1.64]", or why it has none."""
    if facts["mean"] is None:
        return missing_seeds(facts, claim)

    def show(value: float) -> str:
        return f"{value:.2f}" if is_ratio(claim) else f"{_points(value)}%"

    if facts["low"] is None:
        return f"{show(facts['mean'])} (one seed)"
    return f"{show(facts['mean'])} [{show(facts['low'])}, {show(facts['high'])}]"


def missing_seeds(facts: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """For example "1 of 3 seeds did not reach it (1 diverged)".

    Old files of arms at their selected values count only the seeds without a value.
    """
    missing, seeds = facts["without_value"], len(facts["per_seed"])
    reasons = ", ".join(
        f"{facts[status]} {status}"
        for status in ("diverged", "unfinished")
        if facts.get(status)
    )
    what = "did not reach it" if is_ratio(claim) else "without a value"
    return f"{missing} of {seeds} seeds {what}" + (f" ({reasons})" if reasons else "")


def paper_cell(claim: Mapping[str, Any]) -> str:
    """What the paper reports, in a cell of a table."""
    paper = claim["paper"]
    if not is_of_paper(claim):
        return "-"
    if claim.get("instead_of"):
        return "not comparable"
    if paper is None:
        return "not reported"
    return f"{paper}, no number" if isinstance(paper, str) else show_value(paper, claim)


def paper_note(claim: Mapping[str, Any]) -> str:
    """The paper's number and its data, such as "The paper, on CIFAR-10: 6.".

    Empty if the paper makes no such claim.
    """
    if not is_of_paper(claim):
        return ""
    return f"The paper, on {dataset_title(claim['dataset'])}: {paper_cell(claim)}."


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
