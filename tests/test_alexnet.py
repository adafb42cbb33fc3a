"""AlexNet's shapes, parameters, first weights and wiring (section 3.5, Figure 2)."""

import contextlib
import itertools
import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from alexnet_jax.config import base
from alexnet_jax.errors import UserError
from alexnet_jax.model import layers
from alexnet_jax.model.network import build

DEVIATIONS = (0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01)
BIASES = (0, 1, 0, 1, 1, 1, 1, 0)
NAMES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def alexnet(*, image_size, num_classes, **changes):
    model = base().model.to_dict() | changes
    return build(model, image_size=image_size, num_classes=num_classes)


def narrow(**changes):
    return alexnet(image_size=64, num_classes=10, width=0.125, **changes)


@pytest.fixture(scope="module")
def params():
    return narrow().initialize(jax.random.key(0))


@pytest.fixture(scope="module")
def images():
    """Two of mean 0 and 0..255's scale."""
    return 70 * jax.random.normal(jax.random.key(1), (2, 64, 64, 3))


@contextlib.contextmanager
def recorded(change=lambda number, name, y: y):
    """Lists (layer, output) of a forward pass, in order.

    `change` gives the output that goes on, of the layer's place, name and output.
    """
    outputs = []

    def recording(name, function):
        def call(*args, **kwargs):
            y = change(len(outputs), name, function(*args, **kwargs))
            outputs.append((name, y))
            return y

        return call

    with contextlib.ExitStack() as stack:
        for owner, attribute, name in (
            (layers.Convolution, "__call__", "convolution"),
            (layers.Dense, "__call__", "dense"),
            (layers, "local_response_norm", "norm"),
            (layers, "max_pool", "pool"),
            (layers, "dropout", "dropout"),
        ):
            wrapped = recording(name, getattr(owner, attribute))
            stack.enter_context(mock.patch.object(owner, attribute, wrapped))
        yield outputs


# --- Sizes ------------------------------------------------------------------------


def test_layers_follow_one_another_in_the_papers_sizes():
    network = alexnet(image_size=224, num_classes=1000)
    params = jax.eval_shape(network.initialize, jax.random.key(0))
    batch = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    with recorded() as outputs:
        logits = jax.eval_shape(network.apply, params, batch, None)
    assert [(name, y.shape[1:]) for name, y in outputs] == [
        ("convolution", (55, 55, 96)),
        ("norm", (55, 55, 96)),
        ("pool", (27, 27, 96)),
        ("convolution", (27, 27, 256)),
        ("norm", (27, 27, 256)),
        ("pool", (13, 13, 256)),
        ("convolution", (13, 13, 384)),
        ("convolution", (13, 13, 384)),
        ("convolution", (13, 13, 256)),
        ("pool", (6, 6, 256)),
        ("dense", (4096,)),
        ("dropout", (4096,)),
        ("dense", (4096,)),
        ("dropout", (4096,)),
        ("dense", (1000,)),
    ]
    assert logits.shape == (2, 1000)


def counted(network):
    """Numbers of weights and biases, without allocating them."""
    params = jax.eval_shape(network.initialize, jax.random.key(0))
    assert tuple(params) == NAMES
    return tuple(
        sum(math.prod(layer[kind].shape) for layer in params.values())
        for kind in ("kernel", "bias")
    )


def test_alexnet_has_60_965_224_parameters():
    weights, biases = counted(alexnet(image_size=224, num_classes=1000))
    assert weights == 60_954_656
    assert biases == 10_568
    assert weights + biases == 60_965_224


def test_one_tower_joins_what_two_keep_apart():
    """All 96, 384 and 384 maps feed conv2, conv4 and conv5: twice their weights."""
    network = alexnet(image_size=224, num_classes=1000, towers=1)
    assert sum(counted(network)) == 62_378_344


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1", (11, 11, 3, 96)),
        ("conv2", (5, 5, 48, 256)),
        ("conv3", (3, 3, 256, 384)),
        ("conv4", (3, 3, 192, 384)),
        ("conv5", (3, 3, 192, 256)),
        ("fc6", (9216, 4096)),
        ("fc7", (4096, 4096)),
        ("fc8", (4096, 1000)),
    ],
)
def test_kernels_have_the_papers_shapes(name, shape):
    network = alexnet(image_size=224, num_classes=1000)
    params = jax.eval_shape(network.initialize, jax.random.key(0))
    assert params[name]["kernel"].shape == shape
    assert params[name]["bias"].shape == shape[-1:]


def test_width_multiplies_every_layers_channels(params):
    channels = [params[name]["bias"].shape[0] for name in NAMES]
    assert channels == [12, 32, 48, 48, 32, 512, 512, 10]


@pytest.mark.parametrize("width", [0.001, 0.01, 0.3, 1.7])
def test_every_width_gives_both_towers_the_same_whole_number_of_channels(width):
    network = alexnet(image_size=64, num_classes=10, width=width)
    params = jax.eval_shape(network.initialize, jax.random.key(0))
    channels = [params[name]["bias"].shape[0] for name in NAMES[:-1]]
    assert all(number % 2 == 0 and number > 0 for number in channels)
    batch = jax.ShapeDtypeStruct((3, 64, 64, 3), jnp.float32)
    assert jax.eval_shape(network.apply, params, batch, None).shape == (3, 10)


def test_too_small_an_image_is_refused_with_the_layers_name():
    with pytest.raises(
        UserError, match=r"^conv1 leaves no pixel: .*\(7 \+ 0 \+ 3 - 11"
    ):
        alexnet(image_size=7, num_classes=10)


# --- First weights (section 5) ----------------------------------------------------


def test_biases_start_at_one_in_layers_two_four_five_and_the_hidden_dense(params):
    for name, bias in zip(NAMES, BIASES, strict=True):
        assert (params[name]["bias"] == bias).all(), name


@pytest.mark.parametrize(("layer", "name"), list(enumerate(NAMES)))
def test_weights_start_with_their_layers_deviation(params, layer, name):
    """The kept sum: 1/sqrt(width) of the paper's, but in the first layer."""
    kernel = np.asarray(params[name]["kernel"], np.float64)
    deviation = DEVIATIONS[layer] * (1 if layer == 0 else 0.125**-0.5)
    # Four deviations of the estimates' own.
    tolerance = 4 / math.sqrt(2 * kernel.size)
    assert kernel.std() == pytest.approx(deviation, rel=tolerance)
    assert abs(kernel.mean()) < 4 * deviation / math.sqrt(kernel.size)


def test_no_two_layers_start_with_the_same_draws(params):
    kernels = [params[name]["kernel"] for name in NAMES]
    firsts = [kernel.ravel()[:3] / kernel.std() for kernel in kernels]
    for one, other in itertools.combinations(firsts, 2):
        assert jnp.abs(one - other).max() > 0.1


def test_one_tower_and_two_start_alike_where_their_shapes_agree(params):
    """Trials of one seed are paired: the other layers' draws do not move."""
    one = narrow(towers=1).initialize(jax.random.key(0))
    for name in NAMES:
        if name in ("conv2", "conv4", "conv5"):
            assert one[name]["kernel"].shape != params[name]["kernel"].shape
        else:
            jax.tree.map(np.testing.assert_array_equal, one[name], params[name])


# --- What it computes -------------------------------------------------------------


def test_conv1_reads_three_rows_of_zeros_at_the_bottom_and_right(params):
    """As the 2012 code: 224 so padded is 227 without padding."""
    image = 70 * jax.random.normal(jax.random.key(2), (1, 224, 224, 3))
    network = alexnet(image_size=224, num_classes=10, width=0.125)
    shapes = jax.eval_shape(network.initialize, jax.random.key(0))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    with recorded() as outputs:
        network.apply(zeros | {"conv1": params["conv1"]}, image, None)
    wider = jnp.zeros((1, 227, 227, 3)).at[:, :224, :224].set(image)
    expected = lax.conv_general_dilated(
        wider,
        params["conv1"]["kernel"],
        window_strides=(4, 4),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert expected.shape == (1, 55, 55, 12)
    np.testing.assert_allclose(outputs[0][1], expected, rtol=1e-4, atol=1e-4)


def test_logits_are_those_of_the_layers_one_after_the_other(params, images):
    """Section 3.5 in one column: grouped convolutions and nothing of `layers`."""
    x = images
    for name, stride, padding, groups in (
        ("conv1", 4, (0, 3), 1),
        ("conv2", 1, (2, 2), 2),
        ("conv3", 1, (1, 1), 1),
        ("conv4", 1, (1, 1), 2),
        ("conv5", 1, (1, 1), 2),
    ):
        x = lax.conv_general_dilated(
            x,
            params[name]["kernel"],
            window_strides=(stride, stride),
            padding=(padding, padding),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        x = jnp.maximum(x + params[name]["bias"], 0)
        if name in ("conv1", "conv2"):
            x = normalized(x)
        if name in ("conv1", "conv2", "conv5"):
            x = lax.reduce_window(
                x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID"
            )
    assert x.shape == (2, 1, 1, 32)
    x = x.reshape(2, -1)
    for name in ("fc6", "fc7"):
        dense = x @ params[name]["kernel"] + params[name]["bias"]
        x = 0.5 * jnp.maximum(dense, 0)
    expected = x @ params["fc8"]["kernel"] + params["fc8"]["bias"]
    logits = narrow().apply(params, images, None)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert jnp.abs(logits[0] - logits[1]).max() > 1e-4  # it tells images apart


def normalized(x):
    """Section 3.3 over each tower: the two channels before and behind, zeros beyond."""
    towers = []
    for tower in jnp.split(x, 2, axis=-1):
        squares = jnp.pad(tower**2, ((0, 0),) * 3 + ((2, 2),))
        channels = tower.shape[-1]
        energy = sum(squares[..., i : i + channels] for i in range(5))
        towers.append(tower / (2 + 1e-4 * energy) ** 0.75)
    return jnp.concatenate(towers, axis=-1)


def test_the_towers_meet_in_conv3_and_not_before(params, images):
    """Tower b of pool1 leaves tower a of conv2 alone, and changes all of conv3."""

    def without_tower_b(number, name, y):
        return y.at[..., y.shape[-1] // 2 :].set(0.0) if number == 2 else y

    with recorded() as before:
        narrow().apply(params, images, None)
    with recorded(without_tower_b) as after:
        narrow().apply(params, images, None)
    assert [name for name, _ in before[:7]] == [
        *("convolution", "norm", "pool"),
        *("convolution", "norm", "pool"),
        "convolution",
    ]
    for place in (3, 4, 5):  # conv2, its norm, pool2
        (_, one), (_, other) = before[place], after[place]
        half = one.shape[-1] // 2
        assert (one[..., :half] == other[..., :half]).all()
        assert (one[..., half:] != other[..., half:]).any()
    (_, one), (_, other) = before[6], after[6]  # conv3
    assert (one != other).any(axis=(0, 1, 2)).all()


def test_conv4_and_conv5_keep_the_towers_apart(params, images):
    def without_tower_b(number, name, y):
        return y.at[..., y.shape[-1] // 2 :].set(0.0) if number == 6 else y

    with recorded() as before:
        narrow().apply(params, images, None)
    with recorded(without_tower_b) as after:
        narrow().apply(params, images, None)
    for place in (7, 8, 9):  # conv4, conv5, pool5
        (_, one), (_, other) = before[place], after[place]
        half = one.shape[-1] // 2
        assert (one[..., :half] == other[..., :half]).all()
        assert (one[..., half:] != other[..., half:]).any()
    assert (before[10][1] != after[10][1]).all()  # fc6 reads both


def test_max_pool_before_relu_gives_the_same(params, images):
    """As the 2012 code's order, which is faster; without a norm between them."""
    network = narrow(normalization="none")
    with recorded() as outputs:
        network.apply(params, images, None)
    (_, conv1), (_, pool1) = outputs[0], outputs[1]
    other = jax.nn.relu(layers.max_pool(conv1, window=3, stride=2))
    assert (pool1 == other).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "tanh"},
        {"normalization": "none"},
        {"norm_alpha": 1e-3},
        {"norm_depth": 3},
        {"dropout_rate": 0.25},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_choice_changes_the_logits(params, images, changes):
    plain = narrow().apply(params, images, None)
    changed = narrow(**changes).apply(params, images, None)
    assert changed.shape == plain.shape
    assert np.isfinite(changed).all()
    assert (changed != plain).all()


def test_dropout_is_behind_both_hidden_dense_layers(params, images):
    keys = jax.random.split(jax.random.key(3), 2)
    with recorded() as outputs:
        narrow().apply(params, images, keys)
    assert [name for name, _ in outputs[-5:]] == [
        *("dense", "dropout", "dense", "dropout", "dense")
    ]
    alive, kept = [], []
    for place in (-4, -2):
        dense, dropped = outputs[place - 1][1], outputs[place][1]
        alive.append(np.asarray(dense > 0))
        kept.append(np.asarray(dropped > 0))
        np.testing.assert_array_equal(dropped, np.where(kept[-1], dense, 0))
        # About a thousand units: by their bias of 1, most are above zero.
        assert kept[-1][alive[-1]].mean() == pytest.approx(0.5, abs=0.07)
    agreeing = (kept[0] == kept[1])[alive[0] & alive[1]]
    assert agreeing.mean() == pytest.approx(0.5, abs=0.07)  # masks of their own
