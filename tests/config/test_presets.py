"""Where a config file starts: complete configurations, and presets for small data."""

import json

import pytest
from ml_collections import ConfigDict
from small_question import resolved

from alexnet_jax.config.dataset_names import short_name
from alexnet_jax.config.fields import FIELDS
from alexnet_jax.config.layered import flatten, get_field, layer_of
from alexnet_jax.config.presets import (
    FOUR_LAYER,
    SMALL_ANY,
    SMALL_DATA,
    base,
    small_data,
)
from alexnet_jax.config.recipes import CHOICES
from alexnet_jax.config.resolve import resolve
from alexnet_jax.config.trials import ExperimentPlan
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


# --- by the flag ------------------------------------------------------------------


@pytest.mark.parametrize(
    "dataset", ["folder=/pictures", "imagenet2012", "tfds=x:1.0.0"]
)
def test_the_small_preset_is_for_any_data(dataset):
    plan = resolved(small_data(base(dataset)), preset="small")
    assert {name: plan.values[name] for name in SMALL_ANY} == SMALL_ANY
    assert {plan.layers[name] for name in SMALL_ANY} == {"preset", "command line"}
    assert plan.as_json()["config"]["preset"] == "small"
    assert plan.layers["preset"] == "command line"


@pytest.mark.parametrize("dataset", list(SMALL_DATA))
def test_where_a_file_takes_the_small_preset_the_flag_changes_nothing(dataset):
    of_file = resolved(small_data(base(dataset)))
    of_flag = resolved(small_data(base(dataset)), preset="small")
    assert of_flag.values == of_file.values
    assert of_file.values["preset"] == "small"


def test_the_flag_is_below_what_the_file_and_the_command_line_set():
    config = small_data(base("folder=/pictures"))
    config.training.num_epochs = 7.0
    plan = resolved(config, preset="small", model__width=0.5)
    assert plan.values["training.num_epochs"] == 7
    assert plan.values["model.width"] == 0.5
    assert plan.values["data.crop_size"] == SMALL_ANY["data.crop_size"]


def test_the_flag_may_ask_for_full_size_on_small_data():
    of_flag = resolved(small_data(base("cifar10")), preset="full")
    of_base = resolved(base("cifar10"))
    assert of_flag.values == of_base.values


def test_a_file_may_name_the_preset():
    config = base("folder=/pictures")
    config.preset = "small"
    assert resolved(config).values["model.width"] == SMALL_ANY["model.width"]


def test_a_plain_copy_with_a_preset_keeps_its_values():
    """It does not record layers; what it says is what is trained."""
    config = ConfigDict(small_data(base("digits")).to_dict())
    config.training.batch_size = FIELDS["training.batch_size"].default
    assert (
        resolve(config, {}).values["training.batch_size"] == config.training.batch_size
    )


def test_the_four_layer_network_has_no_preset_of_alexnet():
    with pytest.raises(UserError, match="preset=small has no effect"):
        resolved(base("cifar10", "four_layer"), preset="small")


def test_an_unknown_preset_is_refused_with_the_presets():
    with pytest.raises(UserError, match="full, small"):
        resolved(base("folder=/pictures"), preset="tiny")


def test_a_run_from_before_presets_had_names_can_be_continued():
    plan = resolved(small_data(base("digits")))
    held = json.loads(json.dumps(plan.as_json()))
    del held["config"]["preset"], held["layers"]["preset"]
    assert not ExperimentPlan.of_json(held).differences(plan)
