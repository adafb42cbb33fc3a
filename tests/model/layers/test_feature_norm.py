"""Normalizations of the features of each layer, against their formulas and PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alexnet_jax.config import base
from alexnet_jax.config.model_fields import FEATURE_NORMS
from alexnet_jax.config.resolve import resolve
from alexnet_jax.errors import UserError
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


def of_batches(norm, batches):
    """What the layer makes of each batch in training, as on one device."""
    holder = nnx.Module()
    holder.norm = norm
    layers.normalize_by_batch(holder, across_devices=False)
    return [norm(jnp.asarray(x)) for x in batches]


def batches_of(shape):
    return [rng.normal(k, 1 + k, shape).astype(np.float32) for k in range(10)]


@pytest.mark.parametrize("shape", [(4, 5, 6, CHANNELS), (4, CHANNELS)])
def test_channels_of_a_batch_have_mean_0_and_variance_1(shape):
    """And the running statistics after ten batches normalize in evaluation."""
    norm, batches = made("batch"), batches_of(shape)
    mean, variance = np.zeros(CHANNELS), np.ones(CHANNELS)
    for x, found in zip(batches, of_batches(norm, batches), strict=True):
        values = x.reshape(-1, CHANNELS).astype(np.float64)
        normal = (x - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)
        np.testing.assert_allclose(found, normal * SCALE + SHIFT, atol=2e-5)
        mean = 0.9 * mean + 0.1 * values.mean(0)
        variance = 0.9 * variance + 0.1 * values.var(0)
    np.testing.assert_allclose(norm.mean[...], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.var[...], variance, rtol=1e-4)
    norm.use_running_average = True
    expected = (batches[0] - mean) / np.sqrt(variance + 1e-5) * SCALE + SHIFT
    np.testing.assert_allclose(norm(jnp.asarray(batches[0])), expected, atol=2e-5)


def test_batch_normalization_is_that_of_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is an optional package")
    theirs = torch.nn.BatchNorm2d(CHANNELS)
    theirs.weight.data, theirs.bias.data = torch.tensor(SCALE), torch.tensor(SHIFT)
    norm, batches = made("batch"), batches_of((4, 5, 6, CHANNELS))
    for x, found in zip(batches, of_batches(norm, batches), strict=True):
        expected = theirs(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy()
        np.testing.assert_allclose(found.transpose(0, 3, 1, 2), expected, atol=2e-5)
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(norm.mean[...], theirs.running_mean.numpy(), **close)
    # 120 values a batch; before the first, 1 is a tenth that no factor multiplies.
    ours = (norm.var[...] - 0.9**10) * 120 / 119 + 0.9**10
    np.testing.assert_allclose(ours, theirs.running_var.numpy(), **close)


@pytest.mark.parametrize(("batch", "parts"), [(1, 1), (4, 4), (7, 4)])
def test_an_image_alone_is_not_normalized_by_itself(batch, parts):
    config = base()
    config.model.normalization = "batch"
    config.training.batch_size = batch
    config.training.gradient_accumulation = parts
    with pytest.raises(UserError, match="a step sees 1 image at a time"):
        resolve(config, {})


def small(name, kind):
    config = base(network=name)
    # Without biases, and of a scale beside which EPSILON is small.
    given = {"model.width": 0.05, "model.initialization": "he"}
    given |= {"model.normalization": kind}
    for field, value in given.items():
        config.set_by("command line", field, value)
    settings = resolve(config, given).settings.model
    return build(settings, image_size=67, num_classes=3)


@pytest.mark.parametrize("kind", FEATURE_NORMS)
@pytest.mark.parametrize(
    "name", [pytest.param("alexnet", marks=pytest.mark.slow), "four_layer"]
)
def test_every_layer_but_the_last_is_normalized_before_its_activation(name, kind):
    """Whatever scale it has: the next layer sees the same."""
    network = small(name, kind)
    params = jax.tree.map(jnp.asarray, network.initialize(jax.random.key(0)))
    names = [layer for layer in params if not layer.endswith("_norm")]
    assert set(params) == {*names, *(f"{layer}_norm" for layer in names[:-1])}
    louder = {
        layer: jax.tree.map(lambda leaf: 50 * leaf, leaves)
        if layer in names[:-1]
        else leaves
        for layer, leaves in params.items()
    }
    images = jnp.asarray(rng.normal(0, 60, (16, 67, 67, 3)), jnp.float32)
    plain, changed = (network.outputs_of_batch(p, images) for p in (params, louder))
    for layer in plain:
        np.testing.assert_allclose(plain[layer], changed[layer], atol=2e-2)
