"""What a configuration may hold: each field by itself, and the fields together."""

import math
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.errors import UserError, nearest
from alexnet_jax.fields import FIELDS, LENGTHS, TYPE_NAMES, WHOLE, Field
from alexnet_jax.recipe import NO_RECIPE, RECIPES, without_effect


def dataset(given: str) -> str:
    """Returns the dataset's name as it was given.

    Raises:
      UserError: if it is empty, or of no known form.
    """
    kind, equals, name = given.partition("=")
    if equals and kind not in ("tfds", "folder"):
        raise UserError(
            f"Unknown kind of dataset '{kind}=' in '{given}'."
            + nearest(kind, ("tfds", "folder"))
            + " Write digits, a TFDS name, tfds=NAME or folder=PATH behind the colon."
        )
    if not (name if equals else kind):
        raise UserError(
            "No dataset behind the colon: write digits, a TFDS name, tfds=NAME or "
            "folder=PATH, or leave the colon away for digits."
        )
    return given


def recipe(name: str, network: str) -> None:
    """Raises UserError unless `network` comes in the recipe `name`."""
    if network == "four_layer" and name != NO_RECIPE:
        raise UserError(
            f"config.recipe='{name}': the four-layer network of Figure 1 is in no recipe. "
            "Recipes are for configs/alexnet.py and the like."
        )
    if network != "four_layer" and name not in RECIPES:
        raise UserError(
            f"config.recipe='{name}': it is one of {', '.join(RECIPES)}."
            + nearest(name, RECIPES)
        )


def folder_name(what: str, name: str) -> None:
    """Raises UserError unless `name` can be that of a folder everywhere."""
    if not re.fullmatch(r"[A-Za-z0-9_+ -]+", name):
        raise UserError(
            f"{what} '{name}': it becomes a folder; use letters, digits, space and _+- ."
        )


def varied(where: str, name: str) -> None:
    """Raises UserError unless arms or tuned values can differ in the field `name`."""
    if name not in FIELDS:
        raise UserError(f"{where} sets '{name}', no field.{nearest(name, FIELDS)}")
    if name in WHOLE:
        raise UserError(f"{where} sets '{name}', which holds for a whole experiment.")


def arm(name: str, overrides: Any, tuned: Mapping[str, Any]) -> None:
    """Raises UserError unless `overrides` are fields in which an arm can differ."""
    folder_name("Arm name", name)
    if not isinstance(overrides, Mapping):
        raise UserError(f"Arm '{name}' holds {overrides!r}: give {{field: value}}.")
    for field in overrides:
        varied(f"Arm '{name}'", field)
        if field in tuned:
            raise UserError(
                f"Arm '{name}' sets '{field}', which config.tuned sets too."
            )


def tuned(name: str, values: Any) -> None:
    """Raises UserError unless `values` can be tried for the field, or fields, `name`."""
    fields = name.split(",")
    for field in fields:
        varied("config.tuned", field)
        if type(FIELDS[field].default) not in (int, float):
            raise UserError(f"config.tuned sets '{field}', no number: make it arms.")
    if not isinstance(values, (tuple, list)):
        raise UserError(f"config.tuned['{name}'] takes values in brackets: (1,2).")
    if not values:
        raise UserError(f"config.tuned['{name}'] is empty: give at least one value.")
    for row in values if len(fields) > 1 else ():
        if not isinstance(row, (tuple, list)) or len(row) != len(fields):
            raise UserError(
                f"config.tuned['{name}'] takes rows of {len(fields)} values, as "
                f"tuning.together and tuning.draws write them, not {row!r}."
            )
    hashable = [tuple(v) if isinstance(v, (tuple, list)) else v for v in values]
    if len(set(hashable)) < len(values):
        raise UserError(f"config.tuned['{name}'] holds a value twice: {values}.")


def ensemble(arm: str, networks: Any, *, trained: bool, config: ConfigDict) -> None:
    """Raises UserError unless the networks that an arm averages will be there."""
    if type(networks) is not int or networks < 2:  # `values` says what it may be
        return
    if not trained:
        raise UserError(
            f"Arm '{arm}' averages {networks} networks that nothing trains: give another "
            "arm that differs from it in training.ensemble=1."
        )
    if config.seeds % networks:
        raise UserError(
            f"Arm '{arm}' averages {networks} networks of consecutive seeds: config.seeds="
            f"{config.seeds} is no multiple of it. "
            f"Take {-(-config.seeds // networks) * networks}."
        )
    if config.training.checkpoint_every_epochs == 0:
        raise UserError(
            f"Arm '{arm}' averages networks, read from their last checkpoints: "
            "config.training.checkpoint_every_epochs=0 keeps none."
        )


def has_effect(setting: str, field: str, trials: list[Mapping[str, Any]]) -> None:
    """Raises UserError if none of `trials`, values by name, reads `field`."""
    reasons = [without_effect(values).get(field) for values in trials]
    if reasons and all(reasons):
        recipe_name = trials[0]["recipe"]
        of = "" if recipe_name == NO_RECIPE else f" (recipe {recipe_name})"
        raise UserError(
            f"{setting} has no effect: {reasons[0]}{of}. Leave it away, or change that too."
        )


# How a trial is done, watched and kept: its network is the same to rounding.
UNLEARNED = (
    "training.accumulation",
    "training.checkpoint_every_epochs",
    "training.record_every_epochs",
    "training.warn_after_steps",
    "training.warn_below_spread",
)


def learned(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a trial that its network depends on, those at epochs that come."""
    found = {name: value for name, value in given.items() if name not in UNLEARNED}
    if found["optimizer.schedule"] != "plateau":  # which looks at the evaluations
        del found["training.evaluate_every_epochs"]
    end = found["training.num_epochs"]
    for name in ("optimizer.drop_epochs", "optimizer.conv1_drop_epochs"):
        found[name] = tuple(epoch for epoch in found[name] if epoch < end)
    for name in ("optimizer.conv1_stop_epoch", "data.lighting_off_epoch"):
        found[name] = found[name] if found[name] < end else 0.0  # 0: never
    return found


def learn_apart(trials: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises UserError if two of `trials`, values by what they are called, learn the same."""
    seen: dict[Any, str] = {}
    for called, one in trials.items():
        key = tuple(
            tuple(value) if isinstance(value, list) else value
            for value in learned(one).values()
        )
        if key in seen:
            _refuse_alike(f"{seen[key]} and {called}", trials[seen[key]], one)
        seen[key] = called


def _refuse_alike(what: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    names = [name for name in one if one[name] != other[name]]
    why = "which changes nothing that is learned"
    if any(name in learned(one) for name in names):
        why = f"at epochs behind the end, training.num_epochs={one['training.num_epochs']:g}"
    raise UserError(
        f"{what[0].upper()}{what[1:]} differ in {' and '.join(names)} only, {why}: nothing "
        "to compare."
    )


def values(given: Mapping[str, Any]) -> None:
    """Every field of a trial against its type, choices and range; then the whole.

    Raises:
      UserError: naming the first that is wrong, and what it may be.
    """
    for name, field in FIELDS.items():
        value = given[name]
        kind = type(field.default)
        fits = (
            (int, float) if kind is float else (tuple, list) if kind is tuple else kind
        )
        if not isinstance(value, fits) or isinstance(value, bool) != (kind is bool):
            raise UserError(f"config.{name}={value!r}: it takes {TYPE_NAMES[kind]}.")
        if not isinstance(value, (tuple, list)):
            _value(name, field, value)
            continue
        for element in value:
            if not isinstance(element, (int, float)):
                raise UserError(f"config.{name} holds '{element}', no number.")
            _value(name, field, element)
    dataset(given["data.dataset"])
    _lengths(given)
    _network(given)
    _profile(given["training.profile"])
    if given["data.crop_size"] > given["data.rescale_size"]:
        raise UserError(
            f"config.data.crop_size={given['data.crop_size']} is larger than the images "
            f"it is cut from: at most config.data.rescale_size="
            f"{given['data.rescale_size']}."
        )


def _lengths(given: Mapping[str, Any]) -> None:
    network = given["model.name"]
    for name, needed in LENGTHS[network].items():
        if len(given[f"model.{name}"]) != needed:
            raise UserError(
                f"config.model.{name} has {len(given[f'model.{name}'])} values; the "
                f"{needed} layers of {network} need one each."
            )
    for name, allowed in (("channel_mean", (0, 3)), ("channel_scale", (3,))):
        if len(given[f"data.{name}"]) not in allowed:
            raise UserError(f"config.data.{name} takes three numbers, R, G and B.")


def _network(given: Mapping[str, Any]) -> None:
    channels = given["model.channels"]
    needed = channels[:1] if given["model.name"] == "alexnet" else channels
    if 0 in needed or not all(isinstance(count, int) for count in channels):
        raise UserError(
            f"config.model.channels={channels}: whole numbers, and conv1 is needed."
        )
    if given["model.name"] == "four_layer" and given["model.towers"] != 1:
        raise UserError("config.model.towers: the four_layer network has one tower.")
    if given["model.pool_stride"] > given["model.pool_window"]:
        raise UserError(
            f"config.model.pool_stride={given['model.pool_stride']} skips pixels: at most "
            f"config.model.pool_window={given['model.pool_window']}."
        )


def _profile(window: Any) -> None:
    fits = len(window) in (0, 2) and all(isinstance(step, int) for step in window)
    if not fits or list(window) != sorted(window):
        raise UserError(
            f"config.training.profile={window}: two whole numbers, the first step and "
            "the last, like 100,110."
        )


def _value(name: str, field: Field, value: Any) -> None:
    if field.choices and value not in field.choices:
        raise UserError(
            f"config.{name}='{value}': it is one of {', '.join(field.choices)}."
            + nearest(str(value), field.choices)
        )
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        inside = field.minimum <= value <= field.maximum and value > field.above
        if not inside or not math.isfinite(value):
            raise UserError(f"config.{name}={value}: it must be {_range(field)}.")


def _range(field: Field) -> str:
    parts = ["finite"]
    if field.above > -math.inf:
        parts = [f"above {field.above:g}"]
    if field.minimum > -math.inf:
        parts = [f"at least {field.minimum:g}"]
    if field.maximum < math.inf:
        parts.append(f"at most {field.maximum:g}")
    return " and ".join(parts)
