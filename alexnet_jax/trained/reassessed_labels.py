"""Labels that others have given to ImageNet's validation images, as in ImageNet ReaL."""

import json
import re
from pathlib import Path

from alexnet_jax.data.types import Source
from alexnet_jax.errors import UserError

IMAGENET_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})")


def read_reassessed(path: Path, source: Source) -> list[list[int]]:
    """Reads labels in the form of ImageNet ReaL, in the order of the split's examples.

    The file holds a JSON list with a list of class numbers for each image of ImageNet's
    validation set, in the order of the images' own numbers.

    Raises:
      UserError: if the file cannot be read or has another form, or if the images are not
        files that are named as those of ImageNet are.
    """
    try:
        held = json.loads(path.expanduser().read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"--reassessed={path} cannot be read: {error}.") from error
    classes = len(source.class_names)
    if not isinstance(held, list) or not all(
        isinstance(each, list)
        and all(type(k) is int and 0 <= k < classes for k in each)
        for each in held
    ):
        raise UserError(
            f"--reassessed={path}: a list is expected that holds, for each image, a list of "
            f"class numbers from 0 to {classes - 1}."
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
        found.append(held[number - 1])
    return found
