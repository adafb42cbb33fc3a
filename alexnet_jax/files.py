"""Files that are written atomically, and folders that one process writes to."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from alexnet_jax.errors import UserError


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file to write: it appears at `path` complete and on the disk, or not at all.

    Until then it is a draft beside it, `path`.part, which an exception removes. An OSError
    names `path`: that of a full disk names nothing, and others name the draft.
    """
    draft = path.with_name(path.name + ".part")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(draft)):
            error.filename, error.filename2 = str(path), None
        raise
    with contextlib.suppress(OSError), _folder(path.parent) as folder:
        os.fsync(folder)  # Otherwise a power failure can lose the new name.


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON, atomically.

    Raises:
      ValueError: If it holds a number that is not finite, which JSON cannot express.
    """
    with atomic_file(path) as file:
        file.write((json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


@contextlib.contextmanager
def lock_folder(folder: Path, who: str, otherwise: str) -> Iterator[None]:
    """Locks `folder` for this process, until the process ends in whatever way.

    Args:
      folder: An existing folder.
      who: Names the process that would hold the lock, for the message.
      otherwise: What the user can do besides waiting, for the message.

    Raises:
      UserError: If another process holds the lock.
    """
    import fcntl  # Windows does not have it.

    with _folder(folder) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{who} is already running in {folder}: wait for it, or {otherwise}."
            ) from error
        except OSError:
            pass  # The file system has no locks.
        yield


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)
