"""The form of a trained network: the fields without which its weights mean something else.

A fine-tuned network has the form of the one that it starts from. It is read from a checkpoint
or an exported file without JAX, which the commands import only after their flags are checked.
"""

import functools
import json
import os
import re
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


def path_and_checkpoint(given: str) -> tuple[Path, str]:
    """The path of a network, and which checkpoint of a trial: "NAME", "NAME@best", "NAME@90".

    Without one it is the best.
    """
    found = re.fullmatch(r"(.+)@(best|last|\d+)", given, re.DOTALL)
    if found and not os.path.exists(given):
        return Path(found[1]).expanduser(), found[2]
    return Path(given).expanduser(), "best"


def origin_of(given: str) -> tuple[Path, str]:
    """The trained network that `training.init_from` names: its path, and which checkpoint.

    Args:
      given: a trial's folder, a checkpoint, an exported file, or the folder of a run with a
        single arm, of which it is the trial of seed 0 at the selected values. After a folder
        may stand which checkpoint, as in `path_and_checkpoint`.

    Raises:
      UserError: if it is the folder of a run of which no trial can be chosen so.
    """
    path, which = path_and_checkpoint(given)
    if not (path / "experiment.json").is_file():
        return path, which
    selected = _selected_trials(path)
    if len(selected) == 1:
        return selected[0], which
    shown = ", ".join(map(str, selected))
    raise UserError(
        f"config.training.init_from={given}: it is the folder of a whole run: "
        + (
            f"give one of its trials: {shown}."
            if shown
            else "it has no trained network."
        )
    )


def _selected_trials(run: Path) -> list[Path]:
    """Of each arm the trial of seed 0, at the values that the run's summary has selected."""
    trials = sorted(one.parent for one in run.glob("**/checkpoints"))
    trials = [one for one in trials if one.name == "seed0"] or trials
    try:
        arms = json.loads((run / "summary.json").read_text())["arms"]
        tuned = {arm: set(facts["tuned"].values()) for arm, facts in arms.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return trials  # no summary yet

    def selected(trial: Path) -> bool:
        arm, *values = trial.relative_to(run).parts[:-1]
        named = {
            part.rpartition("=")[2] for value in values for part in value.split(",")
        }
        return not values or named == set(map(repr, tuned.get(arm, set())))

    return [trial for trial in trials if selected(trial)]


def saved_form(given: str) -> dict[str, Any]:
    """The fields `FORM_FIELDS` of a trained network.

    Args:
      given: what `origin_of` takes.

    Raises:
      UserError: if none can be read there.
    """
    path, _ = origin_of(given)
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
    return "Give a trial's folder, a checkpoint or an exported file."
