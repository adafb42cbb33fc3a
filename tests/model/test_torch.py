"""Layers and recipes against PyTorch's with the same weights, if it is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from ml_collections import ConfigDict

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.model import layers
from alexnet_jax.model.network import build

torch = pytest.importorskip(
    "torch", reason="parity with PyTorch: pip install torch==2.13.0"
)

NAMES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
LABELS = np.array([3, 7])


def caffes_norm():
    """bvlc_alexnet's local_size 5, alpha 0.0001, beta 0.75, k 1: alpha is divided by 5."""
    return torch.nn.LocalResponseNorm(5, alpha=0.0001, beta=0.75, k=1.0)


def twin(name, recipe, model, widths):
    """The recipe's network in PyTorch's layers, with their own weights, no dropout."""
    nn = torch.nn
    c1, c2, c3, c4, c5, f6, f7, classes = widths
    padding = {"both": 2, "none": 0}[model["conv1_padding"]]
    groups = model["towers"]
    norm = caffes_norm if recipe == "caffe" else nn.Identity
    pool = {"kernel_size": 3, "stride": 2, "ceil_mode": recipe == "caffe"}
    if name == "zfnet":  # Zeiler and Fergus (2013), Figure 3
        first = nn.Conv2d(3, c1, 7, stride=2, padding=1)
        second = nn.Conv2d(c1, c2, 5, stride=2, groups=groups)
    else:
        first = nn.Conv2d(3, c1, 11, stride=4, padding=padding)
        second = nn.Conv2d(c1, c2, 5, padding=2, groups=groups)
    return nn.Sequential(
        *(first, nn.ReLU()),
        *(norm(), nn.MaxPool2d(**pool)),
        *(second, nn.ReLU()),
        *(norm(), nn.MaxPool2d(**pool)),
        *(nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(c3, c4, 3, padding=1, groups=groups), nn.ReLU()),
        *(nn.Conv2d(c4, c5, 3, padding=1, groups=groups), nn.ReLU()),
        *(nn.MaxPool2d(**pool), nn.AdaptiveAvgPool2d((6, 6)), nn.Flatten()),
        *(nn.Linear(36 * c5, f6), nn.ReLU()),
        *(nn.Linear(f6, f7), nn.ReLU()),
        nn.Linear(f7, classes),
    )


def from_torch_order(name, weight):
    """A PyTorch weight in this project's layout."""
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)  # HWIO
    if name == "fc6":  # its inputs are channel, height, width there
        outputs = weight.shape[0]
        weight = weight.reshape(outputs, -1, 6, 6).transpose(0, 2, 3, 1)
        weight = weight.reshape(outputs, -1)
    return weight.T


@pytest.mark.parametrize(
    ("name", "recipe", "size"),
    [
        ("alexnet", "torchvision", 224),
        ("alexnet", "caffe", 227),
        ("zfnet", "caffe", 224),
    ],
)
def test_logits_and_gradients_are_pytorchs(name, recipe, size):
    config = base()
    config.recipe = recipe
    config.model.name = name
    if name == "zfnet":
        config.model.towers = 1
    model = resolve(config, {}).settings.model.as_configdict().to_dict() | {
        "width": 0.25
    }
    network = build(ConfigDict(model), image_size=size, num_classes=10)
    shapes = jax.eval_shape(network.initialize, jax.random.key(0))
    assert tuple(shapes) == NAMES

    torch.manual_seed(0)
    there = twin(name, recipe, model, [shapes[name]["bias"].shape[0] for name in NAMES])
    of_torch = [layer for layer in there if hasattr(layer, "weight")]
    params = {
        name: {
            "kernel": jnp.array(from_torch_order(name, layer.weight.detach().numpy())),
            "bias": jnp.array(layer.bias.detach().numpy()),
        }
        for name, layer in zip(NAMES, of_torch, strict=True)
    }
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda s: s.shape, shapes)

    images = 2 * np.random.default_rng(0).normal(size=(2, size, size, 3))
    images = images.astype(np.float32)
    logits = there(torch.tensor(images.transpose(0, 3, 1, 2)))
    torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS)).backward()

    def loss(params):
        ours = network.apply(params, jnp.array(images), None)
        losses = optax.softmax_cross_entropy_with_integer_labels(ours, LABELS)
        return losses.mean(), ours

    gradients, ours = jax.grad(loss, has_aux=True)(params)
    spread = logits.detach().numpy().std()
    np.testing.assert_allclose(
        ours, logits.detach().numpy(), rtol=1e-4, atol=1e-4 * spread
    )
    for name, layer in zip(NAMES, of_torch, strict=True):
        for kind, gradient in (
            ("kernel", layer.weight.grad),
            ("bias", layer.bias.grad),
        ):
            expected = gradient.numpy()
            if kind == "kernel":
                expected = from_torch_order(name, expected)
            scale = np.abs(expected).max()
            assert scale > 0, name
            np.testing.assert_allclose(
                gradients[name][kind], expected, rtol=1e-3, atol=2e-4 * scale
            )


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (torch.nn.Conv2d(16, 480, 5), (5, 5, 16, 480)),
        (torch.nn.Linear(900, 300), (900, 300)),
    ],
    ids=["convolution", "dense"],
)
def test_initial_weights_of_torchvision_have_pytorchs_bound(layer, shape):
    start = layers.LayerInitialization(None, 0.0)
    kernel, bias = layers.initial_parameters(shape, start, jax.random.key(0))
    for ours, there in ((kernel, layer.weight), (bias, layer.bias)):
        there = there.detach().abs().max().item()
        assert jnp.abs(ours).max() == pytest.approx(there, rel=0.02)


@pytest.mark.parametrize("rounding", ["up", "down"])
@pytest.mark.parametrize("side", [13, 12])
def test_max_pool_and_its_gradient_are_pytorchs_ties_included(side, rounding):
    x = np.random.default_rng(1).integers(0, 4, (2, side, side, 5)).astype(np.float32)
    images = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    there = torch.nn.functional.max_pool2d(
        images, 3, stride=2, ceil_mode=rounding == "up"
    )
    weights = np.random.default_rng(2).normal(size=there.shape).astype(np.float32)
    (there * torch.tensor(weights)).sum().backward()

    def weighted(x):
        y = layers.max_pool(x, window=3, stride=2, rounding=rounding, ties="first")
        return (y * weights.transpose(0, 2, 3, 1)).sum(), y

    gradient, y = jax.grad(weighted, has_aux=True)(jnp.array(x))
    np.testing.assert_array_equal(y, there.detach().numpy().transpose(0, 2, 3, 1))
    expected = images.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("towers", [1, 2])
def test_convolution_and_its_gradients_are_pytorchs(towers):
    x = np.random.default_rng(3).normal(size=(2, 9, 9, 8)).astype(np.float32)
    layer = torch.nn.Conv2d(8, 6, 3, padding=1, groups=towers)
    images = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    there = layer(images)
    there.square().sum().backward()
    ours = layers.Convolution(
        (8, 6),
        window=3,
        stride=1,
        padding=((1, 1), (1, 1)),
        towers=towers,
        initialization=layers.LayerInitialization(0.1, 0.0),
        key=jax.random.key(0),
    )
    graph, state = nnx.split(ours)
    params = nnx.to_pure_dict(state) | {
        "kernel": jnp.array(layer.weight.detach().numpy().transpose(2, 3, 1, 0)),
        "bias": jnp.array(layer.bias.detach().numpy()),
    }

    def squared(params, x):
        return jnp.square(nnx.merge(graph, nnx.State(params))(x)).sum()

    of_params, of_x = jax.grad(squared, argnums=(0, 1))(params, jnp.array(x))
    for one, other in (
        (of_params["kernel"], layer.weight.grad.numpy().transpose(2, 3, 1, 0)),
        (of_params["bias"], layer.bias.grad.numpy()),
        (of_x, images.grad.numpy().transpose(0, 2, 3, 1)),
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_normalization_and_its_gradient_are_pytorchs():
    x = 100 * np.random.default_rng(4).normal(size=(2, 5, 4, 12)).astype(np.float32)
    weights = np.random.default_rng(5).normal(size=x.shape).astype(np.float32)
    images = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    there = caffes_norm()(images)
    (there * torch.tensor(weights.transpose(0, 3, 1, 2))).sum().backward()

    def weighted(x):
        constants = {"depth": 5, "k": 1.0, "alpha": 2e-5, "beta": 0.75}
        y = layers.local_response_norm(x, **constants, towers=1)
        return (y * weights).sum(), y

    expected = images.grad.numpy().transpose(0, 2, 3, 1)
    gradient, y = jax.grad(weighted, has_aux=True)(jnp.array(x))
    np.testing.assert_allclose(
        y, there.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-5
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)
