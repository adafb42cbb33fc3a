"""Max and average pooling against slow loops (section 3.4)."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from random_arrays import normal

from alexnet_jax.model import layers
from alexnet_jax.model.layers import pooling


def slow_pool(x, reduce, *, window, stride):
    """Reduces the pixels of each window that lie inside the image."""
    size = [1 + math.ceil((side - window) / stride) for side in x.shape[1:3]]
    y = np.zeros((x.shape[0], *size, x.shape[3]))
    for row, column in itertools.product(*map(range, size)):
        top, left = row * stride, column * stride
        inside = x[:, top : top + window, left : left + window]
        y[:, row, column] = reduce(inside, axis=(1, 2))
    return y


POOLINGS = [  # window, stride, size
    (3, 2, 32),  # The last window overhangs.
    (3, 2, 13),
    (2, 2, 5),
    (3, 3, 7),
    (3, 1, 4),
    (3, 2, 2),
]


@pytest.mark.parametrize(("window", "stride", "size"), POOLINGS)
def test_max_pool_equals_a_slow_loop(window, stride, size):
    x = normal(8, 2, size, size, 3) - 5.0  # All negative: zero padding would show.
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
    """Constant images stay constant, also where windows overhang."""
    x = jnp.full((1, 32, 32, 1), 7.0)
    y = layers.average_pool(x, window=3, stride=2, rounding="up")
    np.testing.assert_allclose(y, np.full((1, 16, 16, 1), 7.0), rtol=1e-6)


def tied(seed, *shape):
    """Images of a few whole numbers, many of them zero, as after a ReLU."""
    draws = np.random.default_rng(seed).integers(-3, 4, shape)
    return np.maximum(draws, 0).astype(np.float32)


GRADIENTS = [  # height, width, window, stride, rounding
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


@pytest.mark.parametrize(
    ("height", "width", "window", "stride", "rounding", "values_at_once"),
    [(*case, 1) for case in GRADIENTS] + [(*GRADIENTS[0], 2**18)],
)
def test_max_pool_and_its_gradient_are_bit_identical_to_those_of_flax(
    height, width, window, stride, rounding, values_at_once, monkeypatch
):
    monkeypatch.setattr(pooling, "VALUES_AT_ONCE", values_at_once)
    x = jnp.asarray(tied(31, 2, height, width, 3))
    edges = pooling.overhang(x.shape, window, stride, rounding)

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
def test_with_ties_all_every_equal_maximum_receives_the_gradient(
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


def test_max_pool_saves_one_byte_a_window():
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


@pytest.mark.parametrize(
    ("height", "width", "window", "stride", "rounding", "dtype", "tolerance"),
    [(*case, "float32", 1e-6) for case in GRADIENTS]
    + [(*GRADIENTS[0], "bfloat16", 2**-7)],
)
def test_average_pool_and_its_gradient_are_those_of_flax(
    height, width, window, stride, rounding, dtype, tolerance
):
    x = jnp.asarray(normal(37, 2, height, width, 3), dtype)
    edges = pooling.overhang(x.shape, window, stride, rounding)

    def library(x):
        x = x.astype(jnp.float32)
        shape, strides = (window, window), (stride, stride)
        return nnx.avg_pool(x, shape, strides, edges, count_include_pad=False)

    ours = functools.partial(
        layers.average_pool, window=window, stride=stride, rounding=rounding
    )
    gradient = jnp.asarray(normal(38, *jax.eval_shape(ours, x).shape), dtype)

    @jax.jit
    def values_and_gradients(x, gradient):
        both = [jax.vjp(pool, x) for pool in (ours, library)]
        return [(y, *backward(gradient.astype(y.dtype))) for y, backward in both]

    for one, other in zip(*values_and_gradients(x, gradient), strict=True):
        assert one.dtype == dtype
        one, other = (np.asarray(v, np.float64) for v in (one, other))
        assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


@pytest.mark.parametrize(
    "pool", [layers.average_pool, functools.partial(layers.max_pool, ties="first")]
)
def test_pools_can_be_vmapped(pool, monkeypatch):
    monkeypatch.setattr(pooling, "VALUES_AT_ONCE", 1)
    x = jnp.asarray(normal(39, 3, 2, 8, 6, 4))
    pool = functools.partial(pool, window=3, stride=2, rounding="up")

    def value_and_gradient(x):
        y, backward = jax.vjp(pool, x)
        return y, *backward(jnp.cos(y))

    mapped = jax.jit(jax.vmap(value_and_gradient))(x)
    for number in range(3):
        for one, other in zip(mapped, value_and_gradient(x[number]), strict=True):
            np.testing.assert_allclose(one[number], other, rtol=1e-5, atol=1e-6)


def test_average_pool_by_slices_is_compiled_for_cpus_only():
    def loss(x):
        y = layers.average_pool(x, window=3, stride=2, rounding="up")
        return (y * y).sum()

    traced = jax.jit(jax.grad(loss)).trace(
        jax.ShapeDtypeStruct((2, 8, 8, 4), "float32")
    )
    cpu, gpu = (
        traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")
    )
    assert "reduce_window" not in cpu
    assert "reduce_window" in gpu


def test_max_pool_and_relu_commute():
    x = jnp.asarray(normal(11, 2, 13, 13, 4))
    one = jax.nn.relu(
        layers.max_pool(x, window=3, stride=2, rounding="up", ties="first")
    )
    other = layers.max_pool(
        jax.nn.relu(x), window=3, stride=2, rounding="up", ties="first"
    )
    assert (one == other).all()
