"""Learning rates of single layers: how they are written, and what is refused."""

import pytest
from small_question import resolved

from alexnet_jax.config import base
from alexnet_jax.config.layer_rates import NAMES, of_layers
from alexnet_jax.errors import UserError
from alexnet_jax.model import alexnet, four_layer

ALEXNET = {"name": "alexnet", "channels": (96, 256, 384, 384, 256, 0, 4096, 4096)}
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def test_the_names_are_the_networks():
    assert NAMES == {
        "alexnet": alexnet.LAYERS,
        "zfnet": alexnet.LAYERS,
        "four_layer": four_layer.LAYERS,
    }


@pytest.mark.parametrize(
    ("text", "frozen", "factors"),
    [
        ("", 0, (1,) * 8),
        ("conv1=0", 0, (0,) + (1,) * 7),
        ("others=0.1, last=1", 0, (0.1,) * 7 + (1,)),
        ("conv1-conv5=0.01,others=0.1,fc8=10", 0, (0.01,) * 5 + (0.1, 0.1, 10)),
        ("conv4-fc6=2", 0, (1, 1, 1, 2, 2, 2, 1, 1)),  # across conv6, which is omitted
        ("conv2-last=3", 0, (1,) + (3,) * 7),
        ("others=0.1,last=1", 5, (0,) * 5 + (0.1, 0.1, 1)),
        ("", 6, (0,) * 6 + (1, 1)),  # fc6 is the sixth layer
    ],
)
def test_each_layer_has_its_factor(text, frozen, factors):
    assert of_layers(text, frozen, ALEXNET) == dict(zip(LAYERS, factors, strict=True))


def test_ranges_and_frozen_layers_count_the_layers_that_there_are():
    model = {"name": "alexnet", "channels": (96, 0, 384, 0, 0, 256, 0, 4096)}
    rest = {"fc7": 1, "fc8": 1}
    found = of_layers("conv1-conv2=0.5,conv4-fc6=3", 0, model)
    assert found == {"conv1": 0.5, "conv3": 1, "conv6": 3} | rest
    assert of_layers("", 2, model) == {"conv1": 0, "conv3": 0, "conv6": 1} | rest


@pytest.mark.parametrize(
    ("text", "frozen", "message"),
    [
        ("conv1", 0, "'conv1' is not understood"),
        ("conv1=x", 0, "'conv1=x' is not understood"),
        ("conv1=-1", 0, "from 0 .frozen. to 1000"),
        ("conv1=nan", 0, "from 0"),
        ("conv1=inf", 0, "from 0"),
        ("1,2,3", 0, "'1' is not understood"),
        ("cnov1=2", 0, "no layer 'cnov1'.*Did you mean 'conv1'"),
        ("fc4=2", 0, "no layer 'fc4'"),
        ("conv3-conv1=2", 0, "not a range"),
        ("conv1-conv2-conv3=2", 0, "not a range"),
        ("conv1-conv3=2,conv2=1", 0, "conv2 is named twice"),
        ("fc8=2,last=1", 0, "fc8 is named twice"),
        ("others=1,others=2", 0, "others is named twice"),
        ("conv6=2", 0, "this network has no conv6, but conv1"),
        ("conv1-last=0", 0, "freezes every layer"),
        ("", 8, "frozen_layers=8.*the last one, fc8, must be trained: at most 7"),
        ("last=0", 7, "freezes every layer"),
    ],
)
def test_what_is_wrong_is_named(text, frozen, message):
    with pytest.raises(UserError, match=message):
        of_layers(text, frozen, ALEXNET)


@pytest.mark.parametrize(
    ("field", "value"),
    [("layer_lr_multipliers", "conv9=1"), ("frozen_layers", 8), ("frozen_layers", -1)],
)
def test_a_configuration_with_a_wrong_one_is_refused(field, value):
    config = base()
    config.optimizer[field] = value
    with pytest.raises(UserError, match=rf"config\.optimizer\.{field}"):
        resolved(config)


def test_frozen_layers_can_be_tuned():
    config = base()
    config.tuned = {"optimizer.frozen_layers": (0, 3, 5)}
    trials = resolved(config).trials
    assert [one.settings.optimizer.frozen_layers for one in trials] == [0, 3, 5]
    assert len({one.compiled_for for one in trials}) == 3
