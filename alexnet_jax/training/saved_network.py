"""The network in a checkpoint of a trial that has run or in an exported file, in host memory."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from alexnet_jax.errors import UserError
from alexnet_jax.training.checkpoint_files import (
    Damaged,
    Description,
    Position,
    checked,
    read_description,
    read_item,
    reason_of,
)
from alexnet_jax.training.exported_file import read_exported
from alexnet_jax.training.step import Params
from alexnet_jax.training.trained_on import TrainedOn


def read_weights(given: str | Path, *, last: bool = False) -> tuple[Params, Path]:
    """The parameters in a checkpoint, in host memory, and the checkpoint's folder.

    The errors are those of `read_network`.

    Args:
      given: an exported file, a checkpoint, or a trial's folder: then its best checkpoint
        by validation error, or its last one if it was never evaluated.
      last: take a trial's last checkpoint in any case.
    """
    params, _, description = read_network(given, "last" if last else "best")
    return params, description.folder


def read_network(
    given: str | Path, which: str = "best"
) -> tuple[Params, TrainedOn | None, Description]:
    """The parameters in a checkpoint or a file, their training data, and what else it says.

    All of it is in host memory. Checkpoints of earlier versions do not say on what they
    were trained.

    Args:
      given: a checkpoint, a trial's folder, or an exported file, which holds one network
        whatever `which` is.
      which: which checkpoint of a trial: "best" by validation error, which is the last one
        if it was never evaluated; "last"; or the number of a step.

    Raises:
      UserError: if there is none, or it is damaged.
    """
    folder = Path(given).expanduser().absolute()
    if folder.is_file():
        return _from_file(folder)
    inner = folder if folder.name == "checkpoints" else folder / "checkpoints"
    try:
        if inner.is_dir():
            folder = _chosen(inner, which)
        description = read_description(folder)
        params = _arrays_of(folder / "params", description.params_checksum)
        facts, checksum_of = description.trained_on, description.statistics_checksum
        if facts is None or checksum_of is None:
            return params, None, description
        statistics = _statistics_of(folder / "statistics", checksum_of)
        return params, TrainedOn.from_parts(facts, statistics), description
    except Damaged as error:
        raise UserError(f"No checkpoint can be read at {folder}: {error}.") from error


def _from_file(path: Path) -> tuple[Params, TrainedOn, Description]:
    """An exported network, described as a checkpoint is."""
    held = read_exported(path)
    params = {layer: dict(arrays) for layer, arrays in held.params.items()}
    position = Position(step=held.step, evaluation=held.measured)
    return params, held.trained_on, Description(path, held.fields, position)


def _chosen(folder: Path, which: str) -> Path:
    steps = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    if not steps:
        raise Damaged("the folder holds no checkpoint")
    if which.isdigit():
        if int(which) not in steps:
            raise Damaged(
                f"there is none of step {which}, but of {', '.join(map(str, steps))}"
            )
        return folder / str(int(which))
    best = read_description(folder / str(steps[-1])).position.best_step
    return folder / str(best if best in steps and which == "best" else steps[-1])


def _statistics_of(folder: Path, expected: int) -> dict[str, np.ndarray]:
    """The arrays of the item `statistics`: as NumPy's, because JAX's lack float64."""
    try:
        found = ocp.Checkpointer(ocp.StandardCheckpointHandler()).restore(folder)
    except Exception as error:
        raise Damaged(reason_of(error)) from error
    return checked(dict(found), expected, folder.name)


def _arrays_of(folder: Path, expected: int) -> Any:
    """The arrays of an item, in host memory."""
    found = read_item(folder, _shapes_in(folder), expected)
    return jax.tree.map(np.asarray, found)


def _shapes_in(folder: Path) -> Any:
    """Shapes and types of an item's arrays, on the first device."""
    try:
        reader = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        found = reader.metadata(folder).item_metadata.tree
    except Exception as error:
        raise Damaged(reason_of(error)) from error
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
        found,
    )
