"""The command `neighbors`: the training images nearest to others, by features.

The paper took the last hidden layer, fc7, and shows six neighbors (Figure 4).
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from alexnet_jax.data.types import Source
from alexnet_jax.errors import UserError
from alexnet_jax.trained.class_names import of_folder
from alexnet_jax.trained.locate import beside, load
from alexnet_jax.trained.predictions import (
    STANDARD_INPUT,
    check_picture,
    content,
    image_files,
    readable_batches,
)
from alexnet_jax.trained.similar.dataset_features import dataset_features, flat
from alexnet_jax.trained.similar.exact_search import nearest_rows
from alexnet_jax.trained.similar.neighbor_list import (
    Neighbor,
    WithNeighbors,
    json_line,
    text,
)
from alexnet_jax.trained.trained_network import TrainedNetwork

MOST_DRAWN = 20  # queries in a figure
# Rounding may part the features of equal images by about a millionth of their length. Those
# nearer than this are compared by their pixels.
PERHAPS_SAME = 1e-3


@dataclasses.dataclass(frozen=True)
class NeighborSettings:
    """The flags of the command, in `commands/neighbors.py`.

    Attributes:
      among: the dataset whose training images are searched; "": that of the training.
      tfds_dir: the data folder of TensorFlow Datasets; "": that of the training.
      layer: whose features are compared; "": fc7, or the last hidden layer.
      count: neighbors an image.
      cache: the folder that keeps the features; "": `features` beside the network.
      picture: PNG or SVG file to write; "": none.
      as_json: print JSON Lines in place of a table.
      arm: which arm of a run with several.
    """

    among: str = ""
    tfds_dir: str = ""
    layer: str = ""
    count: int = 6
    cache: str = ""
    picture: str = ""
    as_json: bool = False
    arm: str = ""


def neighbors(origin: str, queries: Sequence[str], settings: NeighborSettings) -> int:
    """Prints the nearest training images of each query; returns how many are unreadable.

    Queries are files, folders with images at any depth, or "-" for standard input. One that
    cannot be read is named on standard error.

    Raises:
      UserError: if there is no such network, layer, dataset, file or folder, the dataset
        has no training images or one that cannot be read, no query can be read, or
        features are not finite, damaged or cannot be kept.
    """
    picture = Path(settings.picture).expanduser()
    if settings.picture:
        check_picture(picture)
    files = list(dict.fromkeys(image_files(queries)))
    network = load(origin, arm=settings.arm)
    layer = settings.layer or network.compared_layer
    network.check_layer(layer)
    source = network.open_dataset(settings.among, settings.tfds_dir)
    if not source.train.num_examples:
        raise UserError(f"{source.name} has no training images.")
    images = {name: content(name) for name in files}  # standard input is read once
    names, features = readable(network, images, layer)
    caches = Path(settings.cache).expanduser() if settings.cache else beside(origin)
    cache = dataset_features(network, source, layer, caches)
    nearest = nearest_rows(cache.blocks(), features, settings.count)
    drawn: list[WithNeighbors] = []
    for name, row, index, distance in zip(names, features, *nearest, strict=True):
        query = Query(name, images[name], float(np.linalg.norm(row)))
        one = described(network, source, query, index, distance)
        print(json_line(one) if settings.as_json else text(one), flush=True)
        if settings.picture and len(drawn) < MOST_DRAWN:
            drawn.append(one)
    if drawn:
        # Matplotlib takes seconds to import.
        from alexnet_jax.trained.similar.neighbor_figure import write_neighbors

        write_neighbors(drawn, partial(example, network, source), picture)
        left_out = len(names) - len(drawn)
        more = f", without {left_out} others" if left_out else ""
        print(f"{picture}: {len(drawn)} images{more}", file=sys.stderr)
    return len(files) - len(names)


class Query(NamedTuple):
    """An image that can be read, and the Euclidean length of its features."""

    name: str
    image: str | bytes
    length: float


def readable(
    network: TrainedNetwork, images: Mapping[str, str | bytes], layer: str
) -> tuple[list[str], Float32[np.ndarray, "n width"]]:
    """The names of the images that can be read, and their features; names the others.

    Raises:
      UserError: if none can be read.
    """
    names: list[str] = []

    def batches() -> Iterator[np.ndarray]:
        decoded = zip(images, network.decoded(images.values()), strict=True)
        for of_batch, squares in readable_batches(decoded):
            names.extend(of_batch)
            yield squares

    parts = [flat(network, f) for f in network.feature_batches(batches(), layer)]
    if not parts:
        raise UserError(f"None of the {len(images)} images can be read.")
    return names, np.concatenate(parts)


def described(
    network: TrainedNetwork,
    source: Source,
    query: Query,
    index: Int64[np.ndarray, " count"],
    distance: Float64[np.ndarray, " count"],
) -> WithNeighbors:
    """A query with its neighbors, their classes and their places."""
    split, pixels = source.train, network.square(query.image)
    true_class = None
    if query.name != STANDARD_INPUT:
        true_class = of_folder(Path(query.name).absolute().parent, source.class_names)
    found = []
    for number, away in zip(index.tolist(), distance.tolist(), strict=True):
        same = away <= PERHAPS_SAME * query.length
        if same:
            differences = example(network, source, number).astype(np.int16) - pixels
            same = bool((np.abs(differences) <= 1).all())
        name = source.class_names[split.read(number)[1]]
        found.append(Neighbor(number, away, name, split.where(number), same))
    return WithNeighbors(query.name, pixels, true_class, found)


def example(
    network: TrainedNetwork, source: Source, number: int
) -> UInt8[np.ndarray, "side side 3"]:
    """A training image as the network's preprocessing begins with it."""
    return network.square(source.train.read(number)[0])
