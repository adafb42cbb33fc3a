"""A claim's metric of every trial of a run, and the comparison of arms by it."""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax.report.claims import (
    answerable_claims,
    compared_pairs,
    is_ratio,
    paper_direction,
)
from alexnet_jax.report.run_reader import Outcome, Run
from alexnet_jax.report.verdict import (
    Standing,
    compare,
    depends_on,
    interval,
    standing,
)


def first_below(curve: Sequence[tuple[float, float]], threshold: float) -> int | None:
    """The index of the curve's first point at or below `threshold`."""
    below = (n for n, (_, error) in enumerate(curve) if error <= threshold)
    return next(below, None)


def crossing(curve: Sequence[tuple[float, float]], threshold: float) -> float | None:
    """The epoch at which the curve first falls to `threshold`; None if it never does.

    Interpolated linearly between points. A curve whose first point is at or below the
    threshold crosses it there.
    """
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
    """The claim's metric of one trial; None if it diverged or did not reach the threshold.

    The gap, final test error minus final training error, shows how far a network
    overfits. A training error is a mean over the steps of the last train row, on
    augmented images and with dropout on: it is too high, and the gap too small. Where one
    arm has more augmentation or dropout than the other, part of the difference of their
    gaps comes from that, so such arms should be compared by their test errors too.
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


def resolution(
    outcome: Outcome, claim: Mapping[str, Any], data: Mapping[str, Any]
) -> float:
    """The step in which `measured` is known; 0 where the records do not show it.

    A crossing lies anywhere between two train rows. An error is a multiple of one image
    over the test images, or over those of the last train row.
    """
    if is_ratio(claim):
        curve = outcome.curve("train", "top1_error")
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
    """A claim's metric of every trial of a run, by arm and tuned values.

    Attributes:
      claim: the claim; one entry of `claims.all_claims`.
      trials: by arm and name of the tuned values, the outcomes in the order of seeds.
      limit: the epoch at which the shortest curve of a finished trial ends, or would end
        where all others reached the threshold. A trial that has not reached it there takes
        longer.
    """

    def __init__(self, run: Run, claim: dict[str, Any]) -> None:
        self.run, self.claim = run, claim
        self.trials: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
        for outcome in sorted(run.outcomes, key=lambda one: one.trial.seed):
            self.trials[outcome.trial.arm, outcome.trial.tuned_name].append(outcome)
        trained = [o for o in run.outcomes if run.networks[o.trial.arm] == 1]
        ends = [
            outcome.curve("train", "top1_error")[-1][0]
            for outcome in trained
            if outcome.status == "finished"
        ] or [_planned_end(outcome) for outcome in trained]
        self.limit = min(ends, default=math.inf)

    @staticmethod
    def of_main_claim(run: Run) -> "Measures":
        """The measures of what is asked first, with the metrics that the data have."""
        asked = answerable_claims(run.claim, run.data.get("num_classes"))
        return Measures(run, asked[0])

    @property
    def of_epochs(self) -> bool:
        """Whether the metric is epochs to a training error, not an error."""
        return is_ratio(self.claim)

    def per_seed(self, arm: str, tuned_name: str) -> list[float | None]:
        return [
            measured(outcome, self.claim) for outcome in self.trials[arm, tuned_name]
        ]

    def rank(self, arm: str, tuned_name: str) -> tuple[float, float, float]:
        """The order of an arm's tuned values, the best one first.

        First those at which the fewest seeds have no value, then the smallest mean. Where
        no seed has a value, the lowest training error decides.
        """
        values = self.per_seed(arm, tuned_name)
        mean = _present_mean(values)
        return (
            values.count(None),
            math.inf if mean is None else mean,
            _mean_training_error(self.trials[arm, tuned_name]),
        )

    def arm(self, arm: str, tuned_name: str) -> dict[str, Any]:
        """Mean and interval over seeds, and why seeds have no value."""
        own = self.trials[arm, tuned_name]
        statuses = [outcome.status for outcome in own]
        facts = _average(self.per_seed(arm, tuned_name), _range_of(self.claim)) | {
            "diverged": statuses.count("diverged"),
            "reached": statuses.count("reached"),
            "behind": statuses.count("behind"),
            "unfinished": statuses.count("unfinished"),
        }
        if is_ratio(self.claim):
            curves = [outcome.curve("train", "top1_error") for outcome in own]
            facts["below_at_first_log"] = sum(
                first_below(curve, self.claim["threshold"]) == 0 for curve in curves
            )
        return facts

    def minimum_std(self, *sides: tuple[str, str]) -> float:
        """The standard deviation of a comparison that rounding alone gives.

        A value known in steps of s is off by up to s / 2 to either side, uniformly: a
        standard deviation of s / sqrt(12), and of a ratio's logarithm that over the
        value. So three seeds that agree to the last step have an interval of some width.
        (An average of networks is compared with a mean of several, which is known better:
        for it this is too wide, never too narrow.)
        """
        squares = []
        for side in sides:
            steps = [
                resolution(outcome, self.claim, self.run.data)
                / ((value or math.inf) if is_ratio(self.claim) else 1.0)
                for outcome, value in zip(
                    self.trials[side], self.per_seed(*side), strict=True
                )
            ]
            squares.append(float(np.mean(np.square(steps))) / 12)
        return math.sqrt(sum(squares))

    def compared(self, first: str, second: str, *tuned_names: str) -> dict[str, Any]:
        """The first arm against the second, each at its tuned values, or both at one."""
        # An average of networks has one value for several seeds, and is compared with
        # the mean of theirs.
        networks = [self.run.networks[arm] for arm in (first, second)]
        sides = [(first, tuned_names[0]), (second, tuned_names[-1])]
        values = [
            _group_means(self.per_seed(*side), max(networks) // own)
            for side, own in zip(sides, networks, strict=True)
        ]
        running = any(
            outcome.status == "unfinished"
            for side in sides
            for outcome in self.trials[side]
        )
        found = compare(
            list(zip(*values, strict=True)),
            ratio=is_ratio(self.claim),
            limit=None if running else self.limit,
            minimum_std=self.minimum_std(*sides),
        )
        return found | {"seeds_per_group": max(networks)}

    def comparisons(
        self, selected: dict[str, str], chosen_by: "Measures | None" = None
    ) -> list[dict[str, Any]]:
        """Every pair of the claim, each arm at its selected tuned values.

        Args:
          selected: by arm, the name of the values.
          chosen_by: the same metric of the trials by which they were selected, where these
            are others than those that are compared.
        """
        by = chosen_by or self
        compared = []
        for pair in compared_pairs(self.claim):
            first, second = pair
            facts = self.compared(first, second, selected[first], selected[second])
            related = standing(facts, paper_direction(self.claim))
            passed = {
                arm: found
                for arm in pair
                if (found := by.passed_over(arm, selected[arm])) is not None
            }
            hangs = depends_on(facts, self._at_passed_over(pair, selected, passed))
            if hangs and related != Standing.NOT_ANSWERED:
                related = Standing.LEFT_OPEN
            compared.append(
                {"compare": pair, **facts, "standing": related, "passed_over": passed}
            )
        return compared

    def passed_over(self, arm: str, selected: str) -> dict[str, Any] | None:
        """The tuned values that were not selected because a seed diverged there.

        Of those at which the other seeds have a lower mean than at the selected values,
        the ones with the lowest; None if there are none. An arm that shares the training
        of another, and has no trials here, has that one's.
        """
        if (arm, selected) not in self.trials:
            arm = self.run.trained_as[arm]
        mean = _present_mean(self.per_seed(arm, selected))
        found: dict[str, Any] | None = None
        for (of_arm, name), own in self.trials.items():
            diverged = [o.trial.seed for o in own if o.status == "diverged"]
            other = _present_mean(self.per_seed(arm, name)) if of_arm == arm else None
            if not diverged or other is None or mean is None or other >= mean:
                continue
            if found is None or other < found["mean"]:
                facts = {"diverged_seeds": diverged, "seeds": len(own)}
                found = {"tuned": name, "mean": other, **facts}
        return found

    def _at_passed_over(
        self,
        pair: tuple[str, ...],
        selected: Mapping[str, str],
        passed: Mapping[str, dict[str, Any]],
    ) -> list[float]:
        """The mean of a comparison with one or both arms at the values passed over."""
        means = []
        for arm in pair:
            own = _present_mean(self.per_seed(arm, selected[arm]))
            both = [own, passed[arm]["mean"]] if arm in passed else [own]
            means.append([mean for mean in both if mean is not None])
        combined = itertools.product(*means)
        if is_ratio(self.claim):
            return [first / second for first, second in combined if second]
        return [first - second for first, second in combined]


def _planned_end(outcome: Outcome) -> float:
    """The epoch before which the last point of its curve would not stand."""
    training = outcome.trial.settings.training
    return training.num_epochs - training.log_every_epochs


def _mean_training_error(own: list[Outcome]) -> float:
    """The mean of the last training errors; infinite where a trial diverged."""
    ends = []
    for outcome in own:
        curve = outcome.curve("train", "top1_error")
        if outcome.status == "diverged" or not curve:
            return math.inf
        ends.append(curve[-1][1])
    return float(np.mean(ends))


def _present_mean(per_seed: list[float | None]) -> float | None:
    """The mean of the seeds that have a value; None if none has."""
    present = [value for value in per_seed if value is not None]
    return float(np.mean(present)) if present else None


def _group_means(per_seed: list[float | None], size: int) -> list[float | None]:
    """Means of `size` consecutive values each; None for a group that lacks one."""
    groups = [per_seed[n : n + size] for n in range(0, len(per_seed), size)]
    present = [[value for value in group if value is not None] for group in groups]
    return [
        float(np.mean(values)) if len(values) == len(group) else None
        for values, group in zip(present, groups, strict=True)
    ]


def _range_of(claim: Mapping[str, Any]) -> tuple[float, float]:
    """The lowest and the highest value that the metric of a claim can have."""
    if is_ratio(claim):
        return 0.0, math.inf
    return (-1.0 if claim["metric"] == "overfitting_gap" else 0.0), 1.0


def _average(
    per_seed: list[float | None], possible: tuple[float, float]
) -> dict[str, Any]:
    """Mean and interval over seeds; None if a seed has no value.

    Student's t of few seeds reaches beyond what is possible, such as an error of 115%: the
    interval ends there, and holds the true mean as often.
    """
    present = [value for value in per_seed if value is not None]
    found = interval(present if len(present) == len(per_seed) else []).as_dict()
    if found["low"] is not None:
        found["low"] = max(found["low"], possible[0])
        found["high"] = min(found["high"], possible[1])
    return found | {
        "n": len(present),
        "per_seed": per_seed,
        "without_value": len(per_seed) - len(present),
    }
