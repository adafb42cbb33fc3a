"""Averages of several networks: evaluated after the trials that trained them."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import config as configuration
from alexnet_jax.config import Trial
from alexnet_jax.data import pipeline
from alexnet_jax.model.network import Params
from alexnet_jax.training.checkpoint import weights
from alexnet_jax.training.loop import EVALUATION_BATCH, Evaluator, Trainer
from alexnet_jax.training.member import Plan
from alexnet_jax.training.parallel import Devices
from alexnet_jax.training.record import Record


def ensembles(config: ConfigDict) -> list[Trial]:
    """Those of an experiment, in order: they train nothing, and are no trials."""
    return [
        one
        for one in configuration.all_trials(config)
        if configuration.networks_of(config, one.arm) > 1
    ]


def evaluate(
    config: ConfigDict,
    ensemble: Trial,
    folder: Path,
    data: pipeline.Data,
    devices: Devices,
) -> None:
    """Records the one eval row of an ensemble, from its networks' last checkpoints.

    Where one of them diverged, so has the ensemble: it has no row.

    Args:
      config: the experiment's, as `config.finish` returns it.
      folder: the run folder; its trials have run to their end.

    Raises:
      UserError: if a checkpoint is not there any more, or damaged.
    """
    own = configuration.trial_config(config, ensemble)
    members = configuration.members(config, ensemble)
    ends = [_end(folder / member.folder) for member in members]
    target = folder / ensemble.folder if devices.writes else None
    with Record(target, tensorboard=False) as record:
        record.go_on_from(0)
        status = "finished"
        if any(end["status"] == "diverged" for end in ends):
            status = "diverged"
        else:
            trainer = Trainer.of(own, data, devices)
            evaluator = Evaluator(
                trainer,
                data,
                trainer.place_mean(data, devices),
                devices,
                Plan.of(own, data.train.num_examples),
                # As many activations at once as the trials' own evaluations.
                max(1, EVALUATION_BATCH // own.training.accumulation),
            )
            params = devices.place_state(_stacked(folder, members))
            (row,) = evaluator.rows(params, ends[0]["step"])
            record.write(row | {"seeds": [member.seed for member in members]})
    record.close_trial(status, step=ends[0]["step"], epoch=ends[0]["epoch"])


def _end(trial: Path) -> dict[str, Any]:
    return json.loads((trial / "trial.json").read_text())


def _stacked(folder: Path, members: list[Trial]) -> Params:
    """Their parameters, along a new first axis."""
    held = [weights(folder / member.folder, last=True)[0] for member in members]
    return jax.tree.map(lambda *arrays: np.stack(arrays), *held)
