"""Which runs have a trained network in common, so that their answers are not independent."""

from typing import Any

from alexnet_jax.config.fields import (
    EVALUATION_FIELDS,
    NEUTRAL_FIELDS,
    OPERATIONAL_FIELDS,
)
from alexnet_jax.config.layered import flatten
from alexnet_jax.report.run_reader import Outcome, Run

# On these a trained network does not depend.
_IRRELEVANT = {*OPERATIONAL_FIELDS, *NEUTRAL_FIELDS, *EVALUATION_FIELDS}


def in_common(runs: list[Run]) -> list[list[int]]:
    """Groups of runs, as indices into `runs`: each has a network of another of its group.

    Runs that share none are in no group.
    """
    groups: list[tuple[list[int], set[tuple[Any, ...]]]] = []
    for number, run in enumerate(runs):
        trained = {_network(outcome, run) for outcome in run.outcomes}
        # The groups that it shares a network with become one.
        joined = [group for group in groups if group[1] & trained]
        groups = [group for group in groups if group not in joined]
        before = [index for group in joined for index in group[0]]
        groups.append(([*before, number], trained.union(*(g[1] for g in joined))))
    return [numbers for numbers, _ in groups if len(numbers) > 1]


def _network(outcome: Outcome, run: Run) -> tuple[Any, ...]:
    """What a trained network depends on: data, seed, and the settings of its training."""
    trial = outcome.trial
    # A name without a dot is of the experiment, such as its number of seeds.
    settings = sorted(
        (name, repr(value))
        for name, value in flatten(trial.settings).items()
        if "." in name and name not in _IRRELEVANT
    )
    return (run.data.get("fingerprint"), trial.seed, trial.networks, *settings)
