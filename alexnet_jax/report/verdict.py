"""Compares two arms, and applies the rule that relates the result to the paper's."""

import dataclasses
import enum
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean of `n` values and its 95% interval; a single value has no interval."""

    mean: float | None
    low: float | None
    high: float | None
    n: int

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def interval(
    values: Sequence[float], *, ratio: bool = False, minimum_std: float = 0.0
) -> Interval:
    """The mean of `values` and its 95% interval by Student's t.

    mean ± t(n - 1) * s / sqrt(n), with the standard deviation s of the sample.

    Args:
      values: independent values, such as one for each seed.
      ratio: average logarithms instead, which gives the geometric mean of ratios.
      minimum_std: replaces a smaller s; of logarithms if `ratio`.
    """
    n = len(values)
    if n == 0:
        return Interval(None, None, None, 0)
    sample = np.log(values) if ratio else np.asarray(values, float)
    inverse = math.exp if ratio else float
    mean = sample.mean()
    if n == 1:
        return Interval(inverse(mean), None, None, 1)
    standard_error = max(sample.std(ddof=1), minimum_std) / math.sqrt(n)
    half_width = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * standard_error
    return Interval(
        inverse(mean), inverse(mean - half_width), inverse(mean + half_width), n
    )


class Standing(enum.StrEnum):
    """How a comparison relates to the paper's result, as summary.json stores it."""

    SAME_CLEAR = "same direction, statistically clear at 95%"
    SAME_UNCLEAR = "same direction, not clear at 95%"
    SAME_ONE_SEED = "same direction, one seed"
    SAME_BOUND = "same direction, a bound only"
    NOT_SEEN = "not in the paper's direction, not clear at 95%"
    EQUAL_ONE_SEED = "equal, one seed"
    OPPOSITE_CLEAR = "opposite direction, statistically clear at 95%"
    OPPOSITE_ONE_SEED = "opposite direction, one seed"
    OPPOSITE_BOUND = "opposite direction, a bound only"
    NOT_ANSWERED = "not answered"
    LEFT_OPEN = "left open: it depends on a setting of which a seed diverged"
    # Where the paper reports no direction:
    DIFFERENCE_CLEAR = "difference statistically clear at 95%"
    DIFFERENCE_UNCLEAR = "difference not clear at 95%"
    ONE_SEED = "one seed"

    @classmethod
    def _missing_(cls, value: object) -> "Standing | None":
        """Reads the words that older summary.json files have."""
        return _OLD_STANDINGS.get(value)


_OLD_STANDINGS: dict[object, Standing] = {
    "same direction, resolved": Standing.SAME_CLEAR,
    "same direction, not resolved": Standing.SAME_UNCLEAR,
    "no effect seen": Standing.NOT_SEEN,
    "opposite": Standing.OPPOSITE_CLEAR,
    "opposite, one seed": Standing.OPPOSITE_ONE_SEED,
    "opposite, a bound only": Standing.OPPOSITE_BOUND,
    "a difference": Standing.DIFFERENCE_CLEAR,
    "no difference resolved": Standing.DIFFERENCE_UNCLEAR,
}


def compare(
    pairs: list[tuple[float | None, float | None]],
    *,
    ratio: bool,
    limit: float | None,
    minimum_std: float = 0.0,
) -> dict[str, Any]:
    """The first arm against the second, paired by seed: the mean and its interval.

    A missing value never enters a mean. Errors are missing where a trial diverged: the
    other pairs are then reported separately ("finished_pairs") and decide nothing,
    because they are the seeds that went well.

    Epochs are missing where a trial did not reach the threshold, and still say something
    of the ratio. If only first values are missing, the mean ratio is at least that with
    `limit`, the end of the curves, in their place ("at_least"); if only second values are
    missing, it is at most that with `limit` there ("at_most").

    Args:
      pairs: for each seed, the values of both arms; None where there is no value.
      ratio: compare by a ratio of epochs instead of by a difference of errors.
      limit: where the curves end, in epochs; None while trials are running, when there
        is no bound.
      minimum_std: the smallest standard deviation to assume, as rounding gives it.
    """
    complete = [(a, b) for a, b in pairs if a is not None and b is not None]
    missing_first = sum(a is None for a, _ in pairs)
    missing_second = sum(b is None for _, b in pairs)
    found = Interval(None, None, None, len(complete))
    at_least = at_most = finished = None
    if len(complete) == len(pairs):
        found = interval(
            [a / b if ratio else a - b for a, b in complete],
            ratio=ratio,
            minimum_std=minimum_std,
        )
    elif not ratio and complete:
        differences = [a - b for a, b in complete]
        finished = interval(differences, minimum_std=minimum_std).as_dict()
    elif ratio and limit is not None and missing_second == 0:
        bounds = [(limit if a is None else a) / b for a, b in pairs if b]
        at_least = interval(bounds, ratio=True).mean
    elif ratio and limit is not None and missing_first == 0:
        bounds = [a / (limit if b is None else b) for a, b in pairs if a]
        at_most = interval(bounds, ratio=True).mean
    return found.as_dict() | {
        "kind": "ratio" if ratio else "difference",
        "missing_first": missing_first,
        "missing_second": missing_second,
        "at_least": at_least,
        "at_most": at_most,
        "finished_pairs": finished,
    }


def standing(comparison: dict[str, Any], claimed: float | None) -> Standing:
    """The rule of the verdict.

    No effect is a ratio of 1 or a difference of 0. A direction is statistically clear if
    the 95% interval excludes no effect. A bound on a ratio has no interval and only
    points in a direction.

    Args:
      comparison: as `compare` returns it.
      claimed: the direction in the paper, 1 or -1, or None where it reports none.
    """
    no_effect = 1.0 if comparison["kind"] == "ratio" else 0.0
    mean, low, high = comparison["mean"], comparison["low"], comparison["high"]
    if claimed is None:
        return _standing_without_paper(mean, low, high, no_effect)
    if mean is None:
        return _standing_of_bound(comparison, claimed, no_effect)
    side = _side(mean, no_effect)
    if low is None:
        if not side:
            return Standing.EQUAL_ONE_SEED
        return Standing.SAME_ONE_SEED if side == claimed else Standing.OPPOSITE_ONE_SEED
    # An interval without any width may miss no effect by the same rounding.
    if not side or low <= no_effect <= high:
        return Standing.SAME_UNCLEAR if side == claimed else Standing.NOT_SEEN
    return Standing.SAME_CLEAR if side == claimed else Standing.OPPOSITE_CLEAR


def depends_on(comparison: dict[str, Any], others: Sequence[float]) -> bool:
    """Whether the direction of a comparison is another one at other tuned values.

    Args:
      comparison: as `compare` returns it.
      others: what its mean would be at the other values.
    """
    no_effect = 1.0 if comparison["kind"] == "ratio" else 0.0
    mean = comparison["mean"]
    if mean is None:
        return False
    side = _side(mean, no_effect)
    return any(_side(other, no_effect) != side for other in others)


def _side(mean: float, no_effect: float) -> float:
    """On which side of no effect a mean is: -1, 1, or 0 on neither."""
    equal = _is_equal(mean, no_effect)
    return 0.0 if equal else math.copysign(1.0, mean - no_effect)


def _is_equal(mean: float, no_effect: float) -> bool:
    """Whether a mean is no effect, but for the rounding of floating-point numbers.

    Equal error counts can give means that differ by 1e-18.
    """
    return math.isclose(mean, no_effect, rel_tol=0.0, abs_tol=1e-12)


def _standing_without_paper(
    mean: float | None, low: float | None, high: float | None, no_effect: float
) -> Standing:
    if mean is None or low is None or high is None:
        return Standing.NOT_ANSWERED if mean is None else Standing.ONE_SEED
    if _is_equal(mean, no_effect) or low <= no_effect <= high:
        return Standing.DIFFERENCE_UNCLEAR
    return Standing.DIFFERENCE_CLEAR


def _standing_of_bound(
    comparison: dict[str, Any], claimed: float, no_effect: float
) -> Standing:
    """Where there is no mean: the direction in which a bound on the ratio points."""
    for name, side in (("at_least", 1.0), ("at_most", -1.0)):
        bound = comparison[name]
        if bound is not None and (bound - no_effect) * side > 0:
            return Standing.SAME_BOUND if side == claimed else Standing.OPPOSITE_BOUND
    return Standing.NOT_ANSWERED
