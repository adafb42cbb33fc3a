"""Some training images as a person sees them, before and after what the network sees."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8

from alexnet_jax.data.augmentation import Augmentation
from alexnet_jax.data.pipeline import Data, TrainBatch, examples_at
from alexnet_jax.training.preprocess import InputForm, train_input


class SeenImages(NamedTuple):
    """Some training images before and after they become the network's input.

    Attributes:
      form: how images become the network's input.
      batch: the images cropped and reflected, with their lighting offsets.
      whole: the same images, rescaled but not cropped.
      seen: what the network sees, in gray levels: RGB, with the mean added back.
    """

    form: InputForm
    batch: TrainBatch
    whole: UInt8[np.ndarray, "n size size 3"]
    seen: UInt8[np.ndarray, "n crop crop 3"]

    def place_of(self, number: int) -> tuple[int, int, int, int]:
        """(y, x, height, width) of what is seen of an image, in the whole of it."""
        if "box" not in self.batch:
            top, left = map(int, self.batch["offset"][number])
            side = self.seen.shape[1]
            return top, left, side, side
        top, left, height, width = map(int, self.batch["box"][number])
        if self.batch["mirrored"][number]:  # before the box was taken
            left = self.whole.shape[1] - left - width
        return top, left, height, width


def seen_images(
    augmentation: Augmentation, form: InputForm, data: Data, count: int
) -> SeenImages:
    """At most `count` images of seed 0's first epoch: the first, and others after it.

    Neighbors may share one crop and reflection; these do not.
    """
    count = min(count, data.train.num_examples)
    distance = min(augmentation.crop_sharing, data.train.num_examples // count)
    positions = np.arange(count) * distance
    batch, whole = examples_at(data.train, augmentation, positions, seed=0)
    mean = form.mean_of(data.statistics.mean_image, data.statistics.channel_mean)
    return SeenImages(form, batch, whole, _seen(batch, mean, form))


_train_input = jax.jit(train_input, static_argnames="form")


def _seen(
    batch: TrainBatch, mean: np.ndarray, form: InputForm
) -> UInt8[np.ndarray, "n crop crop 3"]:
    """The network's input as images: with the mean added back, unscaled, in RGB."""
    names = ("image", "offset", "mirrored", "lighting", "gain", "box")
    given = {name: np.asarray(x) for name, x in dict(batch).items() if name in names}
    black = given | {
        "image": np.zeros_like(given["image"]),
        "lighting": np.zeros_like(given["lighting"]),
        "gain": np.ones_like(given["gain"]),
    }
    x = np.asarray(_train_input(given, mean, form=form))
    x = x - np.asarray(_train_input(black, mean, form=form))  # which is minus the mean
    x = x[..., ::-1] if form.channel_order == "bgr" else x
    x = x * np.asarray(form.channel_scale, np.float32)
    return np.clip(np.round(x), 0, 255).astype(np.uint8)
