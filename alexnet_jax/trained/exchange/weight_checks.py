"""Checks that weights which came from elsewhere are those of the network they claim to be."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from alexnet_jax.config.layered import flatten
from alexnet_jax.config.validate import values as check_values
from alexnet_jax.errors import UserError, printable
from alexnet_jax.model.network import root_key
from alexnet_jax.trained.trained_network import TrainedNetwork


def check_weights(network: TrainedNetwork, origin: str) -> None:
    """Compares the weights with the network that the settings describe.

    Args:
      origin: the file, for messages.

    Raises:
      UserError: if a setting is none, or if a layer is missing, has other shapes or holds
        numbers that are not finite: with the layer, and both shapes.
    """
    try:
        check_values(flatten(network.settings))
        expected = jax.eval_shape(network.network.initialize, root_key(0))
    except UserError as error:
        raise UserError(
            f"{origin} does not describe a network: {printable(str(error), 300)}"
        ) from error
    for layer in [
        *expected,
        *(name for name in network.params if name not in expected),
    ]:
        there = _shapes(network.params.get(layer, {}))
        here = _shapes(expected.get(layer, {}))
        if there != here:
            raise UserError(
                f"{origin} is another network: its layer {layer} has {_text(there)}; "
                f"expected is {_text(here)}."
            )
    for layer, arrays in network.params.items():
        for name, array in arrays.items():
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise UserError(
                    f"{origin}: the {name} of {layer} has values that are not finite "
                    "float32 numbers."
                )
    _check_mean(network, origin)


def _check_mean(network: TrainedNetwork, origin: str) -> None:
    """Compares the mean that is subtracted with the images that it is subtracted from."""
    side = network.settings.data.rescale_size
    statistics = network.trained_on.statistics
    shape, needed = statistics.mean_image.shape, (side, side, 3)
    if network.form.mean == "channel":
        fits = len(network.form.channel_mean) == 3 or shape[2:] == (3,)
    else:
        fits = shape == needed
    if not fits:
        raise UserError(
            f"{origin}: its mean image has shape {shape}; images of {side} pixels need "
            f"{needed}."
        )
    if not np.isfinite(network.mean).all():
        raise UserError(f"{origin}: its mean image has values that are not finite.")


def _shapes(arrays: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in sorted(arrays.items())}


def _text(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return (
        ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "no weights"
    )
