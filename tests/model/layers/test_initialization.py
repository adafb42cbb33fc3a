"""Initial weights and biases (section 5)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.model import layers
from alexnet_jax.model.layers import draws


@pytest.fixture(autouse=True, scope="module")
def compiled_anew():
    """Other tests may have had the library's draws compiled without optimization."""
    jax.clear_caches()


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


RULES = ("fan_in", "he", "xavier", "orthogonal")


def drawn(rule, shape):
    (found,) = layers.layer_initializations(rule, (0.01,), (1.0,), width=4.0)
    return layers.initial_parameters(shape, found, jax.random.key(5))


@pytest.mark.parametrize(
    ("rule", "std", "largest"),
    [
        ("fan_in", 1 / math.sqrt(3 * 200), 1 / math.sqrt(200)),
        ("he", math.sqrt(2 / 200), math.inf),
        ("xavier", math.sqrt(2 / 2700), math.sqrt(6 / 2700)),
    ],
)
def test_weights_spread_as_the_rule_says(rule, std, largest):
    """200 inputs a unit, each of which reaches 25 pixels of 100 units."""
    kernel, bias = drawn(rule, (5, 5, 8, 100))
    assert kernel.dtype == np.float32
    assert kernel.std() == pytest.approx(std, rel=0.01)
    assert abs(kernel.mean()) < 0.03 * std
    assert abs(kernel).max() <= largest
    assert rule == "fan_in" or not bias.any()


@pytest.mark.parametrize("shape", [(3, 3, 8, 20), (2, 2, 2, 20), (20, 20)])
def test_orthogonal_weights_are_orthogonal(shape):
    kernel, bias = drawn("orthogonal", shape)
    matrix = kernel.reshape(-1, shape[-1]).astype(np.float64)
    fewer = matrix.T @ matrix if matrix.shape[0] >= 20 else matrix @ matrix.T
    np.testing.assert_allclose(fewer, 2 * np.eye(len(fewer)), atol=1e-5)
    assert kernel.dtype == np.float32
    assert not bias.any()


@pytest.mark.parametrize("rule", RULES)
def test_weights_of_a_compiled_program_are_close(rule):
    """QR is another library's there, and rounds otherwise."""
    (found,) = layers.layer_initializations(rule, (0.01,), (1.0,), width=4.0)
    compiled = jax.jit(lambda key: layers.initial_parameters((3, 3, 4, 5), found, key))
    for one, other in zip(
        drawn(rule, (3, 3, 4, 5)), compiled(jax.random.key(5)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


def assert_equal_bits(ours, theirs):
    assert isinstance(ours, np.ndarray)
    assert ours.tobytes() == np.asarray(theirs).tobytes()


@pytest.mark.parametrize("shape", [(5, 5, 3, 32), (draws.CHUNK + 1,)])
def test_weights_are_those_of_the_library_to_the_last_bit(shape):
    key = layers.layer_key(jax.random.key(7), "conv1")
    for std in (0.01, 0.06 / math.sqrt(2)):
        theirs = jax.jit(lambda key, std=std: std * jax.random.normal(key, shape))
        assert_equal_bits(draws.normal(key, shape, std), theirs(key))
    bound = 1 / math.sqrt(75)
    theirs = jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    assert_equal_bits(draws.uniform(key, shape, bound), theirs)


def test_weights_drawn_in_a_compiled_program_are_the_same():
    key = jax.random.key(3)
    compiled = jax.jit(lambda key: draws.normal(key, (300, 513), 0.01))
    assert_equal_bits(draws.normal(key, (300, 513), 0.01), compiled(key))
