"""What the stage has shown that chooses each arm's tuned values, from its records.

Its trials have seeds of their own, so that no interval counts a value that was selected
for being small. What it chooses follows from its records alone, whenever they are read.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

from alexnet_jax.report.measures import Measures
from alexnet_jax.report.run_reader import Outcome, Run


def caveats(summary: Mapping[str, Any]) -> list[str]:
    """Sentences on how the tuned values of a summary were chosen; none without a stage."""
    stage = summary.get("tuning")  # absent from old files
    if not stage:
        return []
    one = stage["seeds"] == 1
    seeds = "a seed" if one else f"{stage['seeds']} seeds"
    counts = "counts" if one else "count"
    text = f"The tuned values were chosen by {seeds} of their own, which {counts} in no interval"
    if stage["unfinished"]:
        left = stage["unfinished"]
        text += (
            f"; not all of its trials are finished ({left} left): they may still change"
        )
    found = [f"{text}."]
    for arm in stage["ended_at"]:
        tried = summary["arms"][arm]["by_tuned"].values()
        if any(facts["n"] or facts["unfinished"] for facts in tried):
            continue
        if all(facts["diverged"] == len(facts["per_seed"]) for facts in tried):
            found.append(
                f"Every tuning trial of {arm} diverged: it is measured at the first value."
            )
            continue
        found.append(
            f"No tuning trial of {arm} has a value: it is measured where its training "
            "error was lowest."
        )
    return found


def measured(run: Run) -> Run:
    """The run with the trials that are measured: with a tuning stage, at its choice."""
    if not run.tuning:
        return run
    chosen = Stage.of(run).chosen()
    kept = [
        outcome
        for outcome in run.outcomes
        if outcome.trial.tuned_name == chosen[outcome.trial.trained_as]
    ]
    return dataclasses.replace(run, outcomes=kept)


@dataclasses.dataclass(frozen=True)
class Stage:
    """The tuning stage of a run, as far as it has come.

    Attributes:
      run: the run, with the tuning trials for its outcomes.
      measures: the metric of its main claim, of each of them.
      order: the names of the tuned values, in the order of the configuration.
    """

    run: Run
    measures: Measures
    order: tuple[str, ...]

    @staticmethod
    def of(run: Run) -> "Stage":
        own = dataclasses.replace(run, outcomes=list(run.tuning), tuning=())
        order = dict.fromkeys(one.trial.tuned_name for one in run.outcomes)
        return Stage(own, Measures.of_main_claim(own), tuple(order))

    def chosen(self) -> dict[str, str]:
        """For each arm that is trained, the values with the best rank so far."""
        arms = dict.fromkeys(arm for arm, _ in self.measures.trials)
        return {
            arm: min(self.order, key=partial(self.measures.rank, arm)) for arm in arms
        }

    def give_up_epoch(self, arm: str, name: str, seed: int) -> float | None:
        """The epoch after which a tuning trial's values cannot be chosen any more, or None.

        With the best mean m of other values and k seeds, these values cannot be better
        once their seeds' epochs add up to k * m; seeds to come need at least none.
        """
        if not self.measures.of_epochs:
            return None
        complete = [
            mean
            for (of_arm, other), trials in self.measures.trials.items()
            if of_arm == arm and other != name
            if all(one.status != "unfinished" for one in trials)
            if (mean := self.measures.arm(arm, other)["mean"]) is not None
        ]
        if not complete:
            return None
        own = self.measures.trials[arm, name]
        spent = 0.0
        for outcome, value in zip(own, self.measures.per_seed(arm, name), strict=True):
            if outcome.trial.seed == seed or outcome.status == "unfinished":
                continue
            if value is None:
                return 0.0  # Values at which every seed has an answer come first.
            spent += value
        return len(own) * min(complete) - spent

    def facts(self) -> dict[str, Any]:
        """What summary.json holds of the tuning stage, under "tuning".

        The metric at each value is under each arm's "by_tuned".
        """
        outcomes = self.run.outcomes
        return {
            "seeds": len({outcome.trial.seed for outcome in outcomes}),
            "epochs": max(o.trial.settings.training.num_epochs for o in outcomes),
            "unfinished": sum(o.status == "unfinished" for o in outcomes),
            "ended_at": {arm: self._ends(arm) for arm in self.chosen()},
        }

    def _ends(self, arm: str) -> dict[str, float]:
        trials = self.measures.trials
        return {name: _last_epoch(trials[arm, name]) for name in self.order}


def _last_epoch(own: list[Outcome]) -> float:
    """The epoch at which the longest of some trials ended."""
    return max((row.get("epoch", 0.0) for o in own for row in o.rows), default=0.0)
