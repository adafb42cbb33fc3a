"""One trial of a run: what it has of its own, and where it stands."""

import dataclasses
import math
import resource
import sys
import time
from collections import deque
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data.pipeline import Data
from alexnet_jax.training import diagnosis
from alexnet_jax.training import step as steps
from alexnet_jax.training.checkpoint import Checkpoints, Position
from alexnet_jax.training.optimizer import Plateau, Rates, rates_at
from alexnet_jax.training.parallel import AHEAD, Devices
from alexnet_jax.training.record import Progress, Record


class Member:
    """A trial under way, less its state: that lies on the devices, see `loop.Run`.

    Args:
      config: of the trial.
      seed: its own.
      data: what it is trained on.
      record, checkpoints: in its own folder.
      label: its name in messages.
    """

    def __init__(
        self,
        config: ConfigDict,
        *,
        seed: int,
        data: Data,
        record: Record,
        checkpoints: Checkpoints,
        label: str,
    ) -> None:
        self.config, self.seed, self.label = config, seed, label
        self.record, self.checkpoints = record, checkpoints
        self.plan = Plan.of(config, data.train.num_examples)
        self.meter = Meter(self.plan)
        self.start = diagnosis.Start(config, num_classes=len(data.source.class_names))
        self.step = 0
        self.best_step, self.best_error = 0, 1.0
        self.plateau = Plateau()
        self.save_wanted = False
        self.row: dict[str, Any] = {}  # the last
        self.status = ""  # how it has ended

    def go_on_from(self, position: Position) -> None:
        self.step = position.step
        self.best_step, self.best_error = position.best_step, position.best_error
        self.plateau = Plateau(**position.plateau)
        self.meter.counts = list(position.counts)
        self.start.over = self.start.over or position.fallen
        self.record.go_on_from(position.record_bytes)

    def position(self, *, due: bool) -> Position:
        """Where the trial stands, all steps done and found finite."""
        self.meter.wait()
        return Position(
            step=self.step,
            record_bytes=self.record.size(),
            counts=tuple(self.meter.counts),
            fallen=self.start.over,
            due=due,
            best_step=self.best_step,
            best_error=self.best_error,
            plateau=dataclasses.asdict(self.plateau),
        )

    def rates(self) -> Rates:
        """Of the step `step`; before the first, of that."""
        return self.plan.rates(max(1, self.step), self.plateau.drops)

    def numbers(self) -> steps.Numbers:
        """What is traced of the step `step`."""
        return steps.Numbers(
            Rates(*map(np.float32, self.rates())),
            np.float32(self.config.optimizer.momentum),
            np.float32(self.config.optimizer.weight_decay),
            np.uint32(self.seed),
        )

    def with_rate(self, row: dict[str, Any]) -> dict[str, Any]:
        """With the learning rate of its step."""
        return row | {"learning_rate": float(self.rates().kernel)}

    def write(self, row: dict[str, Any]) -> None:
        self.row = row
        self.record.write(row)

    def end(self) -> dict[str, Any]:
        """Step and epoch at which it has ended.

        Those of its last row, which may be before the last step that was begun. Killed
        between its last checkpoint and here, it has none to write when it goes on.
        """
        own = {"step": self.step, "epoch": self.plan.epoch(self.step)} | self.row
        return {name: own[name] for name in ("step", "epoch")}

    def write_not_finite(self, found: "NotFinite", devices: Devices) -> None:
        """The row of the step that has no finite loss or gradient: the trial's last."""
        row = self.plan.row("train", found.step, None, None)
        self.write(self.with_rate(row) | found.facts(devices))

    def diverged(self) -> str:
        """What is said of a trial that has ended so."""
        return (
            f"{self.label} diverged: its {self.row.get('not_finite', 'loss')} is not "
            f"finite at step {self.row['step']}. Its records say so"
            + (", and which images the batch held" if "examples" in self.row else "")
            + "; a checkpoint, if there is one, is of before. The others go on."
        )

    def evaluated(self, row: dict[str, Any], progress: Progress) -> bool:
        """Writes an eval row, and does what follows from its error.

        A checkpoint of the best so far is wanted; the rate falls at a plateau. Returns
        whether the loss is finite: else nothing follows.
        """
        self.write(self.with_rate(row))
        if self.row.get("diverged"):
            return False
        error = self.row["top1_error"]
        better = self.best_step == 0 or error < self.best_error
        if self.step > 0 and better:
            self.best_step, self.best_error = self.step, error
            if self.config.training.checkpoint_every_epochs > 0:
                self.save_wanted = True
        if self.config.optimizer.schedule == "plateau":
            every = self.config.training.evaluate_every_epochs
            epoch = self.plan.epochs_completed(self.step, every)
            self.plateau, why = self.plateau.after(epoch, error, self.config.optimizer)
            if why is not None:
                position = {"step": self.step, "epoch": self.plan.epoch(self.step)}
                self.record.write({"kind": "schedule", **position, "why": why})
                progress.say(f"{self.label}, step {self.step}: {why}")
        self.meter.restart_clock()
        return True


def _exact(decimal: float) -> Fraction:
    """The number that was written: 0.1 as a tenth, not as the float beside it."""
    return Fraction(repr(decimal))


@dataclasses.dataclass(frozen=True)
class Plan:
    """Steps and epochs of a trial: an epoch is num_examples images, not whole steps."""

    num_examples: int
    batch_size: int
    num_steps: int
    optimizer: ConfigDict

    @staticmethod
    def of(config: ConfigDict, num_examples: int) -> "Plan":
        images = _exact(config.training.num_epochs) * num_examples
        num_steps = max(1, math.ceil(images / config.training.batch_size))
        return Plan(
            num_examples, config.training.batch_size, num_steps, config.optimizer
        )

    @property
    def num_images(self) -> int:
        return self.num_steps * self.batch_size

    def epoch(self, step: int) -> float:
        """Epochs after `step` steps."""
        return step * self.batch_size / self.num_examples

    def due(self, step: int, every_epochs: float) -> bool:
        """Whether `step` completes another `every_epochs`, or is the last."""
        period = _exact(every_epochs) * self.num_examples  # in images
        now, before = (n * self.batch_size // period for n in (step, step - 1))
        return now > before or step == self.num_steps

    def epochs_completed(self, step: int, every_epochs: float) -> float:
        """Whole periods of `every_epochs` after `step` steps, in epochs."""
        period = _exact(every_epochs)
        images = step * self.batch_size
        return float(images // (period * self.num_examples) * period)

    def rates(self, step: int, drops: int = 0) -> Rates:
        """Of step number `step`, counted from 1; `drops` are those of a plateau."""
        return rates_at(
            self.epoch(step - 1),
            self.optimizer,
            num_epochs=self.epoch(self.num_steps),
            drops=drops,
        )

    def row(
        self,
        kind: str,
        step: int,
        total: steps.Counts | steps.TrainCounts | None,
        rate: float | None,
    ) -> dict[str, Any]:
        """One line of metrics.jsonl: errors as fractions, loss in nats, both means.

        `step` and `epoch` are how much training had been done. A loss that is not finite
        (or a `total` of None) leaves no means, and marks the row "diverged".
        """
        if total is not None and not np.isfinite(total.loss):
            total = None

        def mean(name: str) -> float | None:
            return (
                None
                if total is None
                else float(getattr(total, name)) / int(total.examples)
            )

        row = {
            "kind": kind,
            "step": step,
            "epoch": self.epoch(step),
            "loss": mean("loss"),
            "top1_error": mean("top1_errors"),
            "top5_error": mean("top5_errors"),
            "images_per_second": rate,
        }
        return row | ({"diverged": True} if total is None else {})


# What a row has as means over its examples.
MEANS = ("loss", "top1_error", "top5_error")


class UnderWay(NamedTuple):
    """A step whose counts are still being computed, and the ids of its batch.

    Attributes:
      member: of the counts of several trials, which are this one's: (number,); else ().
      stream: of the batch's ids, likewise.
    """

    step: int
    counts: steps.TrainCounts
    epochs: jax.Array
    examples: jax.Array
    member: tuple[int, ...] = ()
    stream: tuple[int, ...] = ()


class NotFinite(Exception):
    """The loss or the norm of the gradient of a step is not finite."""

    def __init__(self, under_way: UnderWay, what: str) -> None:
        super().__init__(under_way.step)
        self.under_way, self.what = under_way, what
        self.step = under_way.step

    def facts(self, devices: Devices) -> dict[str, Any]:
        """What the record says of it: which images of which epoch the batch held."""
        under_way = self.under_way
        own: tuple[Any, ...] = (slice(None), *under_way.stream)
        epochs, examples = (
            devices.gathered(ids)[own].tolist()
            for ids in (under_way.epochs, under_way.examples)
        )
        return {
            "not_finite": self.what,
            "example_epochs": epochs,
            "examples": examples,
        }


class Meter:
    """Means and speed over the steps since the last row.

    Counts are read `AHEAD` steps late, so that steps are dispatched without waiting, and
    yet no more of them are under way. The first step, which compiles, and evaluations
    are not timed.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.counts: list[steps.TrainCounts] = []  # of steps done, in host memory
        self.under_way: deque[UnderWay] = deque()
        self.clock: float | None = None
        self.timed_images = 0
        self.waited = 0.0  # seconds of it, for input

    def add(self, step: UnderWay) -> None:
        """Raises NotFinite if that, or one before it, is."""
        self.under_way.append(step)
        self.timed_images += self.plan.batch_size
        if self.clock is None:
            self.wait()
            self.restart_clock()
        while len(self.under_way) > AHEAD:
            self._settle()

    def wait(self) -> None:
        """Until all steps are done; raises NotFinite if one of them is."""
        while self.under_way:
            self._settle()

    def _settle(self) -> None:
        first = self.under_way.popleft()
        counts = jax.tree.map(
            lambda of_all: of_all[first.member], jax.device_get(first.counts)
        )
        for what, number in (
            ("loss", counts.loss),
            ("gradient norm", counts.gradient_norm),
        ):
            if not np.isfinite(number):
                raise NotFinite(first, what)
        self.counts.append(counts)

    def restart_clock(self) -> None:
        self.clock, self.timed_images, self.waited = time.perf_counter(), 0, 0.0

    def row(self, step: int) -> dict[str, Any]:
        """The train row of the steps up to `step`: means over the steps since the last.

        "input_wait": the share of their time in which nothing was computed for want of
        input. Peaks of memory are those since the process began, of this process.
        """
        self.wait()
        rate = share = None
        if self.clock is not None and self.timed_images:
            seconds = time.perf_counter() - self.clock
            rate, share = self.timed_images / seconds, self.waited / seconds
        if self.clock is not None:
            self.restart_clock()
        total = steps.TrainCounts(
            *(sum(column) for column in zip(*self.counts, strict=True))
        )
        mean_norm = float(total.gradient_norm) / len(self.counts)
        self.counts = []
        return self.plan.row("train", step, total, rate) | {
            "gradient_norm": mean_norm,
            "input_wait": share,
            "peak_host_bytes": peak_host_bytes(),
            "peak_device_bytes": peak_device_bytes(),
        }


def peak_host_bytes() -> int:
    """The most memory that this process has had resident."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_device_bytes() -> int | None:
    """The most that one of this process's devices has held; None where it cannot tell."""
    found = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stats.get("peak_bytes_in_use") for stats in found]
    return max((peak for peak in peaks if peak is not None), default=None)
