"""The command `predict`: the most probable classes of images, as a table or a figure."""

import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from alexnet_jax.data.photographs import SUFFIXES
from alexnet_jax.errors import UserError
from alexnet_jax.trained.class_names import of_folder
from alexnet_jax.trained.guesses import Predicted
from alexnet_jax.trained.locate import load
from alexnet_jax.trained.trained_network import BATCH, TrainedNetwork

STANDARD_INPUT = "-"
BAR = 20  # characters of a bar
MOST_DRAWN = 40  # images in a figure


def predict(
    origin: str,
    images: Sequence[str],
    *,
    arm: str = "",
    crops: int = 1,
    top: int = 5,
    apply_orientation: bool = False,
    picture: str = "",
    as_json: bool = False,
) -> int:
    """Prints the classes of each image as they are found; returns how many are unreadable.

    An image that cannot be read or does not exist is named on standard error.

    Args:
      origin: a run, a trial, a checkpoint or an exported file.
      images: files, folders with images at any depth, or "-" for standard input.
      arm: which arm of a run with several.
      crops: 1 for the center crop, or 10.
      top: how many classes an image.
      apply_orientation: turn photographs as their EXIF data say.
      picture: PNG or SVG file for the images and bars; "": none.
      as_json: print JSON Lines in place of a table.

    Raises:
      UserError: if there is no such network, none of the files and folders exists, a folder
        holds no image, none of them can be read, or the figure cannot be written.
    """
    if picture:
        check_picture(Path(picture).expanduser())
    files = list(image_files(images))
    network = load(origin, arm=arm)
    drawn: list[Predicted] = []
    readable = 0
    for found in predictions(
        network, files, crops=crops, top=top, apply_orientation=apply_orientation
    ):
        readable += 1
        print(json_line(found) if as_json else text(found), flush=True)
        if picture and len(drawn) < MOST_DRAWN:
            drawn.append(found)
    if not readable:
        raise UserError(f"None of the {len(files)} images can be read.")
    if picture:
        # Matplotlib takes seconds to import.
        from alexnet_jax.trained.prediction_figure import write_picture

        write_picture(drawn, Path(picture).expanduser())
        left_out = readable - len(drawn)
        more = f", without {left_out} others" if left_out else ""
        print(f"{picture}: {len(drawn)} images{more}", file=sys.stderr)
    return len(files) - readable


def image_files(given: Sequence[str]) -> Iterator[str]:
    """The files that the arguments name: folders are searched at any depth, by name.

    A file that does not exist is among them, to be named as others that cannot be read.

    Raises:
      UserError: if none exists, one is neither a file nor a folder, or a folder holds no
        image.
    """
    there = [name == STANDARD_INPUT or os.path.exists(_path(name)) for name in given]
    if given and not any(there):
        raise UserError(f"No such image or folder: {', '.join(given)}.")
    for name, exists in zip(given, there, strict=True):
        path = _path(name)
        if name == STANDARD_INPUT or os.path.isfile(path) or not exists:
            yield name if name == STANDARD_INPUT else str(path)
        elif os.path.isdir(path):
            found = sorted(
                os.path.join(folder, file)
                for folder, _, files in os.walk(path)
                for file in files
                if file.lower().endswith(SUFFIXES)
            )
            if not found:
                raise UserError(
                    f"{path} holds no image: no {', '.join(SUFFIXES)} file."
                )
            yield from found
        else:
            raise UserError(
                f"{name} is a device or a pipe: give a file, a folder, or - for the "
                "standard input."
            )


def _path(name: str) -> Path:
    return Path(name).expanduser()


def predictions(
    network: TrainedNetwork,
    files: Sequence[str],
    *,
    crops: int = 1,
    top: int = 5,
    apply_orientation: bool = False,
) -> Iterator[Predicted]:
    """The classes of each readable image, in order; the others are named as they come."""
    of_batches: list[tuple[list[str], np.ndarray]] = []

    def squares() -> Iterator[np.ndarray]:
        decoded = network.decoded(
            map(content, files), apply_orientation=apply_orientation
        )
        for names, pixels in readable_batches(zip(files, decoded, strict=True)):
            of_batches.append((names, pixels))
            yield pixels

    for probabilities in network.probability_batches(squares(), crops=crops):
        names, pixels = of_batches.pop(0)
        guesses = network.guesses(probabilities, top)
        for name, square, of_image in zip(names, pixels, guesses, strict=True):
            true_class = None
            if name != STANDARD_INPUT:
                true_class = of_folder(
                    Path(name).absolute().parent, network.class_names
                )
            yield Predicted(name, square, of_image, true_class)


def readable_batches(
    named: Iterator[tuple[str, np.ndarray | UserError]],
) -> Iterator[tuple[list[str], UInt8[np.ndarray, "n side side 3"]]]:
    """The images that can be read, in batches with their names.

    The others are named on standard error.

    Args:
      named: each image's name, and its pixels or why it cannot be read.
    """
    while part := list(itertools.islice(named, BATCH)):
        names, pixels = [], []
        for name, one in part:
            if isinstance(one, UserError):
                print(f"Unreadable: {one}", file=sys.stderr, flush=True)
            else:
                names.append(name)
                pixels.append(one)
        if pixels:
            yield names, np.stack(pixels)


def check_picture(path: Path) -> None:
    """Raises UserError if no figure can be written at `path`."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise UserError(f"--picture={path}: give a name that ends in .png or .svg.")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--picture={path}: there is no such folder.")
    if path.is_dir():
        raise UserError(f"--picture={path} is a folder: give the name of a file.")


def content(name: str) -> str | bytes:
    """What is decoded for a name: the file, or the bytes on standard input."""
    return sys.stdin.buffer.read() if name == STANDARD_INPUT else name


def json_line(found: Predicted) -> str:
    """One line of JSON."""
    classes = [guess._asdict() for guess in found.guesses]
    held = {"image": found.name, "classes": classes, "true_class": found.true_class}
    return json.dumps(held)


def text(found: Predicted) -> str:
    """The classes with bars, one a line; the true one is marked where it is known."""
    lines = [found.name]
    width = max(len(guess.name) for guess in found.guesses)
    for name, probability in found.guesses:
        bar = "█" * round(BAR * probability)
        mark = "  <- its folder" if name == found.true_class else ""
        lines.append(f"  {probability:6.1%}  {name:<{width}}  {bar}{mark}".rstrip())
    return "\n".join(lines)
