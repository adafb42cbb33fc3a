"""The products of a step: how many operations they take, and how fast such products are."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import torch_baselines
from benchmarks.floors import MATRIX_PRODUCT, SIDE
from benchmarks.timing import BenchmarkSettings, Comparison


def matrix_product(settings: BenchmarkSettings) -> Comparison:
    """A product of square matrices on each device of JAX's, and as many by PyTorch."""
    devices = jax.local_devices()
    one = jnp.ones((SIDE, SIDE), settings.array_dtype)
    factors = [jax.device_put(one, device) for device in devices]
    product = jax.jit(jnp.matmul)

    def ours() -> None:
        jax.block_until_ready([product(factor, factor) for factor in factors])

    implementations = {"ours": ours}
    if torch := torch_baselines.pytorch():
        dtype = torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32
        factor = torch.ones(
            SIDE, SIDE, dtype=dtype, device=torch_baselines.torch_device()
        )

        def theirs() -> None:
            for _ in devices:
                torch.matmul(factor, factor)
            torch_baselines.wait_for_torch()

        implementations["torch"] = theirs
    gflop = 2 * SIDE**3 * len(devices) / 1e9
    return Comparison(MATRIX_PRODUCT, implementations, gflop=gflop)


def step_gflop(logits: Callable[..., jax.Array], *inputs: Any) -> float:
    """The additions and multiplications of a train step's products, in 10^9.

    Each layer computes its outputs, the gradient of its kernel, and, but for the first one,
    that of its inputs; each takes as many as the outputs.

    Args:
      logits: a network's function, by convolutions and matrix products of JAX.
      inputs: its arguments, or their shapes.
    """
    counts = list(_products(jax.make_jaxpr(logits)(*inputs).jaxpr))
    return (3 * sum(counts) - counts[0]) / 1e9


def _products(jaxpr: Any) -> Iterator[int]:
    """The operations of each convolution and matrix product, in the order of the program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            yield 2 * math.prod(equation.outvars[0].aval.shape) * _summands(equation)
        for inner in equation.params.values():
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _products(inner)


def _summands(equation: Any) -> int:
    """How many products each output sums."""
    left, right = (operand.aval.shape for operand in equation.invars)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return math.prod(left[axis] for axis in contracted)
    output_axis = equation.params["dimension_numbers"].rhs_spec[0]
    return math.prod(right) // right[output_axis]
