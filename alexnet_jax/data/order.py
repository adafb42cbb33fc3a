"""Which examples, in which order: a pure function of (seed, epoch)."""

import numpy as np
from jaxtyping import Int64


def epoch_order(seed: int, epoch: int, num_examples: int) -> Int64[np.ndarray, " n"]:
    """The order of one epoch: a permutation of 0 .. num_examples - 1.

    Sorts the examples by a hash of (seed, epoch, example). The hash is our own
    (splitmix64's finalizer, Steele, Lea and Flood 2014), because numpy promises its
    generators' streams for one build of numpy only.
    """
    with np.errstate(over="ignore"):
        key = _mix(_mix(np.uint64(seed)) + np.uint64(epoch))
        hashes = _mix(np.arange(num_examples, dtype=np.uint64) + key)
    return np.argsort(hashes, kind="stable").astype(np.int64)


def _mix(x):
    """splitmix64: one step and its finalizer, on uint64 with wrap-around."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
