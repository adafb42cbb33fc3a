"""Which AlexNet: the recipes' choices, how a run takes them, and their page."""

import dataclasses
import itertools
import re
from pathlib import Path

import pytest

from alexnet_jax import config as configuration
from alexnet_jax.config import base, finish, get_field, set_field, trial_config, trials
from alexnet_jax.errors import UserError
from alexnet_jax.fields import FIELDS
from alexnet_jax.recipe import (
    CHOICES,
    DEFAULT,
    RECIPES,
    SWITCHES,
    departures,
    without_effect,
)
from alexnet_jax.report import recipes as page

DOCUMENT = Path(__file__).parent.parent / "docs" / "recipes.md"


def overridden(*given, **values):
    """A config of AlexNet as the command line makes it; "__" stands for a dot."""
    config = given[0] if given else base()
    overrides = {name.replace("__", "."): value for name, value in values.items()}
    for name, value in overrides.items():
        set_field(config, name, value)
    return finish(config, overrides)


def choices(config):
    return {name: get_field(config, name) for name in CHOICES}


# --- The rows ---------------------------------------------------------------------


def test_every_choice_is_a_field_and_takes_its_default_from_the_default_recipe():
    for name, choice in CHOICES.items():
        assert FIELDS[name].default == choice.of(DEFAULT), name


def test_each_recipe_is_right_by_the_fields_own_rules():
    for recipe in RECIPES:
        finished = overridden(recipe=recipe)
        assert finished.recipe == recipe
        assert choices(finished) == {n: c.of(recipe) for n, c in CHOICES.items()}


def test_no_two_recipes_agree():
    for one, other in itertools.combinations(RECIPES, 2):
        assert any(c.of(one) != c.of(other) for c in CHOICES.values())


def test_switches_and_what_they_switch_off_are_fields():
    for switches, fields in SWITCHES:
        for switch, value in switches.items():
            assert type(value) is type(FIELDS[switch].default)
        assert set(fields) <= set(FIELDS)


def test_what_has_no_effect_is_told_with_what_switches_it_off():
    values = {name: choice.of("torchvision") for name, choice in CHOICES.items()}
    told = without_effect(values)
    assert told["model.norm_k"] == "model.normalization=none"
    assert told["model.biases"] == "model.initialization=fan_in"
    assert told["data.lighting_scale"] == "data.lighting_deviation=0.0"
    assert "model.pool_window" not in told


WIDE = (96, 256, 384, 384, 256, 0, 4096, 4096)

# As the sources have them, written down apart from recipe.py: the paper's sections 2 to 5;
# layers-145.cfg, layer-params-145.cfg, convdata.py and layer.py of the released code;
# bvlc_alexnet's train_val.prototxt and solver.prototxt; torchvision's alexnet.py and
# training reference. Not here: what has no effect.
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
        "map_norm": False,
        "weight_deviations": (0.01,) * 9,
        "dropout_rate": 0.5,
        "dropout_form": "mask",
        "dropout_place": "after",
        "rescale": "shorter_side",
        "rescale_size": 256,
        "crop_size": 224,
        "crop_sharing": 1,
        "mean": "image",
        "lighting_deviation": 0.1,
        "lighting_scale": "eigenvalue",
        "lighting_shrink": False,
        "views": "ten",
        "learning_rate": 0.01,
        "drop_factor": 0.1,
        "plateau_drops": 3,
        "bias_rate": 1,
        "momentum": 0.9,
        "rate_in_velocity": True,
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
        "map_norm": True,
        "map_norm_size": 5,
        "map_norm_k": 1,
        "map_norm_alpha": 0.001 / 25,
        "map_norm_beta": 0.75,
        "pool_ties": "all",
        "weight_deviations": (0.01, 0.01, 0.03, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01),
        "dropout_form": "mask",
        "dropout_place": "after",
        "crop_size": 224,
        "crop_sharing": 32,
        "mean": "center",
        "channel_order": "rgb",
        "lighting_deviation": 0.1,
        "lighting_scale": "deviation",
        "lighting_shrink": True,
        "lighting_off_epoch": 67,
        "views": "ten",
        "learning_rate": 0.01,
        "drop_epochs": (25, 51, 79),
        "bias_rate": 2,
        "bias_drops": False,
        "conv1_drop_epochs": (67,),
        "conv1_stop_epoch": 72,
        "momentum": 0.9,
        "rate_in_velocity": True,
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
        "map_norm": False,
        "pool_rounding": "up",
        "pool_ties": "first",
        "weight_deviations": (*(0.01,) * 6, 0.005, 0.005, 0.01),
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
        "lighting_deviation": 0,
        "views": "center",
        "learning_rate": 0.01,
        "drop_epochs": (20, 40, 60, 80),
        "bias_rate": 2,
        "bias_drops": True,
        "momentum": 0.9,
        "rate_in_velocity": True,
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
        "map_norm": False,
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
        "lighting_deviation": 0,
        "views": "center",
        "learning_rate": 0.01,
        "drop_epochs": (30, 60),
        "bias_rate": 1,
        "momentum": 0.9,
        "rate_in_velocity": False,
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


# --- Taking one -------------------------------------------------------------------


def test_the_default_recipe_is_source2012():
    config = finish(base(), {})
    assert config.recipe == DEFAULT == "source2012"
    assert configuration.departures(config) == {
        "alexnet": {"recipe": "source2012", "departures": {}}
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_single_choice_overrides_the_recipe_and_is_recorded(recipe):
    config = overridden(recipe=recipe, optimizer__momentum=0.5)
    assert config.optimizer.momentum == 0.5
    expected = {n: c.of(recipe) for n, c in CHOICES.items()}
    assert choices(config) == expected | {"optimizer.momentum": 0.5}
    assert configuration.departures(config) == {
        "alexnet": {"recipe": recipe, "departures": {"optimizer.momentum": 0.5}}
    }


def test_an_override_with_the_default_recipes_value_holds_under_another_recipe():
    """source2012 has two towers: asked for by hand, torchvision gets them too."""
    config = overridden(recipe="torchvision", model__towers=2)
    assert config.model.towers == 2
    found = configuration.departures(config)["alexnet"]
    assert found == {"recipe": "torchvision", "departures": {"model.towers": 2}}


def test_what_a_config_file_sets_stays_even_if_it_is_the_default_recipes_value():
    config = base()
    config.model.towers = 2
    config.optimizer.drop_epochs = (25.0, 51.0, 79.0)
    config = overridden(config, recipe="torchvision")
    assert config.model.towers == 2
    assert configuration.departures(config)["alexnet"]["departures"] == {
        "model.towers": 2,
        "optimizer.drop_epochs": (25.0, 51.0, 79.0),
    }


def test_another_width_and_another_dtype_are_departures():
    config = overridden(model__width=0.5, model__dtype="bfloat16")
    assert configuration.departures(config)["alexnet"]["departures"] == {
        "model.width": 0.5,
        "model.dtype": "bfloat16",
    }


def test_what_a_config_file_sets_and_nothing_reads_is_refused():
    config = base()
    config.model.norm_k = 1.0
    with pytest.raises(UserError, match=r"config.model.norm_k=1.0 has no effect"):
        overridden(config, recipe="torchvision")


def test_what_a_config_file_sets_stays_under_another_recipe():
    config = base()
    config.data.crop_size = 64
    config = overridden(config, recipe="caffe")
    assert config.data.crop_size == 64
    assert config.model.norm_k == 1.0
    found = configuration.departures(config)["alexnet"]["departures"]
    assert found == {"data.crop_size": 64}


def test_what_is_set_in_a_copy_with_resolved_references_stays():
    config = base().copy_and_resolve_references()
    config.data.rescale_size, config.data.crop_size = 80, 67
    config.recipe = "torchvision"
    finished = finish(config, {})
    assert (finished.data.rescale_size, finished.data.crop_size) == (80, 67)
    assert finished.model.towers == CHOICES["model.towers"].torchvision


def test_a_config_file_can_name_its_recipe():
    config = base()
    config.recipe = "caffe"
    assert finish(config, {}).data.channel_order == "bgr"


def test_arms_can_be_recipes():
    config = base()
    config.arms = {recipe: {"recipe": recipe} for recipe in RECIPES}
    config.data.crop_size = 64
    config = overridden(config, optimizer__momentum=0.5)
    for trial in trials(config):
        of_trial = trial_config(config, trial)
        expected = {n: c.of(trial.arm) for n, c in CHOICES.items()} | {
            "data.crop_size": 64,
            "optimizer.momentum": 0.5,
        }
        assert choices(of_trial) == expected
        assert of_trial.recipe == trial.arm
    assert configuration.departures(config) == {
        recipe: {
            "recipe": recipe,
            "departures": {"data.crop_size": 64, "optimizer.momentum": 0.5},
        }
        for recipe in RECIPES
    }


def test_an_arm_of_a_recipe_can_change_a_choice_of_it():
    config = base()
    config.arms = {
        "plain": {"recipe": "caffe"},
        "RGB": {"recipe": "caffe", "data.channel_order": "rgb"},
    }
    config = finish(config, {})
    plain, rgb = (trial_config(config, trial) for trial in trials(config))
    differing = [
        name for name in FIELDS if get_field(plain, name) != get_field(rgb, name)
    ]
    assert differing == ["data.channel_order"]


def test_tuned_values_are_tried_in_every_recipe():
    config = base()
    config.arms = {"a": {"recipe": "paper"}, "b": {"recipe": "torchvision"}}
    config.tuned = {"optimizer.weight_decay": (0.1, 0.2)}
    config = finish(config, {})
    decays = [trial_config(config, t).optimizer.weight_decay for t in trials(config)]
    assert decays == [0.1, 0.2, 0.1, 0.2]


def test_the_four_layer_network_departs_from_nothing():
    config = finish(base(network="four_layer"), {})
    assert departures({"recipe": config.recipe}) == {}


# --- Refusals ---------------------------------------------------------------------


def test_a_recipe_that_does_not_exist_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"one of paper, .* Did you mean 'torchvision'"):
        overridden(recipe="torchvison")
    config = base()
    config.arms = {"a": {}, "b": {"recipe": "cafe"}}
    with pytest.raises(UserError, match="Did you mean 'caffe'"):
        finish(config, {})


def test_the_four_layer_network_comes_in_no_recipe():
    with pytest.raises(UserError, match="in no recipe"):
        overridden(base(network="four_layer"), recipe="paper")


@pytest.mark.parametrize(
    ("recipe", "name", "value", "reason"),
    [
        ("torchvision", "model.norm_k", 1.0, "model.normalization=none"),
        ("torchvision", "model.norm_alpha", 1e-4, "model.normalization=none"),
        ("torchvision", "model.biases", (0.0,) * 9, "model.initialization=fan_in"),
        ("paper", "model.map_norm_size", 3, "model.map_norm=False"),
        ("caffe", "data.lighting_scale", "deviation", "data.lighting_deviation=0.0"),
        ("source2012", "data.channel_mean", (1.0, 2.0, 3.0), "data.mean=center"),
        ("torchvision", "data.lighting_shrink", True, "data.lighting_deviation=0.0"),
        ("paper", "optimizer.plateau_epochs", 5.0, "optimizer.schedule=steps"),
        ("caffe", "optimizer.plateau_drops", 2, "optimizer.schedule=steps"),
    ],
)
def test_an_override_that_the_recipe_does_not_read_is_refused(
    recipe, name, value, reason
):
    message = rf"config.{name}=.* has no effect: {reason} \(recipe {recipe}\)"
    with pytest.raises(UserError, match=message):
        overridden(recipe=recipe, **{name.replace(".", "__"): value})


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


@pytest.mark.parametrize("network", ["alexnet", "four_layer"])
@pytest.mark.parametrize("schedule", FIELDS["optimizer.schedule"].choices)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("drop_epochs", (1.0,)),
        ("drop_factor", 0.5),
        ("bias_drops", True),
        ("conv1_drop_epochs", (2.0,)),
        ("conv1_stop_epoch", 3.0),
        ("plateau_epochs", 5.0),
        ("plateau_drops", 2),
    ],
)
def test_a_schedule_takes_what_it_reads_and_refuses_the_rest(
    network, schedule, name, value
):
    """The four-layer network has no `drop_epochs`: that stops nothing but the steps."""
    config = base(network=network)
    config.optimizer.schedule = schedule
    given = {f"optimizer__{name}": value}
    never = network == "four_layer" and schedule == "steps"
    if name in READ[schedule] and not (never and name in ("drop_factor", "bias_drops")):
        assert get_field(overridden(config, **given), f"optimizer.{name}") == value
    else:
        message = (
            rf"optimizer\.{name}=.* has no effect: optimizer.schedule={schedule}\b"
        )
        with pytest.raises(UserError, match=message):
            overridden(config, **given)


def test_without_steps_nothing_drops_and_what_says_how_is_refused():
    for name, value in {"drop_factor": 0.5, "bias_drops": True}.items():
        message = "schedule=steps and optimizer.drop_epochs=()"
        with pytest.raises(UserError, match=re.escape(message)):
            overridden(
                recipe="paper",
                optimizer__drop_epochs=(),
                **{f"optimizer__{name}": value},
            )


def test_the_command_line_may_take_another_schedule_than_the_config_file():
    """What the file says of its own is then no mistake; on the command line it is."""
    config = base()
    config.optimizer.drop_epochs = (15.0,)
    finished = overridden(config, optimizer__schedule="cosine")
    assert finished.optimizer.schedule == "cosine"
    with pytest.raises(UserError, match=r"drop_epochs=.* has no effect"):
        overridden(base(), optimizer__schedule="cosine", optimizer__drop_epochs=(15.0,))
    config.optimizer.schedule = "cosine"
    with pytest.raises(UserError, match=r"drop_epochs=.* has no effect"):
        finish(config, {})


def test_what_is_tuned_and_switched_off_on_the_command_line_is_refused():
    """The trials would differ in nothing."""
    config = base()
    config.tuned = {"optimizer.drop_factor": (0.1, 0.5)}
    with pytest.raises(UserError, match=r"drop_factor=.* has no effect"):
        overridden(config, optimizer__schedule="constant")


def test_sharing_without_anything_to_share_is_refused():
    with pytest.raises(
        UserError, match=r"random_crop=False and data.random_flip=False \(recipe"
    ):
        overridden(
            data__random_crop=False, data__random_flip=False, data__crop_sharing=4
        )


def test_it_is_taken_if_what_it_needs_is_switched_on_too():
    config = overridden(
        recipe="torchvision", model__normalization="local_response", model__norm_k=1.0
    )
    assert config.model.norm_k == 1.0


def test_an_override_that_one_arm_reads_is_taken():
    config = base()
    config.arms = {"with": {}, "without": {"model.normalization": "none"}}
    assert overridden(config, model__norm_k=1.0).model.norm_k == 1.0


def test_an_arm_that_sets_what_it_does_not_read_is_refused():
    config = base()
    config.arms = {
        "with": {},
        "without": {"model.normalization": "none", "model.norm_k": 1.0},
    }
    with pytest.raises(UserError, match=r"Arm 'without': model\.norm_k has no effect"):
        finish(config, {})


def test_tuned_values_that_no_arm_reads_are_refused():
    config = base()
    config.model.normalization = "none"
    config.tuned = {"model.norm_alpha": (1e-4, 1e-3)}
    with pytest.raises(UserError, match=r"config.model.norm_alpha=.* has no effect"):
        finish(config, {})


# --- The page ---------------------------------------------------------------------


def test_the_page_is_what_the_recipes_say():
    assert DOCUMENT.read_text() == page.document(), (
        "stale: python -m alexnet_jax.report.recipes > docs/recipes.md"
    )


def test_the_page_has_a_row_a_choice_and_a_dash_where_it_has_no_effect():
    rows = re.findall(r"^\| `(\S+)` \| (.*) \|$", page.document(), re.MULTILINE)
    told = {name: row.split(" | ") for name, row in rows if name in CHOICES}
    assert set(told) == set(CHOICES)
    # meaning, the four, note
    assert told["model.norm_k"][1:5] == ["2", "2", "1", "–"]
    assert told["model.towers"][1:5] == ["2", "2", "2", "1"]
    assert told["model.weight_deviations"][1] == "0.01 in all"
    assert told["data.channel_order"][1:5] == ["rgb", "rgb", "bgr", "rgb"]


def test_the_page_would_not_be_the_same_with_another_choice(monkeypatch):
    choice = dataclasses.replace(CHOICES["model.norm_k"], caffe=3.0)
    monkeypatch.setitem(CHOICES, "model.norm_k", choice)
    assert DOCUMENT.read_text() != page.document()
