"""Checks of a configuration: each field by itself, fields together, arms and tuned values.

Each check raises UserError for the first thing that is wrong; the message names the field
and the values that it accepts.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from alexnet_jax.config.dataset_names import check_dataset
from alexnet_jax.config.field_type import Field
from alexnet_jax.config.fields import (
    EXPERIMENT_FIELDS,
    FIELDS,
    NEUTRAL_FIELDS,
    TYPE_NAMES,
    by_microbatch,
    without_effect,
)
from alexnet_jax.config.hints import hint
from alexnet_jax.config.layer_rates import LENGTHS, of_layers
from alexnet_jax.config.recipes import NO_RECIPE, RECIPES
from alexnet_jax.errors import UserError, nearest

# File systems refuse names above 255 bytes, and drafts have longer names.
LONGEST_NAME, LONGEST_FOLDER = 100, 255

# What `own_loop` refuses: fields, and values of others with what to take instead.
_READ_BY_LOOPS = (
    "preset",
    "training.batch_size",
    "training.num_epochs",
    "training.label_smoothing",
)
_OF_RUNS_ALONE = {
    name: "runs alone do"
    for name in FIELDS
    if name not in _READ_BY_LOOPS
    and (name in EXPERIMENT_FIELDS or name.startswith("training."))
} | {
    "recipe": "its name is the first argument",
    "data.rescale_size": "it is the side of the images given",
    "data.random_resized_crop": "runs draw its boxes on the host",
    "data.randaugment": "runs apply it on the host",
    "data.randaugment_magnitude": "runs apply it on the host",
    "optimizer.ema_decay": "average the parameters there",
}
_VALUES_OF_RUNS = {
    "optimizer.schedule": (
        "plateau",
        "it follows validation errors, which the update rule does not see. Take steps, "
        "cosine or constant",
    ),
    "model.normalization": (
        "batch",
        "it keeps running statistics, which a loss does not return. Take layer or group",
    ),
}


def recipe(name: Any, network: str) -> None:
    """Raises UserError unless the recipe `name` exists and has the network."""
    if network == "four_layer" and name != NO_RECIPE:
        raise UserError(
            f"config.recipe='{name}': the four-layer network of Figure 1 has no recipe. "
            "Recipes are for AlexNet: configs/alexnet.py and the like."
        )
    if network != "four_layer" and name not in RECIPES:
        raise UserError(
            f"config.recipe='{name}': it must be one of {', '.join(RECIPES)}."
            + nearest(str(name), RECIPES)
        )


def folder_name(what: str, name: Any) -> None:
    """Raises UserError unless `name` is a valid folder name on every system."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_+ -]+", name):
        raise UserError(
            f"{what} '{name}' becomes a folder name: use letters, digits, spaces and _+- only."
        )
    if name != name.strip():
        raise UserError(
            f"{what} '{name}' becomes a folder name: no space before or after it."
        )
    if len(name) > LONGEST_NAME:
        raise UserError(
            f"{what} '{name[:20]}...' becomes a folder name and has {len(name)} characters: "
            f"use at most {LONGEST_NAME}."
        )


def can_vary(where: str, name: Any) -> None:
    """Raises UserError unless the trials of an experiment can differ in the field `name`."""
    if not isinstance(name, str):
        raise UserError(f"{where} sets {name!r}: give the name of a field.")
    if name not in FIELDS:
        raise UserError(f"{where} sets '{name}': no such field.{hint(name)}")
    if name in EXPERIMENT_FIELDS:
        raise UserError(
            f"{where} sets '{name}', which must be the same for a whole experiment."
        )


def own_loop(name: Any, value: Any) -> None:
    """Raises UserError unless a training loop of one's own reads a field, and the value."""
    where = "alexnet_jax.recipe"
    why = _OF_RUNS_ALONE.get(name if isinstance(name, str) else "")
    if why is not None:
        raise UserError(
            f"{where} sets '{name}', which a training loop of your own does not read: {why}."
        )
    if name != "preset":
        can_vary(where, name)
    if name in _VALUES_OF_RUNS and value == (refused := _VALUES_OF_RUNS[name])[0]:
        raise UserError(f"{where} sets {name}={value!r}: {refused[1]}.")


def arm(name: Any, overrides: Any, tuned: Mapping[str, Any]) -> None:
    """Raises UserError unless `overrides` are fields in which arms can differ."""
    folder_name("Arm name", name)
    if not isinstance(overrides, Mapping):
        raise UserError(f"Arm '{name}' is {overrides!r}: give {{field: value}}.")
    for field in overrides:
        can_vary(f"Arm '{name}'", field)
        if field in tuned:
            raise UserError(
                f"Arm '{name}' sets '{field}', which config.tuned sets too: remove one."
            )


def tuned(name: Any, values: Any) -> None:
    """Raises UserError unless `values` can be tried for the fields of the entry `name`."""
    fields = name.split(",") if isinstance(name, str) else [name]
    for field in fields:
        can_vary("config.tuned", field)
        if type(FIELDS[field].default) not in (int, float):
            raise UserError(
                f"config.tuned sets '{field}', which is not a number: use arms for it."
            )
    if not isinstance(values, (tuple, list)):
        raise UserError(f"config.tuned['{name}'] takes a tuple of values, like (1, 2).")
    if not values:
        raise UserError(f"config.tuned['{name}'] is empty: give at least one value.")
    for row in values if len(fields) > 1 else ():
        if not isinstance(row, (tuple, list)) or len(row) != len(fields):
            raise UserError(
                f"config.tuned['{name}'] takes rows of {len(fields)} values, as "
                f"search.together and search.draws write them, not {row!r}."
            )
    for value in values:
        row = value if isinstance(value, (tuple, list)) else (value,)
        if not all(isinstance(each, (int, float, str)) for each in row):
            raise UserError(f"config.tuned['{name}'] takes numbers, not {value!r}.")
    hashable = [tuple(v) if isinstance(v, (tuple, list)) else v for v in values]
    if len(set(hashable)) < len(values):
        raise UserError(f"config.tuned['{name}'] contains a value twice: {values}.")


def tuned_folder(name: str) -> None:
    """Raises UserError unless the tuned values of a trial make a valid folder name."""
    if len(name) > LONGEST_FOLDER:
        raise UserError(
            f"The tuned values '{name[:40]}...' become a folder name of {len(name)} "
            f"characters, and at most {LONGEST_FOLDER} are possible: round them, as "
            "float(f'{value:.3g}') does, or tune fewer fields."
        )


def ensemble(
    arm: str, networks: Any, *, trained: bool, given: Mapping[str, Any]
) -> None:
    """Raises UserError unless other trials train the networks that an arm averages."""
    if type(networks) is not int or networks < 2:  # `values` checks the number itself
        return
    if not trained:
        raise UserError(
            f"Arm '{arm}' averages {networks} networks that no other arm trains: add an "
            "arm that differs from it only in training.ensemble=1."
        )
    seeds = given["seeds"]
    if seeds % networks:
        raise UserError(
            f"Arm '{arm}' averages {networks} networks of consecutive seeds, and config.seeds="
            f"{seeds} is not a multiple of {networks}. "
            f"Use {-(-seeds // networks) * networks}."
        )
    if given["training.checkpoint_every_epochs"] == 0:
        raise UserError(
            f"Arm '{arm}' averages networks read from their last checkpoints, and "
            "config.training.checkpoint_every_epochs=0 keeps none."
        )


def has_effect(setting: str, field: str, trials: Sequence[Mapping[str, Any]]) -> None:
    """Raises UserError if `field` has no effect in any trial.

    Args:
      setting: the field and its value, for the message.
      field: the dotted name.
      trials: the values of each trial, by dotted name.
    """
    reasons = [without_effect(values).get(field) for values in trials]
    if reasons and all(reasons):
        recipe_name = trials[0]["recipe"]
        of = "" if recipe_name == NO_RECIPE else f" (recipe {recipe_name})"
        raise UserError(
            f"{setting} has no effect: {reasons[0]}{of}. Remove it, or change that setting too."
        )


def effective_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values on which a trial's trained network depends, by dotted name.

    Fields without an effect are left out, and events at epochs after the end of training,
    which never happen.
    """
    found, end = dict(given), given["training.num_epochs"]
    for name in ("optimizer.drop_epochs", "optimizer.conv1_drop_epochs"):
        found[name] = tuple(epoch for epoch in found[name] if epoch < end)
    for name in ("optimizer.conv1_stop_epoch", "data.lighting_off_epoch"):
        found[name] = found[name] if found[name] < end else 0.0  # 0: never
    neutral = {*NEUTRAL_FIELDS, *without_effect(found)} - by_microbatch(given)
    if found["optimizer.schedule"] != "plateau":  # only plateau depends on evaluations
        neutral.add("training.evaluate_every_epochs")
    return {name: value for name, value in found.items() if name not in neutral}


def trainings_differ(trials: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises UserError if two trials would train the same network.

    Args:
      trials: the values of each trial, by the trial's name in messages.
    """
    seen: dict[Any, str] = {}
    for name, one in trials.items():
        key = tuple(
            (field, tuple(value) if isinstance(value, list) else value)
            for field, value in effective_values(one).items()
        )
        if key in seen:
            _refuse_equal_trainings(f"{seen[key]} and {name}", trials[seen[key]], one)
        seen[key] = name


def _refuse_equal_trainings(
    what: str, one: Mapping[str, Any], other: Mapping[str, Any]
) -> None:
    names = [name for name in one if one[name] != other[name]]
    why = "which does not change the trained network"
    if any(name in effective_values(one) for name in names):
        why = f"at epochs after the end, training.num_epochs={one['training.num_epochs']:g}"
    raise UserError(
        f"{what[0].upper()}{what[1:]} differ only in {' and '.join(names)}, {why}: there is "
        "nothing to compare."
    )


def values(given: Mapping[str, Any]) -> None:
    """Checks every field of a trial against its type, choices and range, then all together.

    Raises:
      UserError: naming the first field that is wrong, and the values that it accepts.
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
            if not isinstance(element, (int, float)) or isinstance(element, bool):
                raise UserError(
                    f"config.{name} contains '{element}', which is not a number."
                )
            _value(name, field, element)
    check_dataset(given["data.dataset"])
    _lengths(given)
    _network(given)
    of_layers(
        given["optimizer.layer_lr_multipliers"],
        given["optimizer.frozen_layers"],
        {name: given[f"model.{name}"] for name in ("name", "channels")},
    )
    update_rule(given, "config.training.num_epochs")
    _profile(given["training.profile"])
    if given["data.crop_size"] > given["data.rescale_size"]:
        raise UserError(
            f"config.data.crop_size={given['data.crop_size']} is larger than the rescaled "
            f"images: at most config.data.rescale_size="
            f"{given['data.rescale_size']}."
        )


def _lengths(given: Mapping[str, Any]) -> None:
    network = given["model.name"]
    for name, needed in LENGTHS[network].items():
        if len(given[f"model.{name}"]) != needed:
            raise UserError(
                f"config.model.{name} has {len(given[f'model.{name}'])} values; {network} "
                f"has {needed} layers that need one each."
            )
    for name, allowed in (("channel_mean", (0, 3)), ("channel_scale", (3,))):
        if len(given[f"data.{name}"]) not in allowed:
            raise UserError(f"config.data.{name} takes three numbers, R, G and B.")


def _network(given: Mapping[str, Any]) -> None:
    channels = given["model.channels"]
    needed = channels if given["model.name"] == "four_layer" else channels[:1]
    if 0 in needed or not all(isinstance(count, int) for count in channels):
        raise UserError(
            f"config.model.channels={channels}: whole numbers are needed, and "
            "conv1 cannot be omitted."
        )
    if given["model.name"] in ("four_layer", "zfnet") and given["model.towers"] != 1:
        raise UserError(
            f"config.model.towers: the network {given['model.name']} has a single tower: "
            "add --config.model.towers=1."
        )
    at_once = given["training.batch_size"] // given["training.gradient_accumulation"]
    if (given["data.mixup"] or given["data.cutmix"]) and at_once % 2:
        raise UserError(
            f"config.data.mixup and config.data.cutmix mix pairs of images, and a step sees "
            f"{at_once} at a time. Use a config.training.batch_size that is a multiple of "
            "twice config.training.gradient_accumulation."
        )
    if given["model.normalization"] == "batch" and at_once < 2:
        raise UserError(
            f"config.model.normalization='batch': a step sees {at_once} image at a time, "
            "whose own mean it would subtract. Use a config.training.batch_size of at least "
            "twice config.training.gradient_accumulation, or layer or group normalization."
        )
    if given["model.pool_stride"] > given["model.pool_window"]:
        raise UserError(
            f"config.model.pool_stride={given['model.pool_stride']} skips pixels: at most "
            f"config.model.pool_window={given['model.pool_window']}."
        )


def update_rule(given: Mapping[str, Any], epochs_field: str) -> None:
    """Raises UserError unless the fields of the update rule go together.

    Args:
      given: the values of a trial, by dotted name.
      epochs_field: what has set the number of its epochs.
    """
    warmup, end = given["optimizer.warmup_epochs"], given["training.num_epochs"]
    if warmup > end:
        raise UserError(
            f"config.optimizer.warmup_epochs={warmup:g} is longer than the training: at most "
            f"{epochs_field}={end:g}."
        )
    if given["optimizer.name"] == "lars" and given["optimizer.bias_decay"]:
        raise UserError(
            "config.optimizer.bias_decay=True: LARS scales the decayed gradient of kernels "
            "only, and biases would decay many times as fast. Use "
            "config.optimizer.bias_decay=false, or config.optimizer.name=lamb."
        )


def _profile(window: Any) -> None:
    fits = len(window) in (0, 2) and all(isinstance(step, int) for step in window)
    if not fits or list(window) != sorted(window):
        raise UserError(
            f"config.training.profile={window}: give two whole numbers, the first step "
            "and the last, like 100,110."
        )


def _value(name: str, field: Field, value: Any) -> None:
    if field.choices and value not in field.choices:
        raise UserError(
            f"config.{name}='{value}': it must be one of {', '.join(field.choices)}."
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
