"""Convolutions in one and two towers (section 3.2)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from random_arrays import normal

from alexnet_jax.model import layers


def convolution(*, towers, seed=0, **changes):
    choices = {
        "window": 3,
        "stride": 1,
        "padding": ((1, 1), (1, 1)),
        "initialization": layers.LayerInitialization(0.1, 1.0),
        "key": jax.random.key(seed),
    }
    return layers.Convolution((8, 6), towers=towers, **(choices | changes))


@pytest.mark.parametrize("towers", [1, 2])
def test_convolution_equals_a_grouped_one_with_the_same_kernel(towers):
    layer = convolution(
        towers=towers,
        window=5,
        stride=2,
        padding=((2, 1), (0, 3)),
        initialization=layers.LayerInitialization(0.1, 0.5),
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


def test_a_convolution_starts_with_the_std_and_bias_it_is_given():
    layer = layers.Convolution(
        (64, 64),
        window=5,
        stride=1,
        padding=((2, 2), (2, 2)),
        towers=2,
        initialization=layers.LayerInitialization(0.03, 1.0),
        key=jax.random.key(1),
    )
    kernel = np.asarray(layer.kernel[...])
    assert kernel.shape == (5, 5, 32, 64)
    # 51,200 draws: four standard deviations of the estimate itself.
    assert kernel.std() == pytest.approx(0.03, rel=4 / math.sqrt(2 * kernel.size))
    assert abs(kernel.mean()) < 4 * 0.03 / math.sqrt(kernel.size)
    beyond_two = (np.abs(kernel) > 0.06).mean()
    assert beyond_two == pytest.approx(0.0455, abs=0.004)  # Of an untruncated Gaussian.
    assert (layer.bias[...] == 1.0).all()


def test_a_convolution_computes_in_the_dtype_of_its_input():
    layer = convolution(towers=2)
    assert layer(jnp.ones((2, 5, 5, 8), jnp.bfloat16)).dtype == jnp.bfloat16
    assert layer.kernel[...].dtype == jnp.float32
