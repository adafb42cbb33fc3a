"""The network in a checkpoint of a trial that has run or in an exported file, in host memory."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import jax
import numpy as np
import orbax.checkpoint as ocp
import safetensors
import safetensors.numpy

from alexnet_jax.errors import UserError, printable
from alexnet_jax.files import atomic_file
from alexnet_jax.training.checkpoint_files import (
    Damaged,
    Description,
    Position,
    checked,
    read_description,
    read_item,
    reason_of,
)
from alexnet_jax.training.step import Params
from alexnet_jax.training.trained_on import TrainedOn


def read_weights(given: str | Path, which: str = "best") -> tuple[Params, Path]:
    """The parameters in a checkpoint, in host memory, and the checkpoint's folder.

    Args:
      given, which: as `read_network` takes them.

    Raises:
      UserError: if there is none, or it is damaged.
    """
    params, _, description = read_network(given, which)
    return params, description.folder


def read_network(
    given: str | Path, which: str = "best"
) -> tuple[Params, TrainedOn | None, Description]:
    """The parameters in a checkpoint or a file, their training data, and what else it says.

    All of it is in host memory. Checkpoints of earlier versions do not say on what they
    were trained.

    Args:
      given: a checkpoint, a trial's folder, or an exported file.
      which: which checkpoint of a trial: "best" by validation error, which is the last one
        if it was never evaluated; "last"; or the number of a step, which the network of
        a checkpoint or a file must have.

    Raises:
      UserError: if there is none, or it is damaged.
    """
    found = _read(given, which)
    step = found[2].position.step
    if which.isdigit() and int(which) != step:
        raise UserError(
            f"{given} is the network of step {step} alone: leave out @{which}."
        )
    return found


def _read(
    given: str | Path, which: str
) -> tuple[Params, TrainedOn | None, Description]:
    folder = Path(given).expanduser().absolute()
    if folder.is_file():
        return _from_file(folder)
    if not folder.exists():
        raise UserError(
            f"There is no {folder}: give a trial's folder or an exported file."
        )
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


KIND, VERSION = "alexnet_jax", 1
MOST_BYTES = 4 * 2**30  # of a file: AlexNet has a quarter of a gigabyte
_CHECKED = ("format", "format_version", "layers", "settings", "trained_on", "training")


@dataclasses.dataclass(frozen=True)
class ExportedNetwork:
    """What an exported file holds.

    Attributes:
      params: the weights, by layer and name.
      fields: those of the training on which its result depends, by dotted name, as JSON
        values: `checkpoint_fields.fields_of`.
      trained_on: classes and statistics.
      step: training steps done; 0 if that is not known.
      measured: what its last evaluation has measured; empty if there was none.
    """

    params: Mapping[str, Mapping[str, np.ndarray]]
    fields: Mapping[str, Any]
    trained_on: TrainedOn
    step: int
    measured: Mapping[str, Any]


def write_exported(path: Path, network: ExportedNetwork) -> None:
    """Writes the file, atomically.

    Raises:
      OSError: if it cannot be written.
    """
    tensors = {
        f"params.{layer}.{name}": array
        for layer, arrays in network.params.items()
        for name, array in arrays.items()
    }
    tensors |= {
        f"statistics.{name}": array
        for name, array in network.trained_on.arrays().items()
    }
    training = {"step": network.step, "measured": dict(network.measured)}
    metadata = {
        "format": KIND,
        "format_version": str(VERSION),
        "layers": json.dumps(list(network.params)),
        "settings": json.dumps(dict(network.fields)),
        "trained_on": json.dumps(network.trained_on.facts()),
        "training": json.dumps(training),
    }
    metadata["checksum"] = str(_checksum(tensors, metadata))
    write_safetensors(path, tensors, metadata)


def write_safetensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes tensors by name, atomically.

    Raises:
      OSError: if it cannot be written.
    """
    # The library writes the memory of an array as it lies, whatever its strides.
    rows = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    content = safetensors.numpy.save(rows, dict(metadata))
    with atomic_file(path) as file:
        file.write(content)


def read_exported(path: Path) -> ExportedNetwork:
    """Reads a file that `write_exported` has written.

    Raises:
      UserError: if it cannot be read, is damaged, or is another file.
    """
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != KIND:
        raise UserError(
            f"{path} was not exported by alexnet_jax. If it holds torchvision's AlexNet, "
            f"import it first: python -m alexnet_jax weights import {path} "
            "--output=NET.safetensors."
        )
    if metadata.get("format_version") != str(VERSION):
        raise UserError(
            f"{path} has version {printable(metadata.get('format_version', '?'))} of its "
            f"format; this version of alexnet_jax reads version {VERSION}."
        )
    if metadata.get("checksum") != str(_checksum(tensors, metadata)):
        raise UserError(f"{path} is damaged: it is not as it was written.")
    try:
        return _from_parts(tensors, metadata)
    except (
        LookupError,
        TypeError,
        ArithmeticError,
        ValueError,
        RecursionError,
    ) as error:
        raise UserError(
            f"{path} is not a complete network: {printable(repr(error), 200)}."
        ) from error


def _from_parts(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> ExportedNetwork:
    of_params: dict[str, dict[str, np.ndarray]] = {
        str(layer): {} for layer in json.loads(metadata["layers"])
    }
    statistics = {}
    for name, array in tensors.items():
        kind, *place = name.split(".")
        if kind == "params":
            layer, inner = place
            of_params[layer][inner] = array
        else:
            statistics[place[0]] = array
    training, fields = (
        json.loads(metadata["training"]),
        dict(json.loads(metadata["settings"])),
    )
    if sections := [name for name, value in fields.items() if isinstance(value, dict)]:
        raise TypeError(f"{sections[0]} is no value")
    return ExportedNetwork(
        params=of_params,
        fields=fields,
        trained_on=TrainedOn.from_parts(json.loads(metadata["trained_on"]), statistics),
        step=int(training["step"]),
        measured=dict(training["measured"]),
    )


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a .safetensors file by name, and the metadata of its header.

    Raises:
      UserError: if it cannot be read, its header claims what is not there, or it is larger
        than any AlexNet.
    """
    try:
        if not path.is_file():
            raise UserError(f"No such file: {path}.")
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is larger than any AlexNet: {MOST_BYTES:,} bytes.")
        # The library checks that the header and its tensors fill the file exactly, none
        # over another, before it reads any of them.
        with safetensors.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, dict(
                file.metadata() or {}
            )
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}.") from error
    except UserError:
        raise
    except Exception as error:  # the library's own, and types that NumPy lacks
        reason = printable(str(error).strip() or repr(error), 200)
        raise UserError(
            f"{path} is no .safetensors file, or damaged: {reason.rstrip('.')}."
        ) from error


def _checksum(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> int:
    """CRC-32C over the metadata, and over names, types, shapes and bytes of the tensors."""
    checked = [metadata.get(name, "") for name in _CHECKED]
    value = google_crc32c.value(json.dumps(checked).encode())
    for name, array in sorted(tensors.items()):
        described = json.dumps([name, array.dtype.str, array.shape])
        value = google_crc32c.extend(value, described.encode())
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        flat.flags.writeable = False  # the library asks for it
        value = google_crc32c.extend(value, flat)
    return value
