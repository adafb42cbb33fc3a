"""The files that keep what a trial records: metrics.jsonl, trial.json and TensorBoard's."""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c

from alexnet_jax.errors import UserError
from alexnet_jax.files import write_json


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
          size: the bytes of metrics.jsonl that the checkpoint counts.
          checksum: CRC-32C of these bytes; None if the checkpoint does not have it.

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
