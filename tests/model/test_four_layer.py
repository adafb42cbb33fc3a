"""The four-layer network of Figure 1: sizes, parameters and choices."""

import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet_jax.config import base
from alexnet_jax.model import layers
from alexnet_jax.model.network import build


def four_layer(*, image_size=32, num_classes=10, **changes):
    model = base(network="four_layer").model.to_dict() | changes
    return build(ConfigDict(model), image_size=image_size, num_classes=num_classes)


def shapes(network):
    return jax.eval_shape(network.initialize, jax.random.key(0))


@pytest.fixture(scope="module")
def params():
    return four_layer().initialize(jax.random.key(0))


@pytest.fixture(scope="module")
def images():
    return 70 * jax.random.normal(jax.random.key(1), (2, 32, 32, 3))


def test_it_has_89_578_parameters():
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes(four_layer()))]
    assert sum(sizes) == 89_578


def test_its_kernels_are_those_of_the_2011_code():
    kernels = {
        name: layer["kernel"].shape for name, layer in shapes(four_layer()).items()
    }
    assert kernels == {
        "conv1": (5, 5, 3, 32),
        "conv2": (5, 5, 32, 32),
        "conv3": (5, 5, 32, 64),
        "fc4": (1024, 10),
    }


def test_its_layers_leave_16_8_and_4_pixels():
    """Pooled by maximum, mean and mean, each rounded up."""
    outputs = []

    def recording(name, pool):
        def call(*args, **kwargs):
            y = pool(*args, **kwargs)
            outputs.append((name, y.shape))
            return y

        return call

    batch = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    with (
        mock.patch.object(layers, "max_pool", recording("max", layers.max_pool)),
        mock.patch.object(
            layers, "average_pool", recording("mean", layers.average_pool)
        ),
    ):
        network = four_layer()
        logits = jax.eval_shape(network.apply, shapes(network), batch, None)
    assert outputs == [
        ("max", (2, 16, 16, 32)),
        ("mean", (2, 8, 8, 32)),
        ("mean", (2, 4, 4, 64)),
    ]
    assert logits.shape == (2, 10)


def test_width_multiplies_its_channels():
    layers_of_half = shapes(four_layer(width=0.5)).values()
    channels = [layer["bias"].shape[0] for layer in layers_of_half]
    assert channels == [16, 16, 32, 10]


def test_its_weights_start_as_in_the_2011_code(params):
    stds = (0.0001, 0.01, 0.01, 0.01)
    for layer, std in zip(params.values(), stds, strict=True):
        kernel = np.asarray(layer["kernel"], np.float64)
        tolerance = 4 / math.sqrt(2 * kernel.size)
        assert kernel.std() == pytest.approx(std, rel=tolerance)
        assert (layer["bias"] == 0).all()


def test_relu_and_tanh_start_from_the_same_weights(params):
    """Trials of one seed are paired: only the nonlinearity differs."""
    tanh = four_layer(activation="tanh").initialize(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, params, tanh)


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "tanh"},
        {"normalization": "local_response"},
        {"dropout_rate": 0.5},
    ],
    ids=["activation", "normalization", "dropout_rate"],
)
def test_every_choice_changes_the_logits(params, images, changes):
    louder = jax.tree.map(lambda leaf: 10 * leaf, params)
    plain = four_layer().apply(louder, images, None)
    changed = four_layer(**changes).apply(louder, images, None)
    assert np.isfinite(changed).all()
    assert (jnp.abs(changed - plain) > 1e-5 * jnp.abs(plain)).all()


def test_dropout_keys_matter_where_there_is_dropout(params, images):
    keys = jax.random.split(jax.random.key(4), 2)
    dropping = four_layer(dropout_rate=0.5)
    logits = dropping.apply(params, images, keys)
    assert (logits != dropping.apply(params, images, None)).any()
    without = four_layer()
    np.testing.assert_array_equal(
        without.apply(params, images, keys), without.apply(params, images, None)
    )
