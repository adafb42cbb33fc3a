"""The images that a page shows closely: which, and what the network makes of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from alexnet_jax.trained.class_names import of_folder
from alexnet_jax.trained.explore.activations import activations
from alexnet_jax.trained.explore.explored import ChosenImage
from alexnet_jax.trained.explore.picked_examples import (
    PickedExamples,
    center_crop,
    evenly_spaced,
    nothing,
)
from alexnet_jax.trained.trained_network import TrainedNetwork

MOST_GIVEN = 24  # each adds about a tenth of a megabyte to the page
MOST_CLASSES = 8  # of which a dataset's images are chosen
CHOSEN_AT_LEAST = 4  # where there are fewer classes


class PickedImages(NamedTuple):
    """Images before the network has seen them.

    Attributes:
      names: their files' names, or where else they are.
      pixels: rescaled, (n, side, side, 3).
      true_classes: None where not known.
      choice: how they were chosen, in a sentence.
      unread: (name, reason) of given images that cannot be read.
    """

    names: list[str]
    pixels: UInt8[np.ndarray, "n side side 3"]
    true_classes: list[str | None]
    choice: str
    unread: list[tuple[str, str]]


def given_images(network: TrainedNetwork, files: Sequence[str]) -> PickedImages:
    """Reads images that a user has given; evenly spaced ones if they are too many.

    An image's class is the one that its folder names, if the network has it.

    Raises:
      UserError: if none of them can be read.
    """
    used = [files[k] for k in evenly_spaced(len(files), MOST_GIVEN)]
    read, pixels, unread = [], [], []
    for file, found in zip(used, network.decoded(used), strict=True):
        if isinstance(found, np.ndarray):
            read.append(Path(file))
            pixels.append(found)
        else:
            unread.append((Path(file).name, str(found)))
    if not read:
        network.square(used[0])  # raises the reason
    choice = "These images were given."
    if len(files) > len(used):
        choice = (
            f"{len(files):,} images were given; these are {len(used)} of them, evenly "
            "spaced."
        )
    names = network.class_names
    classes = [of_folder(path.absolute().parent, names) for path in read]
    return PickedImages(
        [path.name for path in read], np.stack(pixels), classes, choice, unread
    )


def nothing_given(network: TrainedNetwork) -> PickedImages:
    """No images."""
    return PickedImages([], nothing(network.settings.data.rescale_size), [], "", [])


def of_dataset(
    network: TrainedNetwork, of_split: PickedExamples, classes: Int64[np.ndarray, " n"]
) -> PickedImages:
    """The first images of some classes.

    Args:
      classes: the network's class of each image of the split.
    """
    present = np.unique(classes)
    used = present[evenly_spaced(len(present), MOST_CLASSES)]
    each = max(1, -(-CHOSEN_AT_LEAST // len(used)))
    examples = [int(i) for k in used for i in np.flatnonzero(classes == k)[:each]]
    number = "The first image" if each == 1 else f"The first {each} images"
    of_classes = (
        "each class"
        if len(used) == len(present)
        else f"{len(used)} classes, evenly spaced"
    )
    return PickedImages(
        names=[of_split.place(k) for k in examples],
        pixels=of_split.pixels(examples),
        true_classes=[network.class_names[classes[k]] for k in examples],
        choice=f"{number} of {of_classes}, in the order of the "
        f"split “{of_split.split.name}”.",
        unread=[],
    )


def looked_into(network: TrainedNetwork, given: PickedImages) -> list[ChosenImage]:
    """Each image with its five guesses and the activations of all layers."""
    if not given.names:
        return []
    guesses = network.guesses(network.probabilities(given.pixels), 5)
    size = network.form.crop_size
    return [
        ChosenImage(name, center_crop(pixels, size), guess, true_class, layers)
        for name, pixels, guess, true_class, layers in zip(
            given.names,
            given.pixels,
            guesses,
            given.true_classes,
            activations(network, given.pixels),
            strict=True,
        )
    ]
