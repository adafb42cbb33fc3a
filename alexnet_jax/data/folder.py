"""Opens a folder of images: train/CLASS/**/*.jpg and val/CLASS/**/*.jpg.

Everything a folder holds is either used or named in a message. Images that cannot be
read stay in the list, so that reading them names them; a layout that is ambiguous as a
whole is refused. Links to files and folders are followed, wherever they lead: a folder
of links is the usual way to train on a part of a large dataset.
"""

import collections
import dataclasses
import os
import stat
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from alexnet_jax.data.types import HOLD_OUT_EVERY, Source, Split, hash_of, hold_out
from alexnet_jax.errors import UserError, nearest

# The names of the folder of images on which errors are measured.
HELD_OUT = ("val", "validation", "test")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


@dataclasses.dataclass(frozen=True)
class _ImageFile:
    """An image file.

    Attributes:
      path: Its path relative to the dataset's folder, with /.
      size: Its size in bytes; -1 if it has none, as a broken link.
      class_name: The name of its class.
    """

    path: str
    size: int
    class_name: str


def open_folder(path: Path) -> Source:
    """Opens train/CLASS/**/*.jpg and val/CLASS/**/*.jpg, or CLASS/**/*.jpg.

    The classes are the names of the folders, sorted. Without a folder for validation
    (val, validation or test) every tenth image is held out, counted through the classes
    in their order.

    Raises:
      UserError: If the folder does not exist, a folder in it cannot be listed or leads
        back into itself, or a class or a whole split has no images.
    """
    if not path.is_dir():
        raise UserError(
            f"No such folder: {path}. It should hold train/CLASS/*.jpg and "
            "val/CLASS/*.jpg, or CLASS/*.jpg."
        )
    names = [name for name in HELD_OUT if (path / name).is_dir()]
    prefix = "train" if (path / "train").is_dir() else ""
    root = path / prefix
    if not prefix and names:
        raise UserError(
            f"{shown(path)} has the folder {names[0]}/ to measure errors on, but no "
            "train/. Add it, or remove that folder."
        )
    classes, files = _labeled_files(path, prefix)
    if not files:
        raise UserError(
            f"No images in {shown(root)}: it should hold a folder for each class, with "
            f"{', '.join(IMAGE_SUFFIXES)} files in it."
        )
    if names:
        held = names[0]
        held_classes, held_files = _labeled_files(path, held)
        _check_held_classes(path / held, held_classes, root, classes)
    else:
        held = "test"
        train, rest = hold_out(len(files), every=HOLD_OUT_EVERY)
        files, held_files = [files[i] for i in train], [files[i] for i in rest]
    if not held_files:
        raise UserError(
            f"No images to measure errors on in {shown(path)}: provide val/CLASS/*.jpg, "
            "or at least ten images in all."
        )
    _check_trained(root, classes, files, held_files, held_out=not names)
    if names:
        _note_absent(path / held, classes, held_files)
    if prefix:
        _note_unused(path, {prefix, held} if names else {prefix})
    parts = [
        os.fsencode(file.path) + b"\0" + str(file.size).encode()
        for file in files + held_files
    ]
    return Source(
        f"folder={shown(path.absolute().name)}",
        tuple(shown(name) for name in classes),
        _split("train", path, files, classes),
        _split(held, path, held_files, classes),
        hash_of(parts),
    )


def shown(path: Path | str) -> str:
    """Returns a path as one line of printable text, with \\xff, \\n, ... for the rest."""
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in name
    )


def _split(
    name: str, root: Path, files: list[_ImageFile], classes: Sequence[str]
) -> Split:
    labels = {class_name: label for label, class_name in enumerate(classes)}

    def read(i: int) -> tuple[bytes, int]:
        return _read(root, files[i].path), labels[files[i].class_name]

    return Split(name, len(files), read, lambda i: shown(files[i].path))


def _read(root: Path, name: str) -> bytes:
    """Returns the bytes of an image file.

    Raises:
      UserError: If it cannot be read, or is empty.
    """
    path = root / name
    way_out = "Fix it or remove it from the folder."
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError(f"{shown(path)} is not a file, but a device. {way_out}")
            data = file.read()
    except OSError as error:
        reason = error.strerror
        if path.is_symlink() and not path.exists():
            reason = f"it is a broken link to {shown(os.readlink(path))}"
        raise UserError(f"{shown(path)} cannot be read: {reason}. {way_out}") from error
    if not data:
        raise UserError(f"{shown(path)} is empty: 0 bytes. {way_out}")
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens a file without blocking: a pipe named .jpg must not stop the run."""
    return os.open(path, flags | os.O_NONBLOCK)


def _labeled_files(path: Path, prefix: str) -> tuple[list[str], list[_ImageFile]]:
    """The classes of path/prefix and their images, sorted by class, then by path."""
    root = path / prefix
    folders: dict[str, str] = {}
    others: collections.Counter[str] = collections.Counter()
    for entry in _entries(root):
        # Folders made by operating systems (.DS_Store, __MACOSX) are not classes.
        if not _is_folder(entry):
            if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                others["outside the class folders"] += 1
        elif not entry.name.startswith("__MACOSX"):
            # macOS writes é as e and an accent: the class is the same on every system.
            name = unicodedata.normalize("NFC", entry.name)
            if name in folders:
                raise UserError(
                    f"{shown(root)} has two class folders that are both written "
                    f"'{shown(name)}', in different Unicode. Merge them."
                )
            folders[name] = entry.name
    classes = sorted(folders)
    files = []
    for name in classes:
        top = f"{prefix}/{folders[name]}" if prefix else folders[name]
        found = _walk(path, top, others)
        found.sort(key=lambda pair: pair[0].split("/"))
        files += [_ImageFile(file, size, name) for file, size in found]
    if others:
        counts = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5))
        _note(
            f"{shown(root)}: files ignored, because they are not images of a class: "
            f"{counts}."
        )
    return classes, files


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
            suffix = Path(entry.name).suffix.lower()
            if _is_folder(entry):
                stack.append((name, above | {here}))
            elif suffix in IMAGE_SUFFIXES:
                found.append((name, _size(entry)))
            else:
                others[shown(suffix) or "without suffix"] += 1
    return found


def _entries(folder: Path) -> list[os.DirEntry]:
    """The entries of a folder that are not hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(
            f"The folder {shown(folder)} cannot be listed: {error.strerror}. Its "
            "images would be missing unnoticed: fix or remove it."
        ) from error


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # as for a link to itself
        return False


def _size(entry: os.DirEntry) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return -1


# --- Ambiguous layouts ------------------------------------------------------------


def _check_held_classes(
    held: Path, held_classes: Sequence[str], root: Path, classes: Sequence[str]
) -> None:
    unknown = [name for name in held_classes if name not in classes]
    if unknown:
        raise UserError(
            f"{shown(held)} has classes that {shown(root)} lacks: {_listed(unknown)}."
            + nearest(unknown[0], classes)
            + " There are no training images for these classes: add some, or remove the "
            "folders."
        )


def _check_trained(
    root: Path,
    classes: Sequence[str],
    files: Iterable[_ImageFile],
    held_files: Iterable[_ImageFile],
    *,
    held_out: bool,
) -> None:
    """Refuses a class without training images.

    It would still be an output of the network, and change the error of guessing; most
    often a copy or an archive is incomplete.
    """
    trained = {file.class_name for file in files}
    empty = [name for name in classes if name not in trained]
    if not empty:
        return
    if held_out and any(file.class_name in empty for file in held_files):
        raise UserError(
            f"{shown(root)}: after every tenth image is held out, these classes have no "
            f"training images: {_listed(empty)}. Add images, remove the classes, or "
            "create train/ and val/ yourself."
        )
    raise UserError(
        f"{shown(root)} has class folders without training images: {_listed(empty)}. Add "
        f"images ({', '.join(IMAGE_SUFFIXES)}), or remove the folders."
    )


def _note_absent(
    held: Path, classes: Sequence[str], files: Iterable[_ImageFile]
) -> None:
    present = {file.class_name for file in files}
    absent = [name for name in classes if name not in present]
    if absent:
        _note(
            f"{shown(held)} has no images of {len(absent)} of {len(classes)} classes "
            f"({_listed(absent)}): errors are measured on the other classes only."
        )


def _note_unused(path: Path, used: set[str]) -> None:
    unused = sorted(
        entry.name
        for entry in _entries(path)
        if _is_folder(entry) and entry.name not in used
    )
    if unused:
        _note(
            f"{shown(path)}: folders not used: {_listed(unused)}. Errors are measured on "
            f"the images of the first of {', '.join(HELD_OUT)} that exists."
        )


def _listed(names: Sequence[str]) -> str:
    """The first five names, in one line."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(shown, names[:5])) + more


def _note(text: str) -> None:
    print(f"Note: {text}", file=sys.stderr, flush=True)
