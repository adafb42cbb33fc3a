"""The layers that AlexNet needs and today's libraries lack or do otherwise.

Images are NHWC, kernels HWIO. Of a two-tower layer the first half of the output
channels is tower a, the second half tower b; each reads its own half of the input.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Key

from alexnet_jax.errors import UserError

Images = Float[Array, "n h w c"]
Mapped = Float[Array, "n i j d"]  # other sizes, perhaps other channels
Padding = tuple[tuple[int, int], tuple[int, int]]


class Convolution(nnx.Module):
    """A convolution with bias, in one or two towers (section 3.2, Figure 2).

    The kernel is (height, width, in_channels / towers, out_channels).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        window: int,
        stride: int,
        padding: Padding,
        towers: int,
        start: "Start",
        key: Key[Array, ""],
    ) -> None:
        shape = (window, window, in_channels // towers, out_channels)
        kernel, bias = first_weights(shape, start, key)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)
        self.stride = stride
        self.padding = padding
        self.towers = towers

    def __call__(self, x: Images) -> Mapped:
        # Two convolutions, not feature_group_count=2: XLA on CPU runs the grouped
        # form 6 to 8 times slower.
        inputs = jnp.split(x, self.towers, axis=-1)
        kernels = jnp.split(self.kernel[...], self.towers, axis=-1)
        outputs = [
            lax.conv_general_dilated(
                x_tower,
                kernel,
                window_strides=(self.stride, self.stride),
                padding=self.padding,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            for x_tower, kernel in zip(inputs, kernels, strict=True)
        ]
        return jnp.concatenate(outputs, axis=-1) + self.bias[...]


class Dense(nnx.Module):
    """A fully connected layer: kernel (in, out), and bias."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        start: "Start",
        key: Key[Array, ""],
    ) -> None:
        kernel, bias = first_weights((in_features, out_features), start, key)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)

    def __call__(self, x: Float[Array, "n i"]) -> Float[Array, "n o"]:
        return x @ self.kernel[...] + self.bias[...]


def layer_key(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """A layer's own initialization key: a function of its name, not of its place.

    So two networks with the same seed agree in every layer whose shapes agree.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


@dataclasses.dataclass(frozen=True)
class Start:
    """A layer's first weights: N(0, deviation**2), and a constant bias (section 5).

    With `deviation` None both are uniform in +-1/sqrt(inputs of a unit), as PyTorch
    starts convolutions and dense layers.
    """

    deviation: float | None
    bias: float


def starts(
    initialization: str,
    deviations: tuple[float, ...],
    biases: tuple[float, ...],
    *,
    width: float,
) -> list[Start]:
    """The start of each layer of a network `width` times as wide as the paper's.

    A unit of every layer but the first sums over `width` times as many inputs: dividing
    its deviation by sqrt(width) keeps the deviation of that sum.
    """
    if initialization == "fan_in":
        return [Start(None, 0.0)] * len(biases)
    wide = [deviations[0], *(d / math.sqrt(width) for d in deviations[1:])]
    return [Start(*pair) for pair in zip(wide, biases, strict=True)]


def first_weights(
    shape: tuple[int, ...], start: Start, key: Key[Array, ""]
) -> tuple[Float[Array, "..."], Float[Array, " o"]]:
    """Kernel of `shape`, outputs last, and bias."""
    if start.deviation is not None:
        kernel = start.deviation * jax.random.normal(key, shape)
        return kernel, jnp.full(shape[-1:], start.bias, jnp.float32)
    bound = 1 / math.sqrt(math.prod(shape[:-1]))
    kernel = jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    of_bias = jax.random.fold_in(key, 1)
    return kernel, jax.random.uniform(of_bias, shape[-1:], minval=-bound, maxval=bound)


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The nonlinearity by its name in the configuration (section 3.1)."""
    match name:
        case "relu":
            return jax.nn.relu
        case "tanh":
            return jnp.tanh
        case _:
            raise UserError(f"Unknown activation '{name}': relu or tanh.")


def local_response_norm(
    x: Images, *, depth: int, k: float, alpha: float, beta: float, towers: int
) -> Images:
    """Divides each activation by its neighbours' energy across channels (section 3.3).

    b_i = a_i / (k + alpha * sum_j a_j**2) ** beta, j over the `depth` channels centred
    on i, clipped at the edges of i's own tower: as in the 2012 code no sum crosses
    from one tower to the other. `alpha` multiplies the sum undivided, as printed.
    """
    shape = x.shape
    x = x.reshape(*shape[:3], towers, shape[3] // towers)
    window = (1, 1, 1, 1, depth)
    before, after = depth // 2, (depth - 1) // 2
    padding = ((0, 0),) * 4 + ((before, after),)
    energy = lax.reduce_window(x * x, 0.0, lax.add, window, (1,) * 5, padding)
    return (x * (k + alpha * energy) ** -beta).reshape(shape)


def pooled_size(size: int, window: int, stride: int, rounding: str) -> int:
    """Pixels left of `size`.

    Rounding "up", as cuda-convnet and Caffe do, the last window may overhang the edge:
    32 -> 16 for 3/2, where "down", the usual rule, gives 15. For AlexNet's own 55, 27
    and 13 both give 27, 13 and 6.
    """
    if rounding == "up":
        return 1 + math.ceil(max(0, size - window) / stride)
    return (size - window) // stride + 1


def max_pool(
    x: Images, *, window: int, stride: int, rounding: str, ties: str
) -> Mapped:
    """Maximum over window x window, every `stride` pixels (section 3.4)."""
    padding = _overhang(x.shape, window, stride, rounding)
    return nnx.max_pool(x, (window, window), (stride, stride), padding)


def average_pool(x: Images, *, window: int, stride: int, rounding: str) -> Mapped:
    """Mean over the pixels of each window that lie inside the image."""
    padding = _overhang(x.shape, window, stride, rounding)
    return nnx.avg_pool(
        x, (window, window), (stride, stride), padding, count_include_pad=False
    )


def _overhang(
    shape: tuple[int, ...], window: int, stride: int, rounding: str
) -> Padding:
    """Padding at the bottom and right that makes room for the last window."""

    def after(size: int) -> int:
        needed = (pooled_size(size, window, stride, rounding) - 1) * stride + window
        return max(0, needed - size)

    return (0, after(shape[1])), (0, after(shape[2]))


def convolved_size(
    name: str, size: int, *, window: int, stride: int, padding: tuple[int, int]
) -> int:
    """Pixels left of `size` after a convolution.

    Raises:
      UserError: if none is left, naming the layer and the arithmetic.
    """
    left = (size + sum(padding) - window) // stride + 1
    if left < 1:
        before, after = padding
        raise no_pixels(name, size, f"{size} + {before} + {after} - {window}", stride)
    return left


def checked_pooled_size(
    name: str, size: int, *, window: int, stride: int, rounding: str
) -> int:
    """`pooled_size`, refused like `convolved_size` where it leaves no pixel."""
    left = pooled_size(size, window, stride, rounding)
    if left < 1:
        raise no_pixels(name, size, f"{size} - {window}", stride)
    return left


def no_pixels(name: str, size: int, numerator: str, stride: int) -> UserError:
    return UserError(
        f"{name} leaves no pixel: its input has {size} pixels a side and "
        f"({numerator}) / {stride} + 1 < 1. "
        "Give larger images (--config.data.crop_size)."
    )


def map_norm(x: Images, *, size: int, k: float, alpha: float, beta: float) -> Images:
    """Divides each activation by the energy around it in its own map.

    The 2012 code's second normalization in layer 2, which the paper leaves out:
    a / (k + alpha * sum a**2) ** beta over size x size pixels, clipped at the edges.
    """
    before, after = size // 2, (size - 1) // 2
    energy = x * x
    for axis in (1, 2):  # the sum over a square is a sum of sums over lines
        window = [1, 1, 1, 1]
        window[axis] = size
        padding = [(0, 0)] * 4
        padding[axis] = (before, after)
        energy = lax.reduce_window(energy, 0.0, lax.add, window, (1,) * 4, padding)
    return x * (k + alpha * energy) ** -beta


def dropout(
    x: Float[Array, "n f"],
    *,
    rate: float,
    form: str,
    keys: Key[Array, " n"] | None,
    layer: int,
) -> Float[Array, "n f"]:
    """Sets each unit to zero with probability `rate` in training (section 4.2).

    Form "mask", of 2012: training (`keys`, one an example) leaves the others as they
    are, testing (None) multiplies all by 1 - rate. Form "inverted", of today's
    libraries: training divides by 1 - rate, testing does nothing; under a fixed
    initialization and learning rate that is not the same. `layer` tells the draws of
    two layers apart.
    """
    if rate == 0.0:
        return x
    scale = 1.0 - rate
    if keys is None:
        return x * scale if form == "mask" else x
    keep = jax.vmap(
        lambda key: jax.random.bernoulli(
            jax.random.fold_in(key, layer), 1.0 - rate, x.shape[1:]
        )
    )(keys)
    return jnp.where(keep, x if form == "mask" else x / scale, 0.0)
