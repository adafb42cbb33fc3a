"""Each layer against a slow loop, and what it does otherwise than today's libraries."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

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


# --- Convolution and dense --------------------------------------------------------


def convolution(*, towers, seed=0, **changes):
    choices = {
        "window": 3,
        "stride": 1,
        "padding": ((1, 1), (1, 1)),
        "deviation": 0.1,
        "bias": 1.0,
        "key": jax.random.key(seed),
    }
    return layers.Convolution(8, 6, towers=towers, **(choices | changes))


@pytest.mark.parametrize("towers", [1, 2])
def test_convolution_equals_a_grouped_one_with_the_same_kernel(towers):
    layer = convolution(
        towers=towers, window=5, stride=2, padding=((2, 1), (0, 3)), bias=0.5
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
        deviation=0.03,
        bias=1.0,
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


def test_dense_is_a_matrix_product_and_a_bias():
    layer = layers.Dense(7, 3, deviation=0.2, bias=0.25, key=jax.random.key(2))
    x = normal(7, 4, 7)
    expected = x.astype(np.float64) @ np.asarray(layer.kernel[...], np.float64) + 0.25
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)


def test_a_dense_layer_starts_with_the_deviation_and_bias_it_is_given():
    layer = layers.Dense(200, 100, deviation=0.01, bias=1.0, key=jax.random.key(3))
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
    assert layers.widened(0.01, 0, 4.0) == 0.01
    assert layers.widened(0.01, 1, 4.0) == 0.005
    assert layers.widened(0.03, 7, 0.25) == 0.06
    assert layers.widened(0.01, 3, 1.0) == 0.01


def test_activations_are_those_named():
    x = jnp.asarray([-2.0, -0.5, 0.0, 0.5, 2.0])
    np.testing.assert_array_equal(layers.activation("relu")(x), np.maximum(x, 0))
    np.testing.assert_allclose(layers.activation("tanh")(x), np.tanh(x), rtol=1e-6)


def test_an_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="'sigmoid': relu or tanh"):
        layers.activation("sigmoid")


# --- Sizes ------------------------------------------------------------------------


def test_pooled_sizes_are_those_of_the_paper():
    assert [layers.pooled_size(size, 3, 2) for size in (55, 27, 13)] == [27, 13, 6]


def test_pooled_sizes_are_rounded_up():
    """cuda-convnet's 32 -> 16 -> 8 -> 4, where the usual rule gives 15, 7 and 3."""
    assert [layers.pooled_size(size, 3, 2) for size in (32, 16, 8)] == [16, 8, 4]


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 12), st.integers(1, 12))
def test_pooling_windows_cover_every_pixel_and_none_starts_behind_the_last(
    size, window, stride
):
    stride = min(stride, window)
    windows = layers.pooled_size(size, window, stride)
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
    size = [1 + math.ceil(max(0, side - window) / stride) for side in x.shape[1:3]]
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
    (3, 2, 1),
]


@pytest.mark.parametrize(("window", "stride", "size"), POOLINGS)
def test_max_pool_equals_a_slow_loop(window, stride, size):
    x = normal(8, 2, size, size, 3) - 5.0  # padding with 0 would show
    y = layers.max_pool(jnp.asarray(x), window=window, stride=stride)
    np.testing.assert_array_equal(y, slow_pool(x, np.max, window=window, stride=stride))


@pytest.mark.parametrize(("window", "stride", "size"), POOLINGS)
def test_average_pool_equals_a_slow_loop(window, stride, size):
    x = normal(9, 2, size, size, 3) + 5.0
    y = layers.average_pool(jnp.asarray(x), window=window, stride=stride)
    expected = slow_pool(x, np.mean, window=window, stride=stride)
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_images_need_not_be_square_to_be_pooled():
    x = normal(10, 1, 8, 13, 2)
    y = layers.max_pool(jnp.asarray(x), window=3, stride=2)
    assert y.shape == (1, 4, 6, 2)
    np.testing.assert_array_equal(y, slow_pool(x, np.max, window=3, stride=2))


def test_average_pool_divides_by_the_pixels_inside():
    """Constant images stay constant, at the overhanging edge too."""
    x = jnp.full((1, 32, 32, 1), 7.0)
    y = layers.average_pool(x, window=3, stride=2)
    np.testing.assert_allclose(y, np.full((1, 16, 16, 1), 7.0), rtol=1e-6)


def test_max_pool_and_relu_commute():
    x = jnp.asarray(normal(11, 2, 13, 13, 4))
    one = jax.nn.relu(layers.max_pool(x, window=3, stride=2))
    other = layers.max_pool(jax.nn.relu(x), window=3, stride=2)
    assert (one == other).all()


# --- Dropout (section 4.2) --------------------------------------------------------


def keys(*numbers):
    return jax.vmap(jax.random.key)(jnp.asarray(numbers))


def test_dropout_in_testing_multiplies_by_what_is_kept():
    x = jnp.asarray(normal(12, 3, 40))
    y = layers.dropout(x, rate=0.25, keys=None, layer=6)
    np.testing.assert_allclose(y, 0.75 * x, rtol=1e-6)


def test_dropout_in_training_sets_to_zero_or_leaves_alone():
    x = jnp.asarray(normal(13, 4, 5000))
    y = layers.dropout(x, rate=0.25, keys=keys(0, 1, 2, 3), layer=6)
    dropped = np.asarray(y == 0)
    np.testing.assert_array_equal(y, np.where(dropped, 0, x))
    # 20,000 units: four deviations.
    assert dropped.mean() == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 20000))


def test_an_examples_mask_does_not_depend_on_its_neighbours():
    ones = jnp.ones((4, 100))
    together = layers.dropout(ones, rate=0.5, keys=keys(5, 6, 7, 8), layer=6)
    alone = layers.dropout(ones[:1], rate=0.5, keys=keys(7), layer=6)
    moved = layers.dropout(ones, rate=0.5, keys=keys(7, 1, 6, 5), layer=6)
    np.testing.assert_array_equal(together[2:3], alone)
    np.testing.assert_array_equal(together[2], moved[0])
    np.testing.assert_array_equal(together[1], moved[2])
    np.testing.assert_array_equal(together[0], moved[3])


def test_examples_and_layers_have_masks_of_their_own():
    ones = jnp.ones((2, 100))
    six = layers.dropout(ones, rate=0.5, keys=keys(0, 1), layer=6)
    seven = layers.dropout(ones, rate=0.5, keys=keys(0, 1), layer=7)
    masks = {tuple(mask.tolist()) for mask in (*six, *seven)}
    assert len(masks) == 4


@pytest.mark.parametrize("train", [False, True])
def test_dropout_of_rate_zero_does_nothing(train):
    x = jnp.asarray(normal(14, 2, 10))
    y = layers.dropout(x, rate=0.0, keys=keys(0, 1) if train else None, layer=6)
    np.testing.assert_array_equal(y, x)
