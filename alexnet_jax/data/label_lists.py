"""Reads the lists that give the classes of images that lie in one folder.

These are read: `LOC_val_solution.csv` of Kaggle's ImageNet, `val_annotations.txt` of Tiny
ImageNet, and of ImageNet's development kit `ILSVRC2012_validation_ground_truth.txt` with
`meta.mat` (also of other years, and of the test images of 2010). They are searched in the
images' folder, in those above it up to the dataset's, and in three more; a development
kit also in their folders `data` and `*devkit*/data`. The first list that names one of the
images must name all of them.
"""

import csv
import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from alexnet_jax.data.image_files import listed, note, shown
from alexnet_jax.errors import UserError

ABOVE = 3  # Kaggle's archive has its lists three folders above its images.
KAGGLE, TINY = "LOC_val_solution.csv", "val_annotations.txt"
META = "meta.mat"
WORDS = ("LOC_synset_mapping.txt", "synset_words.txt", "words.txt")
WORDNET_ID = re.compile(r"n\d{8}")
_IMAGENET_IMAGE = re.compile(r"ILSVRC(\d{4})_(val|test)_\d{8}")
_TINY_IMAGE = re.compile(r"val_\d+")


@dataclasses.dataclass(frozen=True)
class LabelList:
    """The classes of images, by the images' names without suffix.

    Attributes:
      path: The list's file.
      classes: Maps the names to class names.
    """

    path: Path
    classes: dict[str, str]


def classes_of(root: Path, folder: str, images: Sequence[str]) -> dict[str, str]:
    """Returns the class of each image of a folder without class folders.

    Args:
      root: The dataset's folder.
      folder: The images' folder in it.
      images: The names of the images; at least one.

    Raises:
      UserError: If there is no list of their classes, or it is malformed or incomplete.
    """
    others = []
    for found in _lists(_places(root, folder), images):
        unlisted = [name for name in images if _stem(name) not in found.classes]
        if len(unlisted) == len(images):
            others.append(found.path)
            continue
        if unlisted:
            raise UserError(
                f"{shown(found.path)} lacks {len(unlisted):,} of {len(images):,} images "
                f"of {shown(root / folder)}: {listed(unlisted)}. Is it the list of "
                "another dataset? Provide the right one, or remove these images."
            )
        extra = len(found.classes) - len(images)
        if extra > 0:
            note(
                f"{shown(root / folder)} lacks {extra:,} of the {len(found.classes):,} "
                f"images in {shown(found.path)}."
            )
        return {name: found.classes[_stem(name)] for name in images}
    raise UserError(_no_list(root, folder, images, others))


def class_titles(root: Path, folder: str, classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the classes' names for people: WordNet ids are followed by their words.

    The words are those of the first of `WORDS` that lies in the class folders' folder or
    above it, as far as lists of classes are searched.

    Args:
      root: The dataset's folder.
      folder: The folder in it that holds the class folders; "" is `root` itself.
      classes: The names of the class folders.
    """
    if all(WORDNET_ID.fullmatch(name) for name in classes):
        for place in _places(root, folder):
            for name in WORDS:
                words = _words(place / name, set(classes))
                if words:
                    return tuple(
                        f"{c} {words[c]}" if c in words else c for c in classes
                    )
    return tuple(shown(name) for name in classes)


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _places(root: Path, folder: str) -> list[Path]:
    """The folder, and those above it in which lists are searched."""
    lowest = root.absolute() / folder
    above = len(PurePosixPath(folder).parts) + ABOVE
    return [lowest, *list(lowest.parents)[:above]]


def _lists(places: Iterable[Path], images: Sequence[str]) -> Iterator[LabelList]:
    """The lists in these folders, the nearest first."""
    named = next(filter(None, map(_IMAGENET_IMAGE.fullmatch, map(_stem, images))), None)
    for place in places:
        for name, read in ((KAGGLE, _read_kaggle), (TINY, _read_tiny)):
            if (place / name).is_file():
                yield LabelList(place / name, _by_image(place / name, read))
        if named:
            year, split = named.groups()
            for data in (place, place / "data", *sorted(place.glob("*devkit*/data"))):
                path = data / _ground_truth(year, split)
                if path.is_file():
                    yield LabelList(path, _read_ground_truth(path, year, split))


def _ground_truth(year: str, split: str) -> str:
    """The name of the development kit's list."""
    kind = "validation" if split == "val" else split
    return f"ILSVRC{year}_{kind}_ground_truth.txt"


def _no_list(
    root: Path, folder: str, images: Sequence[str], others: Iterable[Path]
) -> str:
    """The message about images without any list of their classes, and other lists."""
    held = PurePosixPath(folder).parts[0]
    ways = []
    imagenet = _IMAGENET_IMAGE.fullmatch(_stem(images[0]))
    if imagenet:
        year, split = imagenet.groups()
        kaggle = f"Kaggle's {KAGGLE}, or " if split == "val" else ""
        ways.append(
            f"put the list that sorts them into {shown(root)}: {kaggle}"
            f"{_ground_truth(year, split)} and {META} of ImageNet's development kit"
        )
    elif _TINY_IMAGE.fullmatch(_stem(images[0])):
        ways.append(
            f"put the list that sorts them, Tiny ImageNet's {TINY}, into "
            f"{shown(root / held)}"
        )
    ways += [
        f"sort them into {shown(held)}/CLASS/ yourself",
        f"move {shown(held)}/ elsewhere if they have no labels",
    ]
    way_out = "; or ".join(ways)
    passed_over = "".join(f" {shown(path)} names none of them." for path in others)
    return (
        f"{shown(root / folder)} has {len(images):,} images and no class folders, so "
        f"their classes are unknown.{passed_over} {way_out[0].upper()}{way_out[1:]}."
    )


# --- The forms of lists -----------------------------------------------------------


def _by_image(
    path: Path, read: Callable[[Sequence[str]], Iterator[tuple[int, str, str]]]
) -> dict[str, str]:
    """The classes of a list by image, from (line, image, class) of each row."""
    found: dict[str, str] = {}
    try:
        for line, image, class_name in read(_lines(path)):
            if not image or not class_name:
                raise UserError(
                    f"{shown(path)}, line {line}: no image name and class. Download it "
                    "again."
                )
            class_name = unicodedata.normalize("NFC", class_name)
            known = found.setdefault(_stem(image), class_name)
            if known != class_name:
                raise UserError(
                    f"{shown(path)}, line {line}: {shown(image)} has the class "
                    f"{shown(class_name)}, and {shown(known)} in an earlier line. Remove "
                    "the wrong one."
                )
    except csv.Error as error:
        raise UserError(f"{shown(path)} is not a CSV file: {error}.") from error
    return found


def _read_kaggle(lines: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Rows "image,class left top right bottom class ..." below a header."""
    rows = csv.reader(lines)
    for row in rows:
        if row and row[0] != "ImageId":
            boxes = row[1].split() if len(row) > 1 else []
            yield rows.line_num, row[0], boxes[0] if boxes else ""


def _read_tiny(lines: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Rows "image<tab>class<tab>left<tab>top<tab>right<tab>bottom"."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            image, class_name, *_ = [*line.split("\t"), ""]
            yield number, image.strip(), class_name.strip()


def _read_ground_truth(path: Path, year: str, split: str) -> dict[str, str]:
    """The classes of a development kit: line n is the number of image n's class."""
    by_number = _synsets(path.parent / META, f"ILSVRC{year}_ID", path)
    found = {}
    for number, line in enumerate(_lines(path), 1):
        class_name = by_number.get(line.strip())
        if class_name is None:
            raise UserError(
                f"{shown(path)}, line {number}: '{shown(line.strip())}' is not the "
                f"number of a class in {META}."
            )
        found[f"ILSVRC{year}_{split}_{number:08d}"] = class_name
    return found


def _synsets(path: Path, field: str, needed_by: Path) -> dict[str, str]:
    """Maps the class numbers of meta.mat, as text, to WordNet ids."""
    if not path.is_file():
        raise UserError(
            f"{shown(needed_by)} gives the classes as numbers: put the {META} of the "
            "same development kit beside it."
        )
    # SciPy's reader is needed for this file alone.
    from scipy.io import loadmat

    try:
        synsets: Any = loadmat(path, squeeze_me=True)["synsets"]
        pairs = zip(synsets[field].tolist(), synsets["WNID"].tolist(), strict=True)
        return {str(int(number)): str(name) for number, name in pairs}
    except Exception as error:  # SciPy raises many kinds about a damaged file.
        raise UserError(
            f"{shown(path)} cannot be read as the {META} of a development kit "
            f"({type(error).__name__}: {error}). Unpack the development kit again."
        ) from error


def _words(path: Path, wanted: set[str]) -> dict[str, str]:
    """The words of the wanted WordNet ids, from rows "id words" or "id<tab>words".

    Empty if there is no such file, or another one of that name: labels need no words.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        name, *words = line.split(maxsplit=1) or [""]
        if name in wanted and words:
            found[name] = shown(words[0].strip())
    return found


def _lines(path: Path) -> list[str]:
    """The lines of a text.

    Raises:
      UserError: If it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(
            f"{shown(path)} is not UTF-8 text. Download it again."
        ) from error
