"""What the records say of the paper's claim: figures, intervals, and a verdict by rule."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from alexnet_jax.config import networks_of
from alexnet_jax.report import words
from alexnet_jax.report.claims import (
    DIRECTIONS,
    all_claims,
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


def first_below(curve: Sequence[tuple[float, float]], threshold: float) -> int | None:
    """The number of the curve's first point at `threshold` or below it."""
    below = (n for n, (_, error) in enumerate(curve) if error <= threshold)
    return next(below, None)


def crossing(curve: Sequence[tuple[float, float]], threshold: float) -> float | None:
    """Where the curve first comes down to `threshold`, on the straight line between
    its points; None if it never does. From its first point on it counts as there."""
    number = first_below(curve, threshold)
    if number is None:
        return None
    epoch, error = curve[number]
    if number == 0:
        return epoch
    before, error_before = curve[number - 1]
    share = (error_before - threshold) / (error_before - error)
    return before + share * (epoch - before)


def measured(outcome: Outcome, claim: Mapping[str, Any]) -> float | None:
    """The claim's metric of one trial; None if it diverged or never got there.

    The gap, last test error less last training error, shows how far a network overfits. A
    training error is the mean over the last record's steps, on augmented images and with
    dropout on: it is too high, and of one network the gap too small. Between arms of which
    one has more of these than the other, a part of the difference is theirs, and no
    overfitting: such arms want their test errors compared beside it.
    """
    if is_ratio(claim):
        return crossing(outcome.curve("train", "top1_error"), claim["threshold"])
    if claim["metric"] == "train_top1_error":
        return outcome.final("train", "top1_error")
    if claim["metric"] == "overfitting_gap":
        test = outcome.final("eval", "top1_error")
        train = outcome.final("train", "top1_error")
        return None if test is None or train is None else test - train
    return outcome.final("eval", claim["metric"])


def known_to(
    outcome: Outcome, claim: Mapping[str, Any], data: Mapping[str, Any]
) -> float:
    """How finely `measured` tells values apart; 0 where the records do not say.

    A crossing lies between two records, wherever on the line between them it is put. Errors
    come in steps of one image: of the test images, or of those of the last train record.
    """
    curve = outcome.curve("train", "top1_error")
    if is_ratio(claim):
        number = first_below(curve, claim["threshold"])
        if number is None:
            return 0.0
        return curve[number][0] - (curve[number - 1][0] if number else 0.0)
    tested = data.get("validation_examples", 0)
    trained = round(outcome.last_train_epochs() * data.get("train_examples", 0))
    counts = {"train_top1_error": [trained], "overfitting_gap": [tested, trained]}
    steps = [1 / n for n in counts.get(claim["metric"], [tested]) if n]
    return math.hypot(*steps)


class Measures:
    """A claim's metric of every trial of an experiment, by arm and by tuned values."""

    def __init__(
        self,
        experiment: dict[str, Any],
        outcomes: list[Outcome],
        claim: dict[str, Any],
    ) -> None:
        self.claim, self.config = claim, experiment["config"]
        self.trials: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
        for outcome in sorted(outcomes, key=lambda one: one.trial.seed):
            self.trials[outcome.trial.arm, outcome.trial.tuned_name].append(outcome)
        # The same images in each of its forms.
        self.data = experiment["data"][0]
        # Where the curves end: whoever is not there by then takes longer.
        self.limit = min(
            (
                outcome.curve("train", "top1_error")[-1][0]
                for outcome in outcomes
                if outcome.status == "finished"
                and networks_of(self.config, outcome.trial.arm) == 1
            ),
            default=math.inf,
        )

    def per_seed(self, arm: str, setting: str) -> list[float | None]:
        return [measured(outcome, self.claim) for outcome in self.trials[arm, setting]]

    def arm(self, arm: str, setting: str) -> dict[str, Any]:
        """Mean and interval over seeds, and why seeds have no value to average."""
        own = self.trials[arm, setting]
        ends = [outcome.status for outcome in own]
        facts = _arm(self.per_seed(arm, setting)) | {
            "diverged": ends.count("diverged"),
            "unfinished": ends.count("unfinished"),
        }
        if is_ratio(self.claim):
            # There before anybody looked: they may have been there sooner.
            facts["at_first_record"] = sum(
                first_below(one.curve("train", "top1_error"), self.claim["threshold"])
                == 0
                for one in own
            )
        return facts

    def least_deviation(self, *sides: tuple[str, str]) -> float:
        """Of a comparison of two sides: what the rounding of their values alone gives.

        Values in steps of s are off by up to s / 2 to either side, evenly, a deviation of
        s / sqrt(12); of a ratio's logarithm, that over the value. Three seeds that agree to
        the last step are no interval without width. (An average of networks stands beside
        a mean of several, which is known better: this is then too wide, not too narrow.)
        """
        squares = []
        for side in sides:
            shares = [
                known_to(outcome, self.claim, self.data)
                / ((value or math.inf) if is_ratio(self.claim) else 1.0)
                for outcome, value in zip(
                    self.trials[side], self.per_seed(*side), strict=True
                )
            ]
            squares.append(float(np.mean(np.square(shares))) / 12)
        return math.sqrt(sum(squares))

    def compared(self, first: str, second: str, *settings: str) -> dict[str, Any]:
        """Two arms, each at its setting, or both at one."""
        # An average of networks has one value for several seeds: beside it stands the
        # mean of theirs.
        networks = [networks_of(self.config, arm) for arm in (first, second)]
        sides = [(first, settings[0]), (second, settings[-1])]
        values = [
            _grouped(self.per_seed(*side), max(networks) // own)
            for side, own in zip(sides, networks, strict=True)
        ]
        at_work = any(
            outcome.status == "unfinished"
            for side in sides
            for outcome in self.trials[side]
        )
        found = compare(
            list(zip(*values, strict=True)),
            ratio=is_ratio(self.claim),
            limit=None if at_work else self.limit,
            least_deviation=self.least_deviation(*sides),
        )
        return found | {"seeds_each": max(networks)}

    def comparisons(self, chosen: dict[str, str]) -> list[dict[str, Any]]:
        """Every pair of the claim, each arm at its chosen setting."""
        found = []
        for first, second in compared_pairs(self.claim):
            facts = self.compared(first, second, chosen[first], chosen[second])
            standing = {"standing": direction(facts, self.claim["paper"])}
            found.append({"compare": (first, second)} | facts | standing)
        return found


def summarize(experiment: dict[str, Any], outcomes: list[Outcome]) -> dict[str, Any]:
    """The content of summary.json.

    Each arm's tuned values are chosen by the claim's own metric; what it says `also` is
    measured there.

    Raises:
      UserError: if the claim names a metric or an arm that there is not.
    """
    config, claim = experiment["config"], experiment["config"]["claim"]
    check_claim(config)
    main, *others = [Measures(experiment, outcomes, each) for each in all_claims(claim)]
    tuned = {outcome.trial.tuned_name: outcome.trial.tuned for outcome in outcomes}
    settings = list(tuned)
    chosen = {
        arm: min(settings, key=lambda setting: _rank(main.per_seed(arm, setting)))
        for arm in config["arms"]
    }
    arms = {
        arm: {
            "tuned": tuned[setting],
            # Where no seed has a value there is no best one.
            "at_edge": _at_edge(tuned[setting], values_of(config["tuned"]))
            if _any_value(main.per_seed(arm, setting))
            else [],
            "beside_cliff": _beside_cliff(
                tuned[setting],
                values_of(config["tuned"]),
                # Settings at which no seed has a value.
                [tuned[s] for s in settings if not _any_value(main.per_seed(arm, s))],
            ),
            **main.arm(arm, setting),
            **_final_errors(main.trials[arm, setting]),
            "by_tuned": {other: main.arm(arm, other) for other in settings},
        }
        for arm, setting in chosen.items()
    }
    pairs = compared_pairs(claim)
    at_equal = {}
    if len(pairs) == 1 and len(settings) > 1:
        at_equal = {setting: main.compared(*pairs[0], setting) for setting in settings}
    prepared = [one.get("prepared") or {"bad_files": 0} for one in experiment["data"]]
    summary = {
        "experiment": config["experiment"],
        "dataset": experiment["data"][0]["name"],
        "bad_files": max(one["bad_files"] for one in prepared),
        "claim": main.claim,
        "seeds": config["seeds"],
        "arms": arms,
        "comparisons": main.comparisons(chosen),
        "at_equal_tuned_values": at_equal,
        "unfinished_trials": sum(
            outcome.status == "unfinished" for outcome in outcomes
        ),
        "diverged_trials": sum(outcome.status == "diverged" for outcome in outcomes),
    }
    also = [
        {
            "claim": other.claim,
            "arms": {arm: other.arm(arm, setting) for arm, setting in chosen.items()},
            "comparisons": other.comparisons(chosen),
        }
        for other in others
    ]
    for answer in also:
        answer["verdict"] = words.also_verdict(summary | answer)
    return summary | {"also": also, "verdict": words.verdict(summary)}


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


def _beside_cliff(
    chosen: dict[str, Any], tried: dict[str, tuple], fallen: list[dict[str, Any]]
) -> dict[str, list[Any]]:
    """Of each tuned field, the next values tried that are `fallen`: no seed has a value.

    There the best may lie between what was tried.
    """
    if chosen in fallen:
        return {}
    found = {}
    for name, value in chosen.items():
        values = sorted(set(tried[name]))
        place = values.index(value)
        beside = values[max(0, place - 1) : place] + values[place + 1 : place + 2]
        over = [other for other in beside if chosen | {name: other} in fallen]
        if over:
            found[name] = over
    return found


def _any_value(per_seed: list[float | None]) -> bool:
    return any(value is not None for value in per_seed)


def _arm(per_seed: list[float | None]) -> dict[str, Any]:
    """Mean and interval over seeds; none where a seed has no value to average."""
    reached = [value for value in per_seed if value is not None]
    complete = interval(reached if len(reached) == len(per_seed) else [])
    return complete.as_dict() | {
        "n": len(reached),
        "per_seed": per_seed,
        "without_value": len(per_seed) - len(reached),
    }


def _final_errors(own: list[Outcome]) -> dict[str, Any]:
    """Means over seeds of the last train and eval rows; None if a trial lacks them."""

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
    least_deviation: float = 0.0,
) -> dict[str, Any]:
    """First arm against second, paired by seed: ratio or difference with interval.

    The deviation of a difference, or of a ratio's logarithm, is taken to be at least
    `least_deviation`: see `Measures.least_deviation`.

    An error is missing where its trial diverged. The difference of the other pairs stands
    beside ("finished_pairs"): it is one of the seeds that went well, and decides nothing.

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
    finished = None
    if len(complete) == len(pairs):
        result = interval(
            [a / b if ratio else a - b for a, b in complete],
            ratio=ratio,
            least_deviation=least_deviation,
        )
    elif not ratio:
        if complete:
            differences = [a - b for a, b in complete]
            alone = interval(differences, least_deviation=least_deviation)
            finished = alone.as_dict()
    elif limit is None:
        pass
    elif missing_second == 0:
        at_least = interval(
            [(limit if a is None else a) / b for a, b in pairs if b], ratio=True
        )
    elif missing_first == 0:
        at_most = interval(
            [a / (limit if b is None else b) for a, b in pairs if a], ratio=True
        )
    return result.as_dict() | {
        "kind": "ratio" if ratio else "difference",
        "missing_first": missing_first,
        "missing_second": missing_second,
        "at_least": at_least.mean if at_least else None,
        "at_most": at_most.mean if at_most else None,
        "finished_pairs": finished,
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
    # As many errors in both arms is none, though means of floats differ by 1e-18.
    none_seen = math.isclose(mean, none, rel_tol=0.0, abs_tol=1e-12)
    side = 0.0 if none_seen else math.copysign(1.0, mean - none)
    if low is None:
        return {claimed: "same direction, one seed", 0.0: "no effect seen"}.get(
            side, "opposite, one seed"
        )
    if low <= none <= high:
        return "same direction, not resolved" if side == claimed else "no effect seen"
    return "same direction, resolved" if side == claimed else "opposite"
