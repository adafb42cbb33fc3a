"""The fully connected layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_arrays import normal

from alexnet_jax.model import layers


def dense(inputs, outputs, std, bias):
    return layers.Dense(
        inputs,
        outputs,
        initialization=layers.LayerInitialization(std, bias),
        key=jax.random.key(2),
    )


def test_dense_is_a_matrix_product_and_a_bias():
    layer = dense(7, 3, 0.2, 0.25)
    x = normal(7, 4, 7)
    expected = x.astype(np.float64) @ np.asarray(layer.kernel[...], np.float64) + 0.25
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)
    assert layer(jnp.ones((1, 7), jnp.bfloat16)).dtype == jnp.bfloat16


def test_a_dense_layer_starts_with_the_std_and_bias_it_is_given():
    layer = dense(200, 100, 0.01, 1.0)
    assert float(layer.kernel[...].std()) == pytest.approx(0.01, rel=0.02)
    assert (layer.bias[...] == 1.0).all()
