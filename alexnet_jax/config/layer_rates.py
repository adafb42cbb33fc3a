"""Learning rates of single layers, as `optimizer.layer_lr_multipliers` writes them.

"conv1-conv5=0.01,others=0.1,last=1" multiplies the learning rates of conv1 to conv5 by 0.01,
and those of all other layers but the last by 0.1. A layer that is not named, where there are
no "others", has 1; one with 0 is frozen.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from alexnet_jax.errors import UserError, nearest

# The layers with weights of each network, in order; a configuration may omit some of them.
_OF_ALEXNET = (
    *("conv1", "conv2", "conv3", "conv4", "conv5", "conv6"),
    *("fc6", "fc7", "fc8"),
)
NAMES = {
    "alexnet": _OF_ALEXNET,
    "zfnet": _OF_ALEXNET,
    "four_layer": ("conv1", "conv2", "conv3", "fc4"),
}

# The lengths of the tuples that hold one value for each layer.
LENGTHS = {
    network: {
        "channels": len(names) - 1,
        "weight_stds": len(names),
        "biases": len(names),
    }
    for network, names in NAMES.items()
}

LARGEST = 1000.0  # factor
LAST, OTHERS = "last", "others"  # the last layer, and those not named
_FIELD = "config.optimizer.layer_lr_multipliers"


def layers_of(model: Mapping[str, Any]) -> tuple[str, ...]:
    """The layers with weights that a section `model` asks for, in order."""
    *hidden, last = NAMES[model["name"]]
    channels = model["channels"]
    kept = (name for name, count in zip(hidden, channels, strict=True) if count)
    return (*kept, last)


def of_layers(
    text: str, frozen_layers: int, model: Mapping[str, Any]
) -> dict[str, float]:
    """What multiplies the learning rates of each layer that a network has, in order.

    Args:
      text: `optimizer.layer_lr_multipliers`.
      frozen_layers: `optimizer.frozen_layers`: so many first layers have 0.
      model: the section `model`, or its fields "name" and "channels".

    Raises:
      UserError: if the text is not understood, names a layer that the network lacks, or
        all layers are frozen.
    """
    present = layers_of(model)
    named: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        layers, factor = _part(part, NAMES[model["name"]])
        for layer in layers:
            if layer in named:
                raise UserError(f"{_FIELD}={text}: {layer} is named twice.")
            named[layer] = factor
        if len(layers) == 1 and layers[0] not in (*present, OTHERS):
            raise UserError(
                f"{_FIELD}: this network has no {layers[0]}, but {', '.join(present)}."
            )
    others = named.get(OTHERS, 1.0)
    found = {layer: named.get(layer, others) for layer in present}
    if frozen_layers >= len(present):
        raise UserError(
            f"config.optimizer.frozen_layers={frozen_layers}: this network has "
            f"{len(present)} layers, and the last one, {present[-1]}, must be trained: at "
            f"most {len(present) - 1}."
        )
    found |= dict.fromkeys(present[:frozen_layers], 0.0)
    if not any(found.values()):
        raise UserError(f"{_FIELD}={text} freezes every layer: nothing is trained.")
    return found


def _part(part: str, names: Sequence[str]) -> tuple[Sequence[str], float]:
    """The layers and the factor in "conv1=0.1", "conv1-fc7=0.1" or "others=0.1"."""
    layers, equals, number = part.partition("=")
    try:
        factor = float(number)
    except ValueError:
        factor = math.nan
    if not equals or not 0 <= factor <= LARGEST:
        raise UserError(
            f"{_FIELD}: '{part}' is not understood. Give layers or ranges of them, each "
            f"with a number from 0 (frozen) to {LARGEST:g}, such as "
            "conv1-conv5=0.01,others=0.1,last=1."
        )
    if layers.strip() == OTHERS:
        return (OTHERS,), factor
    ends = [_number_of(end, names) for end in re.split(r"\s*-\s*", layers.strip())]
    if len(ends) > 2 or ends[0] > ends[-1]:
        raise UserError(
            f"{_FIELD}: '{layers.strip()}' is not a range. Name its first layer and its "
            "last, such as conv1-conv5."
        )
    return names[ends[0] : ends[-1] + 1], factor


def _number_of(layer: str, names: Sequence[str]) -> int:
    if layer == LAST:
        return len(names) - 1
    if layer not in names:
        known = (*names, LAST, OTHERS)
        raise UserError(
            f"{_FIELD}: no layer '{layer}', but {', '.join(known)}."
            + nearest(layer, known)
        )
    return names.index(layer)
