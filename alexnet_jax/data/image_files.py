"""Lists the image files of a folder: links followed, nothing left out silently."""

import collections
import dataclasses
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from alexnet_jax.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")

# Made by Synology (thumbnails, which are no images of the dataset), Windows and ext4.
SYSTEM_FOLDERS = frozenset(
    {
        "@eaDir",
        "#recycle",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
    }
)

# In the folder of a run, of a prepared set and of a report, whose figures are no dataset's.
OUTPUT_FILES = ("experiment.json", "plan.json", "report.html")


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """An image file.

    Attributes:
      path: Its path relative to the dataset's folder, with /.
      size: Its size in bytes; -1 if it has none, as a broken link.
      class_name: The name of its class.
    """

    path: str
    size: int
    class_name: str


@dataclasses.dataclass(frozen=True)
class Contents:
    """What lies directly in a folder.

    Attributes:
      folders: The names of its folders, sorted, without those that operating systems make.
      images: The names of its images, recognized by their suffixes, sorted.
      outputs: The names of folders with runs, prepared sets or reports, which are left out
        of `folders`: a command that was started in the dataset's folder has made them.
    """

    folders: tuple[str, ...]
    images: tuple[str, ...]
    outputs: tuple[str, ...] = ()


def contents(folder: Path) -> Contents:
    """Lists a folder.

    Raises:
      UserError: If the folder cannot be listed.
    """
    folders: list[str] = []
    images: list[str] = []
    outputs: list[str] = []
    for entry in _entries(folder):
        if _is_folder(entry):
            (outputs if _has_outputs(entry.path) else folders).append(entry.name)
        elif _is_image(entry.name):
            images.append(entry.name)
    return Contents(*(tuple(sorted(names)) for names in (folders, images, outputs)))


def class_folders(root: Path, folders: Iterable[str]) -> dict[str, str]:
    """Maps the class names of a folder, sorted, to the names of their folders.

    Raises:
      UserError: If two folders are the same class.
    """
    found: dict[str, str] = {}
    for folder in folders:
        # macOS writes é as e and an accent: the class is the same on every system.
        name = unicodedata.normalize("NFC", folder)
        if name in found:
            raise UserError(
                f"{shown(root)} has two class folders that are both written "
                f"'{shown(name)}', in different Unicode. Merge them."
            )
        found[name] = folder
    return {name: found[name] for name in sorted(found)}


def labeled_files(
    path: Path, prefix: str, classes: Mapping[str, str], num_loose: int
) -> list[ImageFile]:
    """Lists the images of the class folders, sorted by class, then by path.

    Args:
      path: The dataset's folder.
      prefix: The folder in it that holds the class folders; "" is `path` itself.
      classes: Maps class names to folders, as `class_folders` returns it.
      num_loose: The number of images outside the class folders, for the note.

    Raises:
      UserError: If a folder cannot be listed, or leads back into itself.
    """
    others: collections.Counter[str] = collections.Counter()
    if num_loose:
        others["outside the class folders"] = num_loose
    files = []
    for name, folder in classes.items():
        found = _walk(path, f"{prefix}/{folder}" if prefix else folder, others)
        found.sort(key=lambda pair: pair[0].split("/"))
        files += [ImageFile(file, size, name) for file, size in found]
    if others:
        counts = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5))
        note(
            f"{shown(path / prefix)}: files ignored, because they are not images of a "
            f"class: {counts}."
        )
    return files


def flat_files(
    path: Path, folder: str, names: Iterable[str], classes: Mapping[str, str]
) -> list[ImageFile]:
    """Lists images that lie in one folder, sorted by class, then by name.

    Args:
      path: The dataset's folder.
      folder: The images' folder in it.
      names: The names of the images.
      classes: Maps the names to class names.
    """
    return [
        ImageFile(f"{folder}/{name}", _size(path / folder / name), classes[name])
        for name in sorted(names, key=lambda name: (classes[name], name))
    ]


def shown(path: Path | str) -> str:
    """Returns a path as one line of printable text, with \\xff, \\n, ... for the rest."""
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in name
    )


def listed(names: Sequence[str]) -> str:
    """Returns the first five names, in one line."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(shown, names[:5])) + more


def note(text: str) -> None:
    """Prints a note to the user."""
    print(f"Note: {text}", file=sys.stderr, flush=True)


def _walk(
    path: Path, top: str, others: collections.Counter[str]
) -> list[tuple[str, int]]:
    """(path, size) of all images below path/top; counts other files in `others`."""
    found = []
    stack: list[tuple[str, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    while stack:
        folder, above = stack.pop()
        entries = _entries(path / folder)
        status = os.stat(path / folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise UserError(
                f"{shown(path / folder)} leads back into a folder that contains it. "
                "Remove that link."
            )
        for entry in entries:
            name = f"{folder}/{entry.name}"
            if _is_folder(entry):
                stack.append((name, above | {here}))
            elif _is_image(entry.name):
                found.append((name, _size(entry)))
            else:
                suffix = Path(entry.name).suffix.lower()
                others[shown(suffix) or "without suffix"] += 1
    return found


def _entries(folder: Path) -> list[os.DirEntry]:
    """The entries of a folder that are neither hidden nor a system's own."""
    try:
        with os.scandir(folder) as entries:
            return [
                entry
                for entry in entries
                if not entry.name.startswith((".", "__MACOSX"))
                and entry.name not in SYSTEM_FOLDERS
            ]
    except OSError as error:
        raise UserError(
            f"The folder {shown(folder)} cannot be listed: {error.strerror}. Its "
            "images would be missing unnoticed: fix or remove it."
        ) from error


def _has_outputs(folder: str) -> bool:
    """Whether a folder is a run, a prepared set or a report, or holds nothing else, as runs/."""
    if _is_output(folder):
        return True
    found = False
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_folder(entry) and _is_output(entry.path):
                    found = True
                elif _is_folder(entry) or _is_image(entry.name):
                    return False
    except OSError:  # Whoever needs what is in it says so.
        return False
    return found


def _is_output(folder: str) -> bool:
    return any(os.path.isfile(os.path.join(folder, name)) for name in OUTPUT_FILES)


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # as for a link to itself
        return False


def _size(entry: os.DirEntry | Path) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return -1
