"""Random draws as pure functions of the numbers given: numpy only, many at a time.

The hash is our own (splitmix64's finalizer, Steele, Lea and Flood 2014), because numpy
promises its generators' streams for one build of numpy only.
"""

import numpy as np
from jaxtyping import Float64, Int32, UInt64

Keys = UInt64[np.ndarray, " n"]


def mix(x):
    """splitmix64: one step and its finalizer, on uint64 with wrap-around."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def keys(seed: int, *numbers: np.ndarray | int) -> Keys:
    """One key for each entry of `numbers`, arrays of one length or single numbers.

    Different numbers, or the same in another order, give independent keys.
    """
    key = mix(np.atleast_1d(np.uint64(seed)))
    with np.errstate(over="ignore"):
        for number in numbers:
            key = mix(key + np.atleast_1d(number).astype(np.uint64))
    return key


def integers(key: Keys, below: int) -> Int32[np.ndarray, " n"]:
    """0 .. below - 1 (below 2**31), each equally likely but for one part in 2**32."""
    upper = key >> np.uint64(32)
    return ((upper * np.uint64(below)) >> np.uint64(32)).astype(np.int32)


def normals(key: Keys, count: int) -> Float64[np.ndarray, "n count"]:
    """`count` independent standard normal numbers a key, by Box and Muller's method."""
    pairs = np.arange(-(-count // 2), dtype=np.uint64)
    radius, angle = (
        # In (0, 1], in steps of 2**-53.
        ((mix(key[:, None] + 2 * pairs + np.uint64(k)) >> np.uint64(11)) + np.uint64(1))
        * 2.0**-53
        for k in (0, 1)
    )
    length = np.sqrt(-2 * np.log(radius))
    turn = 2 * np.pi * angle
    both = np.stack([length * np.cos(turn), length * np.sin(turn)], axis=-1)
    return both.reshape(len(key), -1)[:, :count]
