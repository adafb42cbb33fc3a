"""Checkpoints of a trial: Orbax behind a small door.

Below the trial's folder, checkpoints/<step>/ has three items: `params`, the weights;
`momentum`, what else a step changes; and `position`, the little that these do not say, as
JSON, with the trial's configuration and checksums of all three. The step is the whole
position of the input. Orbax writes in the background, and gives a checkpoint its name
when all of it is there: one that a kill cuts short is none.
"""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from alexnet_jax.config import get_field
from alexnet_jax.errors import UserError
from alexnet_jax.fields import FIELDS, RUNNING
from alexnet_jax.model.network import Params
from alexnet_jax.training.parallel import Devices
from alexnet_jax.training.step import TrainCounts, TrainState

# What Orbax tells of each step of a save, and of what it raises besides; and what
# asyncio tells of the files that it wrote beside one that failed.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
logging.getLogger("asyncio").addFilter(lambda said: "orbax" not in said.getMessage())


def _unless_of_orbax(show: Callable[[Any], object]) -> Callable[[Any], object]:
    """Without what happens to Orbax's other files once one has failed.

    TensorStore ends reading or writing these when Orbax waits for them no more. The
    failure itself is raised; these would be a page of tracebacks before its message.
    """

    def shown(unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        late = str(unraisable.exc_value) == "Event loop is closed"
        if not late and "orbax" not in getattr(code, "co_filename", ""):
            show(unraisable)

    return shown


sys.unraisablehook = _unless_of_orbax(sys.unraisablehook)

FORMAT = 1
KEPT = 2  # the last ones: if the newest is damaged, there is one before it


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a trial stands, besides its state.

    Attributes:
      step: steps done.
      record_bytes: of metrics.jsonl that were written by then.
      counts: of the steps since the last train row, one by one, all finite.
      fallen: whether the loss has fallen as it should at the start, or it was warned.
      due: whether the row and the evaluation that the step completes are still to do.
      best_step: that of the lowest validation error so far; 0 if none was measured.
      best_error: that error, a fraction; 1 where none was measured.
      plateau: an `optimizer.Plateau`, as a mapping.
    """

    step: int = 0
    record_bytes: int = 0
    counts: tuple[TrainCounts, ...] = ()
    fallen: bool = False
    due: bool = True
    best_step: int = 0
    best_error: float = 1.0
    plateau: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        counts = [[number.item() for number in each] for each in self.counts]
        return vars(self) | {"counts": counts}

    @staticmethod
    def of_json(held: Mapping[str, Any]) -> "Position":
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
        return Position(**{**held, "counts": counts})


class Checkpoints:
    """Those of one trial: saved in the background, restored from the last good one.

    The last two stay, and the one with the lowest validation error.

    Args:
      folder: of the trial; they lie in checkpoints/ below it.
      fields: `fields_of` the trial's configuration. Its checkpoints hold them, and are
        refused where others are given.
      devices: all their processes save together, into one folder that all see.
    """

    def __init__(self, folder: Path, fields: dict[str, Any], devices: Devices) -> None:
        self.trial = folder.absolute()
        self.folder = self.trial / "checkpoints"
        self.fields = fields
        self.devices = devices
        self._kept = _Kept()
        self._due = False  # whether the newest was saved before its evaluation
        options = ocp.CheckpointManagerOptions(preservation_policy=self._kept)
        with self._refusing("open"):
            self.manager = ocp.CheckpointManager(self.folder, options=options)
            opened = self.folder.stat()
            self._opened = opened.st_dev, opened.st_ino

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits for the save that is under way."""
        if kind is None:
            with self._refusing("write"):
                self._there()
                self.manager.close()
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # if there is none
        else:  # what is under way already says more than a second failure
            with contextlib.suppress(Exception):
                self.manager.close()

    def save(self, state: TrainState, position: Position) -> None:
        """Starts a save; the state may be donated to the next step right afterwards.

        Not where that step's is there already: a trial stopped twice at one step.

        Raises:
          UserError: if this or the save before it cannot be written.
        """
        with self._refusing("write"):
            self._there()
            if position.step == self.manager.latest_step():
                if position.due or not self._due:
                    return
                # Saved before its evaluation, which is done now: the one before it is
                # there if this is cut short.
                self.manager.delete(position.step)
            params, momentum = _items(state)
            held: dict[str, Any] = {
                "format": FORMAT,
                "config": self.fields,
                "position": position.as_json(),
                "params_checksum": checksum(params),
                "momentum_checksum": checksum(momentum),
            }
            held["checksum"] = _checksum_of_json(held)
            self._kept.best_step, self._due = position.best_step, position.due
            self.manager.save(
                position.step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(params),
                    momentum=ocp.args.StandardSave(momentum),
                    position=ocp.args.JsonSave(held),
                ),
                force=True,
            )

    def _there(self) -> None:
        """Raises OSError if the folder is not the one that was opened.

        Where it is gone Orbax makes another one; where a file has its name, it waits.
        """
        try:
            now = self.folder.stat()
        except FileNotFoundError:
            now = None
        if now is None or (now.st_dev, now.st_ino) != self._opened:
            raise OSError("it is no more the folder that was opened")

    def check(self) -> None:
        """Raises UserError if a save in the background has failed since."""
        with self._refusing("write"):
            self._there()
            self.manager.check_for_errors()

    def wait(self) -> None:
        """Until what was saved is written."""
        with self._refusing("write"):
            self.manager.wait_until_finished()

    def restore(
        self, like: TrainState
    ) -> tuple[TrainState, Position, list[str]] | None:
        """The newest whole checkpoint, placed as the arrays of `like`; None if none is.

        With it come the messages on newer ones that are damaged; these are put aside.

        Raises:
          UserError: if there are checkpoints, but none can be read, or the newest is of
            another configuration or format.
        """
        damaged: list[str] = []
        for step in sorted(self.manager.all_steps(), reverse=True):
            folder = self.folder / str(step)
            try:
                held = self._position(folder)
                state = self._state(folder, held, like)
            except Damaged as error:
                damaged.append(f"checkpoint {folder} is damaged: {error}")
                continue
            self._put_aside([s for s in self.manager.all_steps() if s > step])
            position = Position.of_json(held["position"])
            self._kept.best_step, self._due = position.best_step, position.due
            return state, position, damaged
        if damaged:
            raise UserError(
                "No checkpoint can be read:\n  "
                + "\n  ".join(damaged)
                + f"\nRemove {self.folder} to start that trial again."
            )
        return None

    def _position(self, folder: Path) -> dict[str, Any]:
        held = _held(folder)
        differing = [
            f"  {name}: {held['config'].get(name, 'absent')} there, "
            f"{self.fields.get(name, 'absent')} now"
            for name in sorted(held["config"].keys() | self.fields.keys())
            if held["config"].get(name) != self.fields.get(name)
        ]
        if differing:
            raise UserError(
                f"Checkpoint {folder} is of another configuration; these differ:\n"
                + "\n".join(differing)
                + "\nTo start from its weights all the same, all layers but the last, "
                f"give --config.training.init_from={folder} with a new --workdir."
            )
        return held

    def _state(
        self, folder: Path, held: dict[str, Any], like: TrainState
    ) -> TrainState:
        like_params, like_momentum = _items(like)
        params = _read(folder / "params", like_params, held["params_checksum"])
        momentum = _read(folder / "momentum", like_momentum, held["momentum_checksum"])
        return TrainState(momentum["step"], params, momentum["velocity"])

    def _put_aside(self, steps: Sequence[int]) -> None:
        """Out of the way of the checkpoints to come, but not deleted."""
        if not steps:
            return
        self.devices.meet("damage seen")
        if self.devices.writes:
            for step in steps:
                aside = self.trial / "checkpoints_damaged" / str(step)
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True)
                os.rename(self.folder / str(step), aside)
        self.devices.meet("damage put aside")
        self.manager.reload()

    @contextlib.contextmanager
    def _refusing(self, what: str) -> Iterator[None]:
        """What Orbax and the disk raise, as one message."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            there = ""
            with contextlib.suppress(OSError):
                steps = [p.name for p in self.folder.iterdir() if p.name.isdigit()]
                if steps:
                    newest = max(steps, key=int)
                    there = f" The checkpoint of step {newest} is there still."
            raise UserError(
                f"Cannot {what} the checkpoints in {self.folder}: {_reason(error)}."
                + there
            ) from error


def fields_of(config: ConfigDict) -> dict[str, Any]:
    """The fields of a trial's configuration on which what it learns depends, as JSON."""
    names = [n for n in FIELDS if n not in (*RUNNING, "experiment", "seeds")]
    return json.loads(json.dumps({name: get_field(config, name) for name in names}))


def try_out(state: TrainState, folder: Path, devices: Devices) -> int:
    """Saves `state` below `folder` and reads it back; leaves nothing there.

    Returns the bytes that it took.

    Raises:
      UserError: if it cannot be written or is read back as something else.
    """
    trial = folder.absolute() / "checkpoint_tried"
    devices.meet("trying a checkpoint")
    if devices.writes:
        shutil.rmtree(trial, ignore_errors=True)
    devices.meet("to try a checkpoint")
    try:
        with Checkpoints(trial, {}, devices) as checkpoints:
            checkpoints.save(state, Position())
            checkpoints.wait()
            if checkpoints.restore(state) is None:
                raise UserError(
                    f"A checkpoint written to {folder} is not there when read back."
                )
            files = (path for path in trial.rglob("*") if path.is_file())
            return sum(path.stat().st_size for path in files)
    finally:
        devices.meet("a checkpoint tried")
        if devices.writes:
            shutil.rmtree(trial, ignore_errors=True)


def weights(given: str | Path, *, last: bool = False) -> tuple[Params, Path]:
    """The parameters of a checkpoint, in host memory, and its folder.

    Args:
      given: a checkpoint, or a trial's folder: then its best by validation error, or its
        last if none was measured.
      last: take a trial's last one in any case.

    Raises:
      UserError: if there is none, or it is damaged.
    """
    folder = Path(given).expanduser().absolute()
    inner = folder if folder.name == "checkpoints" else folder / "checkpoints"
    try:
        if inner.is_dir():
            folder = _chosen(inner, last)
        held = _held(folder)
        like = _like(folder / "params")
        params = _read(folder / "params", like, held["params_checksum"])
        return jax.tree.map(np.asarray, params), folder
    except Damaged as error:
        raise UserError(f"No checkpoint can be read at {folder}: {error}.") from error


def _chosen(folder: Path, last: bool) -> Path:
    steps = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    if not steps:
        raise Damaged("there is none in it")
    best = _held(folder / str(steps[-1]))["position"]["best_step"]
    return folder / str(best if best in steps and not last else steps[-1])


class Damaged(Exception):
    """What is in a checkpoint's folder is not what was written to it."""


def _held(folder: Path) -> dict[str, Any]:
    """What the item `position` says.

    Raises:
      Damaged: if it is not there, or not as it was written.
      UserError: if another version of this program wrote it in another format.
    """
    try:
        reader = ocp.Checkpointer(ocp.JsonCheckpointHandler())
        held = dict(reader.restore(folder / "position"))
        found = _checksum_of_json(held)
    except Exception as error:  # Orbax raises whatever a broken file does
        raise Damaged(_reason(error)) from error
    if held.get("checksum") != found:
        raise Damaged("its position is not as it was saved")
    if held["format"] != FORMAT:
        raise UserError(
            f"{folder} has checkpoint format {held['format']}; this version of "
            f"alexnet_jax reads format {FORMAT}. Take the version that wrote it: "
            "experiment.json has its git commit."
        )
    return held


def _read(folder: Path, like: Any, expected: int) -> Any:
    """The arrays of an item, placed as those of `like`."""
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None)
        ),
        like,
    )
    try:
        reader = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        found = reader.restore(folder, args=ocp.args.StandardRestore(abstract))
    except Exception as error:
        raise Damaged(_reason(error)) from error
    if checksum(found) != expected:
        raise Damaged(f"the numbers of {folder.name} are not those that were saved")
    return found


def _like(folder: Path) -> Any:
    """Shapes and types of what an item holds, on every device there is now."""
    try:
        reader = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        found = reader.metadata(folder).item_metadata.tree
    except Exception as error:
        raise Damaged(_reason(error)) from error
    everywhere = Devices().replicated
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere),
        found,
    )


def _items(state: TrainState) -> tuple[Params, dict[str, Any]]:
    """What is saved as `params` and as `momentum`."""
    return state.params, {"step": state.step, "velocity": state.velocity}


def checksum(tree: Any) -> int:
    """CRC-32C over all arrays: Orbax does not notice every changed byte."""
    value = 0
    for leaf in jax.tree.leaves(tree):
        here = leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf
        flat = np.ascontiguousarray(here).reshape(-1).view(np.uint8)
        flat.flags.writeable = False  # as the library wants it
        value = google_crc32c.extend(value, flat)
    return value


def _checksum_of_json(held: Mapping[str, Any]) -> int:
    rest = {name: value for name, value in held.items() if name != "checksum"}
    return google_crc32c.value(json.dumps(rest, sort_keys=True).encode())


def _reason(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")


class _Kept(ocp.checkpoint_managers.PreservationPolicy):
    """The last `KEPT`, and that of `best_step`."""

    best_step = 0

    def should_preserve(
        self,
        checkpoints: Sequence[Any],  # PolicyCheckpointInfo
        *,
        context: Any,
    ) -> Sequence[bool]:
        last = checkpoints[-KEPT:]
        return [c in last or c.step == self.best_step for c in checkpoints]
