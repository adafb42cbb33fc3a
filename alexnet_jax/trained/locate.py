"""Finds a trained network by what a user names it: a run, a trial, a checkpoint or a file."""

import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from alexnet_jax.config.network_form import path_and_checkpoint
from alexnet_jax.config.old_names import settings_of
from alexnet_jax.errors import UserError, printable
from alexnet_jax.trained.exchange.weight_checks import check_weights
from alexnet_jax.trained.trained_network import TrainedNetwork
from alexnet_jax.training.saved_network import read_network
from alexnet_jax.training.trained_on import of_earlier_version

# Files that `weights export` writes and other programs run.
EXPORTED_PROGRAMS = (".stablehlo", ".onnx")


def load(origin: str | os.PathLike[str], *, arm: str = "") -> TrainedNetwork:
    """Opens a trained network.

    Args:
      origin: the folder of a run, of one of its trials, or of a checkpoint; or an exported
        file. After a folder may stand which checkpoint of a trial: "@best" by validation
        error, the default; "@last"; or a step, as "@1200".
      arm: which arm of a run with several: its network of seed 0, at the tuned values that
        its report has selected.

    Raises:
      UserError: if there is no network, or it is damaged.
    """
    path, which = path_and_checkpoint(os.fspath(origin))
    if (path / "experiment.json").is_file():
        # SciPy takes a second to import; a trial's folder or a checkpoint does without.
        from alexnet_jax.report.summary import trial_folder

        path = trial_folder(path, arm)
        if not _has_checkpoint(path):
            raise _none_yet(path)
    elif arm:
        raise UserError(f"{path} is not a run folder, and has no arm '{arm}'.")
    elif (path / "metrics.jsonl").exists() and not _has_checkpoint(path):
        raise _none_yet(path)
    _check_path(path)
    params, trained_on, description = read_network(path, which)
    try:
        settings = settings_of(description.fields)
    except Exception as error:  # whatever fields cause that no version has written
        raise UserError(
            f"{path} does not describe a network: {printable(repr(error), 200)}."
        ) from error
    if trained_on is None:
        trained_on = of_earlier_version(settings.data, description.folder)
    network = TrainedNetwork(
        origin=_name_of(path, description.folder, description.position.step),
        settings=settings,
        params=params,
        trained_on=trained_on,
        step=description.position.step,
        measured=description.position.evaluation,
    )
    if path.is_file():  # Anyone may have written it; checkpoints are one's own.
        check_weights(network, str(path))
    return network


def _name_of(path: Path, checkpoint: Path, step: int) -> str:
    """How messages and records name a network, and `load` finds it: a trial with its step."""
    in_trial = checkpoint.parent.name == "checkpoints"
    if in_trial and checkpoint != path.absolute():
        return f"{path}@{step}"
    return str(path)


def _has_checkpoint(trial: Path) -> bool:
    inner = trial / "checkpoints"
    return inner.is_dir() and any(one.name.isdigit() for one in inner.iterdir())


def _check_path(path: Path) -> None:
    """Raises UserError if there is nothing at `path` that may be a network."""
    if not path.exists():
        raise UserError(
            f"No such network: {path}. Name the folder of a run, of a trial or of a "
            "checkpoint, or an exported file."
        )
    if path.is_file() and path.suffix != ".safetensors":
        advice = (
            " Weights of torchvision and Caffe are imported first: python -m alexnet_jax "
            f"weights import {path} --output=NET.safetensors."
        )
        if path.suffix in EXPORTED_PROGRAMS:
            advice = " The run or file that it was exported from does."
        raise UserError(
            f"{path} does not open as a network, which is a .safetensors file.{advice}"
        )
    if path.is_dir() and not _has_checkpoint(path) and not _may_be_checkpoint(path):
        raise _no_run(path)


def _may_be_checkpoint(folder: Path) -> bool:
    """Whether it has a part of a checkpoint, or holds those of a trial."""
    parts = ("params", "position", "_CHECKPOINT_METADATA")
    return folder.name == "checkpoints" or any(
        (folder / part).exists() for part in parts
    )


def _no_run(folder: Path) -> UserError:
    runs = sorted(path.parent.name for path in folder.glob("*/experiment.json"))
    inside = f" It holds {', '.join(runs[:5])}: name one." if runs else ""
    return UserError(
        f"{folder} is not the folder of a run, a trial or a checkpoint.{inside}"
    )


def _none_yet(trial: Path) -> UserError:
    return UserError(
        f"{trial} has no checkpoint yet: a trial saves its first one after "
        "config.training.checkpoint_every_epochs, or when it is stopped. The command that "
        "began the run continues it."
    )


def load_different(origins: Sequence[str], *, arm: str = "") -> list[TrainedNetwork]:
    """Opens networks whose average is to be taken.

    Args:
      origins: runs, trials, checkpoints or exported files.
      arm: which arm of runs with several.

    Raises:
      UserError: if there is no such network, one is damaged, or two of them have the same
        weights, by whatever names they are given.
    """
    networks: list[TrainedNetwork] = []
    for origin in origins:
        network = load(origin, arm=arm)
        for other in networks:
            if _same_weights(network, other):
                what = f"{network.origin} and {other.origin} have the same weights"
                if network.origin == other.origin:
                    what = f"{network.origin} is given twice"
                raise UserError(
                    f"{what}: only different networks are averaged. Give each once, or "
                    "networks of several seeds."
                )
        networks.append(network)
    return networks


def _same_weights(one: TrainedNetwork, other: TrainedNetwork) -> bool:
    """Whether all are equal in every bit; networks of two seeds differ in the first array."""
    pairs = [jax.tree.leaves_with_path(dict(each.params)) for each in (one, other)]
    return len(pairs[0]) == len(pairs[1]) and all(
        name == other_name
        and a.shape == b.shape
        and np.array_equal(_bytes(a), _bytes(b))
        for (name, a), (other_name, b) in zip(*pairs, strict=True)
    )


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def beside(origin: str | os.PathLike[str], name: str = "features") -> Path:
    """The path of what is kept with a network: in its run's or trial's folder.

    With a file it is in the file's folder, and with a checkpoint in that of its trial.
    """
    path, _ = path_and_checkpoint(os.fspath(origin))
    path = path.absolute()
    if not path.is_dir():
        return path.parent / name
    trials = [
        each.parent for each in (path, *path.parents) if each.name == "checkpoints"
    ]
    return (trials[0] if trials else path) / name
