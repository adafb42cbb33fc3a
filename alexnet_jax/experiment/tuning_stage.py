"""The first stage of a run with tuned values: it chooses those of the measured trials.

`report/tuning.py` says what its records show; here they steer the run.
"""

from collections.abc import Mapping
from pathlib import Path

from alexnet_jax.report.run_reader import read_run, read_tuning_trials
from alexnet_jax.report.tuning import Stage


def chosen(folder: Path) -> dict[str, str]:
    """For each arm that is trained in this run folder, the name of its chosen values.

    Raises:
      UserError: if a record cannot be read.
    """
    return Stage.of(read_run(folder)).chosen()


def give_up_epoch(
    folder: Path, *, arm: str, tuned_name: str, seed: int
) -> float | None:
    """The epoch after which a tuning trial's values cannot be chosen any more.

    None before other values have an answer, where errors are compared instead of epochs,
    and where a record of the arm cannot be read: to go on is always right.

    Args:
      folder: the run folder.
      arm, tuned_name, seed: which of the trials of the tuning stage.
    """
    run = read_tuning_trials(folder, arm)
    return Stage.of(run).give_up_epoch(arm, tuned_name, seed) if run else None


def describe(chosen: Mapping[str, str]) -> str:
    """For example "Chosen: ReLU learning_rate=0.003; tanh learning_rate=0.01"."""
    return f"Chosen: {'; '.join(f'{arm} {name}' for arm, name in chosen.items())}"
