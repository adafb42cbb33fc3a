"""The training images nearest to given ones, by what a layer makes of them (Figure 4)."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.trained.picked_examples import evenly_spaced, picked
from alexnet_jax.trained.trained_network import TrainedNetwork

MOST_COMPARED = 10_000  # training images
MOST_BYTES = 2**28  # of features held in memory
AT_ONCE = 1024  # differences of features


class Nearest(NamedTuple):
    """For each query its nearest images, nearest first: indices, distances, labels."""

    examples: Int[np.ndarray, "queries count"]
    distances: Float[np.ndarray, "queries count"]
    labels: Int[np.ndarray, "queries count"]


def compared_layer(network: TrainedNetwork) -> str:
    """fc7 as in the paper; the last hidden layer of a network without it."""
    names = network.layers
    return "fc7" if "fc7" in names else names[-2]


def compared_examples(available: int, shape: tuple[int, ...]) -> list[int]:
    """The training images that are compared, evenly spaced where they are too many.

    Args:
      available: training images.
      shape: of the features of one image.
    """
    fit = MOST_BYTES // (4 * math.prod(shape))
    return evenly_spaced(available, max(1, min(MOST_COMPARED, fit)))


def nearest_images(
    network: TrainedNetwork,
    queries: UInt8[np.ndarray, "queries side side 3"],
    split: RescaledSplit,
    examples: list[int],
    *,
    count: int,
    advance: Callable[[int], None] = lambda images: None,
) -> Nearest:
    """Searches the `count` nearest of the `examples` of a split, exactly.

    The distance is Euclidean, between the outputs of `compared_layer` for center crops. Of
    equal distances the first example comes first.

    Raises:
      UserError: if an image cannot be read.
    """
    found: list[np.ndarray] = []

    def images() -> Iterator[np.ndarray]:
        for batch, of_batch in picked(split, examples):
            found.append(of_batch)
            yield from batch
            advance(len(batch))

    layer = compared_layer(network)
    features = network.features(itertools.chain(queries, images()), layer)
    features = features.reshape(len(features), -1).astype(np.float32, copy=False)
    own, others = features[: len(queries)], features[len(queries) :]
    distances = np.stack([_distances(one, others) for one in own])
    best = np.argsort(distances, axis=1, kind="stable")[:, :count]
    labels = np.concatenate(found)
    return Nearest(
        np.array(examples)[best],
        np.take_along_axis(distances, best, axis=1),
        labels[best],
    )


def _distances(
    one: Float[np.ndarray, " units"], others: Float[np.ndarray, "n units"]
) -> Float[np.ndarray, " n"]:
    parts = [
        np.linalg.norm(others[first : first + AT_ONCE] - one, axis=1)
        for first in range(0, len(others), AT_ONCE)
    ]
    return np.concatenate(parts)
