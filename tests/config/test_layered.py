"""The configuration object records who set each field, through every way to set or copy it."""

import copy
import pickle

import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet_jax.config.layered import (
    LAYERS,
    LayeredConfig,
    flatten,
    get_field,
    layer_of,
    nest,
)


@pytest.fixture
def config():
    config = LayeredConfig(
        {
            "seeds": 1,
            "arms": {},
            "model": LayeredConfig({"width": 1.0, "biases": (0.0, 1.0)}),
        },
        convert_dict=False,
    )
    config.set_by("default", "seeds", 1)
    config.set_by("preset", "model.width", 0.5)
    config.set_by("recipe", "model.biases", (1.0, 1.0))
    return config.lock()


def test_the_layers_are_in_the_order_in_which_they_override_each_other():
    assert LAYERS == (
        "default",
        "recipe",
        "preset",
        "file",
        "network",
        "arm",
        "tuned",
        "command line",
    )


def test_a_layer_sets_a_value_and_is_recorded(config):
    assert config.model.width == 0.5
    assert layer_of(config, "model.width") == "preset"
    assert layer_of(config, "seeds") == "default"


@pytest.mark.parametrize(
    "assign",
    [
        lambda config: setattr(config.model, "width", 0.5),  # the value that it has
        lambda config: config.model.__setitem__("width", 2.0),
        lambda config: config.update({"model": {"width": 2.0}}),
        lambda config: config.update_from_flattened_dict({"model.width": 2.0}),
    ],
)
def test_any_plain_assignment_is_the_files(config, assign):
    assign(config)
    assert layer_of(config, "model.width") == "file"
    assert layer_of(config, "model.biases") == "recipe"


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda config: pickle.loads(pickle.dumps(config)),
        LayeredConfig.copy_and_resolve_references,
        lambda config: LayeredConfig(config, convert_dict=False),
    ],
)
def test_a_copy_keeps_values_and_layers(config, copied):
    found = copied(config)
    assert isinstance(found, LayeredConfig)
    assert found.to_dict() == config.to_dict()
    assert found.is_locked
    for name in ("seeds", "model.width", "model.biases"):
        assert layer_of(found, name) == layer_of(config, name)


def test_what_is_set_in_a_copy_is_recorded_in_the_copy_alone(config):
    found = copy.deepcopy(config)
    found.model.width = 2.0
    assert layer_of(found, "model.width") == "file"
    assert layer_of(config, "model.width") == "preset"


def test_a_plain_configuration_records_no_layers(config):
    assert layer_of(ConfigDict({"model": {"width": 1.0}}), "model.width") is None
    # A plain copy shares the sections, which go on recording.
    plain = ConfigDict(config, convert_dict=False)
    assert layer_of(plain, "seeds") is None
    assert layer_of(plain, "model.width") == "preset"


@pytest.mark.parametrize("number", [np.float64(2), np.float32(2), np.int64(2), 2])
def test_a_number_of_numpy_keeps_the_fields_type(config, number):
    config.model.width = number
    assert type(config.model.width) is float
    assert config.model.width == 2.0


def test_a_value_of_another_type_is_refused(config):
    with pytest.raises(TypeError, match="width"):
        config.model.width = "half"


def test_a_locked_configuration_refuses_an_unknown_field(config):
    with pytest.raises(AttributeError, match="withd"):
        config.model.withd = 1.0
    with pytest.raises(KeyError, match="withd"):
        get_field(config, "model.withd")


def test_flat_values_are_dotted_names_with_lists_for_tuples():
    nested = {"seeds": 3, "model": {"width": 1.0, "biases": (0.0, 1.0)}}
    flat = {"seeds": 3, "model.width": 1.0, "model.biases": [0.0, 1.0]}
    assert flatten(nested) == flatten(ConfigDict(nested)) == flat
    assert nest(flat) == {"seeds": 3, "model": {"width": 1.0, "biases": [0.0, 1.0]}}
