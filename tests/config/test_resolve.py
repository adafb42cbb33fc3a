"""A configuration becomes a plan: which layer wins, what each recipe gives, what is refused."""

import json
import re
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from small_question import question, resolved

from alexnet_jax.config.fields import FIELDS
from alexnet_jax.config.layered import get_field
from alexnet_jax.config.presets import base, small_data
from alexnet_jax.config.recipes import CHOICES, RECIPES
from alexnet_jax.config.resolve import is_complete, resolve
from alexnet_jax.config.trials import ExperimentPlan
from alexnet_jax.errors import UserError


def choices(values):
    return {name: values[name] for name in CHOICES}


def of_recipe(recipe):
    return {name: choice.of(recipe) for name, choice in CHOICES.items()}


def departures(plan):
    """Of the only arm of AlexNet."""
    return plan.recipes()["alexnet"]["departures"]


# --- Layers -------------------------------------------------------------------------------


def test_every_layer_is_recorded():
    config = small_data(base("digits"))
    config.model.activation = "relu"  # the default's own value
    config.training.log_every_epochs = 0.5  # the preset's own value
    config.arms = {"a": {}, "b": {"optimizer.weight_decay": 0.0}}
    config.tuned = {"optimizer.learning_rate": (0.01, 0.1)}
    plan = resolved(config, optimizer__momentum=0.9)
    expected = {
        "training.evaluate_every_epochs": "default",
        "model.pool_window": "recipe",
        "data.crop_size": "preset",
        "model.activation": "file",
        "training.log_every_epochs": "file",
        "optimizer.weight_decay": "arm",
        "optimizer.learning_rate": "tuned",
        "optimizer.momentum": "command line",
    }
    arm = plan.trials[-1].arm
    assert {name: plan.layer_of(arm, name) for name in expected} == expected
    assert set(plan.layers) == set(FIELDS)


# A field that each layer may set, the value that it sets, and how it does so. The recipe
# caffe and the preset of digits differ from the defaults.
SET_BY = {
    "recipe": 256,
    "preset": 32,
    "file": 40,
    "arm": 50,
    "command line": 60,
}


def batch_size_set_by(layers):
    config = base("digits")
    if "preset" in layers:
        small_data(config)
    if "recipe" in layers:
        config.recipe = "caffe"
    if "file" in layers:
        config.training.batch_size = SET_BY["file"]
    if "arm" in layers:
        config.arms = {"a": {"training.batch_size": SET_BY["arm"]}}
    overrides = (
        {"training__batch_size": SET_BY["command line"]}
        if "command line" in layers
        else {}
    )
    return resolved(config, **overrides)


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("recipe", "preset"),
        ("recipe", "file"),
        ("recipe", "arm"),
        ("recipe", "command line"),
        ("preset", "file"),
        ("preset", "arm"),
        ("preset", "command line"),
        ("file", "arm"),
        ("file", "command line"),
    ],
)
def test_the_higher_of_two_layers_wins(lower, higher):
    assert (
        batch_size_set_by({lower}).trials[0].settings.training.batch_size
        == (SET_BY[lower])
    )
    plan = batch_size_set_by({lower, higher})
    assert plan.trials[0].settings.training.batch_size == SET_BY[higher]
    assert plan.layer_of(plan.trials[0].arm, "training.batch_size") == higher


@pytest.mark.parametrize("lower", ["recipe", "preset", "file"])
def test_tuned_values_win_over_what_is_below_them(lower):
    config = base("digits")
    if lower == "recipe":
        config.recipe = "torchvision"
    if lower == "preset":
        config.set_by("preset", "optimizer.weight_decay", 0.5)
    if lower == "file":
        config.optimizer.weight_decay = 0.5
    config.tuned = {"optimizer.weight_decay": (0.1, 0.2)}
    plan = resolved(config)
    decays = [trial.settings.optimizer.weight_decay for trial in plan.trials]
    assert decays == [0.1, 0.2]
    assert plan.layer_of(plan.trials[0].arm, "optimizer.weight_decay") == "tuned"


def test_the_command_line_replaces_the_tuned_values():
    plan = resolved(question(), optimizer__learning_rate=0.05)
    assert plan.tuned == {"optimizer.learning_rate": (0.05,)}
    assert [trial.settings.optimizer.learning_rate for trial in plan.trials] == [
        0.05
    ] * 4
    assert plan.layer_of("tanh", "optimizer.learning_rate") == "command line"


def test_each_arm_has_layers_of_its_own():
    config = base()
    config.arms = {
        "decay": {"optimizer.weight_decay": 0.001},
        "tanh": {"model.activation": "tanh"},
        "caffe": {
            "recipe": "caffe",
            "data.channel_order": "rgb",
            "model.norm_beta": 0.75,
        },
    }
    plan = resolved(config)
    assert plan.layer_of("caffe", "model.norm_beta") == "arm"  # caffe's own value
    decay = [plan.layer_of(arm, "optimizer.weight_decay") for arm in plan.arms]
    assert decay == ["arm", "recipe", "recipe"]
    assert plan.layer_of("caffe", "model.norm_k") == "recipe"
    assert plan.layer_of("caffe", "data.channel_order") == "arm"


def test_an_arm_of_the_default_recipe_has_the_presets_crop_sharing():
    config = small_data(base("digits"))
    config.recipe = "caffe"
    config.arms = {"caffe": {}, "2012": {"recipe": "source2012"}}
    plan = resolved(config)
    layers = [plan.layer_of(arm, "data.crop_sharing") for arm in plan.arms]
    assert layers == ["recipe", "preset"]


@pytest.mark.parametrize(
    ("dataset", "layer"), [("digits", "default"), ("cifar10", "file")]
)
def test_the_dataset_is_a_default_or_the_files(dataset, layer):
    assert resolved(base(dataset)).layers["data.dataset"] == layer


def test_another_override_holds_for_all_trials():
    plan = resolved(question(), training__batch_size=40)
    assert [trial.settings.training.batch_size for trial in plan.trials] == [40] * 8


def test_an_override_of_a_field_in_which_arms_differ_is_refused():
    with pytest.raises(UserError) as raised:
        resolved(question(), model__activation="relu")
    message = str(raised.value)
    assert "--config.model.activation cannot be overridden" in message
    assert "ReLU: relu, tanh: tanh" in message
    assert "configs/alexnet.py" in message


def test_a_refused_override_names_the_arms_that_set_the_field():
    config = question()
    config.arms = {"plain": {}, "mixed": {"data.mixup": 0.2}}
    config.claim["compare"] = ("mixed", "plain")
    with pytest.raises(UserError, match=r"value of their own \(mixed: 0\.2\)"):
        resolved(config, data__mixup=0.3)


def test_the_configuration_stays_as_it_was():
    config = question()
    before = config.to_dict()
    resolve(config, {"optimizer.learning_rate": 0.001})
    assert config.to_dict() == before


# --- Plain configurations, copies, numbers of NumPy ---------------------------------------


def test_in_a_plain_configuration_the_file_has_set_what_differs():
    config = ConfigDict(base().to_dict())
    config.model.width = 0.5
    config.data.crop_size = FIELDS["data.crop_size"].default
    config.recipe = "caffe"
    plan = resolve(config, {})
    assert plan.layers["model.width"] == "file"
    assert plan.layers["data.crop_size"] == "recipe"
    assert plan.values["data.crop_size"] == CHOICES["data.crop_size"].caffe
    assert plan.layers["training.evaluate_every_epochs"] == "default"
    plan = resolve(ConfigDict(base(network="four_layer").to_dict()), {})
    assert plan.layers["optimizer.learning_rate"] == "preset"


def test_what_is_set_in_a_copy_with_resolved_references_stays():
    config = base().copy_and_resolve_references()
    config.data.rescale_size = CHOICES["data.rescale_size"].source2012
    config.data.crop_size = 67
    config.recipe = "torchvision"
    plan = resolve(config, {})
    assert plan.values["data.crop_size"] == 67
    assert plan.layers["data.rescale_size"] == "file"
    assert plan.values["model.towers"] == CHOICES["model.towers"].torchvision


def test_numbers_of_numpy_become_numbers_of_python():
    rates = np.logspace(-3, -2, 2)
    config = question(
        arms={
            "a": {"model.biases": np.zeros(4)},
            "b": {"model.dropout_rate": np.float64(0.5), "model.biases": (0.1,) * 4},
        },
        tuned={"optimizer.learning_rate": tuple(rates)},
        claim={"paper": np.float64(0.02), "also": ({"paper": np.int64(1)},)},
        seeds=np.int64(2),
        training__num_epochs=np.float32(3),
    )
    plan = resolved(config)
    python = question(
        arms={
            "a": {"model.biases": (0.0,) * 4},
            "b": {"model.dropout_rate": 0.5, "model.biases": (0.1,) * 4},
        },
        tuned={"optimizer.learning_rate": (0.001, 0.01)},
        claim={"paper": 0.02, "also": ({"paper": 1},)},
        training__num_epochs=3.0,
    )
    assert plan == resolved(python)
    assert plan.trials[0].folder == "a/learning_rate=0.001/seed0"
    given = [
        plan.arms["a"]["model.biases"][0],
        plan.arms["b"]["model.dropout_rate"],
        plan.tuned["optimizer.learning_rate"][0],
        plan.claim["paper"],
        plan.claim["also"][0]["paper"],
        plan.values["seeds"],
        plan.values["training.num_epochs"],
    ]
    assert [type(value) for value in given] == [
        float,
        float,
        float,
        float,
        int,
        int,
        float,
    ]


def test_a_configuration_is_complete_if_it_has_every_field():
    assert is_complete(base())
    assert is_complete(ConfigDict(base().to_dict()))
    assert not is_complete({"model": {}})
    assert not is_complete(ConfigDict({"model": {"width": 1.0}}))
    config = base()
    with config.unlocked():
        del config.model.width
    assert not is_complete(config)
    assert not is_complete(ConfigDict({"recipe": "paper", "model": 3}))


# --- Recipes ------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_gives_all_of_its_choices_and_a_single_one_can_be_overridden(recipe):
    plan = resolved(base(), recipe=recipe)
    assert choices(plan.values) == of_recipe(recipe)
    assert plan.recipes() == {"alexnet": {"recipe": recipe, "departures": {}}}
    plan = resolved(base(), recipe=recipe, optimizer__momentum=0.5)
    assert choices(plan.values) == of_recipe(recipe) | {"optimizer.momentum": 0.5}
    assert departures(plan) == {"optimizer.momentum": 0.5}


def test_a_config_file_can_name_its_recipe():
    config = base()
    config.recipe = "caffe"
    assert resolved(config).values["data.channel_order"] == "bgr"


def test_the_default_recipes_value_stays_under_another_recipe_if_it_is_assigned():
    """Network 145 has two towers: who asks for them gets them under torchvision too."""
    assert departures(resolved(base(), recipe="torchvision", model__towers=2)) == {
        "model.towers": 2
    }
    config = base()
    config.model.towers = 2
    config.optimizer.drop_epochs = (25.0, 51.0, 79.0)
    assert departures(resolved(config, recipe="torchvision")) == {
        "model.towers": 2,
        "optimizer.drop_epochs": (25.0, 51.0, 79.0),
    }


def test_only_the_default_recipe_shares_crops_on_small_data():
    config = small_data(base("digits"))
    config.arms = {recipe: {"recipe": recipe} for recipe in RECIPES}
    shared = {
        trial.arm: trial.settings.data.crop_sharing for trial in resolved(config).trials
    }
    assert shared == {"source2012": 8, "paper": 1, "caffe": 1, "torchvision": 1}
    plan = resolved(small_data(base("digits")), recipe="paper")
    assert plan.values["data.crop_sharing"] == 1
    assert plan.layers["data.crop_sharing"] == "recipe"
    plan = resolved(small_data(base("digits")), recipe="paper", data__crop_sharing=2)
    assert plan.values["data.crop_sharing"] == 2


def test_arms_can_be_recipes():
    config = base()
    config.arms = {recipe: {"recipe": recipe} for recipe in RECIPES}
    config.data.crop_size = 64
    plan = resolved(config, optimizer__momentum=0.5)
    own = {"data.crop_size": 64, "optimizer.momentum": 0.5}
    for trial in plan.trials:
        found = {name: get_field(trial.settings, name) for name in CHOICES}
        assert found == of_recipe(trial.arm) | own
        assert trial.settings.recipe == trial.arm
    assert plan.recipes() == {
        recipe: {"recipe": recipe, "departures": own} for recipe in RECIPES
    }


def test_an_arm_with_a_recipe_can_change_one_of_its_choices():
    config = base()
    config.arms = {
        "plain": {"recipe": "caffe"},
        "RGB": {"recipe": "caffe", "data.channel_order": "rgb"},
    }
    plain, rgb = (trial.settings for trial in resolved(config).trials)
    assert [n for n in FIELDS if get_field(plain, n) != get_field(rgb, n)] == [
        "data.channel_order"
    ]


def test_tuned_values_are_tried_in_every_recipe():
    config = base()
    config.arms = {"a": {"recipe": "paper"}, "b": {"recipe": "torchvision"}}
    config.tuned = {"optimizer.weight_decay": (0.1, 0.2)}
    decays = [t.settings.optimizer.weight_decay for t in resolved(config).trials]
    assert decays == [0.1, 0.2, 0.1, 0.2]


def test_an_arm_may_be_the_four_layer_network_which_has_no_recipe():
    config = base()
    config.recipe = "torchvision"  # one tower, as the four layers
    config.arms = {
        "AlexNet": {},
        "four layers": {
            "recipe": "none",
            "model.name": "four_layer",
            "model.channels": (32, 32, 64),
            "model.initialization": "normal",
            "model.weight_stds": (0.01,) * 4,
            "model.biases": (0.0,) * 4,
        },
    }
    plan = resolved(config)
    four = plan.trials[1].settings
    assert four.model.channels == (32, 32, 64)
    assert four.optimizer.drop_epochs == CHOICES["optimizer.drop_epochs"].torchvision
    assert plan.recipes()["four layers"] == {"recipe": "none", "departures": {}}


# --- Fields without an effect -------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "name", "value", "reason"),
    [
        ("torchvision", "model.norm_k", 1.0, "model.normalization=none"),
        ("torchvision", "model.biases", (0.0,) * 9, "model.initialization=fan_in"),
        (
            "paper",
            "model.within_channel_norm_size",
            3,
            "model.within_channel_norm=False",
        ),
        (
            "caffe",
            "data.lighting_scale",
            "standard_deviation",
            "data.lighting_std=0.0",
        ),
        ("source2012", "data.channel_mean", (1.0, 2.0, 3.0), "data.mean=center"),
        ("paper", "optimizer.plateau_epochs", 5.0, "optimizer.schedule=steps"),
    ],
)
def test_an_override_that_the_recipe_does_not_read_is_refused(
    recipe, name, value, reason
):
    message = rf"config.{name}=.* has no effect: {reason} \(recipe {recipe}\)"
    with pytest.raises(UserError, match=message):
        resolved(base(), recipe=recipe, **{name.replace(".", "__"): value})


# What each schedule reads, of the fields that say how the learning rate falls.
READ = {
    "steps": {
        "drop_epochs",
        "drop_factor",
        "bias_drops",
        "conv1_drop_epochs",
        "conv1_stop_epoch",
    },
    "plateau": {"plateau_epochs", "plateau_drops", "drop_factor", "bias_drops"},
    "constant": set(),
    "cosine": {"bias_drops"},
}
SCHEDULE_FIELDS = {
    "drop_epochs": (1.0,),
    "drop_factor": 0.5,
    "bias_drops": True,
    "conv1_drop_epochs": (2.0,),
    "conv1_stop_epoch": 3.0,
    "plateau_epochs": 5.0,
    "plateau_drops": 2,
}


def test_there_is_a_row_for_every_schedule():
    assert set(READ) == set(FIELDS["optimizer.schedule"].choices)


@pytest.mark.parametrize("schedule", READ)
def test_a_schedule_takes_what_it_reads_and_refuses_the_rest(schedule):
    for network in ("alexnet", "four_layer"):
        # Without drop_epochs, as in the four-layer network, the rate of steps never falls.
        falls = network == "alexnet" or schedule != "steps"
        reads = READ[schedule] - (set() if falls else {"drop_factor", "bias_drops"})
        for name, value in SCHEDULE_FIELDS.items():
            config = base(network=network)
            config.optimizer.schedule = schedule
            if name in reads:
                plan = resolved(config, **{f"optimizer__{name}": value})
                assert plan.values[f"optimizer.{name}"] == value
                continue
            message = rf"\.{name}=.* has no effect: optimizer.schedule={schedule}\b"
            with pytest.raises(UserError, match=message):
                resolved(config, **{f"optimizer__{name}": value})


@pytest.mark.parametrize(
    ("name", "value"), [("drop_factor", 0.5), ("bias_drops", True)]
)
def test_without_steps_nothing_falls(name, value):
    message = "schedule=steps and optimizer.drop_epochs=()"
    with pytest.raises(UserError, match=re.escape(message)):
        resolved(
            base(),
            recipe="paper",
            optimizer__drop_epochs=(),
            **{f"optimizer__{name}": value},
        )


def test_a_field_of_the_file_without_an_effect_is_refused():
    config = base()
    config.model.norm_k = 1.0
    with pytest.raises(UserError, match=r"config.model.norm_k=1.0 has no effect"):
        resolved(config, recipe="torchvision")


def test_the_command_line_may_select_another_schedule_than_the_file():
    """The fields that the file sets for its own schedule are then no mistake."""
    config = base()
    config.optimizer.drop_epochs = (15.0,)
    plan = resolved(config, optimizer__schedule="cosine")
    assert plan.values["optimizer.schedule"] == "cosine"
    with pytest.raises(UserError, match=r"drop_epochs=.* has no effect"):
        resolved(base(), optimizer__schedule="cosine", optimizer__drop_epochs=(15.0,))
    config.optimizer.schedule = "cosine"  # by the file itself
    with pytest.raises(UserError, match=r"drop_epochs=.* has no effect"):
        resolved(config)


def test_an_arm_is_not_tuned_over_values_without_an_effect_in_it():
    """SGD would be trained twice, and the better of two equal networks chosen."""
    config = base()
    config.arms = {"SGD": {}, "AdamW": {"optimizer.name": "adamw"}}
    config.tuned = {"optimizer.beta1": (0.8, 0.9)}
    with pytest.raises(
        UserError, match=r"differ only in optimizer\.beta1, which does not"
    ):
        resolve(config, {})


def test_boxes_take_the_place_of_random_crops():
    config = base()
    config.data.random_resized_crop = 0.1
    config.arms = {"both": {}, "boxes": {"data.random_crop": False}}
    with pytest.raises(
        UserError, match=r"data\.random_crop has no effect: .*_crop=0\.1"
    ):
        resolve(config, {})


def test_tuned_values_without_an_effect_are_refused():
    """Trials would differ in nothing: by the file, and by a switch on the command line."""
    config = base()
    config.model.normalization = "none"
    config.tuned = {"model.norm_alpha": (1e-4, 1e-3)}
    with pytest.raises(UserError, match=r"config.model.norm_alpha=.* has no effect"):
        resolved(config)
    config = base()
    config.tuned = {"optimizer.drop_factor": (0.1, 0.5)}
    with pytest.raises(UserError, match=r"drop_factor=.* has no effect"):
        resolved(config, optimizer__schedule="constant")


def test_sharing_crops_without_crops_and_reflections_is_refused():
    with pytest.raises(
        UserError, match=r"random_crop=False and data.random_flip=False"
    ):
        resolved(
            base(),
            data__random_crop=False,
            data__random_flip=False,
            data__crop_sharing=4,
        )


def test_a_field_is_accepted_if_its_switch_is_set_too():
    plan = resolved(
        base(),
        recipe="torchvision",
        model__normalization="local_response",
        model__norm_k=1.0,
    )
    assert plan.values["model.norm_k"] == 1.0


def test_an_override_that_one_arm_reads_is_accepted():
    config = base()
    config.arms = {"with": {}, "without": {"model.normalization": "none"}}
    assert resolved(config, model__norm_k=1.0).values["model.norm_k"] == 1.0


def test_an_arm_that_sets_a_field_without_an_effect_is_refused():
    config = base()
    config.arms = {
        "with": {},
        "without": {"model.normalization": "none", "model.norm_k": 1.0},
    }
    with pytest.raises(UserError, match=r"Arm 'without': model\.norm_k has no effect"):
        resolved(config)


def test_numbers_of_any_library_become_pythons():
    config = base()
    config.arms = {
        "a": {"optimizer.weight_decay": np.float32(0.5)},
        "b": {"training.batch_size": np.array(16), "model.biases": np.ones(9)},
        "c": {"optimizer.momentum": jnp.float32(0.25), "data.random_flip": np.bool_(0)},
    }
    config.tuned = {
        "optimizer.learning_rate": (Fraction(1, 100), *np.logspace(-2, -1, 2)[1:])
    }
    config.seeds = np.int64(2)
    config.optimizer.momentum = jnp.float32(0.5)
    config.model.biases = np.zeros(9)
    plan = resolved(config)
    assert type(plan.values["optimizer.momentum"]) is float
    assert plan.values["model.biases"] == (0.0,) * 9
    changes = [value for arm in plan.arms.values() for value in arm.values()]
    assert {type(value) for value in changes} <= {int, float, bool, tuple}
    assert {trial.tuned_name for trial in plan.trials} == {
        "learning_rate=0.01",
        "learning_rate=0.1",
    }
    held = json.loads(json.dumps(plan.as_json()))
    assert [trial.folder for trial in ExperimentPlan.of_json(held).trials] == [
        trial.folder for trial in plan.trials
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("arms", {1: {}}),
        ("arms", {"a": {1: 2}}),
        ("arms", {" ": {}}),
        ("arms", {"a" * 300: {}}),
        ("tuned", None),
        ("tuned", {1: (0.1,)}),
        ("tuned", {"optimizer.learning_rate": ({},)}),
    ],
)
def test_arms_and_tuned_values_of_another_form_are_refused(name, value):
    config = base()
    config[name] = value
    with pytest.raises(UserError):
        resolved(config)
