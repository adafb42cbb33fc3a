"""A trial's state before its first step: weights drawn by seed, or from a trained network."""

from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

from alexnet_jax.config.network_form import differences, origin_of
from alexnet_jax.errors import UserError
from alexnet_jax.training.saved_network import read_network, read_weights
from alexnet_jax.training.step import Params, TrainState, initial_state
from alexnet_jax.training.trainer import Trainer, params_shapes


def starting_state(init_from: str, seed: int, trainer: Trainer) -> TrainState:
    """A single trial's state before its first step.

    The weights are drawn with `seed`; where `init_from` names a trained network and is not
    empty, those of all layers but the last are taken from it.

    Raises:
      UserError: if that network cannot be read or has other layers.
    """
    state = initial_state(trainer.network, seed, trainer.spec)
    if init_from:
        return state.starting_from(fine_tuned_params(state.params, init_from))
    return state


def fine_tuned_params(initial: Params, init_from: str) -> Params:
    """`initial` with the weights of a trained network in all layers but the last.

    Raises:
      UserError: if the network cannot be read or has other layers.
    """
    held, origin = read_weights(*origin_of(init_from))
    *kept, last = initial
    differing = _differing(held, initial)
    if differing:
        raise UserError(_refusal(origin, differing))
    return {**{layer: held[layer] for layer in kept}, last: initial[last]}


def check_origins(trials: Iterable[tuple[str, FrozenConfigDict]]) -> list[str]:
    """Says from which trained networks trials start; of each network and form once.

    A network of the same shapes may have been trained in another form, such as another
    order of color channels: that is reported, not refused.

    Args:
      trials: the name of each trial in messages, and its settings.

    Raises:
      UserError: if a network cannot be read or has other layers than the trial's.
    """
    found: dict[Any, str] = {}
    for name, settings in trials:
        origin = settings.training.init_from
        key = origin, settings.model, settings.data
        if origin and key not in found:
            found[key] = f"{name} starts from {_described(origin, settings)}"
    return list(found.values())


def _described(init_from: str, settings: ConfigDict) -> str:
    """The network that `init_from` names, in a sentence; more where its form differs."""
    params, trained_on, description = read_network(*origin_of(init_from))
    form = differences(description.fields, settings)
    differing = _differing(params, params_shapes(settings))
    if differing:
        flags = " ".join(
            f"--config.{name}={_flag(there)}" for name, (there, _) in form.items()
        )
        raise UserError(
            _refusal(description.folder, differing)
            + (f"\nThat network was trained with {flags}" if flags else "")
        )
    facts = [f"step {description.position.step}"]
    if trained_on is not None:
        facts.append(f"{trained_on.dataset}, {len(trained_on.class_names)} classes")
    error = description.position.evaluation.get("top1_error")
    if error is not None:
        facts.append(f"top-1 error there {error:.1%}")
    sentence = f"{description.folder} ({'; '.join(facts)}), in all layers but the last."
    if form:
        sentence += " Warning: that network was trained in another form:\n" + "\n".join(
            f"  {name}: {there} there, {here} here"
            for name, (there, here) in form.items()
        )
    return sentence


def _differing(held: Mapping[str, Any], initial: Mapping[str, Any]) -> list[str]:
    """Lines about the layers, all but the last of each, whose shapes differ."""
    *kept, _ = initial
    *of_held, _ = held
    return [
        f"  {layer}: {_shapes(held.get(layer))} there, {_shapes(initial.get(layer))} here"
        for layer in sorted({*kept, *of_held})
        if _shapes(held.get(layer)) != _shapes(initial.get(layer))
    ]


def _refusal(origin: Any, differing: list[str]) -> str:
    return (
        f"config.training.init_from: the layers of {origin} differ from this network's:\n"
        + "\n".join(differing)
    )


def _flag(value: Any) -> str:
    """A value as the command line writes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()


def _shapes(layer: Any) -> str:
    if layer is None:
        return "none"
    shapes = {name: array.shape for name, array in sorted(layer.items())}
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
