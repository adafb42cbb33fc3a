"""The features of a dataset's training images by a layer of a network, computed once."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float32, UInt8

from alexnet_jax.data.types import Source, Split
from alexnet_jax.errors import UserError
from alexnet_jax.progress import Progress
from alexnet_jax.trained.similar.feature_cache import FeatureCache
from alexnet_jax.trained.trained_network import BATCH, TrainedNetwork


def dataset_features(
    network: TrainedNetwork, source: Source, layer: str, caches: Path
) -> FeatureCache:
    """The complete features of a dataset's training images, of which missing are computed.

    A row has what the layer passes on for the center crop of an image, flattened.

    Args:
      layer: one of the network's.
      caches: the folder in which they are kept. An entry is of one dataset by its
        fingerprint, of one network by `fingerprint`, and of one layer.

    Raises:
      UserError: if an image cannot be read, there is too little space, another process
        computes them, or they are not finite.
    """
    split = source.train
    key = {
        "dataset": source.fingerprint,
        "split": split.name,
        "network": fingerprint(network),
        "layer": layer,
    }
    width = width_of(network, layer)
    cache = FeatureCache.open(caches, layer, key, split.num_examples, width)
    if not cache.complete:
        begun = f", continued after {cache.rows_done:,}" if cache.rows_done else ""
        print(
            f"Computing {layer} of {split.num_examples:,} training images{begun}. They "
            f"are kept in {cache.folder}: {cache.num_bytes:,} bytes.",
            file=sys.stderr,
            flush=True,
        )
        with Progress(split.num_examples) as progress:
            progress.begin(f"{layer} of {source.name}")
            progress.skip(cache.rows_done)
            progress.compiling(layer)
            cache.write(_features(network, split, layer, cache.rows_done, progress))
    return cache


def _features(
    network: TrainedNetwork, split: Split, layer: str, first: int, progress: Progress
) -> Iterator[Float32[np.ndarray, "n width"]]:
    """The features of the images from number `first` on, in batches."""
    with contextlib.closing(_squares(network, split, first)) as squares:
        for features in network.feature_batches(squares, layer):
            yield flat(network, features)
            progress.advance(len(features))


def _squares(
    network: TrainedNetwork, split: Split, first: int
) -> Generator[UInt8[np.ndarray, "n side side 3"], None, None]:
    """The rescaled images in batches, decoded as those of a user are."""
    numbers = range(first, split.num_examples)
    decoded = network.decoded(split.read(number)[0] for number in numbers)
    with contextlib.closing(decoded):
        while part := list(itertools.islice(decoded, BATCH)):
            squares = []
            for number, one in enumerate(part, start=first):
                if isinstance(one, UserError):
                    raise UserError(
                        f"{split.where(number)} in {split.name}: {one} Fix or remove it."
                    )
                squares.append(one)
            yield np.stack(squares)
            first += len(part)


def flat(
    network: TrainedNetwork, features: Float32[np.ndarray, "n ..."]
) -> Float32[np.ndarray, "n width"]:
    """One row of finite features an image.

    Raises:
      UserError: if they are not finite.
    """
    if not np.isfinite(features).all():
        raise UserError(
            f"The features that {network.origin} gives are not finite: its training has "
            "diverged. Name an earlier checkpoint, as RUN@STEP."
        )
    return features.reshape(len(features), -1)


def width_of(network: TrainedNetwork, layer: str) -> int:
    """How many numbers a layer passes on for an image."""
    side = network.form.crop_size
    image = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    shapes = jax.eval_shape(
        lambda params, x: network.network.outputs(params, x, None),
        network.params,
        image,
    )
    return int(np.prod(shapes[layer].shape))


def fingerprint(network: TrainedNetwork) -> str:
    """16 digits of SHA-256 over the weights, the layers and the preprocessing."""
    data = network.settings.data
    form = dataclasses.asdict(network.form) | {"eval_crops": "center"}
    described = [
        json.loads(network.settings.model.to_json()),
        form,
        [data.rescale, data.rescale_size],
    ]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    leaves, _ = jax.tree.flatten_with_path((network.params, network.mean))
    for path, leaf in leaves:
        array = np.ascontiguousarray(leaf)
        named = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}"
        digest.update(named.encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]
