"""The form of a trained network: the fields without which its weights mean something else.

A fine-tuned network has the form of the one that it starts from. It is read from a checkpoint
or an exported file without JAX, which the commands import only after their flags are checked.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.config.fields import FIELDS, without_effect
from alexnet_jax.config.old_names import with_defaults
from alexnet_jax.errors import UserError

# Fields of the network and of its input. Of the others, a network's mean and its initial
# weights matter to those who train it only.
FORM_FIELDS = (
    "recipe",
    *(name for name in FIELDS if name.startswith("model.") and name != "model.dtype"),
    "data.rescale",
    "data.rescale_size",
    "data.crop_size",
    "data.mean",
    "data.channel_mean",
    "data.channel_scale",
    "data.channel_order",
)
_ONLY_IN_TRAINING = (
    "recipe",
    "model.initialization",
    "model.weight_stds",
    "model.biases",
    "model.dropout_rate",
    "data.mean",
    "data.channel_mean",
)

FOREIGN = (".pth", ".pt", ".caffemodel")  # PyTorch's and Caffe's, which can be imported
LARGEST_HEADER = 2**26  # bytes, of an exported file


def saved_form(given: str) -> dict[str, Any]:
    """The fields `FORM_FIELDS` of a trained network.

    Args:
      given: a trial's folder, a checkpoint, or an exported file.

    Raises:
      UserError: if none can be read there.
    """
    path = Path(given).expanduser()
    try:
        held = _of_file(path) if path.is_file() else _of_folder(path)
        values = with_defaults(held)
    except (
        Exception
    ) as error:  # whatever a file that is no network, or is hostile, causes
        raise UserError(
            f"config.training.init_from={given}: no trained network can be read there. "
            f"{_instead(path)}"
        ) from error
    return {
        name: tuple(value) if isinstance(value := values[name], list) else value
        for name in FORM_FIELDS
    }


def differences(
    held: Mapping[str, Any], settings: ConfigDict
) -> dict[str, tuple[Any, Any]]:
    """The fields of the form in which a network differs from what is trained: there, here.

    Args:
      held: the fields that a checkpoint or an exported file holds, of any version.
      settings: those of what is trained, in sections.
    """
    there = with_defaults(held)
    values = {n: functools.reduce(getattr, n.split("."), settings) for n in FIELDS}
    idle = without_effect(there).keys() & without_effect(values).keys()
    return {
        name: (_plain(there[name]), _plain(values[name]))
        for name in FORM_FIELDS
        if name not in _ONLY_IN_TRAINING
        and name not in idle
        and _plain(there[name]) != _plain(values[name])
    }


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _of_folder(folder: Path) -> Mapping[str, Any]:
    """The fields in a checkpoint; those of a trial are the same in all of its own."""
    inner = folder if folder.name == "checkpoints" else folder / "checkpoints"
    if inner.is_dir():
        folder = max(
            (one for one in inner.iterdir() if one.name.isdigit()),
            key=lambda one: int(one.name),
        )
    return json.loads((folder / "position" / "metadata").read_text())["config"]


def _of_file(path: Path) -> Mapping[str, Any]:
    """The fields in the header of an exported file, which begins with its length."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LARGEST_HEADER:
            raise ValueError("no header")
        header = json.loads(file.read(length))
    return json.loads(header["__metadata__"]["settings"])


def _instead(path: Path) -> str:
    """What to give instead of `path`."""
    if not path.exists():
        return "It does not exist: give a trial's folder, a checkpoint or an exported file."
    if path.suffix.lower() in FOREIGN:
        return (
            f"Import it first: python -m alexnet_jax weights import {path} "
            "--output=NET.safetensors; then give that file."
        )
    trials = (
        sorted(one.parent for one in path.glob("**/checkpoints"))
        if path.is_dir()
        else []
    )
    if (path / "experiment.json").is_file() and trials:
        return f"It is the folder of a whole run: give one of its trials, such as {trials[0]}."
    return "Give a trial's folder, a checkpoint or an exported file."
