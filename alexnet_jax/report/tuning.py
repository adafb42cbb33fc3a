"""The stage that chooses each arm's tuned values before its measured trials are trained.

Its trials have seeds of their own, so that no interval counts a value that was selected
for being small. What it chooses follows from its records alone, whenever they are read.
"""

import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.config.trials import Trial
from alexnet_jax.report import claims
from alexnet_jax.report.measures import Measures
from alexnet_jax.report.run_reader import Outcome, Run, read_run


def chosen(folder: Path) -> dict[str, str]:
    """For each arm that is trained in this run folder, the name of its chosen values.

    Raises:
      UserError: if a record cannot be read.
    """
    return Stage.of(read_run(folder)).chosen()


def give_up_epoch(folder: Path, trial: Trial) -> float | None:
    """The epoch after which a tuning trial's values cannot be chosen any more.

    None before any values have an answer, and where errors are compared instead of
    epochs.

    Args:
      folder: the run folder.
      trial: a trial of the plan's `tuning_trials`.
    """
    return Stage.of(read_run(folder)).give_up_epoch(
        trial.arm, trial.tuned_name, trial.seed
    )


def describe(chosen: Mapping[str, str]) -> str:
    """For example "Chosen: ReLU learning_rate=0.003; tanh learning_rate=0.01"."""
    return f"Chosen: {'; '.join(f'{arm} {name}' for arm, name in chosen.items())}"


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
        asked = claims.answerable_claims(run.claim, run.data.get("num_classes"))
        order = dict.fromkeys(one.trial.tuned_name for one in run.outcomes)
        return Stage(own, Measures(own, asked[0]), tuple(order))

    def chosen(self) -> dict[str, str]:
        """For each arm that is trained, the values with the best rank so far.

        First those at which the fewest seeds have no value, then the smallest mean. Where
        no seed has a value, as of an arm that never reaches the threshold, the lowest
        training error decides.
        """
        arms = dict.fromkeys(arm for arm, _ in self.measures.trials)
        return {arm: min(self.order, key=partial(self._rank, arm)) for arm in arms}

    def _rank(self, arm: str, name: str) -> tuple[float, float, float]:
        own = self.measures.trials[arm, name]
        values = self.measures.per_seed(arm, name)
        present = [value for value in values if value is not None]
        mean = float(np.mean(present)) if present else math.inf
        return len(values) - len(present), mean, _mean_training_error(own)

    def give_up_epoch(self, arm: str, name: str, seed: int) -> float | None:
        """See the function `give_up_epoch`.

        With the best complete mean m of the arm and k seeds, these values cannot be better
        once their seeds' epochs add up to k * m; seeds to come need at least none.
        """
        if not claims.is_ratio(self.measures.claim):
            return None
        means = [self.measures.arm(arm, other)["mean"] for other in self.order]
        complete = [mean for mean in means if mean is not None]
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

    def narrowed(self, run: Run) -> Run:
        """The run with the measured trials at the chosen values only."""
        values = self.chosen()
        kept = [
            outcome
            for outcome in run.outcomes
            if outcome.trial.tuned_name == values[outcome.trial.trained_as]
        ]
        return dataclasses.replace(run, outcomes=kept)

    def facts(self) -> dict[str, Any]:
        """What summary.json holds of it, under "tuning".

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


def _mean_training_error(own: list[Outcome]) -> float:
    """The mean of the last training errors; infinite where a trial diverged."""
    ends = []
    for outcome in own:
        curve = outcome.curve("train", "top1_error")
        if outcome.status == "diverged" or not curve:
            return math.inf
        ends.append(curve[-1][1])
    return float(np.mean(ends))


def _last_epoch(own: list[Outcome]) -> float:
    """The epoch at which the longest of some trials ended."""
    return max((row.get("epoch", 0.0) for o in own for row in o.rows), default=0.0)
