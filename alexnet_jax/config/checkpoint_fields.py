"""The fields of a trial that its checkpoints hold: those on which its result depends.

A checkpoint is refused where they differ, so that no trial continues as another one.
"""

import functools
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.config.fields import FIELDS, OPERATIONAL_FIELDS, by_microbatch
from alexnet_jax.config.old_names import with_defaults

# Fields on which no trial's result depends.
_WITHOUT_EFFECT = (
    *OPERATIONAL_FIELDS,
    "experiment",
    "seeds",
    "tuning_seeds",
    "tuning_epochs",
)


def fields_of(settings: ConfigDict) -> dict[str, Any]:
    """The fields of a trial's settings on which its result depends, as JSON values."""
    values = {n: functools.reduce(getattr, n.split("."), settings) for n in FIELDS}
    without = {*_WITHOUT_EFFECT} - by_microbatch(values)
    return _as_json({n: value for n, value in values.items() if n not in without})


def differing_fields(
    held: Mapping[str, Any], fields: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """By name, the fields of a checkpoint that differ from `fields`: there, and here.

    Args:
      held: what the checkpoint holds, of any version: fields that were renamed count
        under their new names, and fields that did not exist are at their defaults.
      fields: `fields_of` the trial's settings.
    """
    there = _as_json(with_defaults(held))
    # Also fields that only a later version of this program has.
    names = fields.keys() | (there.keys() - FIELDS.keys())
    return {
        name: (there.get(name, "absent"), fields.get(name, "absent"))
        for name in sorted(names)
        if there.get(name) != fields.get(name)
    }


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(values))
