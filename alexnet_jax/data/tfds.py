"""Opens the image-classification datasets of TensorFlow Datasets (TFDS)."""

import os
import re
import shlex
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterable
from pathlib import Path

from alexnet_jax.data.record_files import Records, open_records
from alexnet_jax.data.types import (
    ALL_IMAGES,
    HOLD_OUT_EVERY,
    Source,
    Split,
    hash_of,
    hold_out,
    no_training_images,
)
from alexnet_jax.errors import UserError, nearest

FORMATS = ("tfrecord", "array_record")
# The archives from which TFDS builds ImageNet.
ARCHIVES = {"ILSVRC2012_img_train.tar": "138 GB", "ILSVRC2012_img_val.tar": "6.3 GB"}


def open_tfds(
    name: str, *, tfds_dir: str, trained_on: Collection[str] | None = None
) -> Source:
    """Opens an image-classification dataset of TFDS, downloaded first if need be.

    Errors are measured on the split "validation" if there is one (ImageNet's test labels
    are secret), else on "test", else on every tenth training example.

    Args:
      name: NAME[/CONFIG][:VERSION]; the newest of several versions is the default.
      tfds_dir: The data_dir of TFDS; if empty, the default of TFDS.
      trained_on: None to train on it. To measure networks, the fingerprints of the
        datasets that they were trained on: where none of these is this dataset's and no
        split is held out, all examples are measured.

    Raises:
      UserError: If there is no such dataset, it cannot be downloaded, it is not for
        image classification, or its files differ from what was written.
    """
    import tensorflow_datasets as tfds  # seconds; other sources do without

    data_dir = str(Path(tfds_dir).expanduser().absolute()) if tfds_dir else None
    builder = _builder(tfds, name, data_dir)
    image_key, label_key = _feature_keys(tfds, name, builder.info)
    if not _is_prepared(builder):
        _download(builder, name, data_dir)
    info = builder.info
    kind = info.file_format.value
    if kind not in FORMATS:
        raise UserError(
            f"The TFDS dataset '{name}' is stored as {kind}; only "
            f"{' and '.join(FORMATS)} can be read. Build it again: tfds build {name} "
            "--file_format=tfrecord --overwrite"
        )
    parts = _parts(name, list(info.splits), needs_training=trained_on is None)
    files, records = {}, {}
    for part in parts:
        files[part] = [str(file) for file in info.splits[part].filepaths]
        lengths = info.splits[part].shard_lengths
        records[part] = open_records(files[part], kind, lengths)
    classes = tuple(info.features[label_key].names)

    def split(name: str, part: Records, indices: list[int] | None = None) -> Split:
        return _split(name, part, indices, image_key, label_key, len(classes))

    fingerprint = _fingerprint(info.full_name, files.values())
    held, train = parts[-1], no_training_images()
    if len(parts) > 1:
        train, validation = split("train", records["train"]), split(held, records[held])
    elif held != "train":
        validation = split(held, records[held])
    elif trained_on is not None and fingerprint not in trained_on:
        validation = split(ALL_IMAGES, records["train"])
    else:
        kept, rest = hold_out(len(records["train"]), every=HOLD_OUT_EVERY)
        train = split("train", records["train"], kept)
        validation = split("test", records["train"], rest)
    return Source(info.full_name, classes, train, validation, fingerprint)


def _fingerprint(name: str, files: Iterable[Iterable[str]]) -> str:
    return hash_of(
        [name.encode()]
        + [
            f"{os.path.basename(path)}\0{os.path.getsize(path)}".encode()
            for paths in files
            for path in paths
        ]
    )


def _parts(name: str, splits: Collection[str], *, needs_training: bool) -> list[str]:
    """The splits that are used: that of the training images, then the held-out one.

    Raises:
      UserError: If there is no training split and it is needed, or there is neither.
    """
    held = next((s for s in ("validation", "test") if s in splits), None)
    if "train" not in splits and (needs_training or held is None):
        lacks = "split 'train'" if needs_training else "split to measure errors on"
        raise UserError(
            f"The TFDS dataset '{name}' has no {lacks}, only {sorted(splits)}."
        )
    return [s for s in ("train", held) if s and s in splits]


def _split(
    name: str,
    records: Records,
    indices: list[int] | None,
    image_key: str,
    label_key: str,
    num_classes: int,
) -> Split:
    """A split of all records, or of those at `indices`."""
    import tensorflow as tf  # seconds; other sources do without
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    def record(i: int) -> int:
        return i if indices is None else indices[i]

    def read(i: int) -> tuple[bytes, int]:
        data = records.read(record(i))
        try:
            example = tf.train.Example.FromString(data).features.feature
        except DecodeError as error:
            raise UserError(
                f"{records.where(record(i))} is not a tf.train.Example."
            ) from error
        image, label = example[image_key].bytes_list, example[label_key].int64_list
        if len(image.value) != 1 or len(label.value) != 1:
            raise UserError(f"{records.where(record(i))} has no image or no label.")
        if not 0 <= label.value[0] < num_classes:
            raise UserError(
                f"{records.where(record(i))} has the label {label.value[0]}, but there "
                f"are {num_classes} classes."
            )
        return image.value[0], label.value[0]

    return Split(
        name,
        len(records) if indices is None else len(indices),
        read,
        lambda i: records.where(record(i)),
    )


def _builder(tfds, name: str, data_dir: str | None):
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        _ = builder.info  # It may need packages that are not installed.
        return builder
    except tfds.core.registered.DatasetNotFoundError as error:
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        asked = re.split("[/:]", name)[0]
        raise UserError(
            f"Unknown dataset '{name}': neither digits nor a TFDS dataset."
            f"{_available(name, data_dir) or nearest(asked, known)} {_as_folder(name)}"
        ) from error
    except (ValueError, AssertionError, ImportError) as error:
        if Path(name).expanduser().exists():
            raise UserError(f"'{name}' is no name. {_as_folder(name)}") from error
        reason = " ".join(str(error).split())
        raise UserError(
            f"TFDS cannot open '{name}': {reason}{_available(name, data_dir)}"
        ) from error


def _as_folder(name: str) -> str:
    """A sentence on how images that are not of TFDS are named."""
    if Path(name).expanduser().exists():
        return f"Did you mean {'npz' if name.endswith('.npz') else 'folder'}={name}?"
    return "A folder of images is named folder=PATH, NumPy's arrays npz=FILE."


def _available(name: str, data_dir: str | None) -> str:
    """A sentence with the versions of a dataset in the folder, or ""."""
    import tensorflow_datasets as tfds  # seconds; other sources do without

    asked = re.split("[/:]", name)[0]
    folder = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    found = sorted(
        f"{file.parent.parent.relative_to(folder)}:{file.parent.name}"
        for pattern in ("*", "*/*")
        for file in (folder / asked).glob(f"{pattern}/dataset_info.json")
    )
    return f" {folder} holds: {', '.join(found)}." if found else ""


def _is_prepared(builder) -> bool:
    return bool(builder.info.splits) and Path(builder.data_dir).is_dir()


def _feature_keys(tfds, name: str, info) -> tuple[str, str]:
    """The names of the image and the label among a dataset's features."""
    features = info.features
    keys = info.supervised_keys or ("image", "label")
    if (
        len(keys) == 2
        and set(keys) <= set(features)
        and isinstance(features[keys[0]], tfds.features.Image)
        and isinstance(features[keys[1]], tfds.features.ClassLabel)
    ):
        if features[keys[1]].num_classes == 1:
            raise UserError(
                f"The TFDS dataset '{name}' has a single class, so every answer would be "
                "right. Choose a dataset with at least two classes."
            )
        return keys
    raise UserError(
        f"The TFDS dataset '{name}' is not for image classification: its features are "
        f"{', '.join(features)}."
    )


# --- Download ---------------------------------------------------------------------


def _download(builder, name: str, data_dir: str | None) -> None:
    """Downloads and builds the dataset, as the user requested by naming it."""
    import tensorflow_datasets as tfds  # seconds; other sources do without

    folder = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    where = f" --data_dir={shlex.quote(data_dir)}" if data_dir else ""
    command = f"tfds build {name}{where}"
    if builder.name == "imagenet2012":
        _check_archives(name, folder, command)
    print(
        f"{name} is not in {folder}: downloading it.",
        file=sys.stderr,
        flush=True,
    )
    try:
        _check_reachable(builder, folder / "downloads")
        builder.download_and_prepare()
    except Exception as error:  # TFDS and the network raise exceptions of any type.
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        by_hand = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
        how = (
            f"Part of it must be downloaded by hand: {' '.join(by_hand.split())}\nThen:"
            if by_hand
            else "Download it on a machine with a network:"
        )
        raise UserError(
            f"The TFDS dataset '{name}' is not in {folder} and could not be downloaded: "
            f"{reason}"
            f"{_available(name, data_dir)}\n{how}  {command}\n{_way_on(folder)}"
        ) from error


def _way_on(folder: Path) -> str:
    return (
        f"and name the folder: --config.data.tfds_dir={folder} where a network is trained, "
        f"--tfds_dir={folder} where one is used. Images in a folder are the dataset "
        "folder=PATH. The default dataset, digits, comes with scikit-learn and needs no "
        "download."
    )


def _check_archives(name: str, folder: Path, command: str) -> None:
    """Raises UserError if an archive of ImageNet 2012 is missing.

    Its terms allow no program to download them.
    """
    manual = folder / "downloads" / "manual"
    missing = [file for file in ARCHIVES if not (manual / file).is_file()]
    if missing:
        files = " and ".join(f"{file} ({ARCHIVES[file]})" for file in missing)
        raise UserError(
            f"The TFDS dataset '{name}' is not in {folder}, and the archives it is built "
            f"from are missing: {files}.\nDownload them by hand from image-net.org, as "
            "the training and validation images of ILSVRC 2012, after signing in and "
            f"agreeing to its terms. Put them, unopened, into {manual}\n"
            f"Then:  {command}\n{_way_on(folder)}"
        )


def _check_reachable(builder, downloads: Path) -> None:
    """Raises OSError if no host of the dataset's files has an address.

    TFDS would retry for minutes. Behind a proxy, the proxy resolves names; and if files
    were put there by hand or downloaded before, TFDS may need no network.
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
