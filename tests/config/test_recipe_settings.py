"""The settings of a recipe without a config file are those that a file would have."""

import pytest

from alexnet_jax.config import base
from alexnet_jax.config.layered import flatten
from alexnet_jax.config.recipe_settings import OWN_IMAGES, settings_of_recipe
from alexnet_jax.config.recipes import RECIPES
from alexnet_jax.config.resolve import resolve
from alexnet_jax.errors import UserError


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("preset", ["full", "small"])
def test_they_are_those_of_a_config_file(recipe, preset):
    config = base(OWN_IMAGES)
    given = {"recipe": recipe, "preset": preset, "data.rescale_size": 300}
    config.recipe, config.preset, config.data.rescale_size = recipe, preset, 300
    (trial,) = resolve(config, given).trials
    found = settings_of_recipe(recipe, {"preset": preset}, 300)
    assert flatten(found) == flatten(trial.settings)


def test_changes_override_recipe_and_preset():
    found = settings_of_recipe(
        "caffe",
        {
            "preset": "small",
            "data.crop_size": 65,
            "optimizer.learning_rate": 1,
            "optimizer.drop_epochs": [1, 2],
        },
        80,
    )
    assert found.recipe == "caffe"
    assert (found.data.crop_size, found.data.rescale_size) == (65, 80)
    assert type(found.optimizer.learning_rate) is float
    assert found.optimizer.drop_epochs == (1, 2)
    assert found.data.eval_crops == "center"


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"lr": 1.0}, "alexnet_jax.recipe sets 'lr': .*'optimizer.learning_rate'"),
        ({"data.crop_sise": 64}, "no such field. Did you mean 'data.crop_size'"),
        ({"data": {}}, "It is a section"),
        ({3: 4}, "sets 3: give the name of a field"),
        (
            {"data.crop_size": "64"},
            "config.data.crop_size='64': it takes a whole number",
        ),
        ({"model.towers": True}, "config.model.towers=True: it takes a whole number"),
        ({"preset": "tiny"}, "config.preset='tiny'"),
        ({"data.crop_size": 400}, "larger than the rescaled images: .*=300"),
        ({"optimizer.plateau_drops": 2}, "has no effect: optimizer.schedule=steps"),
        ({"recipe": "caffe"}, "'recipe', .* its name is the first argument"),
        ({"data.rescale_size": 256}, "it is the side of the images given"),
        ({"data.dataset": "cifar10"}, "'data.dataset', .*: runs alone do"),
        ({"training.ensemble": 5}, "'training.ensemble', .*: runs alone do"),
        ({"seeds": 5}, "'seeds', .*: runs alone do"),
        ({"data.randaugment": 2}, "'data.randaugment', .* on the host"),
        ({"optimizer.ema_decay": 0.9}, "average the parameters there"),
        ({"optimizer.schedule": "plateau"}, "Take steps, cosine or constant"),
        ({"model.normalization": "batch"}, "Take layer or group"),
    ],
)
def test_what_is_wrong_or_read_by_runs_alone_is_refused(changes, wrong):
    with pytest.raises(UserError, match=wrong):
        settings_of_recipe("paper", changes, 300)


def test_a_recipe_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="Did you mean 'torchvision'"):
        settings_of_recipe("torchvison", {}, 300)
