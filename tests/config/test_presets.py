"""Where a config file starts: complete configurations, and presets for small data."""

import pytest
from small_question import resolved

from alexnet_jax.config.dataset_names import short_name
from alexnet_jax.config.fields import FIELDS
from alexnet_jax.config.layered import flatten, get_field, layer_of
from alexnet_jax.config.presets import (
    FOUR_LAYER,
    SMALL_DATA,
    base,
    small_data,
)
from alexnet_jax.config.recipes import CHOICES
from alexnet_jax.errors import UserError


@pytest.mark.parametrize("network", ["alexnet", "four_layer"])
def test_the_base_is_complete(network):
    config = base("cifar10", network)
    assert {*FIELDS, "arms", "tuned", "claim"} >= set(flatten(config)) >= set(FIELDS)
    assert (config.model.name, config.data.dataset) == (network, "cifar10")
    assert not config.arms
    assert not config.tuned
    resolved(config)


def test_the_base_of_alexnet_is_the_default_of_every_field():
    config = base()
    assert {name: get_field(config, name) for name in FIELDS} == {
        name: field.default for name, field in FIELDS.items()
    }
    for name in set(FIELDS) - {"data.dataset"}:
        assert layer_of(config, name) == ("recipe" if name in CHOICES else "default")


def test_the_base_is_locked():
    config = base()
    with pytest.raises(AttributeError):
        config.model.optim_dtype = "float16"
    with pytest.raises(AttributeError):
        config.sedes = 3


def test_an_unknown_network_and_an_unknown_data_set_are_refused():
    with pytest.raises(UserError, match="'vgg': alexnet or four_layer"):
        base(network="vgg")
    with pytest.raises(UserError, match="folder=PATH"):
        base("flder=/x")


def test_the_four_layer_network_has_no_regularization_of_any_kind():
    """Section 3.1, Figure 1."""
    plan = resolved(base("cifar10", "four_layer"))
    assert plan.values["optimizer.weight_decay"] == 0
    assert plan.values["model.dropout_rate"] == 0
    assert plan.values["model.normalization"] == "none"
    assert plan.values["data.lighting_std"] == 0
    assert not plan.values["data.random_crop"]
    assert not plan.values["data.random_flip"]
    set_by = {name for name, layer in plan.layers.items() if layer == "preset"}
    assert set_by == set(FOUR_LAYER)


@pytest.mark.parametrize("dataset", [*SMALL_DATA, "tfds=cifar10:3.0.2"])
def test_a_small_data_set_sets_its_fields_as_a_preset(dataset):
    config = small_data(base(dataset))
    preset = SMALL_DATA[short_name(dataset)]
    assert {name: get_field(config, name) for name in preset} == preset
    plan = resolved(config)
    set_by = {name for name, layer in plan.layers.items() if layer == "preset"}
    assert set_by == set(preset)


@pytest.mark.parametrize("dataset", ["imagenet2012", "tfds=x", "folder=/cifar10"])
def test_other_data_sets_are_trained_at_full_size(dataset):
    assert small_data(base(dataset)) == base(dataset)


@pytest.mark.parametrize("dataset", [*SMALL_DATA, "imagenet2012"])
def test_a_batch_has_four_crops_and_reflections_as_in_2012(dataset):
    """In the code of 2012, 32 images of a batch of 128 share each of them."""
    values = resolved(small_data(base(dataset))).values
    assert values["training.batch_size"] == 4 * values["data.crop_sharing"]


def test_a_file_may_make_a_preset_ineffective_but_not_its_own_fields():
    """A cosine schedule has no drops, which the preset of digits sets."""
    config = small_data(base("digits"))
    config.data.random_crop = (
        False  # and digits have no flips: there is nothing to share
    )
    config.optimizer.schedule = "cosine"
    resolved(config)
    config.optimizer.conv1_drop_epochs = ()
    with pytest.raises(UserError, match=r"conv1_drop_epochs=.* has no effect"):
        resolved(config)
