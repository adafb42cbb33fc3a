"""The layers that AlexNet needs and today's libraries lack or do otherwise.

Images are NHWC, kernels HWIO. Of a two-tower layer the first half of the output
channels is tower a, the second half tower b; each reads its own half of the input.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Key

from alexnet_jax.errors import UserError

Images = Float[Array, "n h w c"]
Kernel = Float[Array, "a b c d"]
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
        kernels = jnp.split(self.kernel[...].astype(x.dtype), self.towers, axis=-1)
        outputs = [
            convolve(x_tower, kernel, stride=self.stride, padding=self.padding)
            for x_tower, kernel in zip(inputs, kernels, strict=True)
        ]
        return jnp.concatenate(outputs, axis=-1) + self.bias[...].astype(x.dtype)


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
        return x @ self.kernel[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


# Multiplications an image from which the weight gradient's loop pays on a CPU. On an
# EPYC core it was 3.1 times as fast as XLA's at AlexNet's conv1 (105 million), 1.2 to
# 1.3 times at conv3 to conv5 (37 and more) and as fast at conv2 (112), but up to 3
# times as slow at those of the four-layer network (10 and fewer).
LOOP_FROM = 20_000_000


def convolve(x: Images, kernel: Kernel, *, stride: int, padding: Padding) -> Mapped:
    """Cross-correlates images with a kernel: one tower, no bias."""
    return _convolve(x, kernel, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: Images, kernel: Kernel, stride: int, padding: Padding) -> Mapped:
    forward = functools.partial(_convolve_by_library, stride=stride, padding=padding)
    return _one_by_one(forward)(x, kernel)


def _convolve_forward(x, kernel, stride, padding):
    return _convolve(x, kernel, stride, padding), (x, kernel)


def _convolve_backward(stride, padding, saved, gradient):
    """Both gradients as XLA takes them, but on a CPU large kernels' by a loop."""
    x, kernel = saved
    rows, columns = _convolved_sides(x, kernel, stride, padding)
    by_loop = rows * columns * kernel.size >= LOOP_FROM
    geometry = {"stride": stride, "padding": padding}

    def of_images(x, kernel, gradient):
        _, backward = jax.vjp(lambda x: _convolve_by_library(x, kernel, **geometry), x)
        return backward(gradient)[0]

    def of_kernel_by_library(x, kernel, gradient):
        _, backward = jax.vjp(lambda k: _convolve_by_library(x, k, **geometry), kernel)
        return backward(gradient)[0]

    def of_kernel(x, kernel, gradient):
        if not by_loop:
            return of_kernel_by_library(x, kernel, gradient)
        return lax.platform_dependent(
            x,
            kernel,
            gradient,
            cpu=lambda x, kernel, gradient: kernel_gradient(
                x, gradient, kernel.shape, **geometry
            ),
            default=of_kernel_by_library,
        )

    return tuple(_one_by_one(of)(*saved, gradient) for of in (of_images, of_kernel))


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _one_by_one(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`function`, of which `jax.vmap` on a CPU makes as many calls as there are members.

    Of a convolution whose kernels differ too it makes a grouped one elsewhere. XLA on CPU
    took 5 to 13 times as long for that as for one after the other, at five of six sizes
    tried of the four-layer network's.
    """
    alone = jax.custom_batching.custom_vmap(function)

    @alone.def_vmap
    def of_members(count, batched, *arguments):
        axes = [0 if each else None for each in batched]

        def unrolled(*arguments):
            return jnp.stack(
                [
                    function(
                        *(
                            a[i] if axis == 0 else a
                            for a, axis in zip(arguments, axes, strict=True)
                        )
                    )
                    for i in range(count)
                ]
            )

        together = jax.vmap(function, in_axes=axes)
        return lax.platform_dependent(*arguments, cpu=unrolled, default=together), True

    return alone


def _convolve_by_library(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> jax.Array:
    strides, layout = (stride, stride), ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=layout
    )


def folded_convolve(
    x: Images, kernel: Kernel, *, stride: int, padding: Padding
) -> Mapped:
    """`convolve` with each stride x stride square of pixels folded into one.

    Their channels come to lie side by side and the stride becomes 1: conv1's
    227 x 227 x 3 by 11 x 11 / 4 is 57 x 57 x 48 by 3 x 3 / 1, with 19% more
    multiplications, by zeros. GPU matrix units want channels in eights, to which XLA
    does not pad bfloat16: the benchmark has a row for it; nothing uses it until it has
    been measured on a GPU.
    """
    layout = ("NHWC", "OHWI", "NHWC")
    images = _folded_images(x, kernel.shape, stride, padding)
    kernels = _folded_kernel(kernel, stride)
    return lax.conv_general_dilated(
        images, kernels, (1, 1), "VALID", dimension_numbers=layout
    )


def kernel_gradient(
    x: Images,
    gradient: Mapped,
    shape: tuple[int, ...],
    *,
    stride: int,
    padding: Padding,
) -> Kernel:
    """The gradient of `convolve` with respect to its kernel, of this shape.

    Image by image one matrix product, whose operands then stay in the cache: (output
    channels, pixels) by (pixels, what each saw of the folded image). XLA on CPU takes
    the whole as a convolution by a kernel of the images' size.
    """
    rows, columns, outputs = gradient.shape[1:]
    height, width = (-(-window // stride) for window in shape[:2])
    kind = jnp.promote_types(x.dtype, jnp.float32)

    def of_image(number: int | jax.Array) -> jax.Array:
        image = lax.dynamic_slice_in_dim(x, number, 1)
        image = _folded_images(image, shape, stride, padding)[0]
        seen = [
            image[i : i + rows, j : j + columns]
            for i in range(height)
            for j in range(width)
        ]
        patches = jnp.concatenate(seen, axis=-1).reshape(rows * columns, -1)
        errors = lax.dynamic_index_in_dim(gradient, number, keepdims=False)
        errors = errors.reshape(rows * columns, outputs)
        return lax.dot(errors.T, patches, preferred_element_type=kind)

    # From the first image's, not from zeros: under shard_map these would count as equal
    # on all devices.
    total = lax.fori_loop(
        1, len(x), lambda number, total: total + of_image(number), of_image(0)
    )
    total = total.reshape(outputs, height, width, -1).astype(x.dtype)
    return _unfolded_kernel(total, shape, stride)


def _convolved_sides(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> tuple[int, int]:
    height, width = (
        (x.shape[1 + axis] + sum(padding[axis]) - kernel.shape[axis]) // stride + 1
        for axis in (0, 1)
    )
    return height, width


def _folded_images(
    x: jax.Array, kernel_shape: tuple[int, ...], stride: int, padding: Padding
) -> jax.Array:
    """(n, h, w, c) as (n, h / stride, w / stride, stride * stride * c), padded."""
    edges = []
    for side, window, (before, after) in zip(
        x.shape[1:3], kernel_shape, padding, strict=False
    ):
        pixels = (side + before + after - window) // stride + 1
        whole = (pixels - 1 + -(-window // stride)) * stride
        edges.append((before, whole - before - side, 0))  # negative: cuts off
    return _fold(
        lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)]), stride
    )


def _folded_kernel(kernel: jax.Array, stride: int) -> jax.Array:
    """(a, b, c, d) as (d, a / stride, b / stride, stride * stride * c), with zeros."""
    rows, columns = (-window % stride for window in kernel.shape[:2])
    whole = jnp.pad(kernel, ((0, rows), (0, columns), (0, 0), (0, 0)))
    return _fold(jnp.moveaxis(whole, -1, 0), stride)


def _unfolded_kernel(
    folded: jax.Array, shape: tuple[int, ...], stride: int
) -> jax.Array:
    """The kernel of this shape that `_folded_kernel` makes `folded` of."""
    outputs, rows, columns, _ = folded.shape
    x = folded.reshape(outputs, rows, columns, stride, stride, -1).swapaxes(2, 3)
    x = x.reshape(outputs, rows * stride, columns * stride, -1)
    return jnp.moveaxis(x[:, : shape[0], : shape[1]], 0, -1)


def _fold(x: jax.Array, stride: int) -> jax.Array:
    n, height, width, channels = x.shape
    rows, columns = height // stride, width // stride
    x = x.reshape(n, rows, stride, columns, stride, channels).swapaxes(2, 3)
    return x.reshape(n, rows, columns, stride * stride * channels)


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
    on i, clipped at the edges of i's own tower: of two, as in the 2012 code, no sum
    crosses from one to the other. `alpha` multiplies the sum undivided, as printed.
    """
    apart = x.reshape(*x.shape[:3], towers, x.shape[3] // towers)
    window = ((4, depth // 2, (depth - 1) // 2),)
    return _normalize(apart, window, k, alpha, beta).reshape(x.shape)


def map_norm(x: Images, *, size: int, k: float, alpha: float, beta: float) -> Images:
    """Divides each activation by the energy around it in its own map.

    The 2012 code's second normalization in layer 2, which the paper leaves out:
    a / (k + alpha * sum a**2) ** beta over size x size pixels, clipped at the edges.
    """
    lines = size // 2, (size - 1) // 2
    return _normalize(x, ((1, *lines), (2, *lines)), k, alpha, beta)


# Where a normalization sums: (axis, values before, values behind), one after the other.
Window = tuple[tuple[int, int, int], ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _normalize(
    x: Float[Array, "*axes"], window: Window, k: float, alpha: float, beta: float
) -> Float[Array, "*axes"]:
    """x / (k + alpha * sum x**2) ** beta; its backward pass saves only x.

    Summing again costs nothing measurable; saved, the energies of layer 1 alone take
    as much memory as its activations.
    """
    scale = k + alpha * _energy(x, window)
    return (x * _reciprocal_power(scale, beta)).astype(x.dtype)


def _normalize_forward(x, window, k, alpha, beta):
    return _normalize(x, window, k, alpha, beta), x


def _normalize_backward(window, k, alpha, beta, x, gradient):
    """dx_i = g_i s_i**-beta - 2 alpha beta x_i sum_j g_j x_j s_j**(-beta - 1).

    Over those j in whose sum i is: the window mirrored, which is another of even depth.
    """
    scale = k + alpha * _energy(x, window)
    direct = gradient * _reciprocal_power(scale, beta)
    mirrored = tuple((axis, behind, before) for axis, before, behind in window)
    crossed = _window_sum(direct * x / scale, mirrored)
    return ((direct - 2 * alpha * beta * x * crossed).astype(x.dtype),)


_normalize.defvjp(_normalize_forward, _normalize_backward)


def _energy(x: jax.Array, window: Window) -> jax.Array:
    """Sums of squares, in float32 at least: bfloat16 would keep 3 digits of them."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return _window_sum(x * x, window)


def _window_sum(x: jax.Array, window: Window) -> jax.Array:
    """Sums over the neighbours on each axis: over a square, sums of sums of lines."""
    # Five shifted slices instead took 1.3 times as long on an EPYC core (and 0.85
    # times on a Xeon).
    for axis, before, behind in window:
        sizes = [1] * x.ndim
        sizes[axis] = before + 1 + behind
        padding = [(0, 0)] * x.ndim
        padding[axis] = (before, behind)
        zero = np.zeros((), x.dtype)
        x = lax.reduce_window(x, zero, lax.add, sizes, (1,) * x.ndim, padding)
    return x


def _reciprocal_power(x: jax.Array, beta: float) -> jax.Array:
    """x ** -beta, for the paper's 0.75 by roots: 2 to 3 times as fast as a power."""
    if beta == 0.75:
        return lax.rsqrt(x) * lax.rsqrt(lax.sqrt(x))
    return x**-beta


def pooled_size(size: int, window: int, stride: int, rounding: str) -> int:
    """Pixels left of `size`; below 1 if none is.

    Rounded "up", by cuda-convnet's rule, the last window may overhang the edge:
    32 -> 16 for 3/2; "down", by the usual one, 15. For AlexNet's own 55, 27 and 13
    both give 27, 13 and 6.
    """
    if rounding == "up":
        return 1 + math.ceil((size - window) / stride)
    return 1 + (size - window) // stride


def max_pool(
    x: Images, *, window: int, stride: int, rounding: str, ties: str
) -> Mapped:
    """Maximum over window x window, every `stride` pixels (section 3.4).

    Of equal maxima the gradient goes to the "first", in rows from the top left, or to
    "all", as in cuda-convnet. The first is what today's libraries do, and the same to
    the bit as `nnx.max_pool`, whose gradient, XLA's select-and-scatter, takes 8 to 14
    times as long on a CPU and is refused on GPUs where results must be deterministic.
    """
    return _max_pool(x, x.shape[1:3], window, stride, rounding, ties)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def _max_pool(
    x: Images,
    sides: tuple[int, ...],
    window: int,
    stride: int,
    rounding: str,
    ties: str,
) -> Mapped:
    views = _views(x, window, stride, rounding)
    return functools.reduce(jnp.maximum, views)


def _max_pool_forward(x, sides, window, stride, rounding, ties):
    """Saves, of the first maxima, only their places in their windows: small integers."""
    if ties == "all":
        maximum = _max_pool(x, sides, window, stride, rounding, ties)
        return maximum, (x, maximum)
    maximum, *others = _views(x, window, stride, rounding)
    kind = jnp.uint8 if window**2 <= 256 else jnp.int32
    place = jnp.zeros(maximum.shape, kind)
    for number, view in enumerate(others, start=1):
        place = jnp.where(view > maximum, kind(number), place)
        maximum = jnp.maximum(maximum, view)
    return maximum, (None, place)


def _max_pool_backward(sides, window, stride, rounding, ties, saved, gradient):
    """Collects, for each pixel, the gradients of the windows that it won.

    The pixels of one phase, (row % stride, column % stride), lie at the same places in
    their windows, so that each phase is a sum of a few shifted slices.
    """
    x, won = saved  # won: the maxima themselves, or where they were
    rows, columns = (-(-side // stride) for side in sides)  # pixels of a phase
    ahead = (window - 1) // stride
    edges = [(ahead, rows - won.shape[1], 0), (ahead, columns - won.shape[2], 0)]
    edges = [(0, 0, 0), *edges, (0, 0, 0)]
    won, gradient = (lax.pad(v, np.zeros((), v.dtype), edges) for v in (won, gradient))
    if x is not None:
        room = [(0, rows * stride - sides[0]), (0, columns * stride - sides[1])]
        x = jnp.pad(x, ((0, 0), *room, (0, 0)))

    def phase(top: int, left: int) -> jax.Array:
        total = jnp.zeros((), gradient.dtype)
        # Backwards: from the first window to the last, the order of the library's sum.
        for i in reversed(range(top, window, stride)):
            for j in reversed(range(left, window, stride)):
                row, column = ahead - i // stride, ahead - j // stride
                there = np.s_[:, row : row + rows, column : column + columns]
                wanted = (
                    i * window + j if x is None else x[:, top::stride, left::stride]
                )
                total += jnp.where(won[there] == wanted, gradient[there], 0)
        return total

    phases = [
        jnp.stack([phase(top, left) for left in range(stride)], axis=3)
        for top in range(stride)
    ]
    whole = jnp.stack(phases, axis=2)  # n, rows, stride, columns, stride, c
    whole = whole.reshape(len(whole), rows * stride, columns * stride, -1)
    return (whole[:, : sides[0], : sides[1]],)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _views(x: jax.Array, window: int, stride: int, rounding: str) -> list[jax.Array]:
    """For each place in the window, row by row, the pixel there of every window."""
    edges = _overhang(x.shape, window, stride, rounding)
    x = jnp.pad(x, ((0, 0), *edges, (0, 0)), constant_values=-jnp.inf)
    rows, columns = (
        (pooled_size(side, window, stride, rounding) - 1) * stride + 1
        for side in x.shape[1:3]
    )
    return [
        x[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(window)
        for j in range(window)
    ]


def average_pool(x: Images, *, window: int, stride: int, rounding: str) -> Mapped:
    """Mean over the pixels of each window that lie inside the image."""
    padding = _overhang(x.shape, window, stride, rounding)
    mean = nnx.avg_pool(
        x, (window, window), (stride, stride), padding, count_include_pad=False
    )
    return mean.astype(x.dtype)  # the library's counts are float32


def _overhang(
    shape: tuple[int, ...], window: int, stride: int, rounding: str
) -> Padding:
    """Padding at the bottom and right that makes room for the last window."""

    def after(size: int) -> int:
        windows = pooled_size(size, window, stride, rounding)
        return max(0, (windows - 1) * stride + window - size)

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
