"""Each layer against a slow loop, and what it does otherwise than today's libraries."""

import functools
import itertools
import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from alexnet_jax import contenders
from alexnet_jax.errors import UserError
from alexnet_jax.model import layers

PAPER = {"depth": 5, "k": 2.0, "alpha": 1e-4, "beta": 0.75}


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- Local response normalization (section 3.3) -----------------------------------


def normalized(channels, *, towers=1, **changes):
    """One pixel through the layer, in float64."""
    with jax.enable_x64(True):
        x = jnp.asarray(channels, jnp.float64)[None, None, None]
        y = layers.local_response_norm(x, towers=towers, **(PAPER | changes))
        return np.asarray(y)[0, 0, 0]


def slow_norm(x, *, depth, k, alpha, beta, towers):
    """Section 3.3 as printed, loop in loop; each tower on its own."""
    y = np.zeros(x.shape, np.float64)
    for pixel in np.ndindex(x.shape[:3]):
        for tower in np.split(np.arange(x.shape[3]), towers):
            for i in tower:
                energy = 0.0
                for j in range(i - depth // 2, i - depth // 2 + depth):
                    if tower[0] <= j <= tower[-1]:
                        energy += float(x[*pixel, j]) ** 2
                y[*pixel, i] = x[*pixel, i] / (k + alpha * energy) ** beta
    return y


@pytest.mark.parametrize(
    ("level", "k", "alpha", "expected"),
    [
        (1, 2.0, 1e-4, [0.59453667, 0.59451438, 0.59449209]),
        (1, 2.0, 2e-5, [0.59459018, 0.59458572, 0.59458126]),
        (1, 1.0, 2e-5, [0.99995500, 0.99994000, 0.99992501]),
        (100, 2.0, 1e-4, [29.90697562, 26.08474300, 23.23680802]),
        (100, 2.0, 2e-5, [48.83936279, 46.19888313, 43.86913377]),
    ],
)
def test_equal_channels_are_divided_by_three_four_or_five_energies(
    level, k, alpha, expected
):
    first, second, inner = expected
    channels = [first, second, inner, inner, inner, inner, second, first]
    y = normalized([level] * 8, k=k, alpha=alpha)
    np.testing.assert_allclose(y, channels, rtol=0, atol=5.1e-9)


@pytest.mark.parametrize(
    ("alpha", "towers", "expected"),
    [
        (
            1e-4,
            1,
            "5.65183754 10.70863506 14.86675277 17.99954359 "
            "20.19232832 21.61985591 26.02821218 31.33075906",
        ),
        (
            2e-5,
            1,
            "5.88435732 11.63133543 17.13599841 22.29552078 "
            "27.03650884 31.31255691 36.90408744 42.86249710",
        ),
        (
            2e-5,
            2,
            "5.88435732 11.63133543 17.44700315 23.27962411 "
            "27.49193279 31.63207495 36.90408744 42.86249710",
        ),
    ],
)
def test_a_ramp_of_channels_is_normalized_as_computed_by_hand(alpha, towers, expected):
    y = normalized(range(10, 90, 10), alpha=alpha, towers=towers)
    np.testing.assert_allclose(y, np.fromstring(expected, sep=" "), rtol=0, atol=6e-9)


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("depth", [1, 4, 5, 9])
def test_normalization_equals_nested_loops(towers, depth):
    """Of an even depth, one channel more counts before the centre than behind it."""
    x = 100 * normal(0, 2, 2, 3, 12)
    choices = PAPER | {"depth": depth, "towers": towers}
    y = layers.local_response_norm(jnp.asarray(x), **choices)
    np.testing.assert_allclose(y, slow_norm(x, **choices), rtol=2e-6)


def test_normalization_has_the_gradient_of_nested_loops():
    choices = PAPER | {"towers": 2}
    x = 50 * normal(1, 1, 1, 1, 8).astype(np.float64)
    direction = normal(2, 1, 1, 1, 8).astype(np.float64)
    with jax.enable_x64(True):
        gradient = jax.grad(
            lambda x: (layers.local_response_norm(x, **choices) * direction).sum()
        )(jnp.asarray(x))
    for channel in range(8):
        step = np.zeros_like(x)
        step[..., channel] = 1e-4
        difference = slow_norm(x + step, **choices) - slow_norm(x - step, **choices)
        numeric = (difference * direction).sum() / 2e-4
        assert gradient[0, 0, 0, channel] == pytest.approx(numeric, rel=1e-7, abs=1e-9)


def test_no_energy_crosses_from_one_tower_to_the_other():
    x = jnp.asarray(100 * normal(3, 1, 2, 2, 8))
    other = x.at[..., 4:].multiply(7.0)
    one, two = (
        layers.local_response_norm(image, towers=2, **PAPER) for image in (x, other)
    )
    assert (one[..., :4] == two[..., :4]).all()
    crossing = layers.local_response_norm(other, towers=1, **PAPER)
    assert (crossing[..., 2:4] != two[..., 2:4]).all()


def test_normalization_and_relu_do_not_commute():
    """Negative neighbours enter the sum where the norm comes first."""
    x = jnp.asarray(100 * normal(4, 1, 2, 2, 8))
    norm_last = layers.local_response_norm(jax.nn.relu(x), towers=1, **PAPER)
    norm_first = jax.nn.relu(layers.local_response_norm(x, towers=1, **PAPER))
    assert jnp.abs(norm_last - norm_first).max() > 1


@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0, 0.6])
@pytest.mark.parametrize("depth", [4, 5, 20])
def test_normalization_in_float32_is_a_float64_loop_within_a_hundred_thousandth(
    depth, beta
):
    """Any power, an even depth, more depth than channels; the gradient too."""
    x = np.maximum(100 * normal(15, 2, 2, 2, 12), 0)
    direction = normal(16, *x.shape)
    choices = PAPER | {"depth": depth, "beta": beta, "alpha": 1e-3, "towers": 2}

    @jax.jit
    def both_ways(x, direction):
        norm = functools.partial(layers.local_response_norm, **choices)
        y, backward = jax.vjp(norm, x)
        return y, *backward(direction)

    y, gradient = both_ways(x, direction)
    np.testing.assert_allclose(y, slow_norm(x, **choices), rtol=1e-5)
    wanted = slow_norm_gradient(x, direction, **choices)
    error = np.abs(gradient - wanted).max()
    assert error < 1e-5 * np.abs(wanted).max()


def slow_norm_gradient(x, direction, *, depth, k, alpha, beta, towers):
    """Every output's derivative by every input, one by one, in float64."""
    x, direction = x.astype(np.float64), direction.astype(np.float64)
    total = np.zeros_like(x)
    for pixel in np.ndindex(x.shape[:3]):
        for tower in np.split(np.arange(x.shape[3]), towers):
            for i in tower:
                window = range(i - depth // 2, i - depth // 2 + depth)
                inside = [j for j in window if tower[0] <= j <= tower[-1]]
                scale = k + alpha * sum(x[*pixel, j] ** 2 for j in inside)
                total[*pixel, i] += direction[*pixel, i] * scale**-beta
                for j in inside:
                    total[*pixel, j] -= (
                        direction[*pixel, i]
                        * x[*pixel, i]
                        * (2 * alpha * beta * x[*pixel, j] * scale ** (-beta - 1))
                    )
    return total


@pytest.mark.parametrize("towers", [1, 2])
def test_normalization_equals_the_librarys_form_and_its_gradient(towers):
    x, direction = jnp.asarray(50 * normal(17, 2, 5, 5, 16)), normal(18, 2, 5, 5, 16)
    one, other = (
        jax.vjp(functools.partial(form, **PAPER, towers=towers), x)
        for form in (layers.local_response_norm, contenders.library_norm)
    )
    np.testing.assert_allclose(one[0], other[0], rtol=1e-5)
    ours, plain = (backward(direction)[0] for backward in (one[1], other[1]))
    np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-6)


def test_normalization_saves_only_its_input():
    x = jnp.asarray(normal(19, 2, 3, 3, 8))
    _, backward = jax.vjp(
        functools.partial(layers.local_response_norm, **PAPER, towers=1), x
    )
    saved = [leaf for leaf in jax.tree.leaves(backward) if leaf.size > 1]
    assert [leaf.size for leaf in saved] == [x.size]
    np.testing.assert_array_equal(saved[0].reshape(x.shape), x)


def test_normalization_in_bfloat16_sums_in_float32():
    x = jnp.asarray(100 * normal(20, 2, 3, 3, 8), jnp.bfloat16)
    y, backward = jax.vjp(
        functools.partial(layers.local_response_norm, **PAPER, towers=1), x
    )
    exact = slow_norm(np.asarray(x, np.float64), **PAPER, towers=1)
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, rtol=2**-8)
    assert y.dtype == backward(y)[0].dtype == jnp.bfloat16


def test_normalization_equals_tensorflows():
    x = 50 * normal(21, 2, 3, 3, 16)
    y = layers.local_response_norm(jnp.asarray(x), **PAPER, towers=1)
    # TensorFlow's depth is a radius, its k is called bias.
    expected = tf.nn.local_response_normalization(x, 2, 2.0, 1e-4, 0.75)
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_normalization_equals_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency")
    x = 50 * normal(22, 2, 3, 3, 16)
    y = layers.local_response_norm(jnp.asarray(x), **PAPER, towers=1)
    # PyTorch divides alpha by the depth.
    expected = torch.nn.functional.local_response_norm(
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), 5, 5e-4, 0.75, 2.0
    )
    np.testing.assert_allclose(y, expected.numpy().transpose(0, 2, 3, 1), rtol=1e-5)


# --- Convolution and dense --------------------------------------------------------


def convolution(*, towers, seed=0, **changes):
    choices = {
        "window": 3,
        "stride": 1,
        "padding": ((1, 1), (1, 1)),
        "start": layers.Start(0.1, 1.0),
        "key": jax.random.key(seed),
    }
    return layers.Convolution(8, 6, towers=towers, **(choices | changes))


@pytest.mark.parametrize("towers", [1, 2])
def test_convolution_equals_a_grouped_one_with_the_same_kernel(towers):
    layer = convolution(
        towers=towers,
        window=5,
        stride=2,
        padding=((2, 1), (0, 3)),
        start=layers.Start(0.1, 0.5),
    )
    x = jnp.asarray(normal(5, 2, 9, 11, 8))
    grouped = lax.conv_general_dilated(
        x,
        layer.kernel[...],
        window_strides=(2, 2),
        padding=((2, 1), (0, 3)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=towers,
    )
    np.testing.assert_allclose(layer(x), grouped + 0.5, rtol=1e-5, atol=1e-5)


def test_one_tower_does_not_see_the_other():
    layer = convolution(towers=2)
    x = jnp.asarray(normal(6, 2, 5, 5, 8))
    whole, without_b = layer(x), layer(x.at[..., 4:].set(0.0))
    assert (whole[..., :3] == without_b[..., :3]).all()
    assert (whole[..., 3:] != without_b[..., 3:]).any()
    without_a = layer(x.at[..., :4].set(0.0))
    assert (whole[..., 3:] == without_a[..., 3:]).all()
    assert (whole[..., :3] != without_a[..., :3]).any()


def test_a_convolution_starts_with_the_deviation_and_bias_it_is_given():
    layer = layers.Convolution(
        64,
        64,
        window=5,
        stride=1,
        padding=((2, 2), (2, 2)),
        towers=2,
        start=layers.Start(0.03, 1.0),
        key=jax.random.key(1),
    )
    kernel = np.asarray(layer.kernel[...])
    assert kernel.shape == (5, 5, 32, 64)
    # 51,200 draws: four deviations of the sample's own.
    assert kernel.std() == pytest.approx(0.03, rel=4 / math.sqrt(2 * kernel.size))
    assert abs(kernel.mean()) < 4 * 0.03 / math.sqrt(kernel.size)
    beyond_two = (np.abs(kernel) > 0.06).mean()
    assert beyond_two == pytest.approx(0.0455, abs=0.004)  # a Gaussian's, untruncated
    assert (layer.bias[...] == 1.0).all()


CONVOLUTIONS = [  # height, width, window, stride, padding
    (17, 17, 11, 4, ((0, 3), (0, 3))),
    (9, 12, 5, 1, ((2, 2), (2, 2))),
    (10, 9, 3, 2, ((1, 0), (2, 1))),
    (11, 11, 2, 3, ((0, 0), (0, 0))),  # the stride passes over the last pixels
    (3, 3, 3, 1, ((0, 0), (0, 0))),
]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("height", "width", "window", "stride", "padding"), CONVOLUTIONS
)
def test_a_kernels_gradient_in_a_loop_is_the_librarys(
    height, width, window, stride, padding, dtype
):
    x = jnp.asarray(normal(23, 3, height, width, 3), dtype)
    kernel = jnp.asarray(normal(24, window, window, 3, 4), dtype)

    def both_gradients(convolve):
        @jax.jit
        def run(x, kernel):
            y, backward = jax.vjp(convolve, x, kernel)
            return y, *backward(jnp.cos(y))

        return run(x, kernel)

    def ours(x, kernel):
        with mock.patch.object(layers, "LOOP_FROM", 0):
            return layers.convolve(x, kernel, stride=stride, padding=padding)

    def plain(x, kernel):
        return contenders.library_convolve(
            x, kernel, stride=stride, padding=padding, towers=1
        )

    tolerance = 1e-5 if dtype == jnp.float32 else 2**-6
    for one, other in zip(both_gradients(ours), both_gradients(plain), strict=True):
        assert one.dtype == other.dtype == dtype
        one, other = (np.asarray(v, np.float64) for v in (one, other))
        np.testing.assert_allclose(
            one, other, rtol=tolerance, atol=tolerance * np.abs(other).max()
        )


@pytest.mark.parametrize(
    ("height", "width", "window", "stride", "padding"), CONVOLUTIONS
)
def test_a_folded_convolution_is_the_same(height, width, window, stride, padding):
    x = jnp.asarray(normal(25, 2, height, width, 3))
    kernel = jnp.asarray(normal(26, window, window, 3, 4))
    one, other = (
        jax.jit(functools.partial(form, stride=stride, padding=padding))(x, kernel)
        for form in (layers.folded_convolve, layers.convolve)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_looped_gradients_can_be_mapped_over():
    x, kernel = (
        jnp.asarray(normal(27, 2, 3, 6, 6, 3)),
        jnp.asarray(normal(28, 3, 3, 3, 4)),
    )
    choices = {"stride": 1, "padding": ((1, 1), (1, 1))}

    def gradient(x):
        return jax.grad(
            lambda kernel: jnp.sin(layers.convolve(x, kernel, **choices)).sum()
        )(kernel)

    with mock.patch.object(layers, "LOOP_FROM", 0):
        mapped = jax.jit(jax.vmap(gradient))(x)
    for one, other in zip(mapped, x, strict=True):
        np.testing.assert_allclose(one, gradient(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_trick_for_cpus_stays_on_cpus(dtype):
    def loss(kernel, x):
        y = layers.convolve(x, kernel, stride=4, padding=((0, 3), (0, 3)))
        return y.astype(jnp.float32).sum()

    shapes = ((11, 11, 3, 96), (2, 224, 224, 3))
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    traced = jax.jit(jax.grad(loss)).trace(*arguments)
    cpu, gpu = (
        traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")
    )
    assert "stablehlo.while" in cpu
    assert "stablehlo.while" not in gpu


def test_small_convolutions_are_left_to_the_library():
    """The loop costs more than it gains there."""

    def loops(*shapes):
        def total(x, kernel):
            return layers.convolve(x, kernel, stride=1, padding=((2, 2), (2, 2))).sum()

        arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        return "scan[" in str(jax.make_jaxpr(jax.grad(total, 1))(*arguments))

    assert not loops((128, 32, 32, 3), (5, 5, 3, 32))
    assert not loops((16, 8, 8, 16), (5, 5, 16, 16))
    assert loops((128, 27, 27, 48), (5, 5, 48, 128))


def test_two_towers_equal_pytorchs_two_groups():
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency")
    layer = convolution(towers=2)
    x = normal(29, 2, 7, 7, 8)
    kernel = np.asarray(layer.kernel[...]).transpose(3, 2, 0, 1).copy()
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(kernel),
        torch.ones(6),
        padding=1,
        groups=2,
    )
    np.testing.assert_allclose(
        layer(jnp.asarray(x)),
        expected.numpy().transpose(0, 2, 3, 1),
        rtol=1e-5,
        atol=1e-5,
    )


def test_layers_compute_in_the_dtype_of_their_input():
    x = jnp.asarray(normal(30, 2, 5, 5, 8), jnp.bfloat16)
    layer = convolution(towers=2)
    assert layer(x).dtype == jnp.bfloat16
    assert layer.kernel[...].dtype == jnp.float32
    dense = layers.Dense(7, 3, start=layers.Start(0.2, 0.25), key=jax.random.key(2))
    assert dense(jnp.ones((1, 7), jnp.bfloat16)).dtype == jnp.bfloat16
    for pool in (
        functools.partial(layers.max_pool, ties="first"),
        functools.partial(layers.max_pool, ties="all"),
        layers.average_pool,
    ):
        assert pool(x, window=3, stride=2, rounding="up").dtype == jnp.bfloat16


def test_dense_is_a_matrix_product_and_a_bias():
    layer = layers.Dense(7, 3, start=layers.Start(0.2, 0.25), key=jax.random.key(2))
    x = normal(7, 4, 7)
    expected = x.astype(np.float64) @ np.asarray(layer.kernel[...], np.float64) + 0.25
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)


def test_a_dense_layer_starts_with_the_deviation_and_bias_it_is_given():
    layer = layers.Dense(200, 100, start=layers.Start(0.01, 1.0), key=jax.random.key(3))
    assert float(layer.kernel[...].std()) == pytest.approx(0.01, rel=0.02)
    assert (layer.bias[...] == 1.0).all()


def test_a_layers_key_is_a_function_of_the_root_and_its_name_alone():
    def data(seed, name):
        key = layers.layer_key(jax.random.key(seed), name)
        return tuple(jax.random.key_data(key).tolist())

    names = [f"conv{i}" for i in range(1, 6)] + ["fc4", "fc6", "fc7", "fc8"]
    keys = {data(seed, name) for seed in range(3) for name in names}
    assert len(keys) == 3 * len(names)
    assert data(1, "conv1") == data(1, "conv1")


def test_a_wider_network_starts_with_smaller_weights_behind_the_first_layer():
    starts = layers.starts("normal", (0.01, 0.01, 0.03), (0.0, 1.0, 0.5), width=4.0)
    assert starts == [
        layers.Start(0.01, 0.0),
        layers.Start(0.005, 1.0),
        layers.Start(0.015, 0.5),
    ]
    (_, wider) = layers.starts("normal", (0.03, 0.03), (0.0, 0.0), width=0.25)
    assert wider.deviation == 0.06


def test_fan_in_starts_uniform_to_one_over_the_root_of_a_units_inputs():
    (start,) = layers.starts("fan_in", (0.01,), (1.0,), width=4.0)
    kernel, bias = layers.first_weights((5, 5, 4, 300), start, jax.random.key(0))
    for values in (kernel, bias):
        assert 0.09 < jnp.abs(values).max() <= 0.1  # 100 inputs
        assert jnp.abs(values.mean()) < 0.02
    assert kernel.std() == pytest.approx(0.1 / 3**0.5, rel=0.02)


def test_activations_are_those_named():
    x = jnp.asarray([-2.0, -0.5, 0.0, 0.5, 2.0])
    np.testing.assert_array_equal(layers.activation("relu")(x), np.maximum(x, 0))
    np.testing.assert_allclose(layers.activation("tanh")(x), np.tanh(x), rtol=1e-6)


def test_an_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="'sigmoid': relu or tanh"):
        layers.activation("sigmoid")


# --- Sizes ------------------------------------------------------------------------


def test_pooled_sizes_are_those_of_the_paper():
    assert [layers.pooled_size(size, 3, 2, "up") for size in (55, 27, 13)] == [
        27,
        13,
        6,
    ]


def test_pooled_sizes_are_rounded_up():
    """cuda-convnet's 32 -> 16 -> 8 -> 4, where the usual rule gives 15, 7 and 3."""
    assert [layers.pooled_size(size, 3, 2, "up") for size in (32, 16, 8)] == [16, 8, 4]


def test_pooled_sizes_are_rounded_down_as_todays_libraries_do():
    down = [layers.pooled_size(size, 3, 2, "down") for size in (55, 32, 16, 8, 4, 3)]
    assert down == [27, 15, 7, 3, 1, 1]


def test_a_window_that_does_not_fit_is_refused_where_sizes_are_rounded_down():
    window = {"window": 3, "stride": 2}
    assert layers.checked_pooled_size("pool2", 2, rounding="up", **window) == 1
    with pytest.raises(
        UserError,
        match=r"^pool2 .* 2 pixels a side and \(2 - 3\) / 2 \+ 1 < 1.*crop_size",
    ):
        layers.checked_pooled_size("pool2", 2, rounding="down", **window)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 12), st.integers(1, 12))
def test_pooling_windows_cover_every_pixel_and_none_starts_behind_the_last(
    size, window, stride
):
    stride = min(stride, window)
    windows = layers.pooled_size(size, window, stride, "up")
    if size <= window - stride:  # a window before the first would hold all of it
        assert windows < 1
        return
    assert (windows - 1) * stride + window >= size
    assert (windows - 1) * stride < size
    # One fewer would leave pixels out.
    assert windows == 1 or (windows - 2) * stride + window < size


def test_convolved_sizes_are_those_of_the_paper():
    conv1 = {"window": 11, "stride": 4, "padding": (0, 3)}
    assert layers.convolved_size("conv1", 224, **conv1) == 55
    same = {"window": 3, "stride": 1, "padding": (1, 1)}
    assert layers.convolved_size("conv3", 13, **same) == 13


def test_a_convolution_without_pixels_is_refused_with_its_name_and_arithmetic():
    conv1 = {"window": 11, "stride": 4, "padding": (0, 3)}
    assert layers.convolved_size("conv1", 8, **conv1) == 1
    with pytest.raises(UserError) as caught:
        layers.convolved_size("conv1", 7, **conv1)
    message = str(caught.value)
    assert message.startswith("conv1 ")
    assert "7 pixels" in message
    assert "(7 + 0 + 3 - 11) / 4 + 1 < 1" in message
    assert "--config.data.crop_size" in message


# --- Pooling (section 3.4) --------------------------------------------------------


def slow_pool(x, reduce, *, window, stride):
    """Each window's pixels that lie inside the image, reduced."""
    size = [1 + math.ceil((side - window) / stride) for side in x.shape[1:3]]
    y = np.zeros((x.shape[0], *size, x.shape[3]))
    for row, column in itertools.product(*map(range, size)):
        top, left = row * stride, column * stride
        inside = x[:, top : top + window, left : left + window]
        y[:, row, column] = reduce(inside, axis=(1, 2))
    return y


POOLINGS = [
    (3, 2, 32),
    (3, 2, 16),
    (3, 2, 8),
    (3, 2, 55),
    (3, 2, 27),
    (3, 2, 13),
    (2, 2, 5),
    (3, 3, 7),
    (3, 1, 4),
    (3, 2, 2),
]


@pytest.mark.parametrize(("window", "stride", "size"), POOLINGS)
def test_max_pool_equals_a_slow_loop(window, stride, size):
    x = normal(8, 2, size, size, 3) - 5.0  # padding with 0 would show
    y = layers.max_pool(
        jnp.asarray(x), window=window, stride=stride, rounding="up", ties="first"
    )
    np.testing.assert_array_equal(y, slow_pool(x, np.max, window=window, stride=stride))


@pytest.mark.parametrize(("window", "stride", "size"), POOLINGS)
def test_average_pool_equals_a_slow_loop(window, stride, size):
    x = normal(9, 2, size, size, 3) + 5.0
    y = layers.average_pool(jnp.asarray(x), window=window, stride=stride, rounding="up")
    expected = slow_pool(x, np.mean, window=window, stride=stride)
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_images_need_not_be_square_to_be_pooled():
    x = normal(10, 1, 8, 13, 2)
    y = layers.max_pool(jnp.asarray(x), window=3, stride=2, rounding="up", ties="first")
    assert y.shape == (1, 4, 6, 2)
    np.testing.assert_array_equal(y, slow_pool(x, np.max, window=3, stride=2))


def test_average_pool_divides_by_the_pixels_inside():
    """Constant images stay constant, at the overhanging edge too."""
    x = jnp.full((1, 32, 32, 1), 7.0)
    y = layers.average_pool(x, window=3, stride=2, rounding="up")
    np.testing.assert_allclose(y, np.full((1, 16, 16, 1), 7.0), rtol=1e-6)


def tied(seed, *shape):
    """Images of few whole numbers, many of them zero, as behind a ReLU."""
    draws = np.random.default_rng(seed).integers(-3, 4, shape)
    return np.maximum(draws, 0).astype(np.float32)


GRADIENTS = [  # height, width, window, stride, rounding
    (13, 13, 3, 2, "up"),
    (8, 13, 3, 2, "up"),
    (8, 13, 3, 2, "down"),
    (5, 6, 2, 2, "up"),
    (5, 6, 2, 2, "down"),
    (7, 9, 2, 1, "down"),
    (3, 4, 1, 1, "up"),
    (11, 12, 5, 3, "up"),
    (11, 12, 5, 3, "down"),
    (2, 2, 3, 2, "up"),
]


@pytest.mark.parametrize(("height", "width", "window", "stride", "rounding"), GRADIENTS)
def test_max_pool_and_its_gradient_are_the_librarys_to_the_bit(
    height, width, window, stride, rounding
):
    x = jnp.asarray(tied(31, 2, height, width, 3))
    edges = layers._overhang(x.shape, window, stride, rounding)

    def library(x):
        return nnx.max_pool(x, (window, window), (stride, stride), edges)

    ours = functools.partial(
        layers.max_pool, window=window, stride=stride, rounding=rounding, ties="first"
    )
    gradient = jnp.asarray(normal(32, *jax.eval_shape(ours, x).shape))

    @jax.jit
    def values_and_gradients(x, gradient):
        both = [jax.vjp(pool, x) for pool in (ours, library)]
        return [(y, *backward(gradient)) for y, backward in both]

    for one, other in zip(*values_and_gradients(x, gradient), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("height", "width", "window", "stride", "rounding"), GRADIENTS)
def test_on_demand_all_equal_maxima_get_the_gradient(
    height, width, window, stride, rounding
):
    x = tied(33, 2, height, width, 3)
    pool = functools.partial(
        layers.max_pool, window=window, stride=stride, rounding=rounding, ties="all"
    )
    y = jax.eval_shape(pool, x)
    gradient = np.random.default_rng(34).integers(-9, 10, y.shape).astype(np.float32)
    expected = np.zeros_like(x)
    for image, row, column, channel in np.ndindex(y.shape):
        top, left = row * stride, column * stride
        seen = np.s_[image, top : top + window, left : left + window, channel]
        won = x[seen] == x[seen].max()
        expected[seen] += won * gradient[image, row, column, channel]
    found = jax.jit(lambda x, gradient: jax.vjp(pool, x)[1](gradient))(x, gradient)
    np.testing.assert_array_equal(found[0], expected)


def test_max_pool_saves_the_places_of_its_maxima_in_a_byte_each():
    x = jnp.asarray(normal(35, 2, 9, 9, 3))
    y, backward = jax.vjp(
        lambda x: layers.max_pool(x, window=3, stride=2, rounding="up", ties="first"), x
    )
    saved = [leaf for leaf in jax.tree.leaves(backward) if leaf.size > 1]
    assert [(leaf.shape, leaf.dtype) for leaf in saved] == [(y.shape, jnp.uint8)]


def test_average_pool_can_be_rounded_down():
    x = normal(36, 1, 8, 8, 2)
    y = layers.average_pool(jnp.asarray(x), window=3, stride=2, rounding="down")
    up = slow_pool(x, np.mean, window=3, stride=2)
    np.testing.assert_allclose(y, up[:, :3, :3], rtol=1e-5, atol=1e-6)


def test_max_pool_and_relu_commute():
    x = jnp.asarray(normal(11, 2, 13, 13, 4))
    one = jax.nn.relu(
        layers.max_pool(x, window=3, stride=2, rounding="up", ties="first")
    )
    other = layers.max_pool(
        jax.nn.relu(x), window=3, stride=2, rounding="up", ties="first"
    )
    assert (one == other).all()


# --- Dropout (section 4.2) --------------------------------------------------------


def keys(*numbers):
    return jax.vmap(jax.random.key)(jnp.asarray(numbers))


def test_dropout_in_testing_multiplies_by_what_is_kept():
    x = jnp.asarray(normal(12, 3, 40))
    y = layers.dropout(x, rate=0.25, form="mask", keys=None, layer=6)
    np.testing.assert_allclose(y, 0.75 * x, rtol=1e-6)


def test_dropout_in_training_sets_to_zero_or_leaves_alone():
    x = jnp.asarray(normal(13, 4, 5000))
    y = layers.dropout(x, rate=0.25, form="mask", keys=keys(0, 1, 2, 3), layer=6)
    dropped = np.asarray(y == 0)
    np.testing.assert_array_equal(y, np.where(dropped, 0, x))
    # 20,000 units: four deviations.
    assert dropped.mean() == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 20000))


def test_an_examples_mask_does_not_depend_on_its_neighbours():
    ones = jnp.ones((4, 100))
    together = layers.dropout(
        ones, rate=0.5, form="mask", keys=keys(5, 6, 7, 8), layer=6
    )
    alone = layers.dropout(ones[:1], rate=0.5, form="mask", keys=keys(7), layer=6)
    moved = layers.dropout(ones, rate=0.5, form="mask", keys=keys(7, 1, 6, 5), layer=6)
    np.testing.assert_array_equal(together[2:3], alone)
    np.testing.assert_array_equal(together[2], moved[0])
    np.testing.assert_array_equal(together[1], moved[2])
    np.testing.assert_array_equal(together[0], moved[3])


def test_examples_and_layers_have_masks_of_their_own():
    ones = jnp.ones((2, 100))
    six = layers.dropout(ones, rate=0.5, form="mask", keys=keys(0, 1), layer=6)
    seven = layers.dropout(ones, rate=0.5, form="mask", keys=keys(0, 1), layer=7)
    masks = {tuple(mask.tolist()) for mask in (*six, *seven)}
    assert len(masks) == 4


@pytest.mark.parametrize("train", [False, True])
def test_dropout_of_rate_zero_does_nothing(train):
    x = jnp.asarray(normal(14, 2, 10))
    y = layers.dropout(
        x, rate=0.0, form="mask", keys=keys(0, 1) if train else None, layer=6
    )
    np.testing.assert_array_equal(y, x)


def test_inverted_dropout_scales_in_training_and_does_nothing_in_testing():
    x = jnp.asarray(normal(9, 4, 50))
    masked = layers.dropout(x, rate=0.25, form="mask", keys=keys(0, 1, 2, 3), layer=6)
    y = layers.dropout(x, rate=0.25, form="inverted", keys=keys(0, 1, 2, 3), layer=6)
    np.testing.assert_allclose(y, masked / 0.75, rtol=1e-6)
    tested = layers.dropout(x, rate=0.25, form="inverted", keys=None, layer=6)
    assert (tested == x).all()


# --- The normalization within a map -----------------------------------------------


def slow_map_norm(x, *, size, k, alpha, beta):
    """In float64, pixel by pixel."""
    x = np.asarray(x, np.float64)
    y = np.empty_like(x)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            rows = slice(max(0, i - size // 2), i + (size - 1) // 2 + 1)
            columns = slice(max(0, j - size // 2), j + (size - 1) // 2 + 1)
            energy = (x[:, rows, columns] ** 2).sum(axis=(1, 2))
            y[:, i, j] = x[:, i, j] / (k + alpha * energy) ** beta
    return y


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_map_normalization_equals_a_loop_over_pixels(size):
    x = 100 * normal(10, 2, 7, 6, 3)
    constants = {"size": size, "k": 1.0, "alpha": 4e-5, "beta": 0.75}
    y = layers.map_norm(jnp.asarray(x), **constants)
    np.testing.assert_allclose(y, slow_map_norm(x, **constants), rtol=1e-5)


@pytest.mark.parametrize("size", [2, 5])
def test_map_normalization_has_the_gradient_of_its_plain_form(size):
    x = jnp.asarray(100 * normal(11, 2, 7, 6, 3))
    weights = jnp.asarray(normal(12, 2, 7, 6, 3))
    before, after = size // 2, (size - 1) // 2

    def plain(x):
        energy = lax.reduce_window(
            x * x,
            0.0,
            lax.add,
            (1, size, size, 1),
            (1, 1, 1, 1),
            ((0, 0), (before, after), (before, after), (0, 0)),
        )
        return x * (1 + 4e-5 * energy) ** -0.75

    def ours(x):
        return layers.map_norm(x, size=size, k=1.0, alpha=4e-5, beta=0.75)

    expected = jax.grad(lambda x: (weights * plain(x)).sum())(x)
    gradient = jax.grad(lambda x: (weights * ours(x)).sum())(x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
