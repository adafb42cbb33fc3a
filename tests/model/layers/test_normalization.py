"""Local response normalization against nested loops (section 3.3)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from jax import lax
from random_arrays import normal
from reference import library_layers

from alexnet_jax.model import layers

PAPER = {"depth": 5, "k": 2.0, "alpha": 1e-4, "beta": 0.75}

# --- Across channels ----------------------------------------------------------


def normalized(channels, *, towers=1, **changes):
    """One pixel through the layer, in float64."""
    with jax.enable_x64(True):
        x = jnp.asarray(channels, jnp.float64)[None, None, None]
        y = layers.local_response_norm(x, towers=towers, **(PAPER | changes))
        return np.asarray(y)[0, 0, 0]


def slow_norm(x, *, depth, k, alpha, beta, towers):
    """Section 3.3 as printed in nested loops, each tower by itself."""
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
    """An even depth reads one channel more before the center than after it."""
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
    """If the norm comes first, negative neighbors enter the sum."""
    x = jnp.asarray(100 * normal(4, 1, 2, 2, 8))
    norm_last = layers.local_response_norm(jax.nn.relu(x), towers=1, **PAPER)
    norm_first = jax.nn.relu(layers.local_response_norm(x, towers=1, **PAPER))
    assert jnp.abs(norm_last - norm_first).max() > 1


@pytest.mark.parametrize(
    ("depth", "beta"), [(5, 0.75), (4, 0.75), (20, 0.75), (5, 1.0), (4, 0.6)]
)
def test_normalization_in_float32_is_a_float64_loop_within_a_hundred_thousandth(
    depth, beta
):
    """With any power, an even depth, a depth above the channels; the gradient too."""
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
    """The derivative of each output with respect to each input, in float64."""
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
def test_normalization_and_its_gradient_equal_those_of_plain_jax(towers):
    x, direction = jnp.asarray(50 * normal(17, 2, 5, 5, 16)), normal(18, 2, 5, 5, 16)
    one, other = (
        jax.vjp(functools.partial(form, **PAPER, towers=towers), x)
        for form in (layers.local_response_norm, library_layers.local_response_norm)
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


def test_normalization_equals_that_of_tensorflow():
    x = 50 * normal(21, 2, 3, 3, 16)
    y = layers.local_response_norm(jnp.asarray(x), **PAPER, towers=1)
    # TensorFlow's depth is a radius, and it calls k the bias.
    expected = tf.nn.local_response_normalization(x, 2, 2.0, 1e-4, 0.75)
    np.testing.assert_allclose(y, expected, rtol=1e-5)


# --- Within a channel ---------------------------------------------------------


def slow_within_channel_norm(x, *, size, k, alpha, beta):
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
def test_within_channel_norm_equals_a_loop_over_pixels(size):
    x = 100 * normal(10, 2, 7, 6, 3)
    constants = {"size": size, "k": 1.0, "alpha": 4e-5, "beta": 0.75}
    y = layers.within_channel_norm(jnp.asarray(x), **constants)
    np.testing.assert_allclose(y, slow_within_channel_norm(x, **constants), rtol=1e-5)


@pytest.mark.parametrize("size", [2, 5])
def test_within_channel_norm_has_the_gradient_of_its_plain_form(size):
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
        return layers.within_channel_norm(x, size=size, k=1.0, alpha=4e-5, beta=0.75)

    expected = jax.grad(lambda x: (weights * plain(x)).sum())(x)
    gradient = jax.grad(lambda x: (weights * ours(x)).sum())(x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
