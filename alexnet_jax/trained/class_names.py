"""Matches the classes of a dataset with those of a network: by name, never by position."""

import dataclasses
import functools
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from alexnet_jax.errors import UserError

WORDNET_ID = re.compile(r"n\d{8}")
SHOWN = 5  # names in a message
IMAGENET_CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class Matched:
    """Which of a network's classes each class of a dataset is.

    Attributes:
      index: of the network's class, for each label of the dataset.
      notes: what a reader of the errors should know of it.
    """

    index: Int64[np.ndarray, " labels"]
    notes: tuple[str, ...] = ()


def match(names: Sequence[str], known: Sequence[str], *, dataset: str) -> Matched:
    """Finds each class of a dataset among those of a network.

    Names are compared as they are; where both are those of ImageNet, by their WordNet ids;
    and otherwise without regard to case, "_" and "-". Folders with the numbers 0 to 999, as
    ImageNetV2 has them, are ImageNet's classes in the order of their WordNet ids.

    Args:
      names: of the dataset's classes, by label.
      known: of the network's classes, in the order of its logits.
      dataset: its name in messages.

    Raises:
      UserError: if a class is not known, or two have the same name.
    """
    notes = []
    of_key = _by_key(known, "the network")
    keys = [_key(name) for name in names]
    ordered = imagenet_order(known)
    if ordered and all(n.isdigit() and int(n) < IMAGENET_CLASSES for n in names):
        keys = [_key(ordered[int(name)]) for name in names]
        notes.append(
            f"The classes of {dataset} are numbers: they were read as ImageNet's, in the "
            "order of their WordNet ids."
        )
    doubled = [key for key, count in Counter(keys).items() if count > 1]
    if doubled:
        raise UserError(f"{dataset} has several classes named {_shown(doubled)}.")
    unknown = [n for n, key in zip(names, keys, strict=True) if key not in of_key]
    if unknown:
        raise UserError(
            f"{len(unknown)} of the {len(names)} classes of {dataset} are unknown to the "
            f"network: {_shown(unknown)}. It knows {_shown(known)}. Classes are matched by "
            "their names: rename the folders of the dataset, or give an archive of arrays "
            "its class_names."
        )
    lacking = len(known) - len(names)
    if lacking:
        notes.append(
            f"{dataset} has {len(names)} of the network's {len(known)} classes; the network "
            "chooses among all of them."
        )
    return Matched(np.array([of_key[key] for key in keys]), tuple(notes))


def find(name: str, known: Sequence[str]) -> str | None:
    """The one of the `known` classes that `name` names, whatever its spelling; or None."""
    key = _key(name)
    return next((each for each in known if _key(each) == key), None)


def of_folder(folder: Path, known: Sequence[str]) -> str | None:
    """The one of the `known` classes that a folder of images is named after; or None.

    A number is a class of ImageNet, as in `match`, if the folder is one of ImageNetV2's: in a
    folder with all of 0 to 999. Elsewhere a folder called "2" need not mean a class.
    """
    if folder.name.isdigit() and (ordered := imagenet_order(known)):
        number = int(folder.name)
        all_there = number < IMAGENET_CLASSES and _holds_numbers(folder.parent)
        return ordered[number] if all_there else None
    return find(folder.name, known)


@functools.lru_cache(maxsize=64)
def _holds_numbers(folder: Path) -> bool:
    return set(map(str, range(IMAGENET_CLASSES))) <= set(os.listdir(folder))


def imagenet_order(known: Sequence[str]) -> list[str]:
    """A network's classes in the order of their WordNet ids; empty if not ImageNet's 1,000."""
    ids = all(WORDNET_ID.match(name) for name in known)
    return sorted(known, key=_key) if ids and len(known) == IMAGENET_CLASSES else []


def _key(name: str) -> str:
    """What is compared of a name."""
    found = WORDNET_ID.match(name)
    return found[0] if found else re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _by_key(known: Sequence[str], whose: str) -> dict[str, int]:
    of_key: dict[str, int] = {}
    for index, name in enumerate(known):
        if of_key.setdefault(_key(name), index) != index:
            raise UserError(f"Two classes of {whose} have the same name: '{name}'.")
    return of_key


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:SHOWN]) + more
