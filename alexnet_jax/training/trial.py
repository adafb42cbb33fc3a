"""A running trial: its values, its seed, its records and checkpoints, and its position.

`TrialSpec.of` reads the trial's settings, once; whatever trains the trial is handed the
values that it uses, and never the settings.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.config.checkpoint_fields import fields_of
from alexnet_jax.config.grouping import images_together, spreads_trials
from alexnet_jax.data.augmentation import Augmentation
from alexnet_jax.data.pipeline import Data
from alexnet_jax.training import diagnosis
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.checkpoint_files import Phase, Position
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.metrics import MetricAccumulator, means_row
from alexnet_jax.training.optimizer import Hyperparameters
from alexnet_jax.training.records import Record
from alexnet_jax.training.schedule import (
    LearningRates,
    LoopPeriods,
    Plateau,
    Schedule,
)
from alexnet_jax.training.trained_on import TrainedOn
from alexnet_jax.training.trainer import StepSpec

# What a checkpoint says of its network's errors; all other values of an eval row depend
# on the machine.
MEASURED = ("step", "epoch", "loss", "top1_error", "top5_error", "split", "beside")


@dataclasses.dataclass(frozen=True)
class TrialSpec:
    """The values of a trial on its data, of which a running trial may use any.

    Attributes:
      steps: what its steps are compiled for.
      schedule: its steps and learning rates.
      periods: how often the loop does its bookkeeping.
      augmentation: how its training images are augmented.
      diagnosis: when its start is worth a warning.
      momentum, weight_decay: hyperparameters, the same at all steps.
      init_from: a trial folder or checkpoint with initial weights; or empty.
      profile: the first and the last step to be traced; or empty.
      images_together: what divides the images that a device has at a time.
      spread_trials: whether devices share out whole trials, not each trial's batch.
      tensorboard: whether TensorBoard event files are written too.
      checkpoint_fields: what its checkpoints hold of its settings, as JSON values.
      trained_on: what they hold of its data.
    """

    steps: StepSpec
    schedule: Schedule
    periods: LoopPeriods
    augmentation: Augmentation
    diagnosis: diagnosis.DiagnosisSpec
    momentum: float
    weight_decay: float
    init_from: str
    profile: tuple[int, ...]
    images_together: int
    spread_trials: bool
    tensorboard: bool
    checkpoint_fields: Mapping[str, Any]
    trained_on: TrainedOn

    @staticmethod
    def of(settings: ConfigDict, data: Data) -> "TrialSpec":
        """The values of the trial with these settings."""
        optimizer, training = settings.optimizer, settings.training
        return TrialSpec(
            steps=StepSpec.of(settings, data),
            schedule=Schedule.of(training, optimizer, data.train.num_examples),
            periods=LoopPeriods.of(training, optimizer),
            augmentation=Augmentation.of(
                settings.data,
                data.statistics.components(settings.data.lighting_scale),
                data.train.size,
            ),
            diagnosis=diagnosis.DiagnosisSpec.of(settings),
            momentum=optimizer.momentum,
            weight_decay=optimizer.weight_decay,
            init_from=training.init_from,
            profile=tuple(training.profile),
            images_together=images_together(settings),
            spread_trials=spreads_trials(settings),
            tensorboard=training.tensorboard,
            checkpoint_fields=fields_of(settings),
            trained_on=TrainedOn.of(data),
        )


@contextlib.contextmanager
def open_trial(
    spec: TrialSpec,
    *,
    seed: int,
    devices: Devices,
    folder: Path,
    label: str,
    stops_at: float | None = None,
    gives_up_at: float | None = None,
) -> Iterator["RunningTrial"]:
    """A trial that keeps its record and its checkpoints in `folder`.

    Of several processes the primary one writes the record; all save the checkpoints.

    Args:
      spec: the trial's values.
      seed: the seed of its initial weights and of everything drawn in training.
      devices: all their processes save the checkpoints together.
      folder: the trial's folder.
      label: its name in messages.
      stops_at: the training error at which it ends early; None: at none.
      gives_up_at: the epoch at which it is given up; None: at none.
    """
    own = folder if devices.is_primary else None
    with (
        Record(own, tensorboard=spec.tensorboard) as record,
        Checkpoints(
            folder, spec.checkpoint_fields, devices, spec.trained_on
        ) as checkpoints,
    ):
        yield RunningTrial(
            spec,
            seed=seed,
            record=record,
            checkpoints=checkpoints,
            label=label,
            stops_at=stops_at,
            gives_up_at=gives_up_at,
        )


class RunningTrial:
    """A running trial, without its state: that is part of its group's (`group.py`).

    Args:
      spec: the trial's values.
      seed: the seed of its initial weights and of everything drawn in training.
      record, checkpoints: those in its own folder.
      label: its name in messages.
      stops_at: the training error at which it ends before its last step; None: at none.
      gives_up_at: the epoch at which it is given up unless it has ended before; None: at
        none.

    Attributes:
      step: steps begun.
      reached: whether a train row before the last step is at `stops_at` or below.
      is_behind: whether it is to be given up.
      status: how it has ended, "finished", "reached", "behind" or "diverged"; empty while
        it is active.
      last_row: the last row written.
      evaluation: what the last eval row with errors has measured.
      save_requested: whether a checkpoint is to be saved at the next opportunity.
    """

    def __init__(
        self,
        spec: TrialSpec,
        *,
        seed: int,
        record: Record,
        checkpoints: Checkpoints,
        label: str,
        stops_at: float | None = None,
        gives_up_at: float | None = None,
    ) -> None:
        self.spec, self.seed, self.label = spec, seed, label
        self.record, self.checkpoints = record, checkpoints
        self.schedule = spec.schedule
        self.metrics = MetricAccumulator(spec.schedule)
        self.start_monitor = diagnosis.StartMonitor(
            spec.diagnosis, num_classes=spec.steps.num_classes
        )
        self.step = 0
        self.best_step, self.best_error = 0, 1.0
        self.plateau = Plateau()
        self.save_requested = False
        self.stops_at, self.reached = stops_at, False
        self.gives_up_at, self.is_behind = gives_up_at, False
        self.last_row: dict[str, Any] = {}
        self.evaluation: dict[str, Any] = {}
        self.status = ""

    # --- Its position ------------------------------------------------------------------

    def resume(self, position: Position) -> None:
        """Continues from `position`; rows written after it are cut off."""
        self.step = position.step
        self.best_step, self.best_error = position.best_step, position.best_error
        self.plateau = Plateau(**position.plateau)
        self.reached = position.reached and self.stops_at is not None
        self.evaluation = dict(position.evaluation)
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
            reached=self.reached,
            evaluation=self.evaluation,
        )

    def learning_rates(self) -> LearningRates:
        """The learning rates of the current step; before the first, those of the first."""
        return self.schedule.learning_rates(max(1, self.step), self.plateau.drops)

    def hyperparameters(self) -> Hyperparameters:
        """The numbers traced in the current step."""
        return Hyperparameters.of(
            self.learning_rates(),
            momentum=self.spec.momentum,
            weight_decay=self.spec.weight_decay,
            seed=self.seed,
        )

    # --- What it records --------------------------------------------------------------

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row to the record."""
        self.last_row = row
        self.record.write(row)

    def write_train_row(self) -> None:
        """Records the means over the steps since the last train row."""
        self.checkpoints.check()
        self.metrics.drain()
        first = self.step - len(self.metrics.counts)
        row = self._with_learning_rate(self.metrics.row(self.step))
        self.write(self.start_monitor.checked(row))
        if self.step == self.schedule.num_steps:
            return
        error = row["top1_error"]
        if self.stops_at is not None:
            self.reached = error is not None and error <= self.stops_at
        if self.gives_up_at is not None and not self.reached:
            # Had it come below the error, it would be after the first step of this row.
            self.is_behind = self.schedule.epoch(first) >= self.gives_up_at

    def write_not_finite(self, step: int, facts: dict[str, Any]) -> None:
        """Records a step without a finite loss or gradient: the trial's last row."""
        row = means_row("train", step, self.schedule.epoch(step), None, None)
        self.write(self._with_learning_rate(row) | facts)

    def write_diagnosis(self, measured: dict[str, Any]) -> None:
        """Records how the network responds to its first batch; warns if logits hardly differ."""
        self.write(diagnosis.row(measured, self.spec.diagnosis))

    def write_evaluation(self, row: dict[str, Any], *, scheduled: bool) -> str | None:
        """Records an eval row, and does what follows from its error if that is finite.

        The best network so far is to be saved; at a plateau the learning rate drops, where
        the evaluation is one of those that its schedule counts. Returns a message about
        such a drop.
        """
        self.write(self._with_learning_rate(row))
        if row.get("diverged"):
            return None
        self.evaluation = {n: row[n] for n in MEASURED if n in row}
        error = row["top1_error"]
        better = self.best_step == 0 or error < self.best_error
        if self.step > 0 and better:
            self.best_step, self.best_error = self.step, error
            if self.spec.periods.checkpoint_every_epochs > 0:
                self.save_requested = True
        drop = None
        if scheduled and self.schedule.spec.schedule == "plateau":
            drop = self._follow_plateau(error)
        self.metrics.restart_clock()
        return drop

    def _follow_plateau(self, error: float) -> str | None:
        every = self.spec.periods.evaluate_every_epochs
        epoch = self.schedule.epochs_completed(self.step, every)
        self.plateau, why = self.plateau.after(epoch, error, self.schedule.spec)
        if why is None:
            return None
        position = {"step": self.step, "epoch": self.schedule.epoch(self.step)}
        self.record.write({"kind": "schedule", **position, "why": why})
        return f"{self.label}, step {self.step}: {why}"

    def _with_learning_rate(self, row: dict[str, Any]) -> dict[str, Any]:
        return row | {"learning_rate": float(self.learning_rates().kernel)}

    # --- Its end ----------------------------------------------------------------------

    def end(self, status: str, *, spread: str) -> None:
        """Marks the trial as over, once its last checkpoint is on the disk.

        Recorded is also how the devices shared out its last steps: `Devices.spread`.

        The step and the epoch are those of its last row, which may precede the last step
        begun. A trial that was killed after its last checkpoint has no row of its own
        when it is resumed.
        """
        self.checkpoints.wait()
        self.status = status
        here = {"step": self.step, "epoch": self.schedule.epoch(self.step)}
        ended = {name: self.last_row.get(name, here[name]) for name in here}
        self.record.close_trial(status, **ended, spread=spread)

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
