"""Each number that the paper prints and this code embodies, once.

Krizhevsky, Sutskever and Hinton: ImageNet Classification with Deep Convolutional Neural
Networks (2012), by section.
"""

import math
import runpy
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import pytest

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.model import layers
from alexnet_jax.model.network import build

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def config():
    config = base("imagenet2012")
    config.recipe = "paper"
    return resolve(config, {}).settings


@pytest.fixture(scope="module")
def network(config):
    return build(config.model, image_size=config.data.crop_size, num_classes=1000)


@pytest.fixture(scope="module")
def params(network):
    """Shapes only: 244 megabytes less."""
    return jax.eval_shape(network.initialize, jax.random.key(0))


@pytest.fixture(scope="module")
def outputs(config, network, params):
    """The shape of each weight layer's output for one image."""
    shapes = []

    def recording(call):
        def recorded(*args):
            y = call(*args)
            shapes.append(y.shape[1:])
            return y

        return recorded

    size = config.data.crop_size
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    convolution, dense = layers.Convolution, layers.Dense
    with (
        mock.patch.object(convolution, "__call__", recording(convolution.__call__)),
        mock.patch.object(dense, "__call__", recording(dense.__call__)),
    ):
        jax.eval_shape(network.apply, params, image, None)
    return shapes


def experiment_config(name, dataset):
    return runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"](dataset)


# --- Values of the recipe ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("2", "data.rescale_size", 256),
        ("3.1", "model.activation", "relu"),
        ("3.2", "model.towers", 2),
        ("3.3", "model.norm_k", 2),
        ("3.3", "model.norm_depth", 5),  # n
        ("3.3", "model.norm_alpha", 1e-4),
        ("3.3", "model.norm_beta", 0.75),
        ("3.4", "model.pool_window", 3),  # z
        ("3.4", "model.pool_stride", 2),  # s
        ("3.5", "data.crop_size", 224),
        ("4.1", "data.random_crop", True),
        ("4.1", "data.random_flip", True),
        ("4.1", "data.lighting_std", 0.1),
        ("4.2", "model.dropout_rate", 0.5),
        ("5", "training.batch_size", 128),
        ("5", "optimizer.momentum", 0.9),
        ("5", "optimizer.weight_decay", 0.0005),
        ("5", "model.weight_stds", (0.01,) * 9),
        # Ones in conv2, conv4, conv5 and the hidden dense layers. The paper has no conv6.
        ("5", "model.biases", (0, 1, 0, 1, 1, mock.ANY, 1, 1, 0)),
        ("5", "optimizer.learning_rate", 0.01),
        ("5", "optimizer.drop_factor", 0.1),
        ("5", "training.num_epochs", 90),
    ],
)
def test_the_recipe_of_the_paper(config, section, field, value):
    part, _, name = field.partition(".")
    assert config[part][name] == value, f"section {section}"


def test_5_the_learning_rate_falls_three_times_before_the_end(config):
    assert len(config.optimizer.drop_epochs) == 3
    assert max(config.optimizer.drop_epochs) < config.training.num_epochs


# --- The network ------------------------------------------------------------------------


def test_abstract_60_million_parameters(params):
    """60,965,224 in all: 60,954,656 weights and 10,568 biases."""
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == 60_965_224


def test_abstract_650_000_neurons(outputs):
    """659,272, the 1000 outputs included."""
    assert sum(math.prod(shape) for shape in outputs) == 659_272


@pytest.mark.parametrize(
    ("layer", "shape", "neurons"),
    [
        # The caption prints 253,440 = 55 x 48 x 96; the abstract's sum needs this one.
        (1, (55, 55, 96), 290_400),
        (2, (27, 27, 256), 186_624),
        (3, (13, 13, 384), 64_896),
        (4, (13, 13, 384), 64_896),
        (5, (13, 13, 256), 43_264),
        (6, (4096,), 4_096),
        (7, (4096,), 4_096),
        (8, (1000,), 1_000),
    ],
)
def test_3_5_neurons_of_each_layer(outputs, layer, shape, neurons):
    """Figure 2; its first convolution has a stride of 4 pixels."""
    assert len(outputs) == 8
    assert outputs[layer - 1] == shape
    assert math.prod(shape) == neurons


@pytest.mark.parametrize(
    ("layer", "count", "size"),
    [
        ("conv1", 96, (11, 11, 3)),
        ("conv2", 256, (5, 5, 48)),
        ("conv3", 384, (3, 3, 256)),  # reads both towers, unlike conv2, conv4 and conv5
        ("conv4", 384, (3, 3, 192)),
        ("conv5", 256, (3, 3, 192)),
    ],
)
def test_3_5_kernels_of_each_convolution(params, layer, count, size):
    assert params[layer]["kernel"].shape == (*size, count)


def test_3_5_the_input_is_150_528_dimensional(config):
    assert config.data.crop_size**2 * 3 == 150_528


# --- The experiments --------------------------------------------------------------------


def test_3_1_relus_reach_25_percent_training_error_six_times_faster_than_tanh():
    claim = experiment_config("relu_vs_tanh", "cifar10").claim
    assert (claim["metric"], claim["threshold"]) == ("epochs_to_train_error", 0.25)
    assert tuple(claim["compare"]) == ("tanh", "ReLU")  # epochs of tanh / of ReLU
    assert claim["paper"] == 6.0


def test_3_1_a_four_layer_network_on_cifar_10():
    config = experiment_config("relu_vs_tanh", "cifar10")
    assert config.data.dataset == "cifar10"
    network = build(config.model, image_size=32, num_classes=10)
    assert len(jax.eval_shape(network.initialize, jax.random.key(0))) == 4


def test_3_1_no_regularization_of_any_kind():
    config = experiment_config("relu_vs_tanh", "cifar10")
    assert config.model.dropout_rate == 0
    assert config.model.normalization == "none"
    assert config.optimizer.weight_decay == 0
    assert not config.data.random_crop
    assert not config.data.random_flip
    assert config.data.lighting_std == 0


def test_6_one_network_makes_18_2_percent_errors():
    claim = experiment_config("alexnet", "imagenet2012").claim
    assert (claim["metric"], claim["paper"]) == ("top5_error", 0.182)


def test_6_the_experiment_on_the_whole_network_has_the_recipe_of_the_paper(config):
    """The values above are those that configs/alexnet.py runs on ImageNet."""
    experiment = experiment_config("alexnet", "imagenet2012")
    experiment.recipe = "paper"
    settings = resolve(experiment, {"recipe": "paper"}).settings
    for section in ("model", "data", "optimizer", "training"):
        assert settings[section].to_dict() == config[section].to_dict()
