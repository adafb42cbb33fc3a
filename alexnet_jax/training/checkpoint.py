"""Checkpoints of a trial: saved in the background by Orbax, restored bit-exactly.

They are in checkpoints/<step>/ below the trial's folder; `checkpoint_files.py` knows what
is in them. The step is the whole position in the data. Orbax gives a checkpoint its name
when all of it is written, so one that is cut short by a kill does not count.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from alexnet_jax.config.checkpoint_fields import differing_fields
from alexnet_jax.errors import DISK_FULL, UserError
from alexnet_jax.training.checkpoint_files import (
    Damaged,
    Description,
    Phase,
    Position,
    read_description,
    read_state,
    reason_of,
    save_arguments,
)
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.step import TrainState
from alexnet_jax.training.trained_on import TrainedOn

KEPT = 2  # the last ones: if the newest is damaged, the one before it is used

# All devices hold the same state. By default Orbax would copy a slice of each array from
# each device, and compile a program for each of these slices before the first step.
ocp.type_handlers.register_type_handler(
    jax.Array, ocp.type_handlers.ArrayHandler(use_replica_parallel=False), override=True
)


class Checkpoints:
    """The checkpoints of one trial; a context manager that waits for the last save.

    The last two are kept, and the one with the lowest validation error.

    Args:
      folder: the trial's folder; the checkpoints lie in checkpoints/ below it.
      fields: those of the trial on which its result depends, as `checkpoint_fields.py`
        finds them. Checkpoints hold them, and are refused where others are given.
      devices: all their processes save together, into one folder that all of them see.
      trained_on: the trial's data, of which checkpoints hold what its network needs.
    """

    def __init__(
        self,
        folder: Path,
        fields: Mapping[str, Any],
        devices: Devices,
        trained_on: TrainedOn | None = None,
    ) -> None:
        self.trial = folder.absolute()
        self.folder = self.trial / "checkpoints"
        self.fields, self.trained_on = fields, trained_on
        self.devices = devices
        self._kept = _Kept()
        self._newest_phase = Phase.BOOKKEEPING_DONE
        options = ocp.CheckpointManagerOptions(preservation_policy=self._kept)
        with self._refusing("open"):
            self.manager = ocp.CheckpointManager(self.folder, options=options)
            opened = self.folder.stat()
            self._opened = opened.st_dev, opened.st_ino

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with self._refusing("write"):
                self._check_folder()
                self.manager.close()
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # if it is empty
        else:  # the error being raised says more than a second one would
            with contextlib.suppress(Exception):
                self.manager.close()

    def save(self, state: TrainState, position: Position) -> None:
        """Starts a save; the state may be donated to the next step right afterwards.

        Does nothing if this step and phase are saved already, as where a trial is stopped
        twice at the same step.

        Raises:
          UserError: if this or the save before it cannot be written.
        """
        with self._refusing("write"):
            self._check_folder()
            if position.step == self.manager.latest_step():
                if (
                    position.phase is Phase.STEP_DONE
                    or self._newest_phase is Phase.BOOKKEEPING_DONE
                ):
                    return
                # Saved before its bookkeeping, which is done now. If the new save is cut
                # short, the checkpoint of an earlier step is still there.
                self.manager.delete(position.step)
            self._remember(position)
            arguments = save_arguments(state, position, self.fields, self.trained_on)
            self.manager.save(position.step, args=arguments, force=True)

    def _remember(self, position: Position) -> None:
        self._kept.best_step = position.best_step
        self._newest_phase = position.phase

    def _check_folder(self) -> None:
        """Raises OSError if the folder is not the one that was opened.

        Where it is gone, Orbax would make another one; where a file has its name, Orbax
        would wait forever.
        """
        try:
            now = self.folder.stat()
        except FileNotFoundError:
            now = None
        if now is None or (now.st_dev, now.st_ino) != self._opened:
            raise OSError("it is no longer the folder that was opened")

    def check(self) -> None:
        """Raises UserError if a save in the background has failed."""
        with self._refusing("write"):
            self._check_folder()
            self.manager.check_for_errors()

    def wait(self) -> None:
        """Waits until everything that was saved is written."""
        with self._refusing("write"):
            self.manager.wait_until_finished()

    @property
    def is_saving(self) -> bool:
        """Whether a save in the background is not yet written."""
        return self.manager.is_saving_in_progress()

    def newest(self) -> Path | None:
        """The folder of the newest checkpoint; None if there is none."""
        step = self.manager.latest_step()
        return None if step is None else self.folder / str(step)

    def restore(
        self, like: TrainState
    ) -> tuple[TrainState, Position, list[str]] | None:
        """The newest intact checkpoint, placed as `like` is; None if there is none.

        The list has messages about newer checkpoints that are damaged; these are moved
        out of the way.

        Raises:
          UserError: if there are checkpoints, but none can be read, or the newest one
            has other fields or has another format.
        """
        damaged: list[str] = []
        for step in sorted(self.manager.all_steps(), reverse=True):
            folder = self.folder / str(step)
            try:
                description = read_description(folder)
                self._check_fields(description)
                state = read_state(description, like)
            except Damaged as error:
                damaged.append(f"checkpoint {folder} is damaged: {error}")
                continue
            self._put_aside([s for s in self.manager.all_steps() if s > step])
            self._remember(description.position)
            return state, description.position, damaged
        if damaged:
            raise UserError(
                "No checkpoint can be read:\n  "
                + "\n  ".join(damaged)
                + f"\nRemove {self.folder} to start that trial again."
            )
        return None

    def rehearse(self, state: TrainState) -> int:
        """Saves a state below the trial's folder, reads it back, and removes it.

        Returns the bytes that it took on the disk.
        """
        return rehearse_checkpoint(state, self.trial, self.devices)

    def _check_fields(self, description: Description) -> None:
        found = differing_fields(description.fields, self.fields)
        differing = [
            f"  {name}: {there} there, {now} now"
            for name, (there, now) in found.items()
        ]
        if differing:
            folder = description.folder
            raise UserError(
                f"Checkpoint {folder} belongs to another configuration; these fields "
                "differ:\n" + "\n".join(differing) + "\nTo start from its weights "
                "nevertheless, except those of the last layer, give "
                f"--config.training.init_from={folder} with a new --workdir."
            )

    def _put_aside(self, steps: Sequence[int]) -> None:
        """Moves damaged checkpoints to checkpoints_damaged/; nothing is deleted."""
        if not steps:
            return
        self.devices.barrier("damage found")
        if self.devices.is_primary:
            for step in steps:
                aside = self.trial / "checkpoints_damaged" / str(step)
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True)
                os.rename(self.folder / str(step), aside)
        self.devices.barrier("damage put aside")
        self.manager.reload()

    @contextlib.contextmanager
    def _refusing(self, action: str) -> Iterator[None]:
        """Turns whatever Orbax and the disk raise into one message."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            remaining = ""
            with contextlib.suppress(OSError):
                steps = [p.name for p in self.folder.iterdir() if p.name.isdigit()]
                if steps:
                    newest = max(steps, key=int)
                    remaining = f" The checkpoint of step {newest} is still there."
            reason = reason_of(error)
            if reason in map(os.strerror, DISK_FULL):
                remaining += " Free some space; the same command then continues."
            raise UserError(
                f"Cannot {action} the checkpoints in {self.folder}: "
                f"{reason}." + remaining
            ) from error


def rehearse_checkpoint(state: TrainState, folder: Path, devices: Devices) -> int:
    """Saves a single trial's state below `folder`, reads it back, and removes it.

    Returns the bytes that it took on the disk.

    Raises:
      UserError: if it cannot be written, or is not the same when read back.
    """
    place = folder.absolute() / "checkpoint_tried"
    devices.barrier("before a test checkpoint")
    if devices.is_primary:
        shutil.rmtree(place, ignore_errors=True)
    devices.barrier("test checkpoint")
    try:
        with Checkpoints(place, {}, devices) as checkpoints:
            checkpoints.save(state, Position())
            checkpoints.wait()
            if checkpoints.restore(state) is None:
                raise UserError(
                    f"A checkpoint written to {folder} is not there when read back."
                )
            files = (path for path in place.rglob("*") if path.is_file())
            return sum(path.stat().st_size for path in files)
    finally:
        devices.barrier("after a test checkpoint")
        if devices.is_primary:
            shutil.rmtree(place, ignore_errors=True)


class _Kept(ocp.checkpoint_managers.PreservationPolicy):
    """Keeps the last `KEPT` checkpoints and that of `best_step`."""

    best_step = 0

    def should_preserve(
        self,
        checkpoints: Sequence[Any],  # PolicyCheckpointInfo
        *,
        context: Any,
    ) -> Sequence[bool]:
        last = checkpoints[-KEPT:]
        return [c in last or c.step == self.best_step for c in checkpoints]
