"""What the records say of the paper's claim: figures, intervals, and a verdict by rule."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from alexnet_jax.config import networks_of
from alexnet_jax.report import words
from alexnet_jax.report.claims import (
    DIRECTIONS,
    check_claim,
    compared_pairs,
    is_ratio,
)
from alexnet_jax.report.records import Outcome
from alexnet_jax.tuning import values_of

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and its 95% interval by Student's t; no interval from one value."""

    mean: float | None
    low: float | None
    high: float | None
    n: int

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def interval(
    values: Sequence[float], *, ratio: bool = False, least_deviation: float = 0.0
) -> Interval:
    """Mean and 95% interval of `values`; of ratios, the geometric mean, in logarithms.

    `least_deviation` takes the place of a smaller standard deviation of the values.
    """
    n = len(values)
    if n == 0:
        return Interval(None, None, None, 0)
    sample = np.log(values) if ratio else np.asarray(values, float)
    back = math.exp if ratio else float
    mean = sample.mean()
    if n == 1:
        return Interval(back(mean), None, None, 1)
    error = max(sample.std(ddof=1), least_deviation) / math.sqrt(n)
    reach = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * error
    return Interval(back(mean), back(mean - reach), back(mean + reach), n)


def crossing(curve: Sequence[tuple[float, float]], threshold: float) -> float | None:
    """Where the curve first comes down to `threshold`, on the straight line between
    its points; None if it never does. From its first point on it counts as there."""
    for number, (epoch, error) in enumerate(curve):
        if error <= threshold:
            if number == 0:
                return epoch
            before, error_before = curve[number - 1]
            share = (error_before - threshold) / (error_before - error)
            return before + share * (epoch - before)
    return None


def measured(outcome: Outcome, claim: dict[str, Any]) -> float | None:
    """The claim's metric of one trial; None if it diverged or never got there."""
    if claim["metric"] == "epochs_to_train_error":
        return crossing(outcome.curve("train", "top1_error"), claim["threshold"])
    if claim["metric"] == "train_top1_error":
        return outcome.final("train", "top1_error")
    return outcome.final("eval", claim["metric"])


def summarize(experiment: dict[str, Any], outcomes: list[Outcome]) -> dict[str, Any]:
    """The content of summary.json.

    Raises:
      UserError: if the claim names a metric or an arm that there is not.
    """
    config, claim = experiment["config"], experiment["config"]["claim"]
    check_claim(config)
    values = {
        (outcome.trial.arm, outcome.trial.tuned_name, outcome.trial.seed): measured(
            outcome, claim
        )
        for outcome in outcomes
    }
    settings = list(dict.fromkeys(outcome.trial.tuned_name for outcome in outcomes))
    tuned = {outcome.trial.tuned_name: outcome.trial.tuned for outcome in outcomes}

    def per_seed(arm: str, setting: str) -> list[float | None]:
        seeds = range(config["seeds"] // networks_of(config, arm))
        return [values[arm, setting, seed] for seed in seeds]

    chosen = {
        arm: min(settings, key=lambda setting: _rank(per_seed(arm, setting)))
        for arm in config["arms"]
    }
    arms = {
        arm: {
            "tuned": tuned[setting],
            "at_edge": _at_edge(tuned[setting], values_of(config["tuned"])),
            **_arm(per_seed(arm, setting)),
            **_final_errors(outcomes, arm, setting),
            "by_tuned": {
                other: _arm(per_seed(arm, other)) | _ends(outcomes, arm, other)
                for other in settings
            },
        }
        for arm, setting in chosen.items()
    }
    pairs = compared_pairs(claim)
    # Of how many images an error is the share.
    counted = 0
    if claim["metric"] in ("top1_error", "top5_error"):
        counted = min(one.get("validation_examples", 0) for one in experiment["data"])
    limit = min(
        (
            outcome.curve("train", "top1_error")[-1][0]
            for outcome in outcomes
            if outcome.status == "finished"
            and networks_of(config, outcome.trial.arm) == 1
        ),
        default=math.inf,
    )

    def compared(first: str, second: str, *settings: str) -> dict[str, Any]:
        # An average of networks has one value for several seeds: beside it stands the
        # mean of theirs.
        networks = [networks_of(config, arm) for arm in (first, second)]
        values = zip(
            _grouped(per_seed(first, settings[0]), max(networks) // networks[0]),
            _grouped(per_seed(second, settings[-1]), max(networks) // networks[1]),
            strict=True,
        )
        at_work = any(
            outcome.status == "unfinished"
            for outcome in outcomes
            if (outcome.trial.arm, outcome.trial.tuned_name)
            in ((first, settings[0]), (second, settings[-1]))
        )
        reach = None if at_work else limit
        found = compare(
            list(values), ratio=is_ratio(claim), limit=reach, counted=counted
        )
        return found | {"seeds_each": max(networks)}

    comparisons = []
    for first, second in pairs:
        found = compared(first, second, chosen[first], chosen[second])
        standing = direction(found, claim["paper"])
        comparisons.append(
            {"compare": (first, second)} | found | {"standing": standing}
        )
    at_equal = {}
    if len(pairs) == 1 and len(settings) > 1:
        at_equal = {setting: compared(*pairs[0], setting) for setting in settings}
    dataset = experiment["data"][0]["name"]
    prepared = [one.get("prepared") or {"bad_files": 0} for one in experiment["data"]]
    summary = {
        "experiment": config["experiment"],
        "dataset": dataset,
        "bad_files": max(one["bad_files"] for one in prepared),
        "claim": claim,
        "seeds": config["seeds"],
        "arms": arms,
        "comparisons": comparisons,
        "at_equal_tuned_values": at_equal,
        "unfinished_trials": sum(
            outcome.status == "unfinished" for outcome in outcomes
        ),
        "diverged_trials": sum(outcome.status == "diverged" for outcome in outcomes),
    }
    return summary | {"verdict": words.verdict(summary)}


def _grouped(per_seed: list[float | None], size: int) -> list[float | None]:
    """Means of `size` consecutive values each; None where one of them is."""
    groups = [per_seed[n : n + size] for n in range(0, len(per_seed), size)]
    sound = [[value for value in group if value is not None] for group in groups]
    return [
        float(np.mean(values)) if len(values) == len(group) else None
        for values, group in zip(sound, groups, strict=True)
    ]


def _rank(per_seed: list[float | None]) -> tuple[float, float]:
    """Order of settings: first how many seeds failed, then the mean of the others."""
    reached = [value for value in per_seed if value is not None]
    return len(per_seed) - len(reached), float(
        np.mean(reached)
    ) if reached else math.inf


def _at_edge(chosen: dict[str, Any], tuned: dict[str, Any]) -> list[str]:
    """Tuned fields whose chosen value is the smallest or largest of several tried."""
    return [
        name
        for name, value in chosen.items()
        if len(tuned[name]) > 1 and value in (min(tuned[name]), max(tuned[name]))
    ]


def _arm(per_seed: list[float | None]) -> dict[str, Any]:
    """Mean and interval over seeds; none where a seed has no value to average."""
    reached = [value for value in per_seed if value is not None]
    complete = interval(reached if len(reached) == len(per_seed) else [])
    return complete.as_dict() | {
        "n": len(reached),
        "per_seed": per_seed,
        "without_value": len(per_seed) - len(reached),
    }


def _ends(outcomes: list[Outcome], arm: str, setting: str) -> dict[str, int]:
    ends = [
        outcome.status
        for outcome in outcomes
        if (outcome.trial.arm, outcome.trial.tuned_name) == (arm, setting)
    ]
    return {"diverged": ends.count("diverged"), "unfinished": ends.count("unfinished")}


def _final_errors(outcomes: list[Outcome], arm: str, setting: str) -> dict[str, Any]:
    """Means over seeds of the last train and eval rows; None if a trial lacks them."""
    own = [
        outcome
        for outcome in outcomes
        if (outcome.trial.arm, outcome.trial.tuned_name) == (arm, setting)
    ]

    def mean(kind: str, metric: str) -> float | None:
        finals = [outcome.final(kind, metric) for outcome in own]
        sound = [value for value in finals if value is not None]
        return float(np.mean(sound)) if len(sound) == len(finals) else None

    return {
        "final_train_top1_error": mean("train", "top1_error"),
        "final_top1_error": mean("eval", "top1_error"),
        "final_top5_error": mean("eval", "top5_error"),
    }


def compare(
    pairs: list[tuple[float | None, float | None]],
    *,
    ratio: bool,
    limit: float | None,
    counted: int = 0,
) -> dict[str, Any]:
    """First arm against second, paired by seed: ratio or difference with interval.

    An error of `counted` images comes in steps of one image: three seeds that differ by
    the same one image are no interval without width. The deviation of a difference is
    taken to be at least that of the rounding of two such errors, 1 / (sqrt(6) counted).

    A value that was never reached is no number: with one missing there is no mean. But
    of a ratio it still says something. If only first values are missing, the mean ratio
    is at least the one with `limit`, the end of the curves, in their place ("at_least");
    if only second values are, at most the one with `limit` there ("at_most"). Where
    trials are still at work there is no such end (None), and no bound.
    """
    complete = [(a, b) for a, b in pairs if a is not None and b is not None]
    missing_first = sum(a is None for a, _ in pairs)
    missing_second = sum(b is None for _, b in pairs)
    at_least = at_most = None
    result = Interval(None, None, None, len(complete))
    if len(complete) == len(pairs):
        result = interval(
            [a / b if ratio else a - b for a, b in complete],
            ratio=ratio,
            least_deviation=1 / (math.sqrt(6) * counted) if counted else 0.0,
        )
    elif limit is None:
        pass
    elif ratio and missing_second == 0:
        at_least = interval(
            [(limit if a is None else a) / b for a, b in pairs if b], ratio=True
        )
    elif ratio and missing_first == 0:
        at_most = interval(
            [a / (limit if b is None else b) for a, b in pairs if a], ratio=True
        )
    return result.as_dict() | {
        "kind": "ratio" if ratio else "difference",
        "missing_first": missing_first,
        "missing_second": missing_second,
        "at_least": at_least.mean if at_least else None,
        "at_most": at_most.mean if at_most else None,
    }


def direction(comparison: dict[str, Any], paper: float | str | None) -> str:
    """The rule of the verdict: how a comparison stands to what the paper says.

    "none" is 1 for a ratio and 0 for a difference. Same or opposite needs an interval
    that excludes it; a bound on a ratio (never an interval) can only point somewhere.
    Where the paper does not say, there is no direction: a difference, or none resolved.
    """
    none = 1.0 if comparison["kind"] == "ratio" else 0.0
    mean, low, high = comparison["mean"], comparison["low"], comparison["high"]
    if paper is None:
        if low is None:
            return "not answered" if mean is None else "one seed"
        return "no difference resolved" if low <= none <= high else "a difference"
    claimed = (
        DIRECTIONS[paper]
        if isinstance(paper, str)
        else math.copysign(1.0, paper - none)
    )
    if mean is None:
        at_least, at_most = comparison["at_least"], comparison["at_most"]
        for bound, side in ((at_least, 1.0), (at_most, -1.0)):
            if bound is not None and (bound - none) * side > 0:
                where = "same direction" if side == claimed else "opposite"
                return f"{where}, a bound only"
        return "not answered"
    side = math.copysign(1.0, mean - none) if mean != none else 0.0
    if low is None:
        return {claimed: "same direction, one seed", 0.0: "no effect seen"}.get(
            side, "opposite, one seed"
        )
    if low <= none <= high:
        return "same direction, not resolved" if side == claimed else "no effect seen"
    return "same direction, resolved" if side == claimed else "opposite"
