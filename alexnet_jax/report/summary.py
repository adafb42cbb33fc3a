"""The content of summary.json: arms at their selected tuned values, and comparisons."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax.files import write_json
from alexnet_jax.report import claims, headline, wording
from alexnet_jax.report.claims import compared_pairs, is_ratio
from alexnet_jax.report.run_reader import Outcome, Run
from alexnet_jax.report.verdict import compare, interval, standing


def write_summary(run: Run) -> dict[str, Any]:
    """Writes summary.json into the run folder, and returns its content.

    Raises:
      UserError: if the claim names an unknown metric or arm.
    """
    summary = summarize(run)
    write_json(run.folder / "summary.json", summary)
    return summary


def summarize(run: Run) -> dict[str, Any]:
    """The content of summary.json.

    Each arm's tuned values are selected by the metric of the main claim; the claims under
    "also" are measured at the same values.

    Raises:
      UserError: if the claim names an unknown metric or arm.
    """
    claims.check_claim(run.claim, experiment=run.name, networks=run.networks)
    num_classes = run.data.get("num_classes")  # absent from old run folders
    asked = claims.answerable_claims(run.claim, num_classes)
    main, *others = [Measures(run, each) for each in asked]
    tuned = {
        outcome.trial.tuned_name: dict(outcome.trial.tuned) for outcome in run.outcomes
    }
    selected = {
        arm: min(tuned, key=lambda name: _rank(main.per_seed(arm, name)))
        for arm in run.arms
    }
    statuses = [outcome.status for outcome in run.outcomes]
    summary = {
        "experiment": run.name,
        "dataset": run.data["name"],
        "num_classes": num_classes,
        "bad_files": _bad_files(run),
        "claim": main.claim,
        "seeds": run.experiment["config"]["seeds"],
        "arms": {
            arm: _arm_facts(run, main, arm, name, tuned)
            for arm, name in selected.items()
        },
        "comparisons": main.comparisons(selected),
        "at_equal_tuned_values": _at_equal_tuned_values(main, list(tuned)),
        "unfinished_trials": statuses.count("unfinished"),
        "diverged_trials": statuses.count("diverged"),
        "also": [
            {
                "claim": other.claim,
                "arms": {arm: other.arm(arm, name) for arm, name in selected.items()},
                "comparisons": other.comparisons(selected),
            }
            for other in others
        ],
    }
    verdicts = wording.verdicts(summary)
    for answer, text in zip(claims.answers(summary), verdicts, strict=True):
        answer["verdict"] = text
        answer["question"] = headline.question(answer)
        answer["answer"] = headline.short_answer(answer)
    return summary


def _arm_facts(
    run: Run, main: "Measures", arm: str, name: str, tuned: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """One arm at its selected tuned values `name`, and its metric at all of `tuned`."""
    selected = tuned[name]
    has_value = {other: _any_value(main.per_seed(arm, other)) for other in tuned}
    failed = [values for other, values in tuned.items() if not has_value[other]]
    return {
        "tuned": selected,
        # Where no seed has a value, no tuned value is better than another.
        "at_edge": _at_edge(selected, run.tuned_values) if has_value[name] else [],
        "beside_cliff": _beside_cliff(selected, run.tuned_values, failed),
        **main.arm(arm, name),
        **_final_errors(main.trials[arm, name]),
        "by_tuned": {other: main.arm(arm, other) for other in tuned},
    }


def _at_equal_tuned_values(main: "Measures", names: list[str]) -> dict[str, Any]:
    """The one comparison of a claim at each of several tuned values."""
    pairs = claims.compared_pairs(main.claim)
    if len(pairs) != 1 or len(names) < 2:
        return {}
    return {name: main.compared(*pairs[0], name) for name in names}


def _bad_files(run: Run) -> int:
    prepared = [
        each.get("prepared") or {"bad_files": 0} for each in run.experiment["data"]
    ]
    return max(each["bad_files"] for each in prepared)


def _rank(per_seed: list[float | None]) -> tuple[float, float]:
    """The order of tuned values: first fewest seeds without a value, then the mean."""
    present = [value for value in per_seed if value is not None]
    mean = float(np.mean(present)) if present else math.inf
    return len(per_seed) - len(present), mean


def _at_edge(selected: Mapping[str, Any], tried: Mapping[str, tuple]) -> list[str]:
    """Fields whose selected value is the smallest or the largest of several tried."""
    return [
        field
        for field, value in selected.items()
        if len(tried[field]) > 1 and value in (min(tried[field]), max(tried[field]))
    ]


def _beside_cliff(
    selected: dict[str, Any], tried: Mapping[str, tuple], failed: list[dict[str, Any]]
) -> dict[str, list[Any]]:
    """By field, the neighbors of the selected value at which no seed has a value.

    A better value may lie between the selected one and such a neighbor.
    """
    if selected in failed:
        return {}
    found = {}
    for field, value in selected.items():
        values = sorted(set(tried[field]))
        index = values.index(value)
        neighbors = values[max(0, index - 1) : index] + values[index + 1 : index + 2]
        failing = [other for other in neighbors if selected | {field: other} in failed]
        if failing:
            found[field] = failing
    return found


def _any_value(per_seed: list[float | None]) -> bool:
    return any(value is not None for value in per_seed)


def _final_errors(own: list[Outcome]) -> dict[str, Any]:
    """Means over seeds of the last train and eval rows; None if a trial lacks them."""

    def mean(kind: str, metric: str) -> float | None:
        finals = [outcome.final(kind, metric) for outcome in own]
        present = [value for value in finals if value is not None]
        return float(np.mean(present)) if len(present) == len(finals) else None

    return {
        "final_train_top1_error": mean("train", "top1_error"),
        "final_top1_error": mean("eval", "top1_error"),
        "final_top5_error": mean("eval", "top5_error"),
    }


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
    """The step in which `measured` is known; 0 where the records do not tell.

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
      limit: the epoch at which the shortest curve of a finished trial ends. A trial that
        has not reached the threshold there takes longer.
    """

    def __init__(self, run: Run, claim: dict[str, Any]) -> None:
        self.run, self.claim = run, claim
        self.trials: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
        for outcome in sorted(run.outcomes, key=lambda one: one.trial.seed):
            self.trials[outcome.trial.arm, outcome.trial.tuned_name].append(outcome)
        self.limit = min(
            (
                outcome.curve("train", "top1_error")[-1][0]
                for outcome in run.outcomes
                if outcome.status == "finished" and run.networks[outcome.trial.arm] == 1
            ),
            default=math.inf,
        )

    def per_seed(self, arm: str, tuned_name: str) -> list[float | None]:
        return [
            measured(outcome, self.claim) for outcome in self.trials[arm, tuned_name]
        ]

    def arm(self, arm: str, tuned_name: str) -> dict[str, Any]:
        """Mean and interval over seeds, and why seeds have no value."""
        own = self.trials[arm, tuned_name]
        statuses = [outcome.status for outcome in own]
        facts = _average(self.per_seed(arm, tuned_name)) | {
            "diverged": statuses.count("diverged"),
            "unfinished": statuses.count("unfinished"),
        }
        if is_ratio(self.claim):
            curves = [outcome.curve("train", "top1_error") for outcome in own]
            facts["at_first_record"] = sum(
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
        return found | {"seeds_each": max(networks)}

    def comparisons(self, selected: dict[str, str]) -> list[dict[str, Any]]:
        """Every pair of the claim, each arm at its selected tuned values."""
        found = []
        for first, second in compared_pairs(self.claim):
            facts = self.compared(first, second, selected[first], selected[second])
            related = {"standing": standing(facts, self.claim["paper"])}
            found.append({"compare": (first, second)} | facts | related)
        return found


def _group_means(per_seed: list[float | None], size: int) -> list[float | None]:
    """Means of `size` consecutive values each; None for a group that lacks one."""
    groups = [per_seed[n : n + size] for n in range(0, len(per_seed), size)]
    present = [[value for value in group if value is not None] for group in groups]
    return [
        float(np.mean(values)) if len(values) == len(group) else None
        for values, group in zip(present, groups, strict=True)
    ]


def _average(per_seed: list[float | None]) -> dict[str, Any]:
    """Mean and interval over seeds; None if a seed has no value."""
    present = [value for value in per_seed if value is not None]
    found = interval(present if len(present) == len(per_seed) else [])
    return found.as_dict() | {
        "n": len(present),
        "per_seed": per_seed,
        "without_value": len(per_seed) - len(present),
    }
