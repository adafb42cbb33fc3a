"""A folder of pictures: train/CLASS/**/*.jpg and val/CLASS/**/*.jpg.

What a folder holds is either used or named. Pictures that cannot be read stay in the
list, so that reading them says which; what makes the whole layout doubtful is refused.
Links are followed, files' and folders', wherever they lead: a folder of links is the
usual way to train on a part of a large set. They are only ever read as pictures.
"""

import collections
import dataclasses
import os
import stat
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from alexnet_jax.data.source import HOLD_OUT_EVERY, Source, Split, hash_of, hold_out
from alexnet_jax.errors import UserError, nearest

HELD_OUT = ("val", "validation", "test")  # folders of pictures to measure errors on
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


@dataclasses.dataclass(frozen=True)
class _File:
    """A picture: its path from the data's folder on, with /, and its size in bytes.

    The size of one that cannot be looked at (a link that leads nowhere) is -1.
    """

    path: str
    size: int
    class_name: str


def open_folder(path: Path) -> Source:
    """train/CLASS/**/*.jpg and val/CLASS/**/*.jpg, or CLASS/**/*.jpg without splits.

    Classes are the names of the folders, sorted. Without a folder of its own for
    validation (val, validation or test) every tenth picture is held out, counted
    through the classes in their order.

    Raises:
      UserError: if it is not there, a folder in it cannot be listed or leads back into
        itself, or a class or a whole split has no pictures.
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
            f"{shown(path)} has a folder to measure errors on, but no train/."
        )
    classes, files = _labelled_files(path, prefix)
    if not files:
        raise UserError(
            f"No pictures in {shown(root)}: it should hold a folder for each class, with "
            f"{', '.join(IMAGE_SUFFIXES)} files in it."
        )
    if names:
        held = names[0]
        held_classes, held_files = _labelled_files(path, held)
        _check_held_classes(path / held, held_classes, root, classes)
    else:
        held = "test"
        train, rest = hold_out(len(files), every=HOLD_OUT_EVERY)
        files, held_files = [files[i] for i in train], [files[i] for i in rest]
    if not held_files:
        raise UserError(
            f"No pictures to measure errors on in {shown(path)}: give at least ten."
        )
    _check_taught(root, classes, files, held_files, held_out=not names)
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
    """A path as one line of printable text: \\xff, \\n, ... for what is not."""
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in name
    )


def _split(name: str, root: Path, files: list[_File], classes: Sequence[str]) -> Split:
    labels = {class_name: label for label, class_name in enumerate(classes)}

    def read(i: int) -> tuple[bytes, int]:
        return _read(root, files[i].path), labels[files[i].class_name]

    return Split(name, len(files), read, lambda i: shown(files[i].path))


def _read(root: Path, name: str) -> bytes:
    """The bytes of a picture.

    Raises:
      UserError: if there are none.
    """
    path = root / name
    way_out = "Mend it or take it out of the folder."
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError(f"{shown(path)} is no file, but a device. {way_out}")
            data = file.read()
    except OSError as error:
        reason = error.strerror
        if path.is_symlink() and not path.exists():
            reason = f"it is a link to {shown(os.readlink(path))}, which leads nowhere"
        raise UserError(f"{shown(path)} cannot be read: {reason}. {way_out}") from error
    if not data:
        raise UserError(f"{shown(path)} is empty: 0 bytes. {way_out}")
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    """A pipe named .jpg must not hold up the run."""
    return os.open(path, flags | os.O_NONBLOCK)


def _labelled_files(path: Path, prefix: str) -> tuple[list[str], list[_File]]:
    """The classes of path/prefix and their pictures, by class and then by path."""
    root = path / prefix
    folders: dict[str, str] = {}
    others: collections.Counter[str] = collections.Counter()
    for entry in _entries(root):
        # Folders that systems put there (.DS_Store, __MACOSX) are no classes.
        if not _is_folder(entry):
            if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                others["in no class folder"] += 1
        elif not entry.name.startswith("__MACOSX"):
            # macOS writes é as e and an accent: one class whoever packed the split.
            name = unicodedata.normalize("NFC", entry.name)
            if name in folders:
                raise UserError(
                    f"{shown(root)} has two class folders that are both written "
                    f"'{shown(name)}', in different Unicode. Put them together."
                )
            folders[name] = entry.name
    classes = sorted(folders)
    files = []
    for name in classes:
        top = f"{prefix}/{folders[name]}" if prefix else folders[name]
        found = _walk(path, top, others)
        found.sort(key=lambda pair: pair[0].split("/"))
        files += [_File(file, size, name) for file, size in found]
    if others:
        counts = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5))
        _note(f"{shown(root)}: files left out, being no pictures of a class: {counts}.")
    return classes, files


def _walk(
    path: Path, top: str, others: collections.Counter[str]
) -> list[tuple[str, int]]:
    """(path, size) of all pictures below path/top; counts what is none in `others`."""
    found = []
    stack: list[tuple[str, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    while stack:
        folder, above = stack.pop()
        entries = _entries(path / folder)
        status = os.stat(path / folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise UserError(
                f"{shown(path / folder)} leads back into a folder that it lies in. "
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
    """What a folder holds, without what is hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(
            f"The folder {shown(folder)} cannot be listed: {error.strerror}. Without it "
            "pictures would be missing unnoticed: mend or remove it."
        ) from error


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _size(entry: os.DirEntry) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return -1


# --- what is odd about a layout ---------------------------------------------------


def _check_held_classes(
    held: Path, held_classes: Sequence[str], root: Path, classes: Sequence[str]
) -> None:
    unknown = [name for name in held_classes if name not in classes]
    if unknown:
        raise UserError(
            f"{shown(held)} has classes that {shown(root)} lacks: {_listed(unknown)}."
            + nearest(unknown[0], classes)
            + " Nothing could teach the network these: give them pictures to train on, "
            "or remove their folders."
        )


def _check_taught(
    root: Path,
    classes: Sequence[str],
    files: Iterable[_File],
    held_files: Iterable[_File],
    *,
    held_out: bool,
) -> None:
    """Refuses a class that nothing teaches.

    It would be an output of the network all the same, and shift what chance is; most
    often a copy or an archive ended early.
    """
    taught = {file.class_name for file in files}
    bare = [name for name in classes if name not in taught]
    if not bare:
        return
    if held_out and any(file.class_name in bare for file in held_files):
        raise UserError(
            f"{shown(root)}: once every tenth picture is held out, these classes have "
            f"none to train on: {_listed(bare)}. Give them more pictures, remove them, "
            "or make train/ and val/ yourself."
        )
    raise UserError(
        f"{shown(root)} has class folders without a picture to train on: "
        f"{_listed(bare)}. Put pictures ({', '.join(IMAGE_SUFFIXES)}) there, or remove "
        "the folders."
    )


def _note_absent(held: Path, classes: Sequence[str], files: Iterable[_File]) -> None:
    there = {file.class_name for file in files}
    absent = [name for name in classes if name not in there]
    if absent:
        _note(
            f"{shown(held)} has no pictures of {len(absent)} of {len(classes)} classes "
            f"({_listed(absent)}): errors are measured on the others alone."
        )


def _note_unused(path: Path, used: set[str]) -> None:
    unused = sorted(
        entry.name
        for entry in _entries(path)
        if _is_folder(entry) and entry.name not in used
    )
    if unused:
        _note(
            f"{shown(path)}: folders not used: {_listed(unused)}. Pictures to measure "
            f"errors on are sought in {', '.join(HELD_OUT)}, in this order."
        )


def _listed(names: Sequence[str]) -> str:
    """The first five of them."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(shown, names[:5])) + more


def _note(text: str) -> None:
    print(f"Note: {text}", file=sys.stderr, flush=True)
