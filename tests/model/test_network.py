"""A network is pure functions over a plain nested dict, and needs no TensorFlow."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet_jax.config import base
from alexnet_jax.model.network import build, root_key


def network(name, *, image_size, num_classes=10, **changes):
    model = base(network=name).model.to_dict() | changes
    return build(ConfigDict(model), image_size=image_size, num_classes=num_classes)


def small(**changes):
    """The four-layer network with dropout, so that its output depends on all arguments."""
    choices = {"image_size": 16, "width": 0.25, "dropout_rate": 0.5}
    return network("four_layer", **(choices | changes))


@pytest.fixture(scope="module")
def params():
    return small().initialize(jax.random.key(0))


@pytest.fixture(scope="module")
def images():
    return 70 * jax.random.normal(jax.random.key(1), (3, 16, 16, 3))


def test_initial_weights_do_not_depend_on_the_default_generator(params):
    with jax.default_prng_impl("rbg"):
        others = small().initialize(root_key(0))
    jax.tree.map(np.testing.assert_array_equal, params, others)


def test_params_are_a_plain_nested_dict(params):
    assert type(params) is dict
    assert list(params) == ["conv1", "conv2", "conv3", "fc4"]
    for layer in params.values():
        assert type(layer) is dict
        assert set(layer) == {"kernel", "bias"}
        assert all(isinstance(leaf, np.ndarray) for leaf in layer.values())
        assert all(leaf.dtype == jnp.float32 for leaf in layer.values())


@pytest.mark.slow
def test_apply_compiles_and_differentiates_as_any_function(params, images):
    apply = small().apply
    np.testing.assert_allclose(
        jax.jit(apply)(params, images, None), apply(params, images, None), rtol=1e-4
    )
    gradient = jax.grad(lambda params: apply(params, images, None).sum())(params)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)


def test_outputs_are_those_of_every_layer_the_logits_last(params, images):
    keys = jax.random.split(jax.random.key(4), 3)
    for dropout_keys in (None, keys):
        outputs = small().outputs(params, images, dropout_keys)
        assert list(outputs) == list(params)
        logits = small().apply(params, images, dropout_keys)
        np.testing.assert_array_equal(outputs["fc4"], logits)


def test_an_images_logits_do_not_depend_on_its_neighbours(params, images):
    keys = jax.random.split(jax.random.key(3), 3)
    together = small().apply(params, images, keys)
    alone = small().apply(params, images[1:2], keys[1:2])
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-5)


def test_the_same_seed_gives_the_same_params(params):
    again = small().initialize(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, params, again)


def test_another_seed_gives_other_kernels_everywhere(params):
    other = small().initialize(jax.random.key(1))
    for name, layer in params.items():
        assert (layer["kernel"] != other[name]["kernel"]).mean() > 0.99


def test_networks_of_other_classes_agree_in_all_but_the_last_layer(params):
    fewer = small(num_classes=4).initialize(jax.random.key(0))
    assert fewer["fc4"]["kernel"].shape == (32 * 2, 4)
    for name in ("conv1", "conv2", "conv3"):
        jax.tree.map(np.testing.assert_array_equal, fewer[name], params[name])


@pytest.mark.slow
def test_a_step_needs_no_tensorflow():
    """A network and its train step run where TensorFlow cannot be imported."""
    script = """
import sys

for name in ("tensorflow", "tensorflow_datasets"):
    sys.modules[name] = None  # importing it raises ImportError

import jax
import numpy as np

from alexnet_jax.config import base
from alexnet_jax.model.network import build, root_key
from alexnet_jax.training import diagnosis, optimizer, schedule, step
from alexnet_jax.training import preprocess
from alexnet_jax.training import devices
from alexnet_jax.training import metrics

config = base(network="four_layer")
config.model.width = 0.25
config.data.crop_size = 16
network = build(config.model, image_size=16, num_classes=10)
form = preprocess.InputForm.of(config.data)
rule = optimizer.OptimizerSpec(lr_inside_momentum=True, bias_decay=False)
devices = devices.Devices()
of_trial = step.joined(
    step.make_gradient_step(network, form, 1), step.make_update(rule)
)
train_step = devices.spread_train(of_trial)
batch = {
    "image": np.zeros((8, 16, 16, 3), np.uint8),
    "label": np.zeros(8, np.int32),
    "offset": np.zeros((8, 2), np.int32),
    "mirrored": np.zeros(8, np.int32),
    "lighting": np.zeros((8, 3), np.float32),
    "gain": np.ones(8, np.float32),
    "example": np.arange(8, dtype=np.int32),
    "epoch": np.zeros(8, np.int32),
}
spec = schedule.ScheduleSpec.of(config.optimizer)
rates = schedule.learning_rates_at(0.0, spec, num_epochs=90.0)
numbers = optimizer.Hyperparameters.of(rates, momentum=0.9, weight_decay=0.0, seed=0)
state = devices.place_copies(step.initial_state(network, 0, rule))
made, batch = batch, devices.place_batch(batch)
mean = devices.place_copies(form.mean_of(np.zeros((16, 16, 3)), np.zeros(3)))
diagnosed = diagnosis.make_diagnose(network.outputs_of_batch, form)(state.params, made, mean)
state, counts = train_step(state, batch, numbers, mean)
print(int(state.step), int(counts.examples), diagnosed["images"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "8", "8"]
