"""The training images nearest to given ones, by what a layer makes of them (Figure 4)."""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import UInt8

from alexnet_jax.trained.explore.explored import SimilarImage
from alexnet_jax.trained.explore.picked_examples import (
    PickedExamples,
    center_crop,
    evenly_spaced,
)
from alexnet_jax.trained.similar.exact_search import nearest_rows
from alexnet_jax.trained.trained_network import TrainedNetwork

MOST_COMPARED = 10_000  # training images
MOST_BYTES = 2**28  # of features held in memory


def compared_examples(available: int, shape: tuple[int, ...]) -> list[int]:
    """The training images that are compared, evenly spaced where they are too many.

    Args:
      available: training images.
      shape: of the features of one image.
    """
    fit = MOST_BYTES // (4 * math.prod(shape))
    return evenly_spaced(available, max(1, min(MOST_COMPARED, fit)))


def similar_images(
    network: TrainedNetwork,
    queries: UInt8[np.ndarray, "queries side side 3"],
    among: PickedExamples,
    examples: list[int],
    *,
    count: int,
    advance: Callable[[int], None] = lambda images: None,
) -> list[list[SimilarImage]]:
    """For each query the `count` nearest of the `examples`, nearest first: exact.

    The distance is Euclidean, between the outputs of its `compared_layer` for center crops. Of
    equal distances the first example comes first.

    Raises:
      UserError: if an image cannot be read.
    """
    if not examples:
        return [[] for _ in queries]
    if not len(queries):
        return []
    parts: list[np.ndarray] = []

    def images() -> Iterator[np.ndarray]:
        for batch, of_batch in among.batches(examples, advance):
            parts.append(of_batch)
            yield from batch

    layer = network.compared_layer
    features = network.features(itertools.chain(queries, images()), layer)
    features = features.reshape(len(features), -1).astype(np.float32, copy=False)
    own, others = features[: len(queries)], features[len(queries) :]
    classes, found = np.concatenate(parts), []
    nearest = nearest_rows([others], own, count)
    for best, distances in zip(nearest.rows.tolist(), nearest.distances, strict=True):
        pixels = among.pixels([examples[place] for place in best])
        found.append(
            [
                SimilarImage(
                    center_crop(image, network.form.crop_size),
                    network.class_names[classes[place]],
                    among.place(examples[place]),
                    float(distance),
                )
                for image, place, distance in zip(pixels, best, distances, strict=True)
            ]
        )
    return found
