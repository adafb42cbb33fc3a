"""What a trial records: its rows, their means, and the files that keep them."""

import functools
import json
import os
import resource
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import google_crc32c
import jax
import numpy as np

from alexnet_jax.errors import UserError
from alexnet_jax.files import write_json
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
    """The most that any of this process's devices has held; None where it cannot tell."""
    found = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stats.get("peak_bytes_in_use") for stats in found]
    return max((peak for peak in peaks if peak is not None), default=None)


# --- Files ------------------------------------------------------------------------


class Record:
    """Writes a trial's rows to metrics.jsonl as they come, one JSON object a line.

    A context manager. `resume` must be called before the first row.

    Args:
      folder: the trial's folder; None where another process writes the record.
      tensorboard: whether scalars also go to TensorBoard event files.
    """

    def __init__(self, folder: Path | None, *, tensorboard: bool) -> None:
        self.folder = folder
        self.file: BinaryIO | None = None
        self.board: Any = None
        self.checksum = 0  # CRC-32C of the bytes of `file`
        if folder is None:
            return
        writer = tensorboard_writer() if tensorboard else None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trial.json").unlink(missing_ok=True)
        for events in folder.glob("events.out.tfevents.*"):
            events.unlink()  # TensorBoard shows all of a folder's as one curve
        # Unbuffered: closing must not retry what a full disk did not take.
        self.file = (folder / "metrics.jsonl").open("ab+", buffering=0)
        self.board = writer(str(folder)) if writer else None

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()
        if self.board is not None:
            self.board.close()

    def resume(self, size: int, checksum: int | None = None) -> None:
        """Truncates the record to the `size` bytes that it had at the checkpoint.

        Args:
          size, checksum: the attributes of `checkpoint_files.Position`.

        Raises:
          UserError: if these bytes are not those that were written. Nothing is cut then.
        """
        if self.file is None:
            return
        self.file.seek(0)
        kept = self.file.read(size)
        found = google_crc32c.value(kept)
        problem = None
        if len(kept) < size:
            problem = f"has {len(kept)} bytes, but {size} were written"
        elif checksum is not None and found != checksum:
            problem = f"was changed in the first {size} bytes, which were written"
        elif kept and not kept.endswith(b"\n"):
            problem = (
                f"was changed: no line ends after the {size} bytes that were written"
            )
        if problem is None:
            try:
                rows = [json.loads(line) for line in kept.splitlines()]
            except ValueError as error:
                problem = f"was changed ({error}) in the lines that were written"
        if problem is not None:
            raise UserError(
                f"{self.file.name} {problem} before the checkpoint. Put the file back as "
                f"it was, or remove {self.folder} to start that trial again."
            )
        self.file.truncate(size)
        self.file.seek(size)
        self.checksum = found
        for row in rows:
            self._show(row)

    def size(self) -> int:
        """The size of metrics.jsonl in bytes."""
        return 0 if self.file is None else os.fstat(self.file.fileno()).st_size

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row.

        Raises:
          UserError: if it cannot be written, as on a full disk.
          ValueError: if it holds a number that is not finite, which JSON does not have.
        """
        if self.file is None:
            return
        line = (json.dumps(row, allow_nan=False) + "\n").encode()
        self.checksum = google_crc32c.extend(self.checksum, line)
        try:
            while line:
                line = line[self.file.write(line) :]
        except OSError as error:
            raise UserError(
                f"Cannot write the records in {self.folder}: {error.strerror or error}. "
                "Once it can be written, the same command resumes from the last checkpoint."
            ) from error
        self._show(row)

    def _show(self, row: dict[str, Any]) -> None:
        if self.board is not None:
            for name, value in row.items():
                if isinstance(value, float):
                    self.board.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def close_trial(self, status: str, **facts: Any) -> None:
        """Marks the trial as over in trial.json, with how it ended."""
        if self.folder is not None:
            write_json(self.folder / "trial.json", {"status": status, **facts})


def tensorboard_writer() -> Any:
    """tensorboardX's SummaryWriter; a UserError names the extra if it is missing."""
    try:
        from tensorboardX import SummaryWriter  # It comes with the extra.
    except ImportError as error:
        raise UserError(
            "config.training.tensorboard needs an extra: "
            "pip install -c constraints.txt -e '.[tensorboard]'"
        ) from error
    return SummaryWriter
