"""Each number that the paper prints and this code embodies, a test each.

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

from alexnet_jax.config import base, finish
from alexnet_jax.model import layers
from alexnet_jax.model.network import build

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture(scope="module")
def config():
    config = base("imagenet2012")
    config.recipe = "paper"
    return finish(config, {})


@pytest.fixture(scope="module")
def network(config):
    return build(
        config.model.to_dict(), image_size=config.data.crop_size, num_classes=1000
    )


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


def paper_config(name, dataset):
    return runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"](dataset)


def kernel(params, name):
    """As section 3.5 writes it: how many, and height x width x channels."""
    height, width, channels, count = params[name]["kernel"].shape
    return count, (height, width, channels)


# --- Abstract ---------------------------------------------------------------------


def test_abstract_60_million_parameters(params):
    """60,965,224 in all: 60,954,656 weights and 10,568 biases."""
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == 60_965_224


def test_abstract_650_000_neurons(outputs):
    """659,272, the 1000 outputs included."""
    assert sum(math.prod(shape) for shape in outputs) == 659_272


def test_abstract_five_convolutional_and_three_dense_layers(outputs):
    assert [len(shape) for shape in outputs] == [3] * 5 + [1] * 3


def test_abstract_1000_way_softmax(outputs):
    assert outputs[-1] == (1000,)


# --- 2: the dataset ---------------------------------------------------------------


def test_2_the_shorter_side_is_rescaled_to_256(config):
    assert config.data.rescale_size == 256


# --- 3.1 and Figure 1: ReLU -------------------------------------------------------


def test_3_1_relus(config):
    assert config.model.activation == "relu"


def test_3_1_six_times_faster_than_tanh():
    claim = paper_config("relu_vs_tanh", "cifar10").claim
    assert claim["paper"] == 6.0
    assert tuple(claim["compare"]) == ("tanh", "ReLU")  # epochs of tanh / of ReLU


def test_3_1_to_25_percent_training_error():
    claim = paper_config("relu_vs_tanh", "cifar10").claim
    assert claim["metric"] == "epochs_to_train_error"
    assert claim["threshold"] == 0.25


def test_3_1_a_four_layer_network_on_cifar_10():
    config = paper_config("relu_vs_tanh", "cifar10")
    assert config.data.dataset == "cifar10"
    network = build(config.model.to_dict(), image_size=32, num_classes=10)
    assert len(jax.eval_shape(network.initialize, jax.random.key(0))) == 4


def test_3_1_no_regularization_of_any_kind():
    config = paper_config("relu_vs_tanh", "cifar10")
    assert config.model.dropout_rate == 0
    assert config.model.normalization == "none"
    assert config.optimizer.weight_decay == 0
    assert not config.data.random_crop
    assert not config.data.random_flip
    assert config.data.lighting_deviation == 0


# --- 3.2: two GPUs ----------------------------------------------------------------


def test_3_2_two_gpus(config):
    assert config.model.towers == 2


def test_3_2_layer_3_reads_both_towers_and_layers_2_4_and_5_only_their_own(params):
    channels = [params[f"conv{i}"]["kernel"].shape[2:] for i in range(1, 6)]
    read = [channels[i + 1][0] / channels[i][1] for i in range(4)]
    assert read == [0.5, 1.0, 0.5, 0.5]


# --- 3.3: local response normalization --------------------------------------------


def test_3_3_k_is_2(config):
    assert config.model.norm_k == 2


def test_3_3_n_is_5(config):
    assert config.model.norm_depth == 5


def test_3_3_alpha_is_one_in_ten_thousand(config):
    assert config.model.norm_alpha == 1e-4


def test_3_3_beta_is_three_quarters(config):
    assert config.model.norm_beta == 0.75


# --- 3.4: overlapping pooling -----------------------------------------------------


def test_3_4_pooling_windows_of_3_by_3(config):
    assert config.model.pool_window == 3


def test_3_4_two_pixels_apart(config):
    assert config.model.pool_stride == 2


# --- 3.5 and Figure 2: the architecture -------------------------------------------


def test_3_5_crops_of_224_by_224(config):
    assert config.data.crop_size == 224


def test_3_5_the_input_is_150_528_dimensional(config):
    assert config.data.crop_size**2 * 3 == 150_528


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
    assert outputs[layer - 1] == shape
    assert math.prod(shape) == neurons


def test_3_5_layer_1_has_96_kernels_of_11_by_11_by_3(params):
    assert kernel(params, "conv1") == (96, (11, 11, 3))


def test_3_5_layer_2_has_256_kernels_of_5_by_5_by_48(params):
    assert kernel(params, "conv2") == (256, (5, 5, 48))


def test_3_5_layer_3_has_384_kernels_of_3_by_3_by_256(params):
    assert kernel(params, "conv3") == (384, (3, 3, 256))


def test_3_5_layer_4_has_384_kernels_of_3_by_3_by_192(params):
    assert kernel(params, "conv4") == (384, (3, 3, 192))


def test_3_5_layer_5_has_256_kernels_of_3_by_3_by_192(params):
    assert kernel(params, "conv5") == (256, (3, 3, 192))


def test_3_5_the_dense_layers_have_4096_neurons(params):
    assert params["fc6"]["kernel"].shape[1] == 4096
    assert params["fc7"]["kernel"].shape == (4096, 4096)


def test_3_5_a_stride_of_4_pixels(outputs):
    """The 2012 code rounds up: its last window overhangs the edge."""
    assert outputs[0][0] == 1 + math.ceil((224 - 11) / 4)


# --- 4: overfitting ---------------------------------------------------------------


def test_4_1_random_crops_and_reflections(config):
    assert config.data.random_crop
    assert config.data.random_flip


def test_4_1_colour_shifts_of_deviation_a_tenth(config):
    assert config.data.lighting_deviation == 0.1


def test_4_2_dropout_with_probability_a_half(config):
    assert config.model.dropout_rate == 0.5


# --- 5: details of learning -------------------------------------------------------


def test_5_batches_of_128(config):
    assert config.training.batch_size == 128


def test_5_momentum_of_nine_tenths(config):
    assert config.optimizer.momentum == 0.9


def test_5_weight_decay_of_five_ten_thousandths(config):
    assert config.optimizer.weight_decay == 0.0005


def test_5_weights_of_deviation_a_hundredth(config):
    assert set(config.model.weight_deviations) == {0.01}


def test_5_biases_of_one_in_layers_2_4_5_and_the_dense_hidden_ones(config):
    *convolutions, _, fc6, fc7, fc8 = config.model.biases  # conv6 is not the paper's
    assert convolutions == [0, 1, 0, 1, 1]
    assert (fc6, fc7, fc8) == (1, 1, 0)


def test_5_a_learning_rate_of_a_hundredth(config):
    assert config.optimizer.learning_rate == 0.01


def test_5_divided_by_10(config):
    assert config.optimizer.drop_factor == 0.1


def test_5_three_times(config):
    assert len(config.optimizer.drop_epochs) == 3
    assert max(config.optimizer.drop_epochs) < config.training.num_epochs


def test_5_about_90_cycles(config):
    assert config.training.num_epochs == 90


# --- 6: results -------------------------------------------------------------------


def test_6_one_network_makes_18_2_percent_errors():
    claim = paper_config("alexnet", "imagenet2012").claim
    assert claim["metric"] == "top5_error"
    assert claim["paper"] == 0.182


def test_6_the_experiment_of_the_whole_paper_changes_nothing_of_its_recipe(config):
    """What these tests pin is what configs/alexnet.py runs on ImageNet."""
    experiment = paper_config("alexnet", "imagenet2012")
    experiment.recipe = "paper"
    experiment = finish(experiment, {"recipe": "paper"})
    for section in ("model", "data", "optimizer", "training"):
        assert experiment[section].to_dict() == config[section].to_dict()
