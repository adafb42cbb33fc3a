"""Finds images that are in training and validation: equal byte for byte.

Reading everything would cost as much as an epoch, so three keys are compared in turn,
and only images whose key occurs in both splits go on to the next: the size in bytes, the
last 4 KiB, the whole file. Of ImageNet's 1.28 million training images about a quarter have
the size of some validation image; of these 4 KiB are read, and only of equal ones all.
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from alexnet_jax.data.types import Source, Split
from alexnet_jax.errors import UserError

# The most images that are read whole where their sizes are not known.
READ_AT_MOST = 200_000
THREADS = 16  # A network's file system answers late, but many requests at a time.
CHUNK = 4096
T = TypeVar("T")
Key = Callable[[Split, int], Hashable]


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """The held-out images that are training images too.

    Attributes:
      splits: The names of the training and the held-out split.
      count: The number of held-out images equal to a training image, byte for byte; None
        if they were not compared.
      other_class: How many of them have another class in training.
      total: The number of held-out images.
      first: Where the first one is in both splits, training first; None without any.
      seconds: How long the comparison took.
    """

    splits: tuple[str, str]
    count: int | None
    other_class: int
    total: int
    first: tuple[str, str] | None
    seconds: float

    def sentence(self) -> str:
        """Says how many there are, for people."""
        train, held = self.splits
        if self.count is None:
            return (
                f"Not compared: whether images of {held} are also in {train}. There are "
                "too many to read, and their sizes are not known."
            )
        took = f"compared in {self.seconds:.1f} s"
        if self.first is None:
            return f"No image of {held} is also in {train}, byte for byte ({took})."
        other = (
            f", {self.other_class:,} under another class" if self.other_class else ""
        )
        of_train, of_held = self.first
        return (
            f"{self.count:,} of {self.total:,} images of {held} are also in {train}, byte "
            f"for byte{other} ({took}): the error there is not that of new images. First: "
            f"{of_held} is {of_train}."
        )


def find(source: Source) -> Duplicates:
    """Compares a source's splits. Images that cannot be read equal none.

    Memory: about 200 bytes per image that is read, never the images themselves.
    """
    started = time.perf_counter()
    train, held = source.train, source.validation
    of_train, of_held = range(train.num_examples), range(held.num_examples)
    narrowing: tuple[Key, ...] = (_size, _end)
    if None in (train.size, held.size, train.read_end, held.read_end):
        narrowing = ()
    count, other_class, first = None, 0, None
    if narrowing or len(train) + len(held) <= READ_AT_MOST:
        left = _Candidates(of_train, of_held)
        for key in narrowing:
            left = _agreeing(train, held, left, key)
        pairs = _equal(train, held, left)
        count = len(pairs)
        other_class = sum(pair.other_class for pair in pairs)
        if pairs:
            first = train.where(pairs[0].train), held.where(pairs[0].held)
    return Duplicates(
        (train.name, held.name),
        count,
        other_class,
        held.num_examples,
        first,
        time.perf_counter() - started,
    )


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """The indices of the images that may be equal to one of the other split."""

    train: Sequence[int]
    held: Sequence[int]


@dataclasses.dataclass(frozen=True)
class _Pair:
    """A held-out image, and the first training image that is equal to it."""

    train: int
    held: int
    other_class: bool


def _agreeing(train: Split, held: Split, left: _Candidates, key: Key) -> _Candidates:
    """The candidates whose key occurs in both splits."""
    of_held = list(_keys(held, left.held, key))
    wanted = {value for _, value in of_held}
    of_train = [(i, v) for i, v in _keys(train, left.train, key) if v in wanted]
    common = {value for _, value in of_train}
    return _Candidates(
        [i for i, _ in of_train], [i for i, value in of_held if value in common]
    )


def _equal(train: Split, held: Split, left: _Candidates) -> list[_Pair]:
    """The held-out images equal to a training image, in their order."""
    of_held = list(_keys(held, left.held, _whole))
    wanted = {digest for _, (digest, _) in of_held}
    place: dict[bytes, int] = {}
    labels: dict[bytes, set[int]] = {}
    for i, (digest, label) in _keys(train, left.train, _whole):
        if digest in wanted:
            place.setdefault(digest, i)
            labels.setdefault(digest, set()).add(label)
    return [
        _Pair(place[digest], i, labels[digest] != {label})
        for i, (digest, label) in of_held
        if digest in place
    ]


def _keys(
    split: Split, indices: Sequence[int], key: Callable[[Split, int], T]
) -> Iterator[tuple[int, T]]:
    """(index, key) of the images that can be read, in their order."""

    def of_image(i: int) -> T | None:
        try:
            return key(split, i)
        except UserError:
            return None

    with ThreadPoolExecutor(THREADS) as threads:
        for start in range(0, len(indices), CHUNK):
            chunk = indices[start : start + CHUNK]
            # Sizes are known: handing them to threads would take longer.
            values = (
                map(of_image, chunk) if key is _size else threads.map(of_image, chunk)
            )
            for i, value in zip(chunk, values, strict=True):
                if value is not None:
                    yield i, value


def _size(split: Split, i: int) -> int:
    assert split.size is not None
    return split.size(i)


def _end(split: Split, i: int) -> bytes:
    assert split.read_end is not None
    return hashlib.sha256(split.read_end(i)).digest()


def _whole(split: Split, i: int) -> tuple[bytes, int]:
    data, label = split.read(i)
    return hashlib.sha256(data).digest(), label
