"""Activation functions by name (section 3.1)."""

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


def test_activations_are_those_named():
    x = jnp.asarray([-2.0, -0.5, 0.0, 0.5, 2.0])
    relu, tanh = (layers.activation_function(name) for name in ("relu", "tanh"))
    np.testing.assert_array_equal(relu(x), np.maximum(x, 0))
    np.testing.assert_allclose(tanh(x), np.tanh(x), rtol=1e-6)


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
