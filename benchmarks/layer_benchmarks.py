"""Times AlexNet's layers, forward and backward, against plain JAX and PyTorch.

`run.py` runs this module as a process of its own.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from alexnet_jax.model import layers
from alexnet_jax.training.cpu_memory import keep_freed_memory, only_cpus
from benchmarks import library_baselines, torch_baselines
from benchmarks.library_baselines import NORM
from benchmarks.timing import (
    BenchmarkSettings,
    Comparison,
    Implementation,
    print_report,
    set_precision,
)


def layer_comparisons(settings: BenchmarkSettings) -> Iterator[Comparison]:
    """Yields the comparisons of all layers, at the sizes of the paper's AlexNet.

    The last rows have the sizes of Figure 1's four-layer network and its batch of 128, one
    of them the 16x16 pixels and half the kernels that digits have.
    """
    of_figure_1 = dataclasses.replace(settings, batch_size=128)
    for side, channels in ((55, 96), (27, 256)):
        yield compare_normalization(side, channels, settings)
    for side, channels, target in ((55, 96, 0.25), (27, 256, 0.15), (13, 256, None)):
        yield compare_max_pool(side, channels, target, settings)
    yield compare_max_pool_with_all_ties(settings)
    yield compare_within_channel_norm(settings)
    yield compare_folded_convolution(settings)
    for name, side, inputs, outputs, window, stride, pads, towers in (
        ("conv1", 224, 3, 96, 11, 4, (0, 3), 1),
        ("conv2, two towers", 27, 96, 256, 5, 1, (2, 2), 2),
        ("conv3", 13, 256, 384, 3, 1, (1, 1), 1),
        ("conv4, two towers", 13, 384, 384, 3, 1, (1, 1), 2),
        ("conv5, two towers", 13, 384, 256, 3, 1, (1, 1), 2),
        ("conv1, four layers", 32, 3, 32, 5, 1, (2, 2), 1),
        ("conv2, four layers", 16, 32, 32, 5, 1, (2, 2), 1),
        ("conv3, four layers", 8, 32, 64, 5, 1, (2, 2), 1),
        ("conv3, digits", 4, 16, 32, 5, 1, (2, 2), 1),
    ):
        layer = layers.Convolution(
            (inputs, outputs),
            window=window,
            stride=stride,
            padding=(pads, pads),
            towers=towers,
            initialization=layers.LayerInitialization(0.01, 0.0),
            key=jax.random.key(0),
        )
        of_alexnet = name.split(",")[-1] not in (" four layers", " digits")
        x = activations(settings if of_alexnet else of_figure_1, side, inputs)
        yield compare_convolution(name, layer, x)
    yield compare_overhanging_max_pool(of_figure_1)
    for side, channels in ((16, 32), (8, 64)):
        yield compare_average_pool(side, channels, of_figure_1)


def activations(settings: BenchmarkSettings, side: int, channels: int) -> jax.Array:
    """Draws a batch (n, side, side, channels) like the output of a ReLU.

    Half of the values are zero, so that maxima tie.
    """
    shape = (settings.batch_size, side, side, channels)
    values = np.random.default_rng(0).standard_normal(shape, np.float32)
    return jnp.asarray(np.maximum(50 * values, 0), settings.array_dtype)


def compare_normalization(
    side: int, channels: int, settings: BenchmarkSettings
) -> Comparison:
    """Compares local response normalization (section 3.3), in one tower."""
    x = activations(settings, side, channels)
    implementations = {
        name: with_gradients(functools.partial(norm, **NORM, towers=1), x)
        for name, norm in (
            ("ours", layers.local_response_norm),
            ("plain", library_baselines.local_response_norm),
        )
    }
    # PyTorch divides alpha by the depth.
    implementations |= torch_baselines.layer_forms(
        lambda nn: nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0), x
    )
    targets = {"core": {"plain": 0.70, "torch": 0.30}}
    return Comparison(f"LRN {side}x{side}x{channels}", implementations, targets)


def compare_max_pool(
    side: int, channels: int, target: float | None, settings: BenchmarkSettings
) -> Comparison:
    """Compares overlapping max pooling (section 3.4), 3x3 windows and stride 2."""
    x = activations(settings, side, channels)
    implementations = max_pools(x, ties="first")
    implementations |= torch_baselines.layer_forms(lambda nn: nn.MaxPool2d(3, 2), x)
    targets = {"core": {"plain": target}} if target else {}
    return Comparison(f"max pool {side}x{side}x{channels}", implementations, targets)


def compare_max_pool_with_all_ties(settings: BenchmarkSettings) -> Comparison:
    """Compares the 2012 code's gradient, which goes to every maximum of a window.

    Neither JAX nor PyTorch has this gradient, so plain JAX computes its own.
    """
    implementations = max_pools(activations(settings, 27, 256), ties="all")
    return Comparison("max pool 27x27, all ties", implementations)


def max_pools(x: jax.Array, ties: str) -> dict[str, Implementation]:
    choices: dict[str, Any] = {"window": 3, "stride": 2}
    ours = functools.partial(layers.max_pool, **choices, rounding="up", ties=ties)
    plain = functools.partial(library_baselines.max_pool, **choices)
    return {"ours": with_gradients(ours, x), "plain": with_gradients(plain, x)}


def compare_overhanging_max_pool(settings: BenchmarkSettings) -> Comparison:
    """Compares the four-layer network's max pooling, its bias before and ReLU after it.

    XLA fuses the three, so that pooling alone does not show what it costs.
    """
    x = activations(settings, 32, 32) - 10
    bias = jnp.full((1, 1, 1, 32), 0.5, x.dtype)
    edges = ((0, 1), (0, 1))

    def ours(x, bias):
        choices: dict[str, Any] = {"rounding": "up", "ties": "first"}
        return jax.nn.relu(layers.max_pool(x + bias, window=3, stride=2, **choices))

    def plain(x, bias):
        return jax.nn.relu(nnx.max_pool(x + bias, (3, 3), (2, 2), edges))

    implementations = {
        function.__name__: with_gradients(function, x, bias)
        for function in (ours, plain)
    }
    return Comparison("bias, max pool, ReLU 32x32x32", implementations)


def compare_average_pool(
    side: int, channels: int, settings: BenchmarkSettings
) -> Comparison:
    """Compares average pooling, 3x3 windows and stride 2, the last of which overhangs."""
    x = activations(settings, side, channels)
    ours = functools.partial(layers.average_pool, window=3, stride=2, rounding="up")

    def plain(x):
        edges = ((0, 1), (0, 1))
        mean = nnx.avg_pool(x, (3, 3), (2, 2), edges, count_include_pad=False)
        return mean.astype(x.dtype)

    implementations = {
        "ours": with_gradients(ours, x),
        "plain": with_gradients(plain, x),
    }
    implementations |= torch_baselines.layer_forms(
        lambda nn: nn.AvgPool2d(3, 2, ceil_mode=True), x
    )
    return Comparison(f"average pool {side}x{side}x{channels}", implementations)


def compare_within_channel_norm(settings: BenchmarkSettings) -> Comparison:
    """Compares the 2012 code's normalization within each channel."""
    x = activations(settings, 27, 256)
    constants: dict[str, Any] = {"size": 5, "k": 1.0, "alpha": 4e-5, "beta": 0.75}
    implementations = {
        name: with_gradients(functools.partial(norm, **constants), x)
        for name, norm in (
            ("ours", layers.within_channel_norm),
            ("plain", library_baselines.within_channel_norm),
        )
    }
    return Comparison("within-channel LRN 27x27", implementations)


def compare_folded_convolution(settings: BenchmarkSettings) -> Comparison:
    """Compares conv1 on 48 channels of folded pixels (space to depth, 4x4).

    Matrix units prefer 48 channels to 3, but training does not use this form: no GPU has
    shown yet that it is faster.
    """
    x = activations(settings, 224, 3)
    kernel = jnp.asarray(np.random.default_rng(1).standard_normal((11, 11, 3, 96)))
    kernel = kernel.astype(settings.array_dtype)
    choices: dict[str, Any] = {"stride": 4, "padding": ((0, 3), (0, 3))}
    folded = functools.partial(layers.space_to_depth_convolve, x, **choices)
    plain = functools.partial(library_baselines.convolve, x, **choices, towers=1)
    implementations = {
        "ours": with_gradients(folded, kernel),
        "plain": with_gradients(plain, kernel),
    }
    return Comparison("conv1, space to depth", implementations)


def compare_convolution(
    name: str, layer: layers.Convolution, x: jax.Array
) -> Comparison:
    """Compares a convolution, its gradients for kernel and bias, and for its input.

    The gradient for the input of conv1 is left out: training does not compute it.
    """
    graph, state = nnx.split(layer)
    params = nnx.to_pure_dict(state)
    stride, padding, towers = layer.stride, layer.padding, layer.towers
    input_gradient = not name.startswith("conv1")

    def ours(params, x):
        return nnx.merge(graph, nnx.State(params))(x)

    def plain(params, x):
        kernel, bias = (params[part].astype(x.dtype) for part in ("kernel", "bias"))
        y = library_baselines.convolve(
            x, kernel, stride=stride, padding=padding, towers=towers
        )
        return y + bias.reshape(1, 1, 1, -1)

    implementations = {
        function.__name__: with_gradients(function, params, x)
        if input_gradient
        else with_gradients(functools.partial(function, x=x), params)
        for function in (ours, plain)
    }
    window, _, _, outputs = params["kernel"].shape
    implementations |= torch_baselines.layer_forms(
        lambda _: torch_baselines.convolution(
            (x.shape[3], outputs), window, stride, padding, groups=towers
        ),
        x,
        input_gradient,
    )
    return Comparison(name, implementations)


def with_gradients(function: Callable, *arguments: Any) -> Implementation:
    """Returns the compiled function with its gradients for all arguments."""

    @jax.jit
    def run(gradient, *arguments):
        y, backward = jax.vjp(function, *arguments)
        return y, backward(gradient)

    gradient = jnp.ones_like(jax.eval_shape(function, *arguments))
    return lambda: jax.block_until_ready(run(gradient, *arguments))


def main() -> None:
    _, batch_size, repeats, dtype, cores = sys.argv[1:6]
    if only_cpus():
        keep_freed_memory()  # As in a run; PyTorch, in the same process, gains from it too.
    set_precision(dtype)
    torch_baselines.set_up(dtype)
    print_report(
        layer_comparisons(BenchmarkSettings(int(batch_size), dtype)),
        repeats=int(repeats),
        cores=cores,
        packages=("jax", "jaxlib", "flax", "optax", *torch_baselines.packages()),
    )


if __name__ == "__main__":
    main()
