"""Resumes trials from their checkpoints, or starts them, in groups at the same step."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from alexnet_jax.errors import UserError
from alexnet_jax.training import failures
from alexnet_jax.training.checkpoint_files import Phase, Position, read_weights
from alexnet_jax.training.context import RunContext
from alexnet_jax.training.group import TrialGroup, step_memory
from alexnet_jax.training.step import Params, TrainState, initial_state, state_shapes
from alexnet_jax.training.trainer import Trainer
from alexnet_jax.training.trial import RunningTrial


def resume(trials: Sequence[RunningTrial], context: RunContext) -> list[TrialGroup]:
    """The trials in groups, each of which stands at one step and phase.

    There is one group as long as all trials were saved together. After a kill between
    two saves of the same step there may be more, to be trained one after another.

    Raises:
      UserError: if a checkpoint or a record does not fit the trial.
    """
    standing: dict[tuple[int, Phase], list[tuple[RunningTrial, TrainState]]] = {}
    with failures.explaining(step_memory(trials, context)):
        for trial in trials:
            state, position = _restored(trial, context)
            trial.resume(position)
            context.progress.skip(position.step * trial.schedule.batch_size)
            here = standing.setdefault((position.step, position.phase), [])
            here.append((trial, state))
    return [
        TrialGroup(
            [trial for trial, _ in here],
            [state for _, state in here],
            context,
            step=step,
            phase=phase,
        )
        for (step, phase), here in standing.items()
    ]


def _restored(trial: RunningTrial, context: RunContext) -> tuple[TrainState, Position]:
    """A trial's state, in host memory, and its position."""
    trainer = Trainer.of(trial.settings, context.data, context.devices)
    shapes = state_shapes(trainer.network, trainer.spec)
    like = context.devices.replicated_shapes(shapes)
    found = trial.checkpoints.restore(like)
    if found is None:
        return starting_state(trial.settings, trial.seed, trainer), Position()
    state, position, damaged = found
    for message in damaged:
        warning = f"{message}. The one before it is used."
        context.progress.warn(warning, trial.label)
    return jax.device_get(state), position


def starting_state(settings: ConfigDict, seed: int, trainer: Trainer) -> TrainState:
    """A single trial's state before its first step.

    The weights are drawn with `seed`; where `settings.training.init_from` names a
    checkpoint, those of all layers but the last are taken from it.

    Raises:
      UserError: if that checkpoint cannot be read or has other layers.
    """
    state = initial_state(trainer.network, seed, trainer.spec)
    if settings.training.init_from:
        params = fine_tuned_params(state.params, settings.training.init_from)
        state = dataclasses.replace(state, params=params)
    return state


def fine_tuned_params(initial: Params, init_from: str) -> Params:
    """`initial` with the weights of a checkpoint in all layers but the last.

    Raises:
      UserError: if the checkpoint cannot be read or has other layers.
    """
    held, folder = read_weights(init_from)
    *kept, last = initial
    differing = [
        f"  {layer}: {_shapes(held.get(layer))} there, {_shapes(initial[layer])} here"
        for layer in kept
        if _shapes(held.get(layer)) != _shapes(initial[layer])
    ]
    if differing:
        raise UserError(
            f"config.training.init_from: the layers of {folder} differ from this "
            "network's:\n" + "\n".join(differing)
        )
    return {**{layer: held[layer] for layer in kept}, last: initial[last]}


def _shapes(layer: Any) -> str:
    if layer is None:
        return "none"
    shapes = {name: array.shape for name, array in sorted(layer.items())}
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
