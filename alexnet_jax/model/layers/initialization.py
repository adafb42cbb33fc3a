"""Initial weights and biases (section 5)."""

import dataclasses
import math
import zlib

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from alexnet_jax.model.layers import draws


@dataclasses.dataclass(frozen=True)
class LayerInitialization:
    """The initial weights of a layer, drawn from N(0, std**2), and its constant bias.

    If `std` is None, weights and biases are both uniform within +-1 / sqrt(fan-in), the
    default of PyTorch for convolutions and dense layers.
    """

    std: float | None
    bias: float


def layer_initializations(
    initialization: str,
    weight_stds: tuple[float, ...],
    biases: tuple[float, ...],
    *,
    width: float,
) -> list[LayerInitialization]:
    """Returns the initialization of each layer, first to last.

    Args:
      initialization: "normal" for the given standard deviations and biases, "fan_in" for
        PyTorch's default, which ignores both.
      width: the number of channels as a multiple of the paper's. Each unit after the
        first layer sums over `width` times as many inputs, so dividing the standard
        deviation of its weights by sqrt(width) preserves the scale of that sum.
    """
    if initialization == "fan_in":
        return [LayerInitialization(None, 0.0)] * len(biases)
    scaled = [weight_stds[0], *(std / math.sqrt(width) for std in weight_stds[1:])]
    return [LayerInitialization(*pair) for pair in zip(scaled, biases, strict=True)]


def layer_key(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The initialization key of a layer, derived from its name and not its position.

    Two networks with the same seed therefore share the initial weights of every layer
    whose shapes agree.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def initial_parameters(
    shape: tuple[int, ...], initialization: LayerInitialization, key: Key[Array, ""]
) -> tuple[
    Float[np.ndarray, "..."] | Float[Array, "..."],
    Float[np.ndarray, " o"] | Float[Array, " o"],
]:
    """Draws a kernel of `shape`, whose last axis is the outputs, and a bias.

    Both are arrays in host memory, or traced ones under a JAX transformation.
    """
    if initialization.std is not None:
        bias = np.full(shape[-1:], initialization.bias, np.float32)
        return draws.normal(key, shape, initialization.std), bias
    bound = 1 / math.sqrt(math.prod(shape[:-1]))
    bias_key = jax.random.fold_in(key, 1)
    return draws.uniform(key, shape, bound), draws.uniform(bias_key, shape[-1:], bound)
