"""Which AlexNet: the choices of the four recipes against their sources, and departures."""

import itertools

import pytest

from alexnet_jax.config.field_type import Above
from alexnet_jax.config.fields import FIELDS, SWITCHES, departures, without_effect
from alexnet_jax.config.recipes import (
    CHOICES,
    DEFAULT,
    NO_RECIPE,
    RECIPES,
)


def test_the_default_recipe_is_that_of_the_published_numbers():
    assert DEFAULT == "source2012"


def test_every_choice_is_a_field_and_takes_its_default_from_the_default_recipe():
    for name, choice in CHOICES.items():
        assert FIELDS[name].default == choice.of(DEFAULT), name


def test_no_two_recipes_agree():
    for one, other in itertools.combinations(RECIPES, 2):
        assert any(choice.of(one) != choice.of(other) for choice in CHOICES.values())


def test_switches_and_the_fields_that_they_switch_off_are_fields():
    for switches, fields in SWITCHES:
        for switch, value in switches.items():
            kind = float if isinstance(value, Above) else type(value)
            assert kind is type(FIELDS[switch].default)
        assert set(fields) <= set(FIELDS)


def test_a_field_without_an_effect_comes_with_what_switches_it_off():
    values = {name: choice.of("torchvision") for name, choice in CHOICES.items()}
    reasons = without_effect(values)
    assert reasons["model.norm_k"] == "model.normalization=none"
    assert reasons["model.biases"] == "model.initialization=fan_in"
    assert reasons["data.lighting_scale"] == "data.lighting_std=0.0"
    assert "model.pool_window" not in reasons


def test_departures_are_the_choices_that_differ_from_the_recipes_own():
    values = {name: field.default for name, field in FIELDS.items()}
    assert departures(values) == {}
    values |= {"optimizer.momentum": 0.5, "training.log_every_epochs": 7.0}
    assert departures(values) == {"optimizer.momentum": 0.5}
    values |= {"training.label_smoothing": 0.1}  # came later: no recipe has it
    assert departures(values).keys() == {
        "optimizer.momentum",
        "training.label_smoothing",
    }
    values |= {"training.label_smoothing": 0.0}
    values |= {"model.width": 0.5, "model.dtype": "bfloat16"}  # no row has these
    assert departures(values) == {
        "model.width": 0.5,
        "model.dtype": "bfloat16",
        "optimizer.momentum": 0.5,
    }


def test_the_four_layer_network_departs_from_nothing():
    assert departures({"recipe": NO_RECIPE}) == {}


WIDE = (96, 256, 384, 384, 256, 0, 4096, 4096)

# The values in the sources, written down independently of recipes.py: sections 2 to 5 of
# the paper; layers-145.cfg, layer-params-145.cfg, convdata.py and layer.py of the released
# code; train_val.prototxt and solver.prototxt of bvlc_alexnet; alexnet.py and the training
# reference of torchvision. Fields without an effect in a recipe are left out.
SOURCES = {
    "paper": {
        "channels": WIDE,
        "towers": 2,
        "layer1_order": "activation norm pool",
        "layer2_order": "activation norm pool",
        "norm_depth": 5,
        "norm_k": 2,
        "norm_alpha": 1e-4,
        "norm_beta": 0.75,
        "within_channel_norm": False,
        "weight_stds": (0.01,) * 9,
        "dropout_rate": 0.5,
        "dropout_form": "mask",
        "dropout_place": "after",
        "rescale": "shorter_side",
        "rescale_size": 256,
        "crop_size": 224,
        "crop_sharing": 1,
        "mean": "image",
        "lighting_std": 0.1,
        "lighting_scale": "eigenvalue",
        "lighting_shrink": False,
        "eval_crops": "ten",
        "learning_rate": 0.01,
        "drop_factor": 0.1,
        "plateau_drops": 3,
        "bias_lr_multiplier": 1,
        "momentum": 0.9,
        "lr_inside_momentum": True,
        "weight_decay": 5e-4,
        "batch_size": 128,
        "num_epochs": 90,
    },
    "source2012": {
        "channels": WIDE,
        "towers": 2,
        "conv1_padding": "after",
        "layer1_order": "norm pool activation",
        "layer2_order": "activation norm pool",
        "norm_depth": 5,
        "norm_k": 2,
        "norm_alpha": 1e-4 / 5,
        "norm_beta": 0.75,
        "norm_across_towers": False,
        "within_channel_norm": True,
        "within_channel_norm_size": 5,
        "within_channel_norm_k": 1,
        "within_channel_norm_alpha": 0.001 / 25,
        "within_channel_norm_beta": 0.75,
        "pool_ties": "all",
        "weight_stds": (0.01, 0.01, 0.03, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01),
        "dropout_form": "mask",
        "dropout_place": "after",
        "crop_size": 224,
        "crop_sharing": 32,
        "mean": "center",
        "channel_order": "rgb",
        "lighting_std": 0.1,
        "lighting_scale": "standard_deviation",
        "lighting_shrink": True,
        "lighting_off_epoch": 67,
        "eval_crops": "ten",
        "learning_rate": 0.01,
        "drop_epochs": (25, 51, 79),
        "bias_lr_multiplier": 2,
        "bias_drops": False,
        "conv1_drop_epochs": (67,),
        "conv1_stop_epoch": 72,
        "momentum": 0.9,
        "lr_inside_momentum": True,
        "weight_decay": 5e-4,
        "bias_decay": False,
        "batch_size": 128,
        "num_epochs": 91,
    },
    "caffe": {
        "channels": WIDE,
        "towers": 2,
        "conv1_padding": "none",
        "layer1_order": "activation norm pool",
        "layer2_order": "activation norm pool",
        "norm_depth": 5,
        "norm_k": 1,
        "norm_alpha": 1e-4 / 5,
        "norm_beta": 0.75,
        "norm_across_towers": True,
        "within_channel_norm": False,
        "pool_rounding": "up",
        "pool_ties": "first",
        "weight_stds": (*(0.01,) * 6, 0.005, 0.005, 0.01),
        "biases": (0, 0.1, 0, 0.1, 0.1, 0.1, 0.1, 0.1, 0),
        "dropout_form": "inverted",
        "dropout_place": "after",
        "rescale": "warp",
        "rescale_size": 256,
        "crop_size": 227,
        "crop_sharing": 1,
        "mean": "image",
        "channel_scale": (1, 1, 1),
        "channel_order": "bgr",
        "lighting_std": 0,
        "eval_crops": "center",
        "learning_rate": 0.01,
        "drop_epochs": (20, 40, 60, 80),
        "bias_lr_multiplier": 2,
        "bias_drops": True,
        "momentum": 0.9,
        "lr_inside_momentum": True,
        "weight_decay": 5e-4,
        "bias_decay": False,
        "batch_size": 256,
        "num_epochs": 90,
    },
    "torchvision": {
        "channels": (64, 192, 384, 256, 256, 0, 4096, 4096),
        "towers": 1,
        "conv1_padding": "both",
        "normalization": "none",
        "within_channel_norm": False,
        "pool_rounding": "down",
        "initialization": "fan_in",
        "dropout_rate": 0.5,
        "dropout_form": "inverted",
        "dropout_place": "before",
        "rescale_size": 256,
        "crop_size": 224,
        "mean": "channel",
        "channel_mean": (0.485 * 255, 0.456 * 255, 0.406 * 255),
        "channel_scale": (0.229 * 255, 0.224 * 255, 0.225 * 255),
        "channel_order": "rgb",
        "lighting_std": 0,
        "eval_crops": "center",
        "learning_rate": 0.01,
        "drop_epochs": (30, 60),
        "bias_lr_multiplier": 1,
        "momentum": 0.9,
        "lr_inside_momentum": False,
        "weight_decay": 1e-4,
        "bias_decay": True,
        "batch_size": 8 * 32,
        "num_epochs": 90,
    },
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_what_its_source_has(recipe):
    values = {name: choice.of(recipe) for name, choice in CHOICES.items()}
    by_last = {name.rpartition(".")[2]: value for name, value in values.items()}
    assert len(by_last) == len(values)
    for name, expected in SOURCES[recipe].items():
        assert (
            by_last[name] == pytest.approx(expected)
            if not isinstance(expected, str)
            else by_last[name] == expected
        ), name
