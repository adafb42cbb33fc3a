"""Initial weights and biases (section 5)."""

import jax
import jax.numpy as jnp
import pytest

from alexnet_jax.model import layers


def test_a_layers_key_is_a_function_of_the_root_and_its_name_alone():
    def data(seed, name):
        key = layers.layer_key(jax.random.key(seed), name)
        return tuple(jax.random.key_data(key).tolist())

    names = [f"conv{i}" for i in range(1, 6)] + ["fc4", "fc6", "fc7", "fc8"]
    keys = {data(seed, name) for seed in range(3) for name in names}
    assert len(keys) == 3 * len(names)
    assert data(1, "conv1") == data(1, "conv1")


def test_a_wider_network_starts_with_smaller_weights_after_the_first_layer():
    found = layers.layer_initializations(
        "normal", (0.01, 0.01, 0.03), (0.0, 1.0, 0.5), width=4.0
    )
    assert found == [
        layers.LayerInitialization(0.01, 0.0),
        layers.LayerInitialization(0.005, 1.0),
        layers.LayerInitialization(0.015, 0.5),
    ]
    (_, wider) = layers.layer_initializations(
        "normal", (0.03, 0.03), (0.0, 0.0), width=0.25
    )
    assert wider.std == 0.06


def test_fan_in_starts_uniform_to_one_over_the_root_of_a_units_inputs():
    (fan_in,) = layers.layer_initializations("fan_in", (0.01,), (1.0,), width=4.0)
    kernel, bias = layers.initial_parameters((5, 5, 4, 300), fan_in, jax.random.key(0))
    for values in (kernel, bias):
        assert 0.09 < jnp.abs(values).max() <= 0.1  # 100 inputs
        assert jnp.abs(values.mean()) < 0.02
    assert kernel.std() == pytest.approx(0.1 / 3**0.5, rel=0.02)
