"""A running trial: its seed, its records and checkpoints, and its position."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.config.checkpoint_fields import fields_of
from alexnet_jax.training import diagnosis
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.checkpoint_files import Phase, Position
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.metrics import MetricAccumulator, Record, means_row
from alexnet_jax.training.optimizer import Hyperparameters
from alexnet_jax.training.schedule import LearningRates, Plateau, Schedule


@contextlib.contextmanager
def open_trial(
    settings: ConfigDict,
    *,
    seed: int,
    num_examples: int,
    num_classes: int,
    devices: Devices,
    folder: Path,
    label: str,
) -> Iterator["RunningTrial"]:
    """A trial that keeps its record and its checkpoints in `folder`.

    Of several processes the primary one writes the record; all save the checkpoints.

    Args:
      settings, seed, label: see `RunningTrial`.
      num_examples, num_classes: of its training set.
    """
    own = folder if devices.is_primary else None
    with (
        Record(own, tensorboard=settings.training.tensorboard) as record,
        Checkpoints(folder, fields_of(settings), devices) as checkpoints,
    ):
        yield RunningTrial(
            settings,
            seed=seed,
            schedule=Schedule.of(settings, num_examples),
            num_classes=num_classes,
            record=record,
            checkpoints=checkpoints,
            label=label,
        )


class RunningTrial:
    """A running trial, without its state: that is part of its group's (`group.py`).

    Args:
      settings: the trial's settings.
      seed: the seed of its initial weights and of everything drawn in training.
      schedule: its steps and learning rates.
      num_classes: of the data.
      record, checkpoints: those in its own folder.
      label: its name in messages.

    Attributes:
      step: steps begun.
      status: how it has ended, "finished" or "diverged"; empty while it is active.
      last_row: the last row written.
      save_requested: whether a checkpoint is to be saved at the next opportunity.
    """

    def __init__(
        self,
        settings: ConfigDict,
        *,
        seed: int,
        schedule: Schedule,
        num_classes: int,
        record: Record,
        checkpoints: Checkpoints,
        label: str,
    ) -> None:
        self.settings, self.seed, self.label = settings, seed, label
        self.record, self.checkpoints = record, checkpoints
        self.schedule = schedule
        self.metrics = MetricAccumulator(schedule)
        self.start_monitor = diagnosis.StartMonitor(settings, num_classes=num_classes)
        self.step = 0
        self.best_step, self.best_error = 0, 1.0
        self.plateau = Plateau()
        self.save_requested = False
        self.last_row: dict[str, Any] = {}
        self.status = ""

    # --- Its position ------------------------------------------------------------------

    def resume(self, position: Position) -> None:
        """Continues from `position`; rows written after it are cut off."""
        self.step = position.step
        self.best_step, self.best_error = position.best_step, position.best_error
        self.plateau = Plateau(**position.plateau)
        self.metrics.counts = list(position.counts)
        self.start_monitor.done = self.start_monitor.done or position.start_checked
        self.record.resume(position.record_bytes, position.record_checksum)

    def position(self, phase: Phase) -> Position:
        """Where the trial stands once all its steps are done and found finite.

        `phase` says how far the last of them has come.

        Raises:
          NotFinite: if one of them is not.
        """
        self.metrics.drain()
        return Position(
            step=self.step,
            phase=phase,
            record_bytes=self.record.size(),
            record_checksum=self.record.checksum,
            counts=tuple(self.metrics.counts),
            start_checked=self.start_monitor.done,
            best_step=self.best_step,
            best_error=self.best_error,
            plateau=dataclasses.asdict(self.plateau),
        )

    def learning_rates(self) -> LearningRates:
        """The learning rates of the current step; before the first, those of the first."""
        return self.schedule.learning_rates(max(1, self.step), self.plateau.drops)

    def hyperparameters(self) -> Hyperparameters:
        """The numbers traced in the current step."""
        return Hyperparameters.of(
            self.settings.optimizer, self.learning_rates(), self.seed
        )

    # --- What it records --------------------------------------------------------------

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row to the record."""
        self.last_row = row
        self.record.write(row)

    def write_train_row(self) -> None:
        """Records the means over the steps since the last train row."""
        self.checkpoints.check()
        row = self._with_learning_rate(self.metrics.row(self.step))
        self.write(self.start_monitor.checked(row))

    def write_not_finite(self, step: int, facts: dict[str, Any]) -> None:
        """Records a step without a finite loss or gradient: the trial's last row."""
        row = means_row("train", step, self.schedule.epoch(step), None, None)
        self.write(self._with_learning_rate(row) | facts)

    def write_diagnosis(self, measured: dict[str, Any]) -> None:
        """Records how the network responds to its first batch: see `diagnosis.py`."""
        self.write(diagnosis.row(measured, self.settings))

    def write_evaluation(self, row: dict[str, Any]) -> str | None:
        """Records an eval row, and does what follows from its error if that is finite.

        The best network so far is to be saved; at a plateau the learning rate drops.
        Returns a message about such a drop.
        """
        self.write(self._with_learning_rate(row))
        if row.get("diverged"):
            return None
        error = row["top1_error"]
        better = self.best_step == 0 or error < self.best_error
        if self.step > 0 and better:
            self.best_step, self.best_error = self.step, error
            if self.settings.training.checkpoint_every_epochs > 0:
                self.save_requested = True
        drop = None
        if self.settings.optimizer.schedule == "plateau":
            drop = self._follow_plateau(error)
        self.metrics.restart_clock()
        return drop

    def _follow_plateau(self, error: float) -> str | None:
        every = self.settings.training.evaluate_every_epochs
        epoch = self.schedule.epochs_completed(self.step, every)
        self.plateau, why = self.plateau.after(epoch, error, self.settings.optimizer)
        if why is None:
            return None
        position = {"step": self.step, "epoch": self.schedule.epoch(self.step)}
        self.record.write({"kind": "schedule", **position, "why": why})
        return f"{self.label}, step {self.step}: {why}"

    def _with_learning_rate(self, row: dict[str, Any]) -> dict[str, Any]:
        return row | {"learning_rate": float(self.learning_rates().kernel)}

    # --- Its end ----------------------------------------------------------------------

    def end(self, status: str) -> None:
        """Marks the trial as over, once its last checkpoint is on the disk.

        The step and the epoch are those of its last row, which may precede the last step
        begun. A trial that was killed after its last checkpoint has no row of its own
        when it is resumed.
        """
        self.checkpoints.wait()
        self.status = status
        here = {"step": self.step, "epoch": self.schedule.epoch(self.step)}
        ended = {name: self.last_row.get(name, here[name]) for name in here}
        self.record.close_trial(status, **ended)

    def divergence_message(self) -> str:
        """The message about a trial that has diverged."""
        quantity = self.last_row.get("not_finite", "loss")
        images = (
            ", with the images of that batch" if "examples" in self.last_row else ""
        )
        return (
            f"{self.label} diverged: its {quantity} is not finite at step "
            f"{self.last_row['step']}. Its record says so{images}; its checkpoints, if "
            "any, predate this step. The other trials continue."
        )
