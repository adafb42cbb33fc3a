"""Opens a folder of images: train/CLASS/**/*.jpg and val/CLASS/**/*.jpg.

Everything a folder holds is either used or named in a message. Images that cannot be
read stay in the list, so that reading them names them; a layout that is ambiguous as a
whole is refused. Links to files and folders are followed, wherever they lead: a folder
of links is the usual way to train on a part of a large dataset.
"""

import dataclasses
import os
import stat
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from alexnet_jax.data import label_lists, split_folders
from alexnet_jax.data.image_files import (
    IMAGE_SUFFIXES,
    Contents,
    ImageFile,
    class_folders,
    contents,
    flat_files,
    labeled_files,
    listed,
    note,
    shown,
)
from alexnet_jax.data.split_folders import SplitFolders
from alexnet_jax.data.types import (
    ALL_IMAGES,
    END_BYTES,
    HOLD_OUT_EVERY,
    Source,
    Split,
    hash_of,
    hold_out,
    no_training_images,
)
from alexnet_jax.errors import UserError, nearest

ARCHIVES = (".tar", ".zip", ".tgz", ".gz", ".rar", ".7z")

# Folders of datasets for other tasks, without the s of the plural.
KINDS_OF_FILES = frozenset(
    ("image", "img", "jpg", "jpeg", "png", "label", "annotation", "mask")
)


def open_folder(path: Path, *, trained_on: Collection[str] | None = None) -> Source:
    """Opens train/CLASS/**/*.jpg and val/CLASS/**/*.jpg, or CLASS/**/*.jpg.

    The classes are the names of the folders, sorted. Splits are recognized by the names
    of their folders (`split_folders`). Held-out images may lie in one folder if a list
    gives their classes (`label_lists`). Without a folder of held-out images, every tenth
    image is held out, counted through the classes in their order. Where networks are to
    be measured and `trained_on`, the fingerprints of their data, lacks this dataset's, all
    its images are measured instead.

    Raises:
      UserError: If the folder does not exist, a folder in it cannot be listed or leads
        back into itself, it can be read in more than one way, there are fewer than two
        classes, or a class or a whole split has no images.
    """
    _check_is_folder(path)
    splits = split_folders.find(path, needs_training=trained_on is None)
    if splits.held and not splits.train:
        return _open_held_alone(path, splits)
    root = path / splits.train
    fewest = 2 if trained_on is None else 1
    classes, files = _class_files(path, splits.train, fewest)
    every = files
    if splits.held:
        held_files, parts, _ = _held_out_files(path, splits.held, root, classes)
    else:
        train, rest = hold_out(len(files), every=HOLD_OUT_EVERY)
        files, held_files = [files[i] for i in train], [files[i] for i in rest]
        parts = _parts(held_files)
    fingerprint = hash_of(_parts(files) + parts)
    if not splits.held and trained_on is not None and fingerprint not in trained_on:
        held = dataclasses.replace(splits, held=splits.train, held_name=ALL_IMAGES)
        return _to_measure(path, held, classes, every, fingerprint)
    if not held_files:
        raise UserError(
            f"No images to measure errors on in {shown(path)}: provide val/CLASS/*.jpg, "
            "or at least ten images in all."
        )
    _check_trained(root, classes, files, held_files, held_out=not splits.held)
    _note_others(path, splits, classes, held_files)
    return Source(
        f"folder={shown(path.absolute().name)}",
        label_lists.class_titles(path, splits.train, classes),
        _split("train", path, files, classes),
        _split(splits.held_name or "test", path, held_files, classes),
        fingerprint,
    )


def _open_held_alone(path: Path, splits: SplitFolders) -> Source:
    """Opens val/ without train/; its classes are those of its own images."""
    files, parts, classes = _held_out_files(path, splits.held, path, None)
    if not files:
        raise UserError(
            f"No images to measure errors on in {shown(path / splits.held)}: it should "
            "hold a folder for each class, with images in it."
        )
    return _to_measure(path, splits, classes, files, hash_of(parts))


def _to_measure(
    path: Path,
    splits: SplitFolders,
    classes: Sequence[str],
    files: list[ImageFile],
    fingerprint: str,
) -> Source:
    """A dataset without training images, whose `files` are all measured."""
    _note_others(path, splits, classes, files)
    return Source(
        f"folder={shown(path.absolute().name)}",
        label_lists.class_titles(path, splits.held, classes),
        no_training_images(),
        _split(splits.held_name, path, files, classes),
        fingerprint,
    )


def _check_is_folder(path: Path) -> None:
    if path.is_dir():
        return
    what = f"No such folder: {shown(path)}."
    if path.exists():
        what = f"{shown(path)} is a file: unpack an archive, and give the folder."
        if path.suffix == ".npz":
            what = f"{shown(path)} holds arrays: write npz={shown(path)}."
    raise UserError(
        f"{what} It should hold train/CLASS/*.jpg and val/CLASS/*.jpg, or CLASS/*.jpg."
    )


def _class_files(
    path: Path, prefix: str, fewest: int
) -> tuple[list[str], list[ImageFile]]:
    """The classes of path/prefix and their images.

    Raises:
      UserError: If there are fewer than `fewest` classes, folders that are no classes, no
        images, or other splits inside.
    """
    root = path / prefix
    found = contents(root)
    if found.outputs:
        note(
            f"{shown(root)}: folders not used, because runs, prepared sets or reports are in "
            f"them: {listed(found.outputs)}."
        )
    classes = class_folders(root, found.folders)
    if len(classes) < 2:
        _refuse_elsewhere(root, found, in_split=bool(prefix))
    elif {name.casefold().rstrip("s") for name in classes} <= KINDS_OF_FILES:
        raise UserError(
            f"{shown(root)} has the folders {listed(list(classes))}, which are kinds of "
            "files and not classes. Sort the images into a folder for each class."
        )
    files = labeled_files(path, prefix, classes, len(found.images))
    if not files:
        raise UserError(
            f"No images in {shown(root)}: it should hold a folder for each class, with "
            f"{', '.join(IMAGE_SUFFIXES)} files in it.{_packed(root)}"
        )
    if len(classes) < fewest:
        raise UserError(
            f"{shown(root)} has a single class, {listed(list(classes))}, with "
            f"{len(files):,} images. A network needs at least two classes: add a folder "
            "for each of the others."
        )
    if not prefix:
        _check_inner_splits(path, files)
    return list(classes), files


def _packed(root: Path) -> str:
    """A sentence about the archives of a folder, as ImageNet has one for each class."""
    names = sorted(path.name for path in root.iterdir() if path.suffix in ARCHIVES)
    if not names:
        return ""
    return f" It has archives ({listed(names)}): unpack each into a folder of its name."


def _held_out_files(
    path: Path, folder: str, root: Path, classes: Sequence[str] | None
) -> tuple[list[ImageFile], list[bytes], list[str]]:
    """The held-out images, sorted by class, their parts of the fingerprint, their classes.

    Args:
      path: The dataset's folder.
      folder: That of the images in it.
      root: The folder of the training images.
      classes: Those of the training images; None if there are no training images.

    Raises:
      UserError: If they have other classes than the training images, or unknown ones.
    """
    found = contents(path / folder)
    own = class_folders(path / folder, found.folders)
    if not found.images and len(own) == 1 and not own.keys() & set(classes or ()):
        # Tiny ImageNet's val/images; an unknown name may be a misspelled class.
        inner = contents(path / folder / found.folders[0])
        all_classes = split_folders.holds_all_classes(found.folders[0])
        if all_classes and inner.images and not inner.folders:
            folder, found, own = f"{folder}/{found.folders[0]}", inner, {}
    if not found.images or own:
        _check_held_classes(path / folder, own, root, classes or list(own))
        files = labeled_files(path, folder, own, len(found.images))
        return files, _parts(files), list(own)
    listed_classes = label_lists.classes_of(path, folder, found.images)
    held_classes = sorted(set(listed_classes.values()))
    _check_held_classes(path / folder, held_classes, root, classes or held_classes)
    files = flat_files(path, folder, found.images, listed_classes)
    # These paths do not contain the classes.
    names = [os.fsencode(file.class_name) for file in files]
    parts = zip(_parts(files), names, strict=True)
    return files, [part + b"\0" + name for part, name in parts], held_classes


def _parts(files: Iterable[ImageFile]) -> list[bytes]:
    """What the fingerprint knows of each image: its path and its size."""
    return [os.fsencode(file.path) + b"\0" + str(file.size).encode() for file in files]


def _split(
    name: str, root: Path, files: list[ImageFile], classes: Sequence[str]
) -> Split:
    labels = {class_name: label for label, class_name in enumerate(classes)}

    def read(i: int) -> tuple[bytes, int]:
        return _read(root, files[i].path), labels[files[i].class_name]

    return Split(
        name,
        len(files),
        read,
        lambda i: shown(files[i].path),
        size=lambda i: files[i].size,
        read_end=lambda i: _read(root, files[i].path, last=END_BYTES),
    )


def _read(root: Path, name: str, *, last: int = 0) -> bytes:
    """Returns the bytes of an image file, or only the `last` ones.

    Raises:
      UserError: If it cannot be read, or is empty.
    """
    path = root / name
    way_out = "Fix it or remove it from the folder."
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{shown(path)} is not a file, but a device. {way_out}")
            if last:
                file.seek(max(0, status.st_size - last))
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


# --- Ambiguous layouts ------------------------------------------------------------


def _check_held_classes(
    held: Path, held_classes: Iterable[str], root: Path, classes: Sequence[str]
) -> None:
    unknown = [name for name in held_classes if name not in classes]
    if unknown:
        raise UserError(
            f"{shown(held)} has classes that {shown(root)} lacks: {listed(unknown)}."
            + nearest(unknown[0], classes)
            + " There are no training images for these classes: add some, or remove the "
            "folders."
        )


def _check_trained(
    root: Path,
    classes: Sequence[str],
    files: Iterable[ImageFile],
    held_files: Iterable[ImageFile],
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
            f"training images: {listed(empty)}. Add images, remove the classes, or "
            "create train/ and val/ yourself."
        )
    raise UserError(
        f"{shown(root)} has class folders without training images: {listed(empty)}. Add "
        f"images ({', '.join(IMAGE_SUFFIXES)}), or remove the folders."
    )


def _note_absent(
    held: Path, classes: Sequence[str], files: Iterable[ImageFile]
) -> None:
    present = {file.class_name for file in files}
    absent = [name for name in classes if name not in present]
    if absent:
        note(
            f"{shown(held)} has no images of {len(absent)} of {len(classes)} classes "
            f"({listed(absent)}): errors are measured on the other classes only."
        )


def _refuse_elsewhere(root: Path, found: Contents, *, in_split: bool) -> None:
    """Refuses a folder with fewer than two class folders if the dataset is elsewhere."""
    below = split_folders.find_below(root)
    if below is not None:
        inside = listed(contents(below).folders)
        if in_split:
            way_out = f"Move the class folders up, into {shown(root)}."
        else:
            way_out = f"Did you mean folder={shown(below)}?"
        raise UserError(
            f"{shown(root)} has fewer than two class folders "
            f"({listed(found.folders)}), but {shown(below)} has the folders {inside}. "
            f"{way_out}"
        )
    if found.images and not found.folders:
        above = None if in_split else split_folders.find_above(root)
        if above is not None:
            way_out = f"Did you mean folder={shown(above)}?"
        else:
            way_out = "Sort them into a folder for each class."
            way_out += f" {split_folders.AS_CLASSES}" if in_split else ""
        raise UserError(
            f"{shown(root)} has {len(found.images):,} images and no class folders, so "
            f"their classes are unknown. {way_out}"
        )


def _check_inner_splits(path: Path, files: Iterable[ImageFile]) -> None:
    """Refuses class folders that have splits of their own, as datasets have."""
    inner: dict[str, set[str]] = {}
    for file in files:
        top, second, *deeper = file.path.split("/")
        if deeper:
            inner.setdefault(top, set()).add(second)
    datasets = [top for top, names in inner.items() if split_folders.has_splits(names)]
    if datasets:
        first = path / datasets[0]
        raise UserError(
            f"{shown(path)} has folders with splits in them: {listed(datasets)}. Did you "
            f"mean folder={shown(first)}? If they are classes, sort their images into "
            "train/CLASS/ and val/CLASS/."
        )


def _note_others(
    path: Path, splits: SplitFolders, classes: Sequence[str], held: list[ImageFile]
) -> None:
    """Notes what the layout leaves out, and a split given in place of its dataset."""
    whole = splits.held_name == ALL_IMAGES
    if splits.held or whole:
        _note_absent(path / splits.held, classes, held)
    if splits.unused:
        measured = splits.held_name or "every tenth training image"
        note(
            f"{shown(path)}: folders not used: {listed(splits.unused)}. Errors are "
            f"measured on {shown(measured)}."
        )
    above = split_folders.dataset_of(path)
    if above is not None and not splits.train:
        which = "all" if whole else "every tenth"
        note(
            f"{shown(path)} is one split of {shown(above)}: errors are measured on {which} "
            f"of its images. For the other splits, give folder={shown(above)}."
        )
