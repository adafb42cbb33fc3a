"""The training batches of a group of trials, augmented as their settings say (section 4.1)."""

import contextlib
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from alexnet_jax.data.augmentation import Augmentation
from alexnet_jax.data.pipeline import Data, TrainBatch, examples_at, train_batches
from alexnet_jax.training.preprocess import InputForm, train_input
from alexnet_jax.training.stacking import stack_batches


def augmented_batches(
    settings: ConfigDict,
    data: Data,
    seed: int,
    steps: range,
    *,
    host: int = 0,
    num_hosts: int = 1,
) -> Generator[TrainBatch, None, None]:
    """One host's share of the batches of one seed, for `steps`, counted from 0."""
    return train_batches(
        data.train,
        augmentation_of(settings, data),
        seed=seed,
        steps=steps,
        batch_size=settings.training.batch_size,
        host=host,
        num_hosts=num_hosts,
    )


def augmentation_of(settings: ConfigDict, data: Data) -> Augmentation:
    """How a trial's training images are augmented."""
    wanted = settings.data
    return Augmentation(
        crop_size=wanted.crop_size,
        random_crop=wanted.random_crop,
        random_flip=wanted.random_flip,
        crop_sharing=wanted.crop_sharing,
        lighting_std=wanted.lighting_std,
        lighting_shrink=wanted.lighting_shrink,
        lighting_off_epoch=wanted.lighting_off_epoch,
        components=data.statistics.components(wanted.lighting_scale),
    )


def stacked_batches(
    settings: ConfigDict,
    data: Data,
    seeds: Sequence[int],
    steps: range,
    *,
    host: int = 0,
    num_hosts: int = 1,
) -> Generator[dict[str, np.ndarray], Any, None]:
    """The batches of all `seeds` side by side, along the second axis of each array."""
    with contextlib.ExitStack() as opened:
        of_seeds = [
            opened.enter_context(
                contextlib.closing(
                    augmented_batches(
                        settings, data, seed, steps, host=host, num_hosts=num_hosts
                    )
                )
            )
            for seed in seeds
        ]
        for batches in zip(*of_seeds, strict=True):
            yield stack_batches(batches)


# --- For a person to see ----------------------------------------------------------


class SeenImages(NamedTuple):
    """Some training images before and after they become the network's input.

    Attributes:
      form: how they become it.
      batch: as they are cropped and reflected, with their lighting offsets.
      whole: the same images before.
      seen: what the network sees, in gray levels: RGB, with the mean added back.
    """

    form: InputForm
    batch: TrainBatch
    whole: UInt8[np.ndarray, "n size size 3"]
    seen: UInt8[np.ndarray, "n crop crop 3"]


def seen_images(settings: ConfigDict, data: Data, count: int) -> SeenImages:
    """At most `count` images of seed 0's first epoch: the first, and others after it.

    Neighbors may share one crop and reflection; these do not.
    """
    augmentation = augmentation_of(settings, data)
    count = min(count, data.train.num_examples)
    distance = min(augmentation.crop_sharing, data.train.num_examples // count)
    positions = np.arange(count) * distance
    batch, whole = examples_at(data.train, augmentation, positions, seed=0)
    form = InputForm.of(settings.data)
    mean = form.mean_of(data.statistics.mean_image, data.statistics.channel_mean)
    return SeenImages(form, batch, whole, _seen(batch, mean, form))


_train_input = jax.jit(train_input, static_argnames="form")


def _seen(
    batch: TrainBatch, mean: np.ndarray, form: InputForm
) -> UInt8[np.ndarray, "n crop crop 3"]:
    """The network's input as images: with the mean added back, unscaled, in RGB."""
    names = ("image", "offset", "mirrored", "lighting", "gain")
    given = {name: np.asarray(dict(batch)[name]) for name in names}
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
