"""The settings of a recipe for a training loop of one's own: no file, arms or run folder."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

from alexnet_jax.config import base, validate
from alexnet_jax.config.resolve import resolve

# What stands for the dataset's name. The preset `small` takes it for any dataset.
OWN_IMAGES = "npz=images of your own"


def settings_of_recipe(
    recipe: str, changes: Mapping[str, Any], image_size: int
) -> FrozenConfigDict:
    """Every field's value in sections, checked as a config file's are.

    Args:
      recipe: one of `RECIPES`.
      changes: values by dotted name of the field; "preset" may be among them.
      image_size: the side of the images, in pixels: `data.rescale_size`.

    Raises:
      UserError: naming the first recipe, field or value that is wrong, or that a loop of
        one's own does not read.
    """
    for name, value in changes.items():
        validate.own_loop(name, value)
    # Of one that checks no types: `resolve` does, with a message of its own.
    config = ConfigDict(base(OWN_IMAGES).to_dict(), type_safe=False)
    given = {**changes, "recipe": recipe, "data.rescale_size": image_size}
    for name, value in given.items():
        section, _, field = name.rpartition(".")
        (config[section] if section else config)[field] = value
    (trial,) = resolve(config, given).trials
    return trial.settings
