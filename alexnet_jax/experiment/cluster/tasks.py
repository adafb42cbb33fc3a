"""One trial of a sweep: its state, its attempts, and its progress by its own records."""

import dataclasses
import time
from typing import Any

from alexnet_jax.config.trials import Trial
from alexnet_jax.report.run_reader import Outcome

ALREADY_DONE, WAITING, RUNNING, FAILED = "already done", "waiting", "running", "failed"


@dataclasses.dataclass
class TrialTask:
    """A trial of a sweep and what is known of its progress.

    Attributes:
      num_epochs: the epochs that the trial trains for.
      state: "already done" (by an earlier command), "waiting", "running", "failed", or
        how the trial ended: "finished", "reached", "behind" or "diverged".
      attempts: how many times the trial has been handed to Ray.
      failure: why it failed.
      epoch: the epoch of its last record.
      speed: epochs a second in this sweep, once its step is compiled; None before.
      train_error: top-1 error of its last training record, a fraction.
      begun: the epoch at which its records first changed in this attempt.
      timed_from: the time at which it was first seen beyond that epoch, and the epoch
        then: its step is compiled.
      earlier_rows: its records when it was handed to Ray.
      warnings: those found in its records so far.
    """

    trial: Trial
    num_epochs: float
    state: str = WAITING
    attempts: int = 0
    failure: str = ""
    epoch: float = 0.0
    speed: float | None = None
    train_error: float | None = None
    begun: float | None = None
    timed_from: tuple[float, float] | None = None
    earlier_rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    @property
    def has_ended(self) -> bool:
        return self.state not in (WAITING, RUNNING)

    def start_attempt(self) -> None:
        """Counts another attempt; the trial waits until its records change."""
        self.attempts += 1
        self.state, self.begun, self.timed_from = WAITING, None, None

    def set_baseline(self, outcome: Outcome) -> None:
        """Takes the records of an earlier process as the state before this attempt."""
        self.earlier_rows = outcome.rows
        self.update(outcome)

    def update(self, outcome: Outcome) -> list[str]:
        """Takes the trial's progress from its records; returns warnings not seen before.

        All trials are handed to Ray at once, and Ray does not report which ones it has
        started: a trial is running once its records differ from the earlier ones. They
        grow, or lose first what was written after the checkpoint that it continues from.
        """
        rows = [row for row in outcome.rows if row.get("epoch") is not None]
        if not rows:
            return []
        before, self.epoch = self.epoch, min(rows[-1]["epoch"], self.num_epochs)
        curve = outcome.curve("train", "top1_error")
        self.train_error = curve[-1][1] if curve else None
        if self.state == WAITING and outcome.rows != self.earlier_rows:
            self.state = RUNNING
        if self.state == RUNNING:
            self._measure_speed(before)
        warnings = [row["warning"] for row in outcome.rows if row.get("warning")]
        new = [warning for warning in warnings if warning not in self.warnings]
        self.warnings += new
        return new

    def _measure_speed(self, before: float) -> None:
        """Measures from the first epoch after the step was compiled, which takes a while.

        Args:
          before: the epoch of its last record so far.
        """
        now = time.monotonic()
        if self.begun is None:
            self.begun = self.epoch
        elif self.epoch <= max(before, self.begun):
            return
        elif self.timed_from is None:
            self.timed_from = (now, self.epoch)
        else:
            self.speed = (self.epoch - self.timed_from[1]) / (now - self.timed_from[0])

    def seconds_left(self) -> float | None:
        """Returns the estimated seconds to the trial's end; None before it has a speed."""
        if self.state != RUNNING or self.speed is None:
            return None
        return (self.num_epochs - self.epoch) / self.speed
