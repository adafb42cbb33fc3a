"""Finds a trained network by what a user names it: a run, a trial, a checkpoint or a file."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import FrozenConfigDict

from alexnet_jax.config.layered import nest
from alexnet_jax.config.old_names import with_defaults
from alexnet_jax.data import pipeline
from alexnet_jax.errors import UserError, nearest
from alexnet_jax.trained.trained_network import TrainedNetwork
from alexnet_jax.training.saved_network import read_network
from alexnet_jax.training.trained_on import TrainedOn


def load(origin: str | os.PathLike[str], *, arm: str = "") -> TrainedNetwork:
    """Opens a trained network.

    Args:
      origin: the folder of a run, of one of its trials, or of a checkpoint. After it may
        stand which checkpoint of a trial: "@best" by validation error, the default;
        "@last"; or a step, as "@1200".
      arm: which arm of a run with several: its network of seed 0, at the tuned values that
        its report has selected.

    Raises:
      UserError: if there is no network, or it is damaged.
    """
    path, which = _parsed(os.fspath(origin))
    if (path / "experiment.json").is_file():
        path = _trial_folder(path, arm)
    elif arm:
        raise UserError(f"{path} is not a run folder, and has no arm '{arm}'.")
    if not path.is_dir():
        raise UserError(
            f"No such network: {path}. Name the folder of a run, of a trial or of a "
            "checkpoint."
        )
    params, trained_on, description = read_network(path, which)
    settings = settings_of(description.fields)
    if trained_on is None:
        trained_on = _from_data(settings, description.folder)
    return TrainedNetwork(
        origin=str(origin),
        settings=settings,
        params=params,
        trained_on=trained_on,
        step=description.position.step,
        measured=description.position.evaluation,
    )


def _parsed(origin: str) -> tuple[Path, str]:
    """The path, and which of its checkpoints."""
    found = re.fullmatch(r"(.+)@(best|last|\d+)", origin, re.DOTALL)
    if found and not os.path.exists(origin):
        return Path(found[1]).expanduser(), found[2]
    return Path(origin).expanduser(), "best"


def _trial_folder(run_folder: Path, arm: str) -> Path:
    """The folder of an arm's trial of seed 0, at its selected tuned values."""
    # SciPy takes a second to import; a trial's folder or a checkpoint does without.
    from alexnet_jax.report.run_reader import read_run
    from alexnet_jax.report.summary import summarize

    run = read_run(run_folder)
    if not arm:
        if len(run.arms) > 1:
            raise UserError(
                f"{run_folder} holds the networks of several arms: choose one by --arm, "
                f"of {', '.join(run.arms)}."
            )
        (arm,) = run.arms
    if arm not in run.arms:
        raise UserError(
            f"{run_folder} has no arm '{arm}': it has {', '.join(run.arms)}."
            f"{nearest(arm, run.arms)}"
        )
    own = [one.trial for one in run.outcomes if one.trial.arm == arm]
    if run.networks[arm] > 1:
        members = run_folder / run.trained_as[arm]
        raise UserError(
            f"Arm '{arm}' averages {run.networks[arm]} networks: name their folders, such "
            f"as {members}{os.sep}seed0."
        )
    if len({trial.tuned_name for trial in own}) > 1 or run.tuning:
        tuned = summarize(run)["arms"][arm]["tuned"]
        own = [trial for trial in own if dict(trial.tuned) == dict(tuned)]
    return run_folder / next(t for t in own if t.seed == 0).records_folder


def settings_of(fields: Mapping[str, Any]) -> FrozenConfigDict:
    """The settings in sections, of the fields that a checkpoint of any version holds."""
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in with_defaults(fields).items()
    }
    return FrozenConfigDict(nest(values))


def _from_data(settings: FrozenConfigDict, folder: Path) -> TrainedOn:
    """What a checkpoint of an earlier version does not say, from the training data."""
    data = settings.data
    print(
        f"{folder} is of an earlier version, which kept neither the names of the classes "
        f"nor the mean image: they are read from {data.dataset}.",
        file=sys.stderr,
        flush=True,
    )
    # TensorFlow takes seconds to import, and newer checkpoints do without their data.
    from alexnet_jax.data.open import open_source

    source = open_source(data.dataset, tfds_dir=data.tfds_dir)
    loaded = pipeline.load_data(
        source, rescale=data.rescale, rescale_size=data.rescale_size
    )
    return TrainedOn.of(loaded)
