"""Names of datasets, as the command line and configurations write them."""

import re
from pathlib import Path

from alexnet_jax.errors import UserError, nearest

KINDS = ("tfds", "folder", "npz")


def check_dataset(given: str) -> str:
    """Returns a dataset's name unchanged.

    Raises:
      UserError: if the name is empty or of no known form.
    """
    kind, equals, name = given.partition("=")
    if equals and kind not in KINDS:
        raise UserError(
            f"Unknown kind of dataset '{kind}=' in '{given}'."
            + nearest(kind, KINDS)
            + " After the colon, write digits, a TFDS name, tfds=NAME, folder=PATH or npz=FILE."
        )
    if not (name if equals else kind):
        raise UserError(
            "No dataset after the colon: write digits, a TFDS name, tfds=NAME, "
            "folder=PATH or npz=FILE, or remove the colon for digits."
        )
    return given


def short_name(dataset: str) -> str:
    """Returns a dataset's name without its version: "cifar10" of "tfds=cifar10:3.0.2".

    A folder's name is "folder=PATH", whatever the folder holds, as is "npz=FILE".
    """
    if dataset.startswith(("folder=", "npz=")):
        return dataset
    return re.split("[:/]", dataset.removeprefix("tfds="))[0]


def path_part(dataset: str) -> str:
    """Returns a dataset's name as a part of a path: "cifar10-3.0.2" of "cifar10:3.0.2"."""
    kind, equals, name = dataset.partition("=")
    if kind == "folder":
        return Path(name).absolute().name
    if kind == "npz":
        return Path(name).absolute().stem
    return re.sub("[/:]", "-", name if equals else kind)
