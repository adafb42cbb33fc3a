"""What each layer of a trained network passes on for a few images."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from alexnet_jax.trained.explore.explored import LayerActivations
from alexnet_jax.trained.trained_network import TrainedNetwork, center_input

CHANNELS_SHOWN = 12  # of a convolution
UNITS_SHOWN = 24  # of a dense layer


def activations(
    network: TrainedNetwork, images: UInt8[np.ndarray, "n side side 3"]
) -> list[list[LayerActivations]]:
    """For each image the strongest channels and units of every layer.

    What a layer passes on is after activation, normalization and pooling. A channel's
    strength is the mean of its absolute values, a unit's its absolute value; that of a
    logit is its value. All outputs are held for these images only.

    Args:
      images: rescaled images, as `TrainedNetwork.square` returns them.
    """

    def run(params: Any, x: jax.Array, mean: jax.Array) -> dict[str, jax.Array]:
        placed = center_input(x, mean, network.form)
        return network.network.outputs(params, placed, None)

    compiled, names = jax.jit(run), network.layers
    found = []
    for image in images:  # One shape for any number of images, and little memory.
        outputs = compiled(network.params, image[None], network.mean)
        found.append(
            [
                _strongest(
                    name,
                    np.asarray(outputs[name][0], np.float32),
                    network.class_names if name == names[-1] else (),
                )
                for name in names
            ]
        )
    return found


def _strongest(
    name: str, outputs: np.ndarray, class_names: Sequence[str]
) -> LayerActivations:
    """The strongest channels or units of one layer; of equals the first."""
    is_dense = outputs.ndim == 1
    if class_names:
        strength = outputs
    elif is_dense:
        strength = abs(outputs)
    else:
        strength = abs(outputs).mean(axis=(0, 1))
    most = UNITS_SHOWN if is_dense else CHANNELS_SHOWN
    best = np.argsort(-strength, kind="stable")[:most]
    return LayerActivations(
        name=name,
        shape=outputs.shape,
        numbers=tuple(best.tolist()),
        maps=np.moveaxis(outputs[..., best], -1, 0),
        active=float((outputs != 0).mean()),
        lowest=float(outputs.min()),
        labels=tuple(class_names[k] for k in best) if class_names else (),
    )
