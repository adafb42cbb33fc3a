"""The order of the examples and random numbers: pure functions of the given integers.

Numpy only, and vectorized. The hash is splitmix64's finalizer (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", 2014), written out here because numpy
guarantees the streams of its own generators only within one version.
"""

import functools

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt64

Keys = UInt64[np.ndarray, " n"]


def mix(x):
    """Returns one step of splitmix64 with its finalizer, on uint64 with wrap-around."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def keys(seed: int, *numbers: np.ndarray | int) -> Keys:
    """Returns one key for each entry of `numbers`.

    Different numbers, or the same ones in another order, give independent keys.

    Args:
      seed: The seed of the run.
      *numbers: Arrays of one common length, or single integers, which are broadcast.
    """
    key = mix(np.atleast_1d(np.uint64(seed)))
    with np.errstate(over="ignore"):
        for number in numbers:
            key = mix(key + np.atleast_1d(number).astype(np.uint64))
    return key


def integers(key: Keys, below: int) -> Int32[np.ndarray, " n"]:
    """Returns one integer per key, uniform in 0 .. below - 1.

    `below` is less than 2**31; the bias of each value is less than 2**-32.
    """
    upper = key >> np.uint64(32)
    return ((upper * np.uint64(below)) >> np.uint64(32)).astype(np.int32)


def uniforms(key: Keys, count: int) -> Float64[np.ndarray, "n count"]:
    """Returns `count` independent numbers per key, uniform in (0, 1] in steps of 2**-53."""
    numbers = mix(key[:, None] + np.arange(count, dtype=np.uint64))
    return ((numbers >> np.uint64(11)) + np.uint64(1)) * 2.0**-53


def normals(key: Keys, count: int) -> Float64[np.ndarray, "n count"]:
    """Returns `count` independent standard normal numbers per key (Box and Muller)."""
    drawn = uniforms(key, 2 * -(-count // 2))
    radius, angle = drawn[:, ::2], drawn[:, 1::2]
    length = np.sqrt(-2 * np.log(radius))
    turn = 2 * np.pi * angle
    both = np.stack([length * np.cos(turn), length * np.sin(turn)], axis=-1)
    return both.reshape(len(key), -1)[:, :count]


def epoch_order(seed: int, epoch: int, num_examples: int) -> Int64[np.ndarray, " n"]:
    """Returns the order of one epoch: a read-only permutation of 0 .. num_examples - 1.

    It sorts the examples by a hash of (seed, epoch, example).
    """
    with np.errstate(over="ignore"):
        hashes = mix(np.arange(num_examples, dtype=np.uint64) + keys(seed, epoch))
    order = np.argsort(hashes, kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


class ExampleOrder:
    """The endless sequence of the epochs of one seed, in which a run reads its examples.

    Keeps the order of two epochs, because a batch can hold the end of one and the start
    of the next: 16 bytes an example. Each seed of a population has its own.

    Args:
      seed: The seed of the run.
      num_examples: The length of an epoch.
    """

    def __init__(self, seed: int, num_examples: int) -> None:
        self.seed, self.num_examples = seed, num_examples
        self._of_epoch = functools.lru_cache(maxsize=2)(
            lambda epoch: epoch_order(seed, epoch, num_examples)
        )

    def at(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Returns the examples at these positions: 0 .. num_examples - 1 is epoch 0."""
        epochs = positions // self.num_examples
        found = np.empty_like(positions)
        for epoch in np.unique(epochs).tolist():
            in_epoch = epochs == epoch
            within = positions[in_epoch] % self.num_examples
            found[in_epoch] = self._of_epoch(epoch)[within]
        return found
