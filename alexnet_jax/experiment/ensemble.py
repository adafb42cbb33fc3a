"""Evaluates averages of several networks, after the trials that trained them (Table 2)."""

import json
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from alexnet_jax.config.trials import Trial
from alexnet_jax.data import pipeline
from alexnet_jax.errors import UserError
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.records import Record
from alexnet_jax.training.saved_network import read_weights
from alexnet_jax.training.stacking import stack
from alexnet_jax.training.trainer import Evaluator, StepSpec


def evaluate(
    ensemble: Trial,
    trials: list[Trial],
    folder: Path,
    data: pipeline.Data,
    devices: Devices,
) -> None:
    """Records the one eval row of an ensemble, from its networks' last checkpoints.

    An ensemble of which one network has diverged has diverged too, and has no row.

    Args:
      ensemble: the average of networks to evaluate.
      trials: those that trained its networks; they have ended.
      folder: the run folder.
      data: what they were trained on.
      devices: the devices to evaluate on.

    Raises:
      UserError: if a checkpoint is missing or damaged.
    """
    ends = [_end(folder / trial.folder) for trial in trials]
    target = folder / ensemble.folder if devices.is_primary else None
    with Record(target, tensorboard=False) as record:
        record.resume(0)
        status = "finished"
        if any(end["status"] == "diverged" for end in ends):
            status = "diverged"
        else:
            spec = StepSpec.of(ensemble.settings, data)
            evaluator = Evaluator.of(spec, data, devices)
            networks = stack(
                [read_weights(folder / t.folder, "last")[0] for t in trials]
            )
            # A group of one ensemble, each network of which has its own weights.
            params: PyTree = devices.place_trials(stack([networks]))
            (row,) = evaluator.evaluate(
                params, step=ends[0]["step"], epoch=ends[0]["epoch"]
            )
            record.write(row | {"seeds": [trial.seed for trial in trials]})
    record.close_trial(status, step=ends[0]["step"], epoch=ends[0]["epoch"])


def _end(trial: Path) -> dict[str, Any]:
    path = trial / "trial.json"
    try:
        held = json.loads(path.read_text())
        return {name: held[name] for name in ("status", "step", "epoch")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read: {error!r}. Remove it: the trial continues from its "
            "last checkpoint."
        ) from error
