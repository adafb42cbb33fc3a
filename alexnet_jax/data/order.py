"""Which examples, in which order: a pure function of (seed, epoch)."""

import functools

import numpy as np
from jaxtyping import Int64

from alexnet_jax.data.draws import keys, mix


@functools.lru_cache(
    maxsize=2
)  # a batch can hold the end of one and the start of another
def epoch_order(seed: int, epoch: int, num_examples: int) -> Int64[np.ndarray, " n"]:
    """The order of one epoch: a permutation of 0 .. num_examples - 1, not to be written.

    Sorts the examples by a hash of (seed, epoch, example).
    """
    with np.errstate(over="ignore"):
        hashes = mix(np.arange(num_examples, dtype=np.uint64) + keys(seed, epoch))
    order = np.argsort(hashes, kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


def examples_at(
    places: Int64[np.ndarray, " n"], *, seed: int, num_examples: int
) -> Int64[np.ndarray, " n"]:
    """Of places in the endless row of epochs, each `num_examples` long."""
    epochs = places // num_examples
    found = np.empty_like(places)
    for epoch in np.unique(epochs).tolist():
        of_epoch = epochs == epoch
        inside = places[of_epoch] % num_examples
        found[of_epoch] = epoch_order(seed, epoch, num_examples)[inside]
    return found
