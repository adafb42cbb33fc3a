"""Labels that others have given to ImageNet's validation images, as in ImageNet ReaL."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from alexnet_jax.data.types import Source
from alexnet_jax.errors import UserError
from alexnet_jax.trained.class_names import imagenet_order, match

IMAGENET_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})")


def read_reassessed(
    path: Path, source: Source, class_names: Sequence[str]
) -> tuple[list[list[int]], str]:
    """Reads labels in the form of ImageNet ReaL, in the order of the split's examples.

    The file holds a JSON list with a list of class numbers for each image of ImageNet's
    validation set, in the order of the images' own numbers. Where the network's classes are
    ImageNet's 1,000, a number is that of a class in the order of the WordNet ids. It is the
    name of a class where the network's are 0, 1, 2, ...; otherwise a position among the
    dataset's classes.

    Args:
      path: the file.
      source: the dataset.
      class_names: of the network.

    Returns:
      For each example its classes, as indices of `class_names`; and a sentence that says
      how the numbers were read.

    Raises:
      UserError: if the file cannot be read or has another form, if the images are not
        files that are named as those of ImageNet are, or the network does not know a class
        of the dataset.
    """
    try:
        held = json.loads(path.expanduser().read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"--reassessed={path} cannot be read: {error}.") from error
    classes, order = _by_number(source, class_names)
    if not isinstance(held, list) or not all(
        isinstance(each, list)
        and all(type(k) is int and 0 <= k < len(classes) for k in each)
        for each in held
    ):
        raise UserError(
            f"--reassessed={path}: a list is expected that holds, for each image, a list of "
            f"class numbers from 0 to {len(classes) - 1}, which are {order}."
        )
    split, found = source.validation, []
    for index in range(split.num_examples):
        named = IMAGENET_IMAGE.search(split.where(index))
        number = int(named[1]) if named else 0
        if not 1 <= number <= len(held):
            raise UserError(
                f"--reassessed={path} has labels for the images ILSVRC2012_val_00000001 to "
                f"{len(held):08d}, and {source.name} has {split.where(index)}. Open "
                "ImageNet's validation images as folder=PATH, by their own names."
            )
        found.append([classes[k] for k in held[number - 1]])
    return found, f"The class numbers of {path.name} were read as {order}."


def _by_number(source: Source, class_names: Sequence[str]) -> tuple[list[int], str]:
    """For each class number the index of the network's class, and which numbers these are.

    They are ImageNet's in the order of the WordNet ids, if the network has these classes;
    the names of the network's classes, if these are the numbers from 0 on; and otherwise
    positions among the dataset's classes.
    """
    ordered = imagenet_order(class_names)
    if ordered:
        words = "ImageNet's classes in the order of their WordNet ids"
        return [class_names.index(name) for name in ordered], words
    numbers = [str(k) for k in range(len(class_names))]
    if set(numbers) == set(class_names):
        words = "the names of the network's classes"
        return [class_names.index(name) for name in numbers], words
    matched = match(source.class_names, class_names, dataset=source.name)
    words = f"positions among the classes of {source.name}, in their order"
    return matched.index.tolist(), words
