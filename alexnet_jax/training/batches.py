"""The augmented training batches of a group of trials (section 4.1)."""

import contextlib
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from alexnet_jax.data.augmentation import Augmentation
from alexnet_jax.data.pipeline import Data, TrainBatch, train_batches
from alexnet_jax.training.stacking import stack_batches


def augmented_batches(
    augmentation: Augmentation,
    data: Data,
    seed: int,
    steps: range,
    *,
    batch_size: int,
    host: int = 0,
    num_hosts: int = 1,
) -> Generator[TrainBatch, None, None]:
    """One host's share of the batches of one seed, for `steps`, counted from 0."""
    return train_batches(
        data.train,
        augmentation,
        seed=seed,
        steps=steps,
        batch_size=batch_size,
        host=host,
        num_hosts=num_hosts,
    )


def stacked_batches(
    augmentation: Augmentation,
    data: Data,
    seeds: Sequence[int],
    steps: range,
    *,
    batch_size: int,
    host: int = 0,
    num_hosts: int = 1,
) -> Generator[dict[str, np.ndarray], Any, None]:
    """The batches of all `seeds` side by side, along the second axis of each array.

    A seed that occurs several times is read once.
    """
    different = list(dict.fromkeys(seeds))
    with contextlib.ExitStack() as opened:
        of_seeds = [
            opened.enter_context(
                contextlib.closing(
                    augmented_batches(
                        augmentation,
                        data,
                        seed,
                        steps,
                        batch_size=batch_size,
                        host=host,
                        num_hosts=num_hosts,
                    )
                )
            )
            for seed in different
        ]
        for batches in zip(*of_seeds, strict=True):
            of_seed = dict(zip(different, batches, strict=True))
            yield stack_batches([of_seed[seed] for seed in seeds])
