"""Normalizations of the features of each layer, against their formulas and PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.config import base
from alexnet_jax.config.model_fields import FEATURE_NORMS
from alexnet_jax.config.resolve import resolve
from alexnet_jax.model import layers
from alexnet_jax.model.network import build

CHANNELS = 48  # in 16 groups of 3
rng = np.random.default_rng(0)
MAPS = rng.normal(2, 3, (4, 5, 6, CHANNELS)).astype(np.float32)
SCALE, SHIFT = rng.normal(1, 0.5, (2, CHANNELS)).astype(np.float32)


def made(kind):
    """The layer, with a scale and a shift of its own."""
    norm = layers.FEATURE_NORMS[kind](CHANNELS)
    norm.scale[...], norm.bias[...] = SCALE, SHIFT
    return norm


def test_the_configuration_names_them_all():
    assert set(FEATURE_NORMS) == set(layers.FEATURE_NORMS)


@pytest.mark.parametrize(("kind", "groups"), [("layer", 1), ("group", 16)])
@pytest.mark.parametrize("shape", [(4, 5, 6, CHANNELS), (4, CHANNELS)])
def test_groups_of_an_images_features_have_mean_0_and_variance_1(kind, groups, shape):
    x = MAPS if len(shape) == 4 else MAPS[:, 0, 0]
    parts = x.reshape(4, -1, groups, CHANNELS // groups).astype(np.float64)
    mean = parts.mean((1, 3), keepdims=True)
    normal = (parts - mean) / np.sqrt(parts.var((1, 3), keepdims=True) + 1e-5)
    expected = normal.reshape(shape) * SCALE + SHIFT
    np.testing.assert_allclose(made(kind)(jnp.asarray(x)), expected, atol=2e-5)


@pytest.mark.parametrize(("kind", "groups"), [("layer", 1), ("group", 16)])
def test_groups_are_those_of_torch(kind, groups):
    torch = pytest.importorskip("torch", reason="PyTorch is an optional package")
    theirs = torch.nn.functional.group_norm(
        torch.tensor(MAPS.transpose(0, 3, 1, 2)),
        groups,
        torch.tensor(SCALE),
        torch.tensor(SHIFT),
    )
    found = made(kind)(jnp.asarray(MAPS)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, theirs.numpy(), atol=2e-5)


def small(name, kind):
    config = base(network=name)
    given = {"model.width": 0.05, "model.normalization": kind}
    for field, value in given.items():
        config.set_by("command line", field, value)
    settings = resolve(config, given).settings.model
    return build(settings, image_size=67, num_classes=3)


@pytest.mark.parametrize("kind", FEATURE_NORMS)
@pytest.mark.parametrize("name", ["alexnet", "four_layer"])
def test_every_layer_but_the_last_is_normalized_before_its_activation(name, kind):
    """Whatever scale it has: the next layer sees the same."""
    network = small(name, kind)
    params = jax.tree.map(jnp.asarray, network.initialize(jax.random.key(0)))
    names = [layer for layer in params if not layer.endswith("_norm")]
    assert set(params) == {*names, *(f"{layer}_norm" for layer in names[:-1])}
    for layer in names[:-1]:  # otherwise a bias would not scale with the kernel
        params[layer]["bias"] = jnp.zeros_like(params[layer]["bias"])
    louder = {
        layer: jax.tree.map(lambda leaf: 50 * leaf, leaves)
        if layer in names[:-1]
        else leaves
        for layer, leaves in params.items()
    }
    images = jnp.asarray(rng.normal(0, 60, (2, 67, 67, 3)), jnp.float32)
    plain, changed = (network.outputs_of_batch(p, images) for p in (params, louder))
    for layer in plain:
        np.testing.assert_allclose(plain[layer], changed[layer], atol=2e-2)
