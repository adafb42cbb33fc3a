"""Reads the tensors of a PyTorch checkpoint without running any code that it holds.

A .pth file is a ZIP archive: a pickle, which names storages and describes tensors over them,
and a file of bytes for each storage. A pickle is a program that may call whatever it names.
Here it can name nothing but the few functions of this module that stand for PyTorch's own:
anything else is refused, before it is called.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.errors import UserError

# The element types of PyTorch's storages that a network's weights may have.
STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}
MOST_BYTES = 4 * 2**30  # of all tensors: AlexNet has a quarter of a gigabyte
MOST_PICKLE_BYTES = 2**24


class Refused(pickle.UnpicklingError):
    """A pickle names what it may not."""


def read_pth(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, in the order of the file.

    Also of a checkpoint that holds one under "state_dict" or "model".

    Raises:
      UserError: if the file cannot be read, is no such archive, would run code, or is larger
        than any AlexNet.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _tensors(_unpickled(archive), path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}.") from error
    except zipfile.BadZipFile as error:
        raise UserError(
            f"{path} is not a checkpoint of PyTorch 1.6 or later, which is a ZIP archive. "
            "Load it with PyTorch and save its state dict again, best as .safetensors."
        ) from error
    except Refused as error:
        raise UserError(f"{path} is refused: {error}.") from error
    except UserError:
        raise
    except Exception as error:  # whatever a malformed pickle causes
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(f"{path} is damaged, or no state dict: {reason}.") from error


def _unpickled(archive: zipfile.ZipFile) -> Any:
    """What the archive's pickle describes."""
    (name,) = (n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl")
    if archive.getinfo(name).file_size > MOST_PICKLE_BYTES:
        raise Refused("its pickle is larger than that of any state dict")
    folder = name.rpartition("/")[0]
    reader = _Reader(io.BytesIO(archive.read(name)), archive, f"{folder}/data")
    return reader.load()


class _Reader(pickle.Unpickler):
    """An unpickler that knows tensors, storages and dictionaries, and nothing else."""

    def __init__(self, file: io.BytesIO, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self.archive, self.folder = archive, folder
        self.storages: dict[str, np.ndarray] = {}
        self.read_bytes = 0

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        }
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) not in known:
            raise Refused(
                f"it would call {module}.{name}, and weights need no such thing"
            )
        return known[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise Refused("it refers to something that is no storage of numbers")
        if key not in self.storages:
            entry = self.archive.getinfo(f"{self.folder}/{key}")
            self.read_bytes += entry.file_size
            if self.read_bytes > MOST_BYTES:
                raise Refused(f"its tensors have more than {MOST_BYTES:,} bytes")
            if entry.file_size != count * dtype.itemsize:
                raise ValueError(f"storage {key} has not the size that it should have")
            self.storages[key] = np.frombuffer(self.archive.read(entry), dtype)
        return self.storages[key]


def _tensor(
    storage: np.ndarray,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    *_: Any,
) -> np.ndarray:
    """A tensor over a storage; a copy, so that nothing outside the storage is read."""
    if offset < 0 or any(n < 0 for n in (*size, *stride)) or len(size) != len(stride):
        raise ValueError("a tensor has a negative size, stride or offset")
    if math.prod(size) == 0:
        return np.zeros(size, storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(storage) or math.prod(size) > len(storage):
        raise ValueError("a tensor reaches beyond its storage")
    steps = [step * storage.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(
        storage[offset:], size, steps, writeable=False
    )
    return view.copy()


def _tensors(held: Any, path: Path) -> dict[str, np.ndarray]:
    """The state dict in what a checkpoint holds."""
    for key in ("state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping):
        raise UserError(f"{path} holds no state dict, but a {type(held).__name__}.")
    found = {str(name): x for name, x in held.items() if isinstance(x, np.ndarray)}
    if not found:
        raise UserError(f"{path} holds no tensors.")
    return found


Reader = Callable[[Path], dict[str, np.ndarray]]
