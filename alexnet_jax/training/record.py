"""What a trial leaves while it runs: metrics.jsonl, TensorBoard, a progress bar."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from alexnet_jax.errors import UserError
from alexnet_jax.files import write_json

PLAIN_SECONDS = 10.0


class Record:
    """Writes a trial's rows to metrics.jsonl, one JSON object a line, as they come.

    `go_on_from` says first how many bytes of it hold. With `tensorboard`, scalars go to
    event files beside it too. Without a folder nothing is kept: of several processes one
    writes.
    """

    def __init__(self, folder: Path | None, *, tensorboard: bool) -> None:
        self.folder = folder
        self.file: BinaryIO | None = None
        self.board: Any = None
        if folder is None:
            return
        writer = tensorboard_writer() if tensorboard else None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trial.json").unlink(missing_ok=True)
        for events in folder.glob("events.out.tfevents.*"):
            events.unlink()  # TensorBoard draws all of a folder as one curve
        # Unbuffered: what a full disk did not take is not tried again in closing.
        self.file = (folder / "metrics.jsonl").open("ab+", buffering=0)
        self.board = writer(str(folder)) if writer else None

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()
        if self.board is not None:
            self.board.close()

    def go_on_from(self, size: int) -> None:
        """Cuts off what a trial wrote behind the checkpoint from which it goes on.

        Raises:
          UserError: if there is less than `size` bytes.
        """
        if self.file is None:
            return
        if self.size() < size:
            raise UserError(
                f"{self.file.name} has {self.size()} bytes, but {size} were written "
                f"before the checkpoint. Remove {self.folder} to start that trial again."
            )
        self.file.truncate(size)
        self.file.seek(0)
        for line in self.file.read().splitlines():
            self._draw(json.loads(line))

    def size(self) -> int:
        """Bytes of metrics.jsonl."""
        return 0 if self.file is None else os.fstat(self.file.fileno()).st_size

    def write(self, row: dict[str, Any]) -> None:
        if self.file is None:
            return
        line = (json.dumps(row, allow_nan=False) + "\n").encode()
        try:
            while line:
                line = line[self.file.write(line) :]
        except OSError as error:
            raise UserError(
                f"Cannot write the records in {self.folder}: {error.strerror or error}. "
                "The same command goes on from the last checkpoint once it can."
            ) from error
        self._draw(row)

    def _draw(self, row: dict[str, Any]) -> None:
        if self.board is not None:
            for name, value in row.items():
                if isinstance(value, float):
                    self.board.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def close_trial(self, status: str, **facts: Any) -> None:
        """Marks the trial as over: "finished" or "diverged". Without it, it is not."""
        if self.folder is not None:
            write_json(self.folder / "trial.json", {"status": status, **facts})


def tensorboard_writer() -> Any:
    """tensorboardX's SummaryWriter; a UserError names the extra if it is missing."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError(
            "config.training.tensorboard needs an extra: "
            "pip install -c constraints.txt -e '.[tensorboard]'"
        ) from error
    return SummaryWriter


class Progress:
    """Images trained of all trials of an experiment: a bar, or plain lines.

    Plain lines, one in ten seconds at most, where standard error is no terminal. Nothing
    at all if not `shown`.
    """

    def __init__(self, total_images: int, *, shown: bool = True) -> None:
        self.shown = shown
        self.total = total_images
        self.done = self.skipped = 0
        self.started = self.printed = time.monotonic()
        self.label = ""
        self.bar = None
        if shown and sys.stderr.isatty():
            self.bar = tqdm(
                total=total_images, unit=" images", unit_scale=True, dynamic_ncols=True
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def begin(self, label: str) -> None:
        """Says what is being trained now."""
        self.label = label
        if self.bar is not None:
            self.bar.set_description(label)

    def total_is(self, images: int) -> None:
        """Corrects the total, where a trial ended early."""
        self.total = images
        if self.bar is not None:
            self.bar.total = images
            self.bar.refresh()

    def skip(self, images: int) -> None:
        """Counts images that an earlier start of the trial has done."""
        self.done += images
        self.skipped += images
        if self.bar is not None:
            self.bar.update(images)

    def advance(self, images: int) -> None:
        self.done += images
        if self.bar is not None:
            self.bar.update(images)
            return
        now = time.monotonic()
        if self.shown and images and now - self.printed >= PLAIN_SECONDS:
            self.printed = now
            self._print_line(now - self.started)

    def _print_line(self, seconds: float) -> None:
        rate = (self.done - self.skipped) / seconds
        left = int((self.total - self.done) / rate)
        print(
            f"{self.done / self.total:4.0%}  {self.label}  {rate:,.0f} images/s  "
            f"{left // 60}:{left % 60:02d} left",
            file=sys.stderr,
            flush=True,
        )

    def warn(self, warning: str | None, label: str) -> None:
        """Says a warning, if there is one, and of what."""
        if warning is not None:
            self.say(f"Warning, {label}: {warning}")

    def say(self, message: str) -> None:
        """Prints a line without breaking the bar."""
        if not self.shown:
            return
        if self.bar is not None:
            self.bar.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)
