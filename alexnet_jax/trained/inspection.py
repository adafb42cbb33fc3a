"""What a trained network does on its test images: its units, and its errors by class."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from alexnet_jax.data.pipeline import Data, evaluation_batches
from alexnet_jax.trained.kernel_figure import kernels_of, scaled
from alexnet_jax.trained.trained_network import BATCH, TrainedNetwork, center_input

SATURATED = 0.95  # an output of tanh, whose slope is below a tenth there


@dataclasses.dataclass(frozen=True)
class Inspection:
    """A trained network beside the data that it was trained on."""

    network: TrainedNetwork
    data: Data

    def kernels(self) -> np.ndarray:
        """Kernels of conv1, (kernels, height, width, 3), each scaled from 0 to 1."""
        return scaled(kernels_of(self.network))

    def batches(self) -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
        """Outputs of every layer for the center crops of the test images, and labels."""
        outputs = jax.jit(self.network.network.outputs)
        place = jax.jit(lambda x, mean: center_input(x, mean, self.network.form))
        params, mean = self.network.params, self.network.mean
        for batch in evaluation_batches(self.data.validation, batch_size=BATCH):
            found = outputs(params, place(batch["image"], mean), None)
            real = batch["weight"] > 0  # the last batch is padded
            yield (
                {name: found[name][real] for name in self.network.layers},
                batch["label"][real],
            )

    def units(self) -> dict[str, float]:
        """By hidden layer, the fraction of dead units or of saturated outputs.

        Empty for activations other than ReLU and tanh.

        With ReLU, a unit is dead if its output is zero for every test image; a unit of a
        convolution is a channel, which is dead if it is zero in every place. With tanh, an
        output is saturated if its absolute value is above 0.95.
        """
        images = (
            batch["image"][batch["weight"] > 0]  # the last batch is padded
            for batch in evaluation_batches(self.data.validation, batch_size=BATCH)
        )
        return dead_or_saturated(self.network, images)

    def errors_by_class(self) -> dict[str, float]:
        """The top-1 error of each class, over its test images."""
        names = self.network.class_names
        wrong, count = np.zeros(len(names)), np.zeros(len(names))
        for outputs, labels in self.batches():
            logits = np.asarray(list(outputs.values())[-1])
            np.add.at(wrong, labels, logits.argmax(axis=1) != labels)
            np.add.at(count, labels, 1)
        errors = wrong / np.maximum(count, 1)
        return dict(zip(names, errors.tolist(), strict=True))


def dead_or_saturated(
    network: TrainedNetwork, batches: Iterable[UInt8[np.ndarray, "n side side 3"]]
) -> dict[str, float]:
    """By hidden layer, the fraction of dead ReLUs or of saturated outputs of tanh.

    Empty for other activations. A ReLU, or a channel, is dead if its output is zero for all
    images; an output of tanh is saturated if its absolute value is above 0.95.

    Args:
      batches: rescaled images, for whose center crops it is measured.
    """
    activation = network.settings.model.activation
    if activation not in ("relu", "tanh"):
        return {}
    relu = activation == "relu"

    def reduced(params: Any, images: jax.Array, mean: jax.Array) -> dict[str, Any]:
        placed = center_input(images, mean, network.form)
        found = {}
        for layer, x in network.network.outputs(params, placed, None).items():
            x = x.reshape(x.shape[0], -1, x.shape[-1])
            outside = (abs(x) > SATURATED).mean((1, 2))  # of each image
            found[layer] = (x > 0).any((0, 1)) if relu else outside
        return found

    compiled = jax.jit(reduced)  # Outputs of whole batches do not leave the device.
    parts: dict[str, list[np.ndarray]] = {name: [] for name in network.layers[:-1]}
    for images in batches:
        of_batch = compiled(network.params, images, network.mean)
        for name, part in parts.items():
            part.append(np.asarray(of_batch[name]))
    if relu:
        return {n: float(1 - np.any(p, axis=0).mean()) for n, p in parts.items()}
    return {name: float(np.concatenate(part).mean()) for name, part in parts.items()}
