"""Recognizes by their names the folders of a dataset that hold its splits.

A name is a split's if exactly one of its words is (train, training, val, valid, test,
...), in upper or lower case, and every other word is a usual one (images, set, ...), or
the same as in the name of the other split, as in seg_train and seg_test. Where names
allow more than one reading, the user is asked.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from alexnet_jax.data.image_files import Contents, contents, listed, shown
from alexnet_jax.errors import UserError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLIT_WORDS = {
    TRAIN: ("train", "training", "trn"),
    VALIDATION: (
        *("val", "valid", "validate", "validating", "validation"),
        *("dev", "devel", "development", "eval", "evaluation"),
    ),
    TEST: ("test", "testing", "tst"),
}
ROLES = {word: role for role, words in SPLIT_WORDS.items() for word in words}
USUAL = {
    *("set", "split", "data", "dataset", "folder", "sample", "samples", "examples"),
    *("image", "images", "img", "imgs", "photos", "pictures"),
}
_COMPOUND = re.compile(rf"({'|'.join(ROLES)})(set|data|images|imgs|img)")
AS_CLASSES = (
    "If these folders are classes, move all class folders into a folder train/, in "
    "which every folder is a class."
)
SEARCHED = 300  # The most folders that are listed to find the dataset probably meant.
LEVELS = 4


@dataclasses.dataclass(frozen=True)
class SplitFolders:
    """The folders of the splits, relative to the dataset's folder.

    Attributes:
      train: That of the training images; "" if the class folders are not in splits, or
        there are only held-out images.
      held: That of the images on which errors are measured; "" if there is none.
      held_name: The name of that split; "" if there is none.
      unused: The folders beside them.
    """

    train: str
    held: str
    held_name: str
    unused: tuple[str, ...]


def find(path: Path, *, needs_training: bool = True) -> SplitFolders:
    """Finds the splits in a folder.

    Errors are measured on the validation images, else on the test images.

    Args:
      path: The dataset's folder.
      needs_training: Whether held-out images without training images are refused.

    Raises:
      UserError: If the names allow more than one reading, or training images are needed
        and there are only held-out images.
    """
    folders = contents(path).folders
    by_role = _by_role(folders)
    train = _only(path, by_role[TRAIN])
    held = _only(path, by_role[VALIDATION] or by_role[TEST])
    unused = tuple(name for name in folders if name not in (train, held))
    if held and not train and not needs_training:
        _check_alone(path, held, unused)
        return SplitFolders("", _without_repetition(path, held), held, unused)
    if held and not train:
        raise UserError(
            f"{shown(path)} has the folder {shown(held)}/ to measure errors on, but no "
            f"train/. Add it, or remove that folder. {AS_CLASSES}"
        )
    if not train:
        _check_no_split(path, folders)
        return SplitFolders("", "", "", ())
    inner = _without_repetition(path, train)
    if not held:
        _check_none_held_out(path, inner, unused)
        return SplitFolders(inner, "", "", unused)
    if not by_role[VALIDATION]:
        _check_other_held_out(path, inner, held, unused)
    return SplitFolders(inner, _without_repetition(path, held), held, unused)


def holds_all_classes(name: str) -> bool:
    """Whether a folder's name says that its images are of any class: images, unknown."""
    return _read(name)[1] <= USUAL | {"all", "unknown", "unlabeled", "unsorted"}


def has_splits(names: Iterable[str]) -> bool:
    """Whether folders of these names include training and held-out images."""
    by_role = _by_role(names)
    return bool(by_role[TRAIN] and (by_role[VALIDATION] or by_role[TEST]))


def find_below(path: Path) -> Path | None:
    """Returns the nearest folder below `path` that looks like a dataset, or None."""
    level, searched = [path], 0
    for _ in range(LEVELS):
        following = []
        for folder in level:
            searched += 1
            found = _contents_or_none(folder)
            if found is None or searched > SEARCHED:
                continue
            if folder != path and _is_dataset(folder, found):
                return folder
            following += [folder / name for name in found.folders]
        level = following
    return None


def find_above(path: Path) -> Path | None:
    """Returns the dataset of which `path` seems to be a class folder, or None."""
    parent = path.absolute().parent
    whole = dataset_of(parent)
    if whole is not None:
        return whole
    found = _contents_or_none(parent)
    return parent if found and _is_dataset(parent, found) else None


def dataset_of(path: Path) -> Path | None:
    """Returns the folder above `path` if `path` is one of the splits in it, or None."""
    path = path.absolute()
    role, others = _read(path.name)
    found = _contents_or_none(path.parent) if role and others <= USUAL else None
    return path.parent if found and has_splits(found.folders) else None


def _is_dataset(folder: Path, found: Contents) -> bool:
    """Whether a folder holds splits, or at least two folders with images in them."""
    if _by_role(found.folders)[TRAIN]:
        return True
    with_images = 0
    for name in found.folders[:20]:
        inner = _contents_or_none(folder / name)
        with_images += bool(inner and inner.images)
    return with_images > 1


def _read(name: str) -> tuple[str, frozenset[str]]:
    """The role that a name gives a folder, or "", and the other words of the name."""
    spaced = re.sub("(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", name))
    words: list[str] = []
    for word in re.findall(r"[^\W\d_]+|\d+", spaced.casefold()):
        compound = _COMPOUND.fullmatch(word)
        words += compound.groups() if compound else [word]
    roles = [ROLES[word] for word in words if word in ROLES]
    others = frozenset(word for word in words if word not in ROLES)
    return (roles[0], others) if len(roles) == 1 else ("", others)


def _by_role(names: Iterable[str]) -> dict[str, list[str]]:
    """The folders of each role."""
    found: dict[str, list[str]] = {role: [] for role in SPLIT_WORDS}
    groups: dict[frozenset[str], dict[str, list[str]]] = {}
    for name in names:
        role, others = _read(name)
        if role and others <= USUAL:
            found[role].append(name)
        elif role:
            groups.setdefault(others, {}).setdefault(role, []).append(name)
    if not found[TRAIN]:
        for group in groups.values():
            if len(group) > 1 and TRAIN in group:
                for role, of_role in group.items():
                    found[role] += of_role
    return found


def _only(path: Path, names: Sequence[str]) -> str:
    """The only name, or "" if there is none."""
    if len(names) > 1:
        raise UserError(
            f"{shown(path)} has several folders whose names mean the same split: "
            f"{listed(names)}. Remove or rename all but one, or give a folder of links "
            f"with train/ and val/. {AS_CLASSES}"
        )
    return names[0] if names else ""


def _without_repetition(path: Path, name: str) -> str:
    """The folder itself, or the only folder in it if that has the same name.

    Archives named after the folder they hold are unpacked as test_set/test_set.
    """
    inner = contents(path / name)
    if not inner.images and [f.casefold() for f in inner.folders] == [name.casefold()]:
        return f"{name}/{inner.folders[0]}"
    return name


def _check_no_split(path: Path, folders: Sequence[str]) -> None:
    """Refuses folders that seem to be splits: named so, or alike in what they hold."""
    for name in folders:
        if not _read(name)[0]:
            continue
        inner = _contents_or_none(path / name)
        if inner and not inner.images and len(inner.folders) > 1:
            raise UserError(
                f"{shown(path)} has the folder {shown(name)}/ with the folders "
                f"{listed(inner.folders)} in it. Is it a split or a class? If it is a "
                f"split, name the splits train/ and val/. {AS_CLASSES}"
            )
    of_all = [_contents_or_none(path / name) for name in folders]
    inside = [inner.folders for inner in of_all if inner and not inner.images]
    same = len({tuple(sorted(each)) for each in inside}) == 1 and len(inside[0]) > 1
    alike = len(of_all) > 1 and len(inside) == len(of_all) and same
    if alike and not has_splits(inside[0]):
        raise UserError(
            f"Each of the folders of {shown(path)} ({listed(folders)}) holds the folders "
            f"{listed(inside[0])}. Are they splits of one dataset? Then name them train/ "
            f"and val/. {AS_CLASSES}"
        )


def _check_alone(path: Path, held: str, unused: Iterable[str]) -> None:
    """Refuses folders beside a lone split that may be classes as it, or splits as it."""
    classes, others = set(contents(path / held).folders), []
    for name in unused:
        inner = None if _read(name)[0] else _contents_or_none(path / name)
        if inner and (inner.images or classes.intersection(inner.folders)):
            others.append(name)
    if others:
        raise UserError(
            f"{shown(path)} has the folder {shown(held)}/ to measure errors on, and beside "
            f"it folders with images: {listed(others)}. Is it a split or a class? If it is "
            f"a split, give a folder of links with {shown(held)}/ alone. {AS_CLASSES}"
        )


def _check_none_held_out(path: Path, train: str, unused: Iterable[str]) -> None:
    """Refuses a folder beside train/ that seems to be held out under another name."""
    classes = set(contents(path / train).folders)
    for name in unused:
        inner = _contents_or_none(path / name)
        if inner is None:
            continue
        common = sorted(classes.intersection(inner.folders))
        named = _read(name)[0] in (VALIDATION, TEST) and (inner.images or inner.folders)
        if common or named:
            why = f"the class folders {listed(common)} too" if common else "images"
            raise UserError(
                f"{shown(path)} has {shown(train)}/ and no val/, but {shown(name)}/ has "
                f"{why}. Should errors be measured on it? Then name it val/. Else move "
                "it elsewhere: every tenth training image is then held out."
            )


def _check_other_held_out(
    path: Path, train: str, test: str, unused: Iterable[str]
) -> None:
    """Refuses a folder beside train/ and test/ that has the classes too, as vaild/ may."""
    classes = set(contents(path / train).folders)
    for name in unused:
        inner = _contents_or_none(path / name)
        if inner and classes and classes <= set(inner.folders):
            raise UserError(
                f"{shown(path)} has {shown(train)}/, {shown(test)}/ and {shown(name)}/ "
                f"with the same class folders. Should errors be measured on "
                f"{shown(name)}/? Then name it val/. Else move it elsewhere: they are "
                f"measured on {shown(test)}/."
            )


def _contents_or_none(folder: Path) -> Contents | None:
    """What is in a folder, or None if it cannot be listed."""
    try:
        return contents(folder)
    except UserError:
        return None
