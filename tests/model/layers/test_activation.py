"""Activation functions by name (section 3.1)."""

import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.errors import UserError
from alexnet_jax.model import layers
from alexnet_jax.model.network import build


def logistic(x):
    return 1 / (1 + math.exp(-x))


# From their papers, in Python's floats.
FORMULAS = {
    "relu": lambda x: max(x, 0.0),
    "tanh": math.tanh,
    "sigmoid": logistic,
    "softplus": lambda x: math.log(1 + math.exp(x)),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "silu": lambda x: x * logistic(x),
}


@pytest.mark.parametrize("name", sorted(layers.ACTIVATIONS))
def test_activations_are_those_named(name):
    x = np.array([-30.0, -2.0, -0.5, 0.0, 0.5, 2.0, 30.0])
    found = layers.activation_function(name)(jnp.asarray(x, jnp.float32))
    expected = [FORMULAS[name](value) for value in x]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", sorted(layers.ACTIVATIONS))
def test_gradients_are_finite_far_from_zero(name):
    gradient = jax.vmap(jax.grad(layers.activation_function(name)))
    assert np.isfinite(gradient(jnp.asarray([-1e4, -100.0, 0.0, 100.0, 1e4]))).all()


def test_an_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(UserError) as caught:
        layers.activation_function("relo")
    message = str(caught.value)
    assert "config.model.activation='relo'" in message
    assert ", ".join(layers.ACTIVATIONS) in message
    assert "Did you mean 'relu'?" in message


@pytest.mark.parametrize(
    "name", [pytest.param("alexnet", marks=pytest.mark.slow), "four_layer"]
)
def test_a_new_activation_is_one_row_of_the_table(name):
    """The configuration accepts it, and both networks use it."""
    added = mock.patch.dict(layers.ACTIVATIONS, cubed=lambda x: x**3)
    config = base(network=name)
    config.model.width = 0.05
    config.model.activation = "cubed"
    settings = resolve(config, {"model.activation": "cubed"}).settings.model
    with pytest.raises(UserError, match="cubed"):
        build(settings, image_size=64, num_classes=3)
    images = 70 * jnp.ones((1, 64, 64, 3))
    with added:
        network = build(settings, image_size=64, num_classes=3)
        params = network.initialize(jax.random.key(0))
        assert network.apply(params, images, None).shape == (1, 3)
