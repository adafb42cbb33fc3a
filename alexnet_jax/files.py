"""Files that are there whole or not at all, and folders that one process writes to."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from alexnet_jax.errors import UserError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write: it appears at `path` whole, on the disk, or not at all."""
    draft = path.with_name(path.name + ".part")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError), _folder(path.parent) as folder:
        os.fsync(folder)  # else the new name may be lost with the power


def write_json(path: Path, value: Any) -> None:
    """`value`, whole or not at all.

    Raises:
      ValueError: if it holds a number that is not finite, which JSON has not.
    """
    with whole_file(path) as file:
        file.write((json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


@contextlib.contextmanager
def only_one(folder: Path, what: str, otherwise: str) -> Iterator[None]:
    """Holds `folder` for this process, until it ends in whatever way.

    Args:
      what: who would hold it, and `otherwise`, what to do besides waiting.

    Raises:
      UserError: if another process has it.
    """
    import fcntl  # not there on Windows

    with _folder(folder) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{what} is at work in {folder}: wait for it, or {otherwise}."
            ) from error
        except OSError:
            pass  # a file system without locks
        yield


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)
