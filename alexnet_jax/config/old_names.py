"""What run folders and checkpoints of older versions hold, in the terms of this one.

Fields have been renamed, and fields have been added since: a missing field has its default.
"""

from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import FrozenConfigDict

from alexnet_jax.config.fields import FIELDS, default_of
from alexnet_jax.config.layered import nest

# Today's name of each field that had another one.
RENAMED = {
    "model.weight_deviations": "model.weight_stds",
    "model.map_norm": "model.within_channel_norm",
    "model.map_norm_size": "model.within_channel_norm_size",
    "model.map_norm_k": "model.within_channel_norm_k",
    "model.map_norm_alpha": "model.within_channel_norm_alpha",
    "model.map_norm_beta": "model.within_channel_norm_beta",
    "data.lighting_deviation": "data.lighting_std",
    "data.views": "data.eval_crops",
    "optimizer.bias_rate": "optimizer.bias_lr_multiplier",
    "optimizer.rate_in_velocity": "optimizer.lr_inside_momentum",
    "training.record_every_epochs": "training.log_every_epochs",
    "training.accumulation": "training.gradient_accumulation",
}
_RENAMED_VALUES = {("data.lighting_scale", "deviation"): "standard_deviation"}


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of all fields, given those of any version.

    A field that the version did not have has its default under the recipe of `values`.
    """
    recipe = values.get("recipe", FIELDS["recipe"].default)
    return {name: default_of(name, recipe) for name in FIELDS} | upgraded(values)


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values by dotted name, of any version, under the names of this version."""
    return {
        (new := RENAMED.get(name, name)): _RENAMED_VALUES.get((new, value), value)
        if isinstance(value, str)
        else value
        for name, value in values.items()
    }


def added_choices(
    changes: Mapping[str, Any], values: Mapping[str, Any], added: Collection[str]
) -> dict[str, Any]:
    """Returns the fields in which the recipe that an arm names departs from `values`.

    Args:
      changes: what the arm changes, by dotted name.
      values: every field's value below the arms.
      added: the fields to look at: those that the version did not have.
    """
    if "recipe" not in changes:
        return {}
    defaults = {name: default_of(name, changes["recipe"]) for name in sorted(added)}
    return {name: value for name, value in defaults.items() if value != values[name]}


def settings_of(fields: Mapping[str, Any]) -> FrozenConfigDict:
    """The settings in sections, of the fields that a checkpoint of any version holds."""
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in with_defaults(fields).items()
    }
    return FrozenConfigDict(nest(values))
