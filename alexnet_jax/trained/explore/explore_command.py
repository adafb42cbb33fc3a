"""The command `explore`: a page about a trained network, written whole or not at all."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from alexnet_jax.errors import UserError
from alexnet_jax.files import atomic_file
from alexnet_jax.trained.explore.exploration import explored
from alexnet_jax.trained.explore.exploration_page import page
from alexnet_jax.trained.locate import load
from alexnet_jax.trained.predictions import image_files

SUFFIXES = (".html", ".htm")


def explore(
    origin: str,
    *,
    arm: str = "",
    dataset: str = "",
    tfds_dir: str = "",
    images: Sequence[str] = (),
    output: str = "explore.html",
) -> int:
    """Writes the page and prints its name; returns how many given images are unreadable.

    Args:
      origin: a run, a trial, a checkpoint or an exported file.
      arm: which arm of a run with several.
      dataset: digits, a name of TensorFlow Datasets, folder=PATH or npz=FILE; "": that of
        the training, or none where it is gone.
      tfds_dir: the data folder of TensorFlow Datasets; "": that of the training.
      images: files and folders with images to show; none: images of the dataset.
      output: the .html file.

    Raises:
      UserError: if there is no such network, dataset or image, or the page cannot be
        written; before anything is computed.
    """
    path = Path(output).expanduser()
    check_output(path)
    files = list(image_files(images))
    network = load(origin, arm=arm)
    source, reason = None, ""
    try:
        source = network.open_to_measure(dataset, tfds_dir)
    except UserError as error:
        if dataset:
            raise
        print(f"Without its dataset: {error}", file=sys.stderr, flush=True)
        reason = (
            f"The dataset that the network was trained on, {network.trained_on.dataset}, "
            "was not found"
        )
    content = explored(network, source, files, without_data=reason, shows_progress=True)
    with atomic_file(path) as file:
        file.write(page(content).encode(errors="backslashreplace"))
    for _, why in content.unread:
        print(f"Unreadable: {why}", file=sys.stderr)
    print(path)
    return len(content.unread)


def check_output(path: Path) -> None:
    """Refuses a file that cannot be written.

    Raises:
      UserError: if its name does not end in .html, its folder does not exist or takes no
        files, or it is a folder.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--output={path}: give a name that ends in .html.")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UserError(f"--output={path}: there is no such folder.")
    if path.is_dir():
        raise UserError(f"--output={path} is a folder: give the name of a file.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"--output={path} cannot be written: {error.strerror or error}."
        ) from error
