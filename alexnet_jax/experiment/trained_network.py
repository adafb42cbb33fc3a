"""A trained network of a run: its kernels, the outputs of its layers, and its errors."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from ml_collections import FrozenConfigDict

from alexnet_jax.data.pipeline import Data, evaluation_batches
from alexnet_jax.experiment.datasets import open_originals
from alexnet_jax.training.checkpoint_files import read_weights
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.trainer import StepSpec, Trainer

BATCH_SIZE = 128
SATURATED = 0.95  # an output of tanh, whose slope is below a tenth there


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """One trained network of a run, with what is needed to apply it."""

    settings: FrozenConfigDict
    trainer: Trainer
    params: PyTree
    data: Data

    @staticmethod
    def read(settings: FrozenConfigDict, folder: Path) -> "TrainedNetwork":
        """The network of the last checkpoint in a trial's folder.

        Raises:
          UserError: if there is no checkpoint, or its data cannot be opened.
        """
        data = open_originals(settings.data)
        params, _ = read_weights(folder, last=True)
        trainer = Trainer.of(StepSpec.of(settings, data), Devices())
        return TrainedNetwork(settings, trainer, params, data)

    def kernels(self) -> np.ndarray:
        """Kernels of conv1, (kernels, height, width, 3), each scaled from 0 to 1."""
        kernel = np.asarray(self.params["conv1"]["kernel"])
        found = np.moveaxis(kernel, -1, 0)
        low, high = (f(found, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
        return (found - low) / np.maximum(high - low, 1e-12)

    def batches(self) -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
        """Outputs of every layer for the center crops of the test images, and labels."""
        mean = self.trainer.place_mean(self.data, Devices())
        outputs: Callable[..., Any] = jax.jit(self.trainer.network.outputs)
        for batch in evaluation_batches(self.data.validation, batch_size=BATCH_SIZE):
            x = self.trainer.center_crops(jnp.asarray(batch["image"]), mean)
            found = outputs(self.params, x, None)
            real = batch["weight"] > 0  # the last batch is padded
            yield {name: y[real] for name, y in found.items()}, batch["label"][real]

    def units(self) -> dict[str, float]:
        """By hidden layer, the fraction of dead units or of saturated outputs.

        Empty for activations other than ReLU and tanh.

        With ReLU, a unit is dead if its output is zero for every test image; a unit of a
        convolution is a channel, which is dead if it is zero in every place. With tanh, an
        output is saturated if its absolute value is above 0.95.
        """
        activation = self.settings.model.activation
        if activation not in ("relu", "tanh"):
            return {}
        relu = activation == "relu"
        parts: dict[str, list[np.ndarray]] = {}
        for outputs, _ in self.batches():
            *hidden, _ = outputs
            for layer in hidden:
                x = outputs[layer]
                x = x.reshape(x.shape[0], -1, x.shape[-1])
                saturated = (abs(x) > SATURATED).mean((0, 1))
                part = (x > 0).any((0, 1)) if relu else saturated
                parts.setdefault(layer, []).append(np.asarray(part))
        if relu:
            return {n: float(1 - np.any(p, axis=0).mean()) for n, p in parts.items()}
        return {name: float(np.mean(part)) for name, part in parts.items()}

    def errors_by_class(self) -> dict[str, float]:
        """The top-1 error of each class, over its test images."""
        names = self.data.source.class_names
        wrong, count = np.zeros(len(names)), np.zeros(len(names))
        for outputs, labels in self.batches():
            logits = np.asarray(list(outputs.values())[-1])
            np.add.at(wrong, labels, logits.argmax(axis=1) != labels)
            np.add.at(count, labels, 1)
        errors = wrong / np.maximum(count, 1)
        return dict(zip(map(str, names), errors.tolist(), strict=True))
