"""The training batches of a group of trials, augmented as their settings say (section 4.1)."""

import contextlib
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data.augmentation import Augmentation
from alexnet_jax.data.pipeline import Data, TrainBatch, train_batches
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
    wanted = settings.data
    augmentation = Augmentation(
        crop_size=wanted.crop_size,
        random_crop=wanted.random_crop,
        random_flip=wanted.random_flip,
        crop_sharing=wanted.crop_sharing,
        lighting_std=wanted.lighting_std,
        lighting_shrink=wanted.lighting_shrink,
        lighting_off_epoch=wanted.lighting_off_epoch,
        components=data.statistics.components(wanted.lighting_scale),
    )
    return train_batches(
        data.train,
        augmentation,
        seed=seed,
        steps=steps,
        batch_size=settings.training.batch_size,
        host=host,
        num_hosts=num_hosts,
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
