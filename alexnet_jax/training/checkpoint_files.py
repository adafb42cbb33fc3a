"""The files of one checkpoint: their layout, their checksums, and how they are read.

A checkpoint is a folder with four Orbax items: `params`, the weights; `state`, what else
a step changes; `statistics`, those of the training set; and `position`, as JSON, a
`Position` with the fields of the trial on which its result depends, the names of the
classes, and the checksums of all four. Those of earlier versions lack `statistics` and
the names.

Format 1 had the item `momentum` in place of `state`, older names of some fields, and
flags in place of the phase. It is read as if it were format 2.
"""

import dataclasses
import enum
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import jax
import numpy as np
import orbax.checkpoint as ocp

from alexnet_jax.errors import DISK_FULL, UserError
from alexnet_jax.training.step import TrainCounts, TrainState
from alexnet_jax.training.trained_on import TrainedOn


class Phase(enum.Enum):
    """The two phases of a step.

    STEP_DONE: the weights are updated; the rows, the evaluation and the checkpoint that
      the step completes are still to come. A trial also starts here, at step 0.
    BOOKKEEPING_DONE: these are done too; the next step follows.
    """

    STEP_DONE = "step done"
    BOOKKEEPING_DONE = "bookkeeping done"


@dataclasses.dataclass(frozen=True)
class Position:
    """The position of a trial, which a checkpoint holds next to its state.

    Attributes:
      step: steps done.
      phase: how far the last of them has come.
      record_bytes: bytes of metrics.jsonl written by then.
      record_checksum: CRC-32C of these bytes; None in checkpoints of older versions.
      counts: counts of each step since the last train row, all finite.
      start_checked: whether the loss has fallen as it should at the start of training,
        or the user has been warned that it has not.
      best_step: the step of the lowest validation error so far; 0 if there is none.
      best_error: that error, a fraction; 1 if there is none.
      plateau: a `schedule.Plateau`, as a mapping.
      reached: whether the trial has reached the training error at which it is to end.
      evaluation: what its last evaluation has measured; empty before the first.
    """

    step: int = 0
    phase: Phase = Phase.STEP_DONE
    record_bytes: int = 0
    record_checksum: int | None = None
    counts: tuple[TrainCounts, ...] = ()
    start_checked: bool = False
    best_step: int = 0
    best_error: float = 1.0
    plateau: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reached: bool = False
    evaluation: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The position as JSON values."""
        counts = [[number.item() for number in each] for each in self.counts]
        return vars(self) | {"counts": counts, "phase": self.phase.value}

    @staticmethod
    def from_json(held: Mapping[str, Any]) -> "Position":
        """The position that `to_json` has written, exactly."""
        counts = tuple(
            TrainCounts(
                np.int32(examples),
                np.float32(loss),
                np.int32(top1),
                np.int32(top5),
                np.float32(norm),
            )
            for examples, loss, top1, top5, norm in held["counts"]
        )
        return Position(**{**held, "counts": counts, "phase": Phase(held["phase"])})


FORMAT = 2

# Orbax logs each step of a save, and each error that it raises besides; asyncio logs
# files whose writing was given up beside one that failed.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
logging.getLogger("asyncio").addFilter(
    lambda record: "orbax" not in record.getMessage()
)


def _except_of_orbax(show: Callable[[Any], object]) -> Callable[[Any], object]:
    """Hides the fate of Orbax's other files once the reading or writing of one fails.

    TensorStore finishes with these when Orbax no longer waits for them. The failure
    itself is raised; these would be a page of tracebacks before its message.
    """

    def shown(unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        late = str(unraisable.exc_value) == "Event loop is closed"
        if not late and "orbax" not in getattr(code, "co_filename", ""):
            show(unraisable)

    return shown


sys.unraisablehook = _except_of_orbax(sys.unraisablehook)


class Damaged(Exception):
    """The content of a checkpoint's folder is not what was written to it."""


LONGEST_REASON = 300  # characters


def reason_of(error: Exception) -> str:
    """The first line of an error's message, without its period.

    A full disk is reported in the words of the operating system. Otherwise what TensorStore
    adds in brackets, its source locations and kilobytes of options, is left out, and the
    middle of a long rest: the cause comes last.
    """
    for number in DISK_FULL:
        if os.strerror(number) in str(error):
            return os.strerror(number)
    first = (str(error).strip() or repr(error)).splitlines()[0]
    first = re.split(r" \[(?:source locations|tensorstore_spec)=", first)[0]
    if len(first) > LONGEST_REASON:
        half = LONGEST_REASON // 2
        first = f"{first[:half]} ... {first[-half:]}"
    return first.rstrip(".")


# --- What is saved ----------------------------------------------------------------


def save_arguments(
    state: TrainState,
    position: Position,
    fields: Mapping[str, Any],
    trained_on: TrainedOn | None,
) -> ocp.args.Composite:
    """The items of a checkpoint, for Orbax to save.

    `fields` are those of the trial on which its result depends, as JSON values. Without
    `trained_on` the checkpoint is of use where its data is, only.
    """
    rest = _rest_of(state)
    held: dict[str, Any] = {
        "format": FORMAT,
        "config": fields,
        "position": position.to_json(),
        "params_checksum": checksum(state.params),
        "state_checksum": checksum(rest),
    }
    items: dict[str, Any] = {
        "params": ocp.args.StandardSave(state.params),
        "state": ocp.args.StandardSave(rest),
    }
    if trained_on is not None:
        statistics = trained_on.arrays()
        held["trained_on"] = trained_on.facts()
        held["statistics_checksum"] = checksum(statistics)
        items["statistics"] = ocp.args.StandardSave(statistics)
    held["checksum"] = _checksum_of_json(held)
    return ocp.args.Composite(**items, position=ocp.args.JsonSave(held))


def _rest_of(state: TrainState) -> dict[str, Any]:
    """Everything in the state but the weights, whatever fields there are."""
    names = [field.name for field in dataclasses.fields(TrainState)]
    rest = {name: getattr(state, name) for name in names if name != "params"}
    return {name: value for name, value in rest.items() if value is not None}


def checksum(tree: Any) -> int:
    """CRC-32C over all arrays: Orbax does not notice every changed byte."""
    value = 0
    for leaf in jax.tree.leaves(tree):
        here = leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf
        flat = np.ascontiguousarray(here).reshape(-1).view(np.uint8)
        flat.flags.writeable = False  # the library asks for it
        value = google_crc32c.extend(value, flat)
    return value


def _checksum_of_json(held: Mapping[str, Any]) -> int:
    rest = {name: value for name, value in held.items() if name != "checksum"}
    return google_crc32c.value(json.dumps(rest, sort_keys=True).encode())


# --- What is read -----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Description:
    """What the item `position` of a checkpoint says.

    Attributes:
      folder: the checkpoint; or an exported file, whose checksums are its own affair.
      fields: those of the trial on which its result depends, as the version that wrote
        the checkpoint had them.
      position: where the trial stood.
      params_checksum, state_checksum: of the arrays.
      format: of the checkpoint as it was written.
      trained_on: `TrainedOn.facts`; None in checkpoints of earlier versions.
      statistics_checksum: of the arrays of `TrainedOn`; None with them.
    """

    folder: Path
    fields: Mapping[str, Any]
    position: Position
    params_checksum: int = 0
    state_checksum: int = 0
    format: int = FORMAT
    trained_on: Mapping[str, Any] | None = None
    statistics_checksum: int | None = None


def read_description(folder: Path) -> Description:
    """Reads the item `position` of the checkpoint in `folder`.

    Raises:
      Damaged: if it is not there, or not as it was written.
      UserError: if a later version of this program has written it in another format.
    """
    try:
        reader = ocp.Checkpointer(ocp.JsonCheckpointHandler())
        held = dict(reader.restore(folder / "position"))
        found = _checksum_of_json(held)
    except Exception as error:  # Orbax raises whatever a broken file causes
        raise Damaged(reason_of(error)) from error
    if held.get("checksum") != found:
        raise Damaged("its position is not as it was saved")
    position = held["position"]
    match held["format"]:
        case 1:
            position, state_checksum = _from_format_1(position), "momentum_checksum"
        case 2:
            state_checksum = "state_checksum"
        case other:
            raise UserError(
                f"{folder} has checkpoint format {other}; this version of alexnet_jax "
                f"reads formats 1 to {FORMAT}. Use the version that wrote it: "
                "experiment.json has its git commit."
            )
    return Description(
        folder=folder,
        fields=held["config"],
        position=Position.from_json(position),
        params_checksum=held["params_checksum"],
        state_checksum=held[state_checksum],
        format=held["format"],
        trained_on=held.get("trained_on"),
        statistics_checksum=held.get("statistics_checksum"),
    )


def _from_format_1(position: Mapping[str, Any]) -> dict[str, Any]:
    rest = dict(position)
    bookkeeping_pending, start_checked = rest.pop("due"), rest.pop("fallen")
    phase = Phase.STEP_DONE if bookkeeping_pending else Phase.BOOKKEEPING_DONE
    return rest | {"phase": phase.value, "start_checked": start_checked}


def read_state(description: Description, like: TrainState) -> TrainState:
    """The state in a checkpoint, placed as the arrays or shapes of `like` are.

    Raises:
      Damaged: if it cannot be read, or is not as it was written.
    """
    folder, rest_like = description.folder, _rest_of(like)
    params = read_item(folder / "params", like.params, description.params_checksum)
    if description.format == 1:
        rest_like = {"step": like.step, "velocity": like.opt_state}
        rest = read_item(folder / "momentum", rest_like, description.state_checksum)
        return TrainState(rest["step"], params, rest["velocity"])
    rest = read_item(folder / "state", rest_like, description.state_checksum)
    return TrainState(params=params, **rest)


def read_item(folder: Path, like: Any, expected: int) -> Any:
    """The arrays of an item, placed as those of `like`.

    Raises:
      Damaged: if they cannot be read, or their checksum is not the `expected` one.
    """
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None)
        ),
        like,
    )
    try:
        reader = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        found = reader.restore(folder, args=ocp.args.StandardRestore(shapes))
    except Exception as error:
        raise Damaged(reason_of(error)) from error
    return checked(found, expected, folder.name)


def checked(found: Any, expected: int, name: str) -> Any:
    """`found`; raises Damaged if its checksum is not the `expected` one."""
    if checksum(found) != expected:
        raise Damaged(f"the numbers of {name} are not those that were saved")
    return found
