"""What a configuration may hold: every refusal names the field and the way out."""

import re

import pytest
from small_question import question, resolved

from alexnet_jax.config.presets import base
from alexnet_jax.errors import UserError

RATE, MOMENTUM = "optimizer.learning_rate", "optimizer.momentum"


def refused(match, config=None, **changes):
    """Asserts that the question with these changes is refused; returns the message."""
    with pytest.raises(UserError, match=match) as raised:
        resolved(config or question(**changes))
    return str(raised.value)


# --- One field by itself ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("training.batch_size", 0, "at least 1"),
        ("training.num_epochs", 0.0, "above 0"),
        ("training.num_epochs", float("inf"), "above 0"),
        ("optimizer.momentum", 1.0, "at least 0 and at most 0.9999"),
        ("optimizer.momentum", -0.1, "at least 0"),
        ("optimizer.weight_decay", float("nan"), "at least 0"),
        ("optimizer.drop_factor", 0.0, "above 0 and at most 1"),
        ("optimizer.drop_epochs", (10.0, -1.0), "above 0"),
        ("optimizer.plateau_epochs", 0.0, "above 0"),
        ("optimizer.plateau_drops", 0, "at least 1"),
        ("model.dropout_rate", 1.0, "at most 0.99"),
        ("model.width", 0.0, "above 0"),
        ("model.norm_k", 0.0, "above 0"),
        ("data.lighting_std", -0.1, "at least 0"),
        ("model.weight_stds", (0.1, 0.1, -0.1, 0.1), "at least 0"),
        ("model.biases", (0.0, float("nan"), 0.0, 0.0), "at least -1e"),
        ("seeds", 0, "at least 1"),
        ("seeds", 1001, "at least 1 and at most 1000"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(name, value, allowed):
    message = refused(re.escape(allowed), tuned={}, **{name.replace(".", "__"): value})
    assert f"config.{name}=" in message


@pytest.mark.parametrize(
    ("name", "wrong", "choices", "near"),
    [
        ("model.name", "alexnett", "alexnet, zfnet, four_layer", "alexnet"),
        ("model.normalization", "instance", "local_response, none", ""),
    ],
)
def test_a_wrong_choice_is_refused_with_the_choices_and_the_nearest(
    name, wrong, choices, near
):
    config = base()
    config.set_by("file", name, wrong)
    message = refused(choices, config)
    assert f"config.{name}='{wrong}'" in message
    assert (f"Did you mean '{near}'?" if near else "") in message


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("model.dropout_rate", "half", "a number"),
        ("training.batch_size", 1.5, "a whole number"),
        ("training.batch_size", True, "a whole number"),
        ("data.random_crop", 1, "true or false"),
        ("data.mean", 3, "text"),
        ("model.biases", 0.5, "numbers with commas"),
        (
            "model.biases",
            ("zero", "one", "zero", "one"),
            "'zero', which is not a number",
        ),
        ("optimizer.drop_epochs", (3, True), "'True', which is not a number"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_the_type(name, value, kind):
    """An arm can hold it; the configuration itself refuses another type at once."""
    message = refused(kind, arms={"a": {}, "b": {name: value}}, tuned={})
    assert f"config.{name}" in message


# --- Fields together ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["weight_stds", "biases"])
@pytest.mark.parametrize("count", [0, 3, 5])
def test_a_tuple_needs_one_value_for_each_layer(name, count):
    message = refused("has 4 layers", **{f"model__{name}": (0.1,) * count})
    assert f"config.model.{name} has {count} values" in message


@pytest.mark.parametrize("name", ["channel_mean", "channel_scale"])
def test_a_value_for_each_channel_is_three_values(name):
    message = refused("three numbers, R, G and B", **{f"data__{name}": (1.0, 2.0)})
    assert f"config.data.{name}" in message


@pytest.mark.parametrize("channels", [(0, 32, 64), (32, 0, 64), (32, 32, 64.5)])
def test_the_channels_of_four_layers_are_whole_numbers_above_zero(channels):
    refused(r"config\.model\.channels=.* whole numbers", model__channels=channels)


def test_alexnet_may_omit_any_layer_but_the_first():
    config = base()
    config.model.channels = (96, 0, 384, 384, 256, 0, 4096, 4096)
    resolved(config)
    config.model.channels = (0, 256, 384, 384, 256, 0, 4096, 4096)
    refused(r"config\.model\.channels=.*conv1 cannot be omitted", config)


def test_the_four_layer_network_has_a_single_tower():
    refused(r"config\.model\.towers.*single tower", model__towers=2)


def test_a_pooling_that_skips_pixels_is_refused():
    sizes = {"model__pool_stride": 3, "model__pool_window": 2}
    refused(r"config\.model\.pool_stride=3 .*config\.model\.pool_window=2", **sizes)
    resolved(question(**sizes | {"model__pool_stride": 2}))


def test_a_crop_larger_than_the_image_is_refused():
    sizes = {"data__crop_size": 33, "data__rescale_size": 32}
    refused(r"config\.data\.crop_size=33 .*config\.data\.rescale_size=32", **sizes)
    resolved(question(**sizes | {"data__crop_size": 32}))


@pytest.mark.parametrize("window", [(5, 3), (3,), (1, 2, 3), (1.5, 3)])
def test_a_window_of_the_profiler_is_a_first_and_a_last_step(window):
    message = refused("config.training.profile=", training__profile=window)
    assert "100,110" in message


@pytest.mark.parametrize("window", [(), (3, 3), (3, 5)])
def test_a_window_of_the_profiler_may_be_one_step_or_none(window):
    resolved(question(training__profile=window))


def test_the_data_set_of_an_override_is_checked_too():
    with pytest.raises(UserError, match=r"flder=.*folder=PATH"):
        resolved(question(), data__dataset="flder=/x")


# --- Recipes ------------------------------------------------------------------------------


def test_an_unknown_recipe_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"paper, .* Did you mean 'torchvision'"):
        resolved(base(), recipe="torchvison")
    config = base()
    config.arms = {"a": {}, "b": {"recipe": "cafe"}}
    refused("Did you mean 'caffe'", config)
    config.arms = {"a": {}, "b": {"recipe": 3}}
    refused("config.recipe='3'", config)


def test_the_four_layer_network_has_no_recipe():
    with pytest.raises(UserError, match=r"config\.recipe='paper'.*configs/alexnet\.py"):
        resolved(base(network="four_layer"), recipe="paper")


# --- Arms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a/b", ".."])
def test_an_experiment_needs_the_name_of_a_folder(name):
    refused(r"config\.experiment .*folder", experiment=name)


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".", "a:b", "tanh\n", "tänh", 1])
def test_an_arm_needs_the_name_of_a_folder(name):
    arms = {name: {"model.activation": "tanh"}, "relu": {"model.activation": "relu"}}
    refused(r"Arm name [\s\S]*folder", arms=arms)


def test_an_arm_is_a_mapping_of_fields():
    refused("Arm 'a' is .*give", arms={"a": ("model.activation", "tanh"), "b": {}})


def test_an_unknown_field_in_an_arm_is_refused_with_the_nearest():
    arms = {"a": {}, "b": {"model.actvation": "relu"}}
    refused(r"Arm 'b' .*'model.actvation'.*'model.activation'", arms=arms)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("data.views", "data.eval_crops"),
        ("optimizer.bias_rate", "optimizer.bias_lr_multiplier"),
    ],
)
def test_a_renamed_field_is_refused_with_its_new_name(old, new):
    refused(f"Arm 'b' .*'{old}'.*'{new}' now", arms={"a": {}, "b": {old: 1.0}})
    refused(f"config.tuned .*'{old}'.*'{new}' now", tuned={old: (1.0,)})


@pytest.mark.parametrize(
    ("name", "value"),
    [("experiment", "other"), ("seeds", 3), ("data.dataset", "cifar10")],
)
def test_an_arm_cannot_set_what_holds_for_the_whole_experiment(name, value):
    refused(f"'{name}', which must be the same", arms={"a": {}, "b": {name: value}})


def test_an_arm_cannot_set_a_tuned_field():
    arms = {"a": {RATE: 0.1}, "b": {"model.activation": "tanh"}}
    refused(f"Arm 'a' sets '{RATE}', which config.tuned", arms=arms)


@pytest.mark.parametrize(
    "arms",
    [
        {"one": {}, "other": {}},
        {"one": {"model.activation": "tanh"}, "other": {"model.activation": "tanh"}},
        {"base": {}, "relu": {"model.activation": "relu"}},  # the base's own value
        {"base": {}, "decay": {"optimizer.weight_decay": 0}},  # which is 0.0
    ],
)
def test_equal_arms_are_refused(arms):
    one, other = arms
    refused(f"Arms '{one}' and '{other}' are equal", arms=arms)


def test_arms_that_differ_only_in_case_are_refused():
    """They would share a folder on the disks of many computers."""
    arms = {"ReLU": {}, "relu": {"model.activation": "tanh"}}
    refused("'ReLU' and 'relu' .*Rename", arms=arms)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("training.gradient_accumulation", 2),
        ("training.checkpoint_every_epochs", 3.0),
        ("training.evaluate_every_epochs", 0.5),
        ("training.log_every_epochs", 0.5),
        ("training.warn_after_steps", 7),
        ("training.warn_below_spread", 0.1),
    ],
)
def test_arms_and_settings_that_train_the_same_network_are_refused(name, value):
    refused(
        f"'a' and arm 'b' differ only in {name}.*nothing to compare",
        arms={"a": {}, "b": {name: value}},
    )
    resolved(question(arms={"a": {}, "b": {name: value, "model.activation": "tanh"}}))
    refused(f"differ only in {name}", tuned={name: (value, 2 * value)})


def test_a_plateau_depends_on_when_it_is_evaluated():
    arms = {"a": {}, "b": {"training.evaluate_every_epochs": 0.5}}
    resolved(question(arms=arms, optimizer__schedule="plateau"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer.drop_epochs", (500.0,)),
        ("optimizer.drop_epochs", (90.0,)),  # the end itself
        ("optimizer.conv1_drop_epochs", (500.0,)),
        ("optimizer.conv1_stop_epoch", 900.0),
        ("data.lighting_off_epoch", 900.0),
    ],
)
def test_arms_that_differ_only_after_the_end_are_refused(name, value):
    config = base()
    config.recipe = "paper"
    config.training.num_epochs = 90.0
    config.optimizer.drop_epochs = ()
    config.arms = {"a": {}, "b": {name: value}}
    refused(f"differ only in {name}, .*training.num_epochs=90", config)
    config.arms = {"a": {}, "b": {name: (89.0,) if isinstance(value, tuple) else 89.0}}
    resolved(config)


def test_a_recipe_may_have_epochs_after_the_end():
    """A short training keeps the recipe's drops at epochs that it does not reach."""
    config = base()
    config.training.num_epochs = 4.0
    config.arms = {"a": {}, "b": {"model.activation": "tanh"}}
    resolved(config)


def test_a_wrong_value_is_reported_with_the_arm_and_the_tuned_values_that_set_it():
    config = base()
    config.arms = {"all": {}, "half": {"model.width": "half"}}
    refused(r"^Arm 'half': config\.model\.width='half'", config)
    config.arms = {"all": {}, "half": {"model.dropout_rate": 0.1}}
    config.tuned = {RATE: (0.1, -1.0)}
    refused(rf"^Arm 'all' {RATE}=-1\.0: config\.{RATE}=-1\.0", config)
    config.tuned = {}
    config.optimizer.momentum = 2.0  # which no arm sets
    refused(r"^config\.optimizer\.momentum", config)


# --- Tuned values -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tuned", "words"),
    [
        ({"optimizer.learningrate": (0.1,)}, f"no such field.*'{RATE}'"),
        ({"seeds": (1, 2)}, "'seeds', which must be the same"),
        ({"model.normalization": ("none", "local_response")}, "'model.norm.*use arms"),
        ({"data.random_crop": (True, False)}, "'data.random_crop'.*use arms"),
        ({RATE: ()}, f"'{RATE}'.*is empty"),
        ({RATE: 0.1}, f"'{RATE}'.*takes a tuple"),
        ({RATE: (0.1, 0.1)}, f"'{RATE}'.*twice"),  # both would have one folder
        ({f"{RATE},{MOMENTUM}": ((0.1, 0.9), (0.1,))}, "rows of 2 values"),
        ({f"{RATE},{MOMENTUM}": (0.1, 0.2)}, "rows of 2 values"),
        ({f"{RATE},{MOMENTUM}": ((0.1, 0.9), (0.1, 0.9))}, "twice"),
        ({RATE: (0.1,), f"{RATE},{MOMENTUM}": ((0.1, 0.9),)}, "sets a field twice"),
        ({f"{RATE},optimizer.momentun": ((0.1, 0.9),)}, "'optimizer.momentum'"),
        (
            {f"{RATE},model.activation": ((0.1, "relu"),)},
            "'model.activation'.*use arms",
        ),
        ({f"{RATE},{MOMENTUM}": ((0.1, 2.0),)}, f"config.{MOMENTUM}=2.0"),
        ({RATE: ("fast", "slow")}, f"config.{RATE}='fast'.*a number"),
    ],
)
def test_tuned_values_that_cannot_be_tried_are_refused(tuned, words):
    refused(words, tuned=tuned)


def test_tuned_values_of_too_long_a_folder_name_are_refused():
    """Nine fields, each with a value of some 18 digits."""
    fields = (
        *("optimizer.learning_rate", "optimizer.momentum", "optimizer.weight_decay"),
        *("optimizer.bias_lr_multiplier", "model.norm_alpha", "model.norm_beta"),
        *("model.norm_k", "model.dropout_rate", "data.lighting_std"),
    )
    numbers = tuple(number / 17 for number in range(1, len(fields) + 1))
    refused("at most 255 .*round them", tuned={",".join(fields): (numbers,)})
    plan = resolved(question(tuned={",".join(fields[:4]): (numbers[:4],)}))
    assert len(plan.trials[0].tuned_name) > 100  # as search.draws may give


# --- Averages of networks -----------------------------------------------------------------

AVERAGES = {"one": {}, "two averaged": {"training.ensemble": 2}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": {"five": {"training.ensemble": 5}}}, "training.ensemble=1"),
        ({"arms": AVERAGES, "seeds": 3}, "config.seeds=3 .*Use 4"),
        (
            {"arms": AVERAGES, "training__checkpoint_every_epochs": 0.0},
            "config.training.checkpoint_every_epochs=0",
        ),
        ({"arms": {"one": {}, "none": {"training.ensemble": 0}}}, "at least 1"),
    ],
)
def test_networks_that_cannot_be_averaged_are_refused(changes, words):
    refused(words, **changes)
    resolved(question(arms=AVERAGES))
