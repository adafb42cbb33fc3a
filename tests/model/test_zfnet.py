"""ZFNet: its sizes, those of Figure 3 of its paper. Its function: test_torch.py."""

import math

import jax
import jax.numpy as jnp
import pytest
from small_question import resolved

from alexnet_jax.config import base
from alexnet_jax.errors import UserError
from alexnet_jax.model.network import build


def zfnet(size=224, **changes):
    config = base()
    config.model.name = "zfnet"
    config.model.towers = 1
    plan = resolved(config, **changes)
    return build(plan.settings.model, image_size=size, num_classes=1000)


def test_it_has_62_million_parameters():
    shapes = jax.eval_shape(zfnet().initialize, jax.random.key(0))
    assert shapes["conv1"]["kernel"].shape == (7, 7, 3, 96)
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)]
    assert sum(sizes) == 62_357_608


def test_its_maps_are_those_of_its_figure_3():
    network = zfnet()

    def outputs(key):
        images = jnp.zeros((1, 224, 224, 3))
        return network.outputs(network.initialize(key), images, None)

    found = jax.eval_shape(outputs, jax.random.key(0))
    sides = {name: shape.shape[1] for name, shape in found.items()}
    assert sides == {
        **{"conv1": 55, "conv2": 13, "conv3": 13, "conv4": 13, "conv5": 13},
        **{"fc6": 4096, "fc7": 4096, "fc8": 1000},
    }


def test_without_conv2_its_windows_are_left_out():
    channels = (96, 0, 384, 384, 256, 0, 4096, 4096)
    shapes = jax.eval_shape(
        zfnet(model__channels=channels).initialize, jax.random.key(0)
    )
    assert shapes["fc6"]["kernel"].shape == (13 * 13 * 256, 4096)


def test_two_towers_are_refused():
    with pytest.raises(UserError, match=r"single tower: add --config.model.towers=1"):
        zfnet(model__towers=2)


def test_images_that_are_too_small_are_refused_by_layer():
    with pytest.raises(UserError, match="conv2"):
        zfnet(size=16)
