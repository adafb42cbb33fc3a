"""The layers that AlexNet needs and today's libraries lack or do otherwise.

Images are NHWC, kernels HWIO. Of a two-tower layer the first half of the output
channels is tower a, the second half tower b; each reads its own half of the input.
"""

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

    The kernel is (height, width, in_channels / towers, out_channels), drawn from
    N(0, deviation**2); the bias starts at a constant (section 5).
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
        deviation: float,
        bias: float,
        key: Key[Array, ""],
    ) -> None:
        shape = (window, window, in_channels // towers, out_channels)
        self.kernel = nnx.Param(deviation * jax.random.normal(key, shape))
        self.bias = nnx.Param(jnp.full((out_channels,), bias, jnp.float32))
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
    """A fully connected layer: kernel (in, out) from N(0, deviation**2), and bias."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        deviation: float,
        bias: float,
        key: Key[Array, ""],
    ) -> None:
        kernel = jax.random.normal(key, (in_features, out_features))
        self.kernel = nnx.Param(deviation * kernel)
        self.bias = nnx.Param(jnp.full((out_features,), bias, jnp.float32))

    def __call__(self, x: Float[Array, "n i"]) -> Float[Array, "n o"]:
        return x @ self.kernel[...] + self.bias[...]


def layer_key(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """A layer's own initialization key: a function of its name, not of its place.

    So two networks with the same seed agree in every layer whose shapes agree.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def widened(deviation: float, layer: int, width: float) -> float:
    """A layer's initial deviation in a network `width` times as wide as the paper's.

    A unit of every layer but the first (index 0) sums over `width` times as many
    inputs; dividing by sqrt(width) keeps the deviation of that sum.
    """
    return deviation if layer == 0 else deviation / math.sqrt(width)


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


def pooled_size(size: int, window: int, stride: int) -> int:
    """Pixels left of `size` by cuda-convnet's rule, which rounds up.

    The last window may overhang the edge: 32 -> 16 for 3/2, where the usual rule gives
    15. For AlexNet's own 55, 27 and 13 both give 27, 13 and 6.
    """
    return 1 + math.ceil(max(0, size - window) / stride)


def max_pool(x: Images, *, window: int, stride: int) -> Mapped:
    """Maximum over window x window, every `stride` pixels (section 3.4)."""
    padding = _overhang(x.shape, window, stride)
    return nnx.max_pool(x, (window, window), (stride, stride), padding)


def average_pool(x: Images, *, window: int, stride: int) -> Mapped:
    """Mean over the pixels of each window that lie inside the image."""
    padding = _overhang(x.shape, window, stride)
    return nnx.avg_pool(
        x, (window, window), (stride, stride), padding, count_include_pad=False
    )


def _overhang(shape: tuple[int, ...], window: int, stride: int) -> Padding:
    """Padding at the bottom and right that makes room for the last window."""

    def after(size: int) -> int:
        needed = (pooled_size(size, window, stride) - 1) * stride + window
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
        raise UserError(
            f"{name} leaves no pixel: its input has {size} pixels a side and "
            f"({size} + {padding[0]} + {padding[1]} - {window}) / {stride} + 1 < 1. "
            "Give larger images (--config.data.crop_size)."
        )
    return left


def dropout(
    x: Float[Array, "n f"], *, rate: float, keys: Key[Array, " n"] | None, layer: int
) -> Float[Array, "n f"]:
    """Dropout as in 2012 (section 4.2): mask in training, scale in testing.

    Training (`keys`, one an example) sets each output to zero with probability `rate`
    and leaves the others as they are; testing (None) multiplies all by 1 - rate.
    Today's libraries scale in training instead, which is not the same under a fixed
    initialization and learning rate. `layer` tells the draws of two layers apart.
    """
    if rate == 0.0:
        return x
    if keys is None:
        return x * (1.0 - rate)
    keep = jax.vmap(
        lambda key: jax.random.bernoulli(
            jax.random.fold_in(key, layer), 1.0 - rate, x.shape[1:]
        )
    )(keys)
    return jnp.where(keep, x, 0.0)
