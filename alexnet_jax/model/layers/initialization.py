"""Initial weights and biases (section 5)."""

import dataclasses
import math
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from alexnet_jax.model.layers import draws


@dataclasses.dataclass(frozen=True)
class LayerInitialization:
    """The initial weights of a layer, drawn from N(0, std**2), and its constant bias.

    If `std` is None, they follow the `rule` of that name in `RULES`.
    """

    std: float | None
    bias: float
    rule: str = "fan_in"


def layer_initializations(
    initialization: str,
    weight_stds: tuple[float, ...],
    biases: tuple[float, ...],
    *,
    width: float,
) -> list[LayerInitialization]:
    """Returns the initialization of each layer, first to last.

    Args:
      initialization: "normal" for the given standard deviations and biases, or one of
        `RULES`, which ignore both.
      width: the number of channels as a multiple of the paper's. Each unit after the
        first layer sums over `width` times as many inputs, so dividing the standard
        deviation of its weights by sqrt(width) preserves the scale of that sum.
    """
    if initialization != "normal":
        return [LayerInitialization(None, 0.0, initialization)] * len(biases)
    scaled = [weight_stds[0], *(std / math.sqrt(width) for std in weight_stds[1:])]
    return [LayerInitialization(*pair) for pair in zip(scaled, biases, strict=True)]


def layer_key(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The initialization key of a layer, derived from its name and not its position.

    Two networks with the same seed therefore share the initial weights of every layer
    whose shapes agree.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


Drawn = Float[np.ndarray, "..."] | Float[Array, "..."]


def initial_parameters(
    shape: tuple[int, ...], initialization: LayerInitialization, key: Key[Array, ""]
) -> tuple[Drawn, Float[np.ndarray, " o"] | Float[Array, " o"]]:
    """Draws a kernel of `shape`, whose last axis is the outputs, and a bias.

    Both are arrays in host memory, or traced ones under a JAX transformation.
    """
    bias = np.full(shape[-1:], initialization.bias, np.float32)
    if initialization.std is not None:
        return draws.normal(key, shape, initialization.std), bias
    if initialization.rule != "fan_in":
        return RULES[initialization.rule](shape, key), bias
    bias_key = jax.random.fold_in(key, 1)
    bound = 1 / math.sqrt(math.prod(shape[:-1]))
    return _fan_in(shape, key), draws.uniform(bias_key, shape[-1:], bound)


def _fan_in(shape: tuple[int, ...], key: Key[Array, ""]) -> Drawn:
    """Uniform within +-1 / sqrt(inputs), as biases are: PyTorch's default."""
    return draws.uniform(key, shape, 1 / math.sqrt(math.prod(shape[:-1])))


def _he(shape: tuple[int, ...], key: Key[Array, ""]) -> Drawn:
    """N(0, 2 / inputs): He et al., "Delving Deep into Rectifiers" (2015), section 2.2."""
    return draws.normal(key, shape, math.sqrt(2 / math.prod(shape[:-1])))


def _xavier(shape: tuple[int, ...], key: Key[Array, ""]) -> Drawn:
    """Uniform, of variance 2 / (inputs + outputs): Glorot and Bengio (2010), equation 16.

    The outputs that an input reaches are those of both towers, as PyTorch counts them.
    """
    fans = math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1]
    return draws.uniform(key, shape, math.sqrt(6 / fans))


def _orthogonal(shape: tuple[int, ...], key: Key[Array, ""]) -> Drawn:
    """Outputs orthogonal to each other, or inputs if they are fewer: Saxe et al. (2014).

    Their norm is sqrt(2), with which ReLUs preserve the scale of what they pass on.
    """
    rows, columns = math.prod(shape[:-1]), shape[-1]
    drawn = draws.normal(key, (max(rows, columns), min(rows, columns)), 1.0)
    numbers = np if isinstance(drawn, np.ndarray) else jnp
    basis, upper = numbers.linalg.qr(drawn)
    # The signs of the diagonal make the distribution uniform.
    basis = math.sqrt(2) * basis * numbers.sign(numbers.diagonal(upper))[None]
    return (basis if rows >= columns else basis.T).reshape(shape).astype(np.float32)


# By field model.initialization, from a kernel's shape and key to its initial weights.
RULES: dict[str, Callable[[tuple[int, ...], Key[Array, ""]], Drawn]] = {
    "fan_in": _fan_in,
    "he": _he,
    "xavier": _xavier,
    "orthogonal": _orthogonal,
}
