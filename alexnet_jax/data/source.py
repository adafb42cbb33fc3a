"""Where images come from: digits, TFDS, folders. Encoded bytes, label, index."""

import dataclasses
import hashlib
import os
import socket
import struct
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from alexnet_jax.errors import UserError, nearest

# Every tenth (digits: fifth) example is held out where a set has no split for it.
HOLD_OUT_EVERY = 10
HELD_OUT = ("val", "validation", "test")  # folders of pictures to measure errors on
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


@dataclasses.dataclass(frozen=True)
class Split:
    """Labelled images at random access.

    Attributes:
      name: "train", "test" or "validation".
      num_examples: how many.
      read: index -> (encoded image, label); safe to call from several threads.
    """

    name: str
    num_examples: int
    read: Callable[[int], tuple[bytes, int]]

    def __len__(self) -> int:
        return self.num_examples


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
      name: as reports write it.
      class_names: by label.
      train, validation: what is trained on, and what errors are measured on.
      fingerprint: of digits' contents; of files' names and sizes, not their contents.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    fingerprint: str


def open_source(dataset: str, *, tfds_dir: str) -> Source:
    """Opens "digits", a TFDS name, "tfds=NAME" or "folder=PATH".

    Raises:
      UserError: if it is not there, cannot be fetched, or holds no labelled images.
    """
    kind, equals, name = dataset.partition("=")
    if not equals and kind == "digits":
        return open_digits()
    if equals and kind == "folder":
        return open_folder(Path(name).expanduser())
    return open_tfds(name if equals else kind, tfds_dir=tfds_dir)


# --- digits -----------------------------------------------------------------------


def open_digits() -> Source:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 in 17 greys: 1,438 + 359.

    Every fifth is held out. (UCI, Optical Recognition of Handwritten Digits.)
    """
    import tensorflow as tf
    from sklearn.datasets import load_digits

    digits = load_digits()
    greys = np.round(digits.images * (255 / 16)).astype(np.uint8)
    encoded = [tf.io.encode_png(image[..., None]).numpy() for image in greys]
    labels = digits.target.tolist()
    train, held_out = _hold_out(len(labels), every=5)

    def split(name: str, indices: list[int]) -> Split:
        return Split(
            name, len(indices), lambda i: (encoded[indices[i]], labels[indices[i]])
        )

    fingerprint = _hash([greys.tobytes(), digits.target.astype("<i8").tobytes()])
    classes = tuple(str(name) for name in digits.target_names)
    return Source(
        "digits", classes, split("train", train), split("test", held_out), fingerprint
    )


# --- folders ----------------------------------------------------------------------


def open_folder(path: Path) -> Source:
    """train/CLASS/**/*.jpg and val/CLASS/**/*.jpg, or CLASS/**/*.jpg without splits.

    Classes are the names of the folders, sorted. Without a folder of its own for
    validation (val, validation or test) every tenth picture is held out.
    """
    if not path.is_dir():
        raise UserError(
            f"No such folder: {path}. It should hold train/CLASS/*.jpg and "
            "val/CLASS/*.jpg, or CLASS/*.jpg."
        )
    root = path / "train" if (path / "train").is_dir() else path
    if root == path and any((path / name).is_dir() for name in HELD_OUT):
        raise UserError(f"{path} has a folder to measure errors on, but no train/.")
    held = next((name for name in HELD_OUT if (path / name).is_dir()), None)
    classes = _classes(root)
    files = _labelled_files(root, classes)
    if not files:
        raise UserError(
            f"No pictures in {root}: it should hold a folder for each class, with "
            f"{', '.join(IMAGE_SUFFIXES)} files in it."
        )
    if held:
        unknown = [name for name in _classes(path / held) if name not in classes]
        if unknown:
            raise UserError(
                f"{path / held} has classes that {root} lacks: {', '.join(unknown)}."
            )
        held_files = _labelled_files(path / held, classes)
    else:
        held = "test"
        train, rest = _hold_out(len(files), every=HOLD_OUT_EVERY)
        files, held_files = [files[i] for i in train], [files[i] for i in rest]
    if not held_files:
        raise UserError(
            f"No pictures to measure errors on in {path}: give at least ten."
        )

    def split(name: str, files: list[tuple[Path, int]]) -> Split:
        return Split(
            name, len(files), lambda i: (files[i][0].read_bytes(), files[i][1])
        )

    parts = [
        f"{file.relative_to(path)}\0{file.stat().st_size}".encode()
        for file, _ in files + held_files
    ]
    return Source(
        f"folder={path.name}",
        tuple(classes),
        split("train", files),
        split(held, held_files),
        _hash(parts),
    )


def _classes(folder: Path) -> list[str]:
    """Folders by name, without those that systems put there (.DS_Store, __MACOSX)."""
    names = (path.name for path in folder.iterdir() if path.is_dir())
    return sorted(name for name in names if not name.startswith((".", "__MACOSX")))


def _labelled_files(root: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Pictures with their labels, sorted; hidden files and folders are none."""
    return [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((root / name).rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
        and file.is_file()
    ]


# --- TensorFlow Datasets ----------------------------------------------------------


def open_tfds(name: str, *, tfds_dir: str) -> Source:
    """An image-classification set of TFDS, fetched first where it is not there.

    Errors are measured on the split "validation" where there is one (ImageNet's test
    labels are secret), else on "test", else on every tenth training example.
    """
    import tensorflow_datasets as tfds

    data_dir = os.path.abspath(os.path.expanduser(tfds_dir)) if tfds_dir else None
    builder = _tfds_builder(tfds, name, data_dir)
    image_key, label_key = _feature_keys(tfds, name, builder.info)
    if not _is_prepared(builder):
        _download(builder, name, data_dir)
    info = builder.info
    if info.file_format != tfds.core.FileFormat.TFRECORD:
        raise UserError(
            f"TFDS set '{name}' is stored as {info.file_format.value}; only tfrecord can "
            "be read so far. Prepare it again in that format."
        )
    if "train" not in info.splits:
        raise UserError(
            f"TFDS set '{name}' has no split 'train', only {sorted(info.splits)}."
        )
    held = next((s for s in ("validation", "test") if s in info.splits), None)

    files = {
        s: [str(f) for f in info.splits[s].filepaths] for s in ("train", held) if s
    }
    records = {s: _TFRecords(paths) for s, paths in files.items()}

    def split(split_name: str, part: "_TFRecords", indices: list[int] | None) -> Split:
        def read(i: int) -> tuple[bytes, int]:
            return part.read(i if indices is None else indices[i], image_key, label_key)

        return Split(split_name, len(part) if indices is None else len(indices), read)

    if held:
        train, validation = (
            split("train", records["train"], None),
            split(held, records[held], None),
        )
    else:
        kept, rest = _hold_out(len(records["train"]), every=HOLD_OUT_EVERY)
        train = split("train", records["train"], kept)
        validation = split("test", records["train"], rest)
    parts = [info.full_name.encode()] + [
        f"{os.path.basename(path)}\0{os.path.getsize(path)}".encode()
        for paths in files.values()
        for path in paths
    ]
    classes = tuple(info.features[label_key].names)
    return Source(info.full_name, classes, train, validation, _hash(parts))


def _tfds_builder(tfds, name: str, data_dir: str | None):
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        _ = builder.info  # may need packages that are not there
        return builder
    except tfds.core.registered.DatasetNotFoundError as error:
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        raise UserError(
            f"Unknown dataset '{name}': neither digits nor a TFDS set.{nearest(name, known)} "
            "A folder of pictures is folder=PATH."
        ) from error
    except (ValueError, AssertionError, ImportError) as error:
        raise UserError(f"TFDS cannot open '{name}': {error}") from error


def _is_prepared(builder) -> bool:
    return bool(builder.info.splits) and Path(builder.data_dir).is_dir()


def _download(builder, name: str, data_dir: str | None) -> None:
    """What the user asked for by naming a set that is not there."""
    import tensorflow_datasets as tfds

    folder = Path(os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR))
    print(
        f"{name} is not in {folder}: fetching it.",
        file=sys.stderr,
        flush=True,
    )
    try:
        _check_reachable(builder, folder / "downloads")
        builder.download_and_prepare()
    except Exception as error:  # TFDS and the network raise whatever they like
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        where = f" --data_dir={data_dir}" if data_dir else ""
        by_hand = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
        how = (
            f"Part of it is fetched by hand: {' '.join(by_hand.split())}\nThen:"
            if by_hand
            else "Fetch it where there is a network:"
        )
        raise UserError(
            f"TFDS set '{name}' is not in {folder} and could not be fetched: {reason}\n"
            f"{how}  tfds build {name}{where}\n"
            "and name the folder by --config.data.tfds_dir=DIR. The default dataset, "
            "digits, ships with scikit-learn and needs nothing."
        ) from error


def _check_reachable(builder, downloads: Path) -> None:
    """Raises OSError where no host of the set's files has an address.

    TFDS would try again for minutes. Behind a proxy, names are the proxy's business;
    and where files were put by hand or downloaded before, TFDS may need no network.
    """
    if any(
        path.is_file() and ".tmp." not in path.name for path in downloads.rglob("*")
    ):
        return
    hosts = {urllib.parse.urlsplit(url).hostname for url in builder.url_infos or {}}
    if not hosts or urllib.request.getproxies():
        return
    failure = None
    for host in hosts:
        try:
            socket.getaddrinfo(host, 443)
            return
        except OSError as error:
            failure = OSError(f"no network, or no such host: {host} ({error.strerror})")
    raise failure or OSError("no network")


def _feature_keys(tfds, name: str, info) -> tuple[str, str]:
    """The names of the image and the label among a set's features."""
    features = info.features
    keys = info.supervised_keys or ("image", "label")
    if (
        len(keys) == 2
        and set(keys) <= set(features)
        and isinstance(features[keys[0]], tfds.features.Image)
        and isinstance(features[keys[1]], tfds.features.ClassLabel)
    ):
        return keys
    raise UserError(
        f"TFDS set '{name}' is not an image-classification set: its features are "
        f"{', '.join(features)}."
    )


class _TFRecords:
    """Random access to the records of TFRecord files, without converting them.

    A record is its length (8 bytes), a checksum of that (4), the data, a checksum (4).
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = list(paths)
        self.where = np.concatenate(
            [np.zeros((0, 3), np.int64)]
            + [_scan_tfrecord(path, number) for number, path in enumerate(self.paths)]
        )

    def __len__(self) -> int:
        return len(self.where)

    def read(self, index: int, image_key: str, label_key: str) -> tuple[bytes, int]:
        import tensorflow as tf

        number, offset, length = self.where[index]
        # Opened anew each time: ImageNet has more shards than a process may open.
        with open(self.paths[number], "rb", buffering=0) as file:
            data = os.pread(file.fileno(), int(length), int(offset))
        example = tf.train.Example.FromString(data).features.feature
        return example[image_key].bytes_list.value[0], example[
            label_key
        ].int64_list.value[0]


def _scan_tfrecord(path: str, number: int) -> np.ndarray:
    """(file number, offset, length) of each record's data."""
    where = []
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        position = 0
        while position < size:
            header = file.read(8)
            length = struct.unpack("<Q", header)[0] if len(header) == 8 else size
            if position + 16 + length > size:
                raise UserError(
                    f"{path} is cut off: record at byte {position} is not whole."
                )
            where.append((number, position + 12, length))
            position += 16 + length
            file.seek(position)
    return np.array(where, np.int64).reshape(-1, 3)


def _hold_out(num_examples: int, *, every: int) -> tuple[list[int], list[int]]:
    """Indices kept for training, and the last of each `every`, held out."""
    held = range(every - 1, num_examples, every)
    return sorted(set(range(num_examples)) - set(held)), list(held)


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:16]
