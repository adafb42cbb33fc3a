"""Reads the tensors of a PyTorch checkpoint without running any code that it holds.

A .pth file is a ZIP archive: a pickle, which names storages and describes tensors over them,
and a file of bytes for each storage. Before PyTorch 1.6 it was several pickles in a row, the
fourth of which does so, and then the storages. A pickle is a program that may call whatever it
names. Here it can name nothing but a few objects of this module that stand for PyTorch's own, and
use none but the instructions with which PyTorch describes weights: anything else is refused
before any of it runs. No array takes memory that the file does not have bytes for.
"""

import collections
import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from alexnet_jax.errors import UserError, printable

# The element types of PyTorch's storages that a network's weights may have.
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
# The pickle of a number, with which a file of PyTorch before 1.6 begins.
OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
MOST_BYTES = 4 * 2**30  # of a file: AlexNet has a quarter of a gigabyte
MOST_PICKLE_BYTES = (
    2**17
)  # AlexNet's has two thousand; each may cost a thousand in memory
MOST_ENTRIES = 10_000  # files in the archive
MOST_TUPLES = 10_000  # one within the other, Python hashes them on the stack
MOST_AXES = 8

# What PyTorch writes. Without memory addresses that it does not use, extensions, and
# objects of classes.
_INSTRUCTIONS = (
    "PROTO FRAME STOP MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE "
    "SHORT_BINUNICODE BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL "
    "REDUCE BUILD BINPERSID SETITEM SETITEMS APPEND APPENDS"
)
INSTRUCTIONS = frozenset(_INSTRUCTIONS.split())


class RefusedPickle(pickle.UnpicklingError):
    """A pickle does what it may not."""


def read_pth(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, in the order of the file.

    Also of a checkpoint that holds one under "state_dict" or "model".

    Raises:
      UserError: if the file cannot be read, is no such archive, would run code, or is larger
        than any AlexNet.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise UserError(f"{path} is larger than any AlexNet: {MOST_BYTES:,} bytes.")
        with path.open("rb") as file:
            if file.read(len(OLD_MAGIC)) == OLD_MAGIC:
                return _tensors(_old_unpickled(file, size), path)
        with zipfile.ZipFile(path) as archive:
            return _tensors(_unpickled(archive, size), path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}.") from error
    except zipfile.BadZipFile as error:
        raise UserError(
            f"{path} is damaged, or is no checkpoint of PyTorch. Load it with the program that "
            "wrote it, and save its state dict with PyTorch, best as .safetensors."
        ) from error
    except RefusedPickle as error:
        raise UserError(f"{path} is refused: {error}.") from error
    except UserError:
        raise
    except Exception as error:  # whatever a malformed pickle causes
        reason = printable(str(error).strip() or repr(error), 200)
        raise UserError(
            f"{path} is damaged, or holds no state dict: {reason.rstrip('.')}."
        ) from error


def _unpickled(archive: zipfile.ZipFile, size: int) -> Any:
    """What the archive's pickle describes; the archive has `size` bytes."""
    entries = archive.infolist()
    names = [e.filename for e in entries if e.filename.rpartition("/")[2] == "data.pkl"]
    if len(names) != 1 or len(entries) > MOST_ENTRIES:
        raise ValueError("it is not an archive of PyTorch, which has one data.pkl")
    if archive.getinfo(names[0]).file_size > MOST_PICKLE_BYTES:
        raise RefusedPickle("its pickle is larger than that of any AlexNet")
    content = _stored(archive, names[0])
    _check_instructions(content)
    folder = names[0].rpartition("/")[0]

    def storage(key: str, count: int, itemsize: int) -> bytes:
        name = f"{folder}/data/{key}"
        if archive.getinfo(name).file_size != count * itemsize:
            raise ValueError(f"storage {key} has not the size that it should have")
        return _stored(archive, name)

    return _TensorUnpickler(content, storage, size).load()


def _old_unpickled(file: BinaryIO, size: int) -> Any:
    """What a file of PyTorch before 1.6 describes; it is behind its magic number.

    The format's version and facts of the machine; then the description, and the keys of its
    storages in their order; then each storage, behind the number of its elements.
    """
    wanted: dict[str, int] = {}

    def noted(key: str, count: int, itemsize: int) -> bytes:
        wanted[key] = count * itemsize
        return b""

    _, facts, content, keys = (_next_pickle(file) for _ in range(4))
    if not _TensorUnpickler(facts, noted, size).load()["little_endian"]:
        raise ValueError("a big-endian machine wrote it")

    # Where a storage begins depends on the sizes of those before it, which only the
    # description has: it is run twice, the first time over no storages.
    _StorageSizes(content, noted, size).load()
    places: dict[str, int] = {}
    place = file.tell()
    for key in _TensorUnpickler(keys, noted, size).load():
        if key not in wanted:
            raise ValueError("it has a storage that no tensor uses")
        places[key] = place + 8
        place += 8 + wanted[key]

    def storage(key: str, count: int, itemsize: int) -> bytes:
        file.seek(places[key] - 8)
        held = int.from_bytes(file.read(8), "little")
        if held != count or places[key] + count * itemsize > size:
            raise ValueError(f"storage {key} has not the size that it should have")
        return file.read(count * itemsize)

    return _TensorUnpickler(content, storage, size).load()


def _next_pickle(file: BinaryIO) -> bytes:
    """The pickle that begins here, none of whose instructions is refused."""
    begin = file.tell()
    content = file.read(MOST_PICKLE_BYTES)
    for instruction, _, at in pickletools.genops(content):
        if instruction.name == "STOP" and at is not None:
            content = content[: at + 1]
    _check_instructions(content)
    file.seek(begin + len(content))
    return content


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """A file of the archive. PyTorch compresses none: what it claims is what there is."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise RefusedPickle("its files are compressed, which PyTorch's are not")
    return archive.read(entry)


def _check_instructions(content: bytes) -> None:
    """Refuses a pickle with others than `INSTRUCTIONS`, before it is run."""
    tuples = 0
    for instruction, argument, _ in pickletools.genops(content):
        tuples += "TUPLE" in instruction.name
        if tuples > MOST_TUPLES:
            raise RefusedPickle("its pickle has more tuples than that of any AlexNet")
        if instruction.name not in INSTRUCTIONS:
            raise RefusedPickle(
                f"its pickle uses {instruction.name}, and weights need no such thing"
            )
        # Python makes room for as many objects as the number of one says.
        if instruction.name == "LONG_BINPUT" and int(argument or 0) > len(content):
            raise RefusedPickle("its pickle numbers more objects than it has")


class _StandIn:
    """What a pickle may name: nothing of it can be changed by the pickle."""

    __slots__ = ("_name", "_reader")
    _name: str
    _reader: "_TensorUnpickler"

    def __init__(self, name: str, reader: "_TensorUnpickler") -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_reader", reader)

    def __setattr__(self, name: str, value: Any) -> None:
        raise RefusedPickle("its pickle changes a function")

    def __call__(self, *arguments: Any) -> Any:
        if self._name in STORAGES:
            raise RefusedPickle("its pickle calls a type")
        if self._name == "OrderedDict":
            if arguments:
                raise RefusedPickle("its pickle copies a dictionary")
            return collections.OrderedDict()
        if self._name == "_rebuild_parameter":
            return arguments[0]
        return self._reader.tensor(*arguments[:4])


KNOWN = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    *(("torch", name) for name in STORAGES),
}


class _TensorUnpickler(pickle.Unpickler):
    """An unpickler that knows tensors, storages and dictionaries, and nothing else.

    Storages may take as many bytes as the file has, and tensors twice as many.
    """

    def __init__(
        self, content: bytes, storage: Callable[[str, int, int], bytes], size: int
    ) -> None:
        super().__init__(io.BytesIO(content))
        self.storage = storage  # from its key, its elements and their bytes
        self.storages: dict[str, np.ndarray] = {}
        self.size, self.read_bytes, self.made_bytes = size, 0, 0

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name not in STORAGES and name.endswith("Storage"):
            raise RefusedPickle(
                f"it holds a {printable(name)}, which is not read: save its weights as float32"
            )
        if (module, name) not in KNOWN:
            raise RefusedPickle(
                f"it would call {printable(f'{module}.{name}')}, and weights need no such "
                "thing"
            )
        return _StandIn(name, self)

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, stand_in, key, _, count, *view = pid
        if any(view):
            raise ValueError("a storage is a view of another one")
        name = getattr(stand_in, "_name", "")
        if kind != "storage" or name not in STORAGES or not isinstance(key, str):
            raise RefusedPickle("it refers to something that is no storage of numbers")
        if key in self.storages:
            return self.storages[key]
        dtype = np.dtype(STORAGES[name])
        self.read_bytes += count * dtype.itemsize
        if type(count) is not int or count < 0 or self.read_bytes > self.size:
            raise ValueError(f"storage {key} has not the size that it should have")
        content = self.storage(key, count, dtype.itemsize)
        self.storages[key] = np.frombuffer(content, dtype)
        return self.storages[key]

    def tensor(
        self,
        storage: np.ndarray,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
    ) -> np.ndarray:
        """A tensor over a storage; a copy, so that nothing outside the storage is read."""
        numbers = (offset, *size, *stride)
        if (
            not isinstance(storage, np.ndarray)
            or not all(type(n) is int and n >= 0 for n in numbers)
            or not len(size) == len(stride) <= MOST_AXES
        ):
            raise ValueError("a tensor has no sizes, strides or offset as it should")
        count = math.prod(size)
        self.made_bytes += count * storage.itemsize
        if self.made_bytes > 2 * self.size:
            raise ValueError("its tensors are larger than the file")
        if count == 0:
            return np.zeros(0, storage.dtype)
        reach = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if offset + reach >= len(storage):
            raise ValueError("a tensor reaches beyond its storage")
        steps = [step * storage.itemsize for step in stride]
        view = np.lib.stride_tricks.as_strided(
            storage[offset:], size, steps, writeable=False
        )
        return view.copy()


class _StorageSizes(_TensorUnpickler):
    """Asks for each storage once and makes no tensors."""

    def tensor(self, *_: Any) -> np.ndarray:
        return np.zeros(0)


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
