"""What a trial records: its rows, and their means over steps."""

import functools
import resource
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from alexnet_jax.training.prefetch import PREFETCHED
from alexnet_jax.training.schedule import Schedule
from alexnet_jax.training.step import Counts, TrainCounts

# --- Rows -------------------------------------------------------------------------

# The values of a row that are means over its examples.
MEANS = ("loss", "top1_error", "top5_error")


def means_row(
    kind: str,
    step: int,
    epoch: float,
    total: Counts | TrainCounts | None,
    throughput: float | None,
) -> dict[str, Any]:
    """One line of metrics.jsonl: errors as fractions, the loss in nats, both means.

    `step` and `epoch` say how much training was done, `throughput` is in images/s. A
    total of None, or one whose loss is not finite, has no means and is marked "diverged".
    """
    if total is not None and not np.isfinite(total.loss):
        total = None

    def mean(name: str) -> float | None:
        if total is None:
            return None
        return float(getattr(total, name)) / int(total.examples)

    row = {
        "kind": kind,
        "step": step,
        "epoch": epoch,
        "loss": mean("loss"),
        "top1_error": mean("top1_errors"),
        "top5_error": mean("top5_errors"),
        "images_per_second": throughput,
    }
    return row | ({"diverged": True} if total is None else {})


# --- Means over steps -------------------------------------------------------------


class StepCounts:
    """What a dispatched step counts for all trials of a group, which read it once."""

    def __init__(self, counts: TrainCounts) -> None:
        self._counts = counts

    @functools.cached_property
    def on_host(self) -> Any:
        """The counts in host memory; waits until the step is done."""
        return jax.device_get(self._counts)


class PendingStep(NamedTuple):
    """A step whose counts are still being computed, as one trial of the group sees it.

    Attributes:
      step: its number.
      counts: of all trials of the group.
      epochs, examples: what identifies the images of the batch, for each slot.
      trial: the trial's place in the counts.
      slot: where the trial's images are in the batch: `stacking.SeedSlots`.
    """

    step: int
    counts: StepCounts
    epochs: jax.Array
    examples: jax.Array
    trial: int
    slot: int


class NotFinite(Exception):
    """The loss or the gradient norm of a step is not finite."""

    def __init__(self, pending: PendingStep, quantity: str) -> None:
        super().__init__(pending.step)
        self.pending, self.quantity = pending, quantity
        self.step = pending.step

    def facts(self, gathered: Callable[[jax.Array], np.ndarray]) -> dict[str, Any]:
        """What the record keeps of it: the images of the batch, and their epochs.

        `gathered` is `Devices.gathered`.
        """
        pending = self.pending
        epochs, examples = (
            gathered(ids)[:, pending.slot].tolist()
            for ids in (pending.epochs, pending.examples)
        )
        return {
            "not_finite": self.quantity,
            "example_epochs": epochs,
            "examples": examples,
        }


class MetricAccumulator:
    """The means and the throughput over a trial's steps since its last train row.

    Counts are read `PREFETCHED` steps late: steps are dispatched without waiting for
    them, and yet no more than that are in flight. The first step, which compiles, and
    evaluations are not timed.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.counts: list[TrainCounts] = []  # of steps done, in host memory
        self.pending: deque[PendingStep] = deque()
        self.clock: float | None = None
        self.timed_images = 0
        self.waited = 0.0  # seconds of the time measured in which input was missing

    def add(self, step: PendingStep) -> None:
        """Adds a dispatched step; raises NotFinite if it or an earlier one is not."""
        self.pending.append(step)
        self.timed_images += self.schedule.batch_size
        if self.clock is None:
            self.drain()
            self.restart_clock()
        while len(self.pending) > PREFETCHED:
            self._read_first()

    def drain(self) -> None:
        """Waits until all steps are done; raises NotFinite if one of them is not."""
        while self.pending:
            self._read_first()

    def _read_first(self) -> None:
        first = self.pending.popleft()
        of_all = first.counts.on_host
        counts = TrainCounts(*(of_trials[first.trial] for of_trials in of_all))
        for quantity, number in (
            ("loss", counts.loss),
            ("gradient norm", counts.gradient_norm),
        ):
            if not np.isfinite(number):
                raise NotFinite(first, quantity)
        self.counts.append(counts)

    def restart_clock(self) -> None:
        """Measures the throughput from now on."""
        self.clock, self.timed_images, self.waited = time.perf_counter(), 0, 0.0

    def row(self, step: int) -> dict[str, Any]:
        """The train row of the steps since the last row, up to `step`.

        "input_wait" is the share of their time in which the devices were idle for want
        of input. Peaks of memory are those of this process since it began.
        """
        self.drain()
        throughput = share = None
        if self.clock is not None and self.timed_images:
            seconds = time.perf_counter() - self.clock
            throughput, share = self.timed_images / seconds, self.waited / seconds
        if self.clock is not None:
            self.restart_clock()
        total = TrainCounts(*(sum(column) for column in zip(*self.counts, strict=True)))
        mean_norm = float(total.gradient_norm) / len(self.counts)
        self.counts = []
        epoch = self.schedule.epoch(step)
        return means_row("train", step, epoch, total, throughput) | {
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
    """The most that any of this process's devices has held; None where it is not known."""
    found = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stats.get("peak_bytes_in_use") for stats in found]
    return max((peak for peak in peaks if peak is not None), default=None)
