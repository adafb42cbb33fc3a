"""Random numbers for initial weights: those of `jax.random`, at little cost to compile.

`jax.random.normal` compiles a program for each shape. Here one program draws `CHUNK` numbers
of any array, and the values are bit-identical.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import random as raw_random
from jaxtyping import Array, Float, Float32, Key, UInt32

# Numbers drawn by a call: few calls for 60 million weights, little waste for a small kernel.
CHUNK = 2**16


def normal(
    key: Key[Array, ""], shape: tuple[int, ...], std: float
) -> Float[np.ndarray, "..."] | Float[Array, "..."]:
    """Draws from N(0, std**2): the values of a compiled `std * jax.random.normal`.

    Returns:
      An array in host memory; under a JAX transformation, a traced one.
    """
    below_one = np.nextafter(np.float32(1), np.float32(0))
    # XLA multiplies the two constants first.
    scale = np.float32(std) * np.float32(math.sqrt(2))
    return _in_chunks(key, shape, -below_one, np.float32(1), scale)


def uniform(
    key: Key[Array, ""], shape: tuple[int, ...], bound: float
) -> Float[np.ndarray, "..."] | Float[Array, "..."]:
    """Draws from [-bound, bound): the values of `jax.random.uniform`.

    Returns:
      An array in host memory; under a JAX transformation, a traced one.
    """
    return _in_chunks(key, shape, np.float32(-bound), np.float32(bound), None)


def _in_chunks(
    key: Key[Array, ""],
    shape: tuple[int, ...],
    low: np.float32,
    high: np.float32,
    scale: np.float32 | None,
) -> Float[np.ndarray, "..."] | Float[Array, "..."]:
    size = math.prod(shape)
    data = jax.random.key_data(key)
    if isinstance(data, jax.core.Tracer):
        whole = _chunk(data, np.uint32(0), low, high, scale, count=size)
        return whole.reshape(shape)
    drawn = np.empty(size, np.float32)
    for start in range(0, size, CHUNK):
        chunk = _chunk(data, np.uint32(start), low, high, scale, count=CHUNK)
        drawn[start : start + CHUNK] = np.asarray(chunk)[: size - start]
    return drawn.reshape(shape)


@partial(jax.jit, static_argnames="count")
def _chunk(
    key: UInt32[Array, "2"],
    start: UInt32[Array, ""] | np.uint32,
    low: Float32[Array, ""] | np.float32,
    high: Float32[Array, ""] | np.float32,
    scale: Float32[Array, ""] | np.float32 | None,
    *,
    count: int,
) -> Float32[Array, " count"]:
    """Numbers `start` to `start + count` that the key draws from [low, high).

    With a scale, `scale * erf_inv` of them: normal ones, from draws of (-1, 1).
    """
    index = start + lax.iota(jnp.uint32, count)
    words = raw_random.threefry_2x32(
        key, jnp.concatenate([jnp.zeros_like(index), index])
    )
    bits = words[:count] ^ words[count:]
    # 23 random bits as the fraction of a number in [1, 2).
    fraction = lax.bitcast_convert_type(
        (bits >> 9) | np.uint32(0x3F800000), jnp.float32
    )
    uniform = jnp.maximum(low, (fraction - 1) * (high - low) + low)
    return uniform if scale is None else scale * lax.erf_inv(uniform)
