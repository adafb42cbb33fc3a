"""AlexNet's shapes, parameters, initial weights and wiring (section 3.5, Figure 2)."""

import contextlib
import itertools
import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from ml_collections import ConfigDict

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.errors import UserError
from alexnet_jax.model import layers
from alexnet_jax.model.network import build

NAMES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
RECIPES = ("paper", "source2012", "caffe", "torchvision")

WIDE = (96, 256, 384, 384, 256, 0, 4096, 4096)
ONE_GPU = (48, 128, 192, 192, 256, 0, 4096, 4096)


def of_recipe(recipe):
    config = base()
    config.recipe = recipe
    return resolve(config, {}).settings


def alexnet(*, recipe="paper", image_size, num_classes, **changes):
    model = of_recipe(recipe).model.to_dict() | changes
    return build(ConfigDict(model), image_size=image_size, num_classes=num_classes)


def small(**changes):
    return alexnet(image_size=64, num_classes=10, width=0.125, **changes)


@pytest.fixture(scope="module")
def params():
    return small().initialize(jax.random.key(0))


@pytest.fixture(scope="module")
def images():
    """Two images of mean 0 on the scale of 0..255."""
    return 70 * jax.random.normal(jax.random.key(1), (2, 64, 64, 3))


@contextlib.contextmanager
def recorded(change=lambda number, name, y: y):
    """Lists (layer, output) of the forward passes of networks that are built inside.

    `change` maps the number, name and output of a layer to the output that is passed on.
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
            (layers, "max_pool", "pool"),
            (layers, "dropout", "dropout"),
            (layers, "local_response_norm", "norm"),
            (layers, "within_channel_norm", "within-channel norm"),
            (layers, "activation_function", "activation"),
        ):
            original = getattr(owner, attribute)
            wrapped = recording(name, original)
            if name == "activation":  # It returns the function.

                def wrapped(given, original=original, name=name):
                    return recording(name, original(given))

            stack.enter_context(mock.patch.object(owner, attribute, wrapped))
        yield outputs


# --- Sizes ------------------------------------------------------------------------


def test_layers_follow_one_another_in_the_papers_sizes():
    batch = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    with recorded() as outputs:
        network = alexnet(image_size=224, num_classes=1000)
        params = jax.eval_shape(network.initialize, jax.random.key(0))
        logits = jax.eval_shape(network.apply, params, batch, None)
    kinds = [(name, y.shape[1:]) for name, y in outputs if name != "activation"]
    assert kinds == [
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


def test_in_the_2012_code_layer_1_normalizes_before_relu_and_layer_2_twice():
    batch = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    with recorded() as outputs:
        network = alexnet(recipe="source2012", image_size=224, num_classes=1000)
        params = jax.eval_shape(network.initialize, jax.random.key(0))
        jax.eval_shape(network.apply, params, batch, None)
    assert [(name, y.shape[1:]) for name, y in outputs[:10]] == [
        ("convolution", (55, 55, 96)),
        ("norm", (55, 55, 96)),
        ("pool", (27, 27, 96)),
        ("activation", (27, 27, 96)),
        ("convolution", (27, 27, 256)),
        ("activation", (27, 27, 256)),
        ("norm", (27, 27, 256)),
        ("within-channel norm", (27, 27, 256)),
        ("pool", (13, 13, 256)),
        ("convolution", (13, 13, 384)),
    ]


def test_torchvision_drops_before_fc6_and_fc7_and_normalizes_nothing():
    batch = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    with recorded() as outputs:
        network = alexnet(recipe="torchvision", image_size=224, num_classes=1000)
        params = jax.eval_shape(network.initialize, jax.random.key(0))
        jax.eval_shape(network.apply, params, batch, None)
    kinds = [(name, y.shape[1:]) for name, y in outputs if name != "activation"]
    assert kinds == [
        ("convolution", (55, 55, 64)),
        ("pool", (27, 27, 64)),
        ("convolution", (27, 27, 192)),
        ("pool", (13, 13, 192)),
        ("convolution", (13, 13, 384)),
        ("convolution", (13, 13, 256)),
        ("convolution", (13, 13, 256)),
        ("pool", (6, 6, 256)),
        ("dropout", (9216,)),
        ("dense", (4096,)),
        ("dropout", (4096,)),
        ("dense", (4096,)),
        ("dense", (1000,)),
    ]


def counted(network, names=NAMES):
    """Numbers of weights and biases, without allocating them."""
    params = jax.eval_shape(network.initialize, jax.random.key(0))
    assert tuple(params) == names
    return tuple(
        sum(math.prod(layer[kind].shape) for layer in params.values())
        for kind in ("kernel", "bias")
    )


@pytest.mark.parametrize("recipe", ["paper", "source2012", "caffe"])
def test_recipes_of_the_paper_have_its_weights_and_biases(recipe):
    size = of_recipe(recipe).data.crop_size
    network = alexnet(recipe=recipe, image_size=size, num_classes=1000)
    assert counted(network) == (60_954_656, 10_568)


@pytest.mark.parametrize(
    ("parameters", "recipe", "changes"),
    [
        (61_100_840, "torchvision", {}),
        # All 96, 384 and 384 maps feed conv2, conv4 and conv5: twice their weights.
        (62_378_344, "paper", {"towers": 1}),
        (59_798_312, "source2012", {"towers": 1, "channels": ONE_GPU}),
    ],
)
def test_parameters_of_the_other_networks(parameters, recipe, changes):
    network = alexnet(recipe=recipe, image_size=224, num_classes=1000, **changes)
    assert sum(counted(network)) == parameters


def test_six_convolutions_have_61_555_304_parameters():
    six = (*WIDE[:5], 256, *WIDE[6:])
    network = alexnet(
        recipe="source2012", image_size=224, num_classes=1000, channels=six
    )
    assert sum(counted(network, (*NAMES[:5], "conv6", *NAMES[5:]))) == 61_555_304


@pytest.mark.slow
@pytest.mark.parametrize("left_out", [1, 4, 6])
def test_any_layer_between_the_first_and_the_last_can_be_left_out(left_out):
    channels = tuple(0 if i == left_out else count for i, count in enumerate(WIDE))
    network = small(recipe="source2012", channels=channels)
    params = network.initialize(jax.random.key(0))
    names = (*NAMES[:5], "conv6", *NAMES[5:])
    assert tuple(params) == tuple(
        name for i, name in enumerate(names) if i not in (5, left_out)
    )
    whole = small(recipe="source2012").initialize(jax.random.key(0))
    reader = {1: "conv3", 2: "conv4", 3: "conv5", 4: "fc6", 6: "fc7", 7: "fc8"}
    for name, layer in params.items():
        if name != reader[left_out]:  # It may read more or fewer channels.
            jax.tree.map(np.testing.assert_array_equal, layer, whole[name])
    logits = network.apply(params, 70 * jnp.ones((1, 64, 64, 3)), None)
    assert jnp.isfinite(logits).all()


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
        UserError, match=r"^conv1 leaves no pixel: .*\(7 \+ 0 \+ 3 - 11\) / 4 \+ 1 < 1"
    ):
        alexnet(recipe="source2012", image_size=7, num_classes=10)
    with pytest.raises(UserError, match=r"^conv1 .*\(10 \+ 0 \+ 0 - 11\) / 4 \+ 1 < 1"):
        alexnet(recipe="caffe", image_size=10, num_classes=10)


def test_a_pool_left_without_pixels_is_refused_with_its_name():
    """27 pixels give 6, and these 2 and then none; rounded up, 3, 1 and none."""
    with pytest.raises(
        UserError, match=r"^pool2 .* 2 pixels a side and \(2 - 3\) / 2 \+ 1 < 1"
    ):
        alexnet(recipe="torchvision", image_size=27, num_classes=10)
    with pytest.raises(
        UserError, match=r"^pool5 .* 1 pixels a side and \(1 - 3\) / 2 \+ 1 < 1"
    ):
        alexnet(recipe="source2012", image_size=27, num_classes=10)
    alexnet(recipe="source2012", image_size=40, num_classes=10)


# --- Initial weights (section 5) --------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "stds", "biases"),
    [
        ("paper", (0.01,) * 8, (0, 1, 0, 1, 1, 1, 1, 0)),
        (
            "source2012",
            (0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01),
            (0, 1, 0, 1, 1, 1, 1, 0),
        ),
        (
            "caffe",
            (0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01),
            (0, 0.1, 0, 0.1, 0.1, 0.1, 0.1, 0),
        ),
    ],
)
def test_weights_and_biases_start_as_their_recipe_says(recipe, stds, biases):
    """After the first layer the paper's over sqrt(width), which preserves the sums."""
    params = small(recipe=recipe).initialize(jax.random.key(0))
    for name, bias in zip(NAMES, biases, strict=True):
        assert (params[name]["bias"] == jnp.float32(bias)).all(), name
    for layer, name in enumerate(NAMES):
        kernel = np.asarray(params[name]["kernel"], np.float64)
        std = stds[layer] * (1 if layer == 0 else 0.125**-0.5)
        # Four standard deviations of the estimates themselves.
        tolerance = 4 / math.sqrt(2 * kernel.size)
        assert kernel.std() == pytest.approx(std, rel=tolerance), name
        assert abs(kernel.mean()) < 4 * std / math.sqrt(kernel.size), name


@pytest.mark.slow
def test_torchvision_starts_uniform_to_one_over_the_root_of_the_inputs():
    params = small(recipe="torchvision").initialize(jax.random.key(0))
    for name in NAMES:
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        bound = 1 / math.sqrt(math.prod(kernel.shape[:-1]))
        for values in (kernel, bias):
            assert jnp.abs(values).max() <= bound, name
        assert jnp.abs(kernel).max() > 0.99 * bound, name
        assert kernel.std() == pytest.approx(bound / math.sqrt(3), rel=0.05), name
        assert jnp.unique(bias).size == bias.size, name
        corner = kernel.ravel()[: bias.size]
        assert jnp.abs(corner - bias).max() > 0.1 * bound, name  # Not the same draws.


def test_no_two_layers_start_with_the_same_draws(params):
    kernels = [params[name]["kernel"] for name in NAMES]
    firsts = [kernel.ravel()[:3] / kernel.std() for kernel in kernels]
    for one, other in itertools.combinations(firsts, 2):
        assert jnp.abs(one - other).max() > 0.1


def test_one_tower_and_two_start_alike_where_their_shapes_agree(params):
    """Trials of one seed are paired: the other layers' draws do not move."""
    one = small(towers=1).initialize(jax.random.key(0))
    for name in NAMES:
        if name in ("conv2", "conv4", "conv5"):
            assert one[name]["kernel"].shape != params[name]["kernel"].shape
        else:
            jax.tree.map(np.testing.assert_array_equal, one[name], params[name])


# --- Outputs ----------------------------------------------------------------------


@pytest.mark.slow
def test_conv1_reads_three_rows_of_zeros_at_the_bottom_and_right(params):
    """As in the 2012 code: 224 pixels so padded are 227 without padding."""
    image = 70 * jax.random.normal(jax.random.key(2), (1, 224, 224, 3))
    with recorded() as outputs:
        network = alexnet(
            recipe="source2012", image_size=224, num_classes=10, width=0.125
        )
        shapes = jax.eval_shape(network.initialize, jax.random.key(0))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
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


@pytest.mark.slow
def test_logits_are_those_of_the_layers_one_after_the_other(params, images):
    """Section 3.5 written out with grouped convolutions and without `layers`."""
    x = images
    for name, stride, padding, groups in (
        ("conv1", 4, (2, 2), 1),
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
        x = jnp.maximum(x + params[name]["bias"][None, None, None], 0)
        if name in ("conv1", "conv2"):
            x = normalized(x)
        if name in ("conv1", "conv2", "conv5"):
            x = lax.reduce_window(
                x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID"
            )
    assert x.shape == (2, 1, 1, 32)
    x = x.reshape(2, -1)
    for name in ("fc6", "fc7"):
        dense = x @ params[name]["kernel"] + params[name]["bias"][None]
        x = 0.5 * jnp.maximum(dense, 0)
    expected = x @ params["fc8"]["kernel"] + params["fc8"]["bias"][None]
    logits = small().apply(params, images, None)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert jnp.abs(logits[0] - logits[1]).max() > 1e-4  # It distinguishes images.


def normalized(x):
    """Section 3.3: two channels before and two after, zeros beyond the layer."""
    squares = jnp.pad(x**2, ((0, 0),) * 3 + ((2, 2),))
    energy = sum(squares[..., i : i + x.shape[-1]] for i in range(5))
    return x / (2 + 1e-4 * energy) ** 0.75


@pytest.mark.parametrize(
    "recipe", ["paper", "source2012", pytest.param("caffe", marks=pytest.mark.slow)]
)
def test_conv3_reads_both_towers_and_conv2_its_own(recipe, images):
    """Tower b of pool1 does not affect tower a of conv2, and affects all of conv3."""
    params = small(recipe=recipe).initialize(jax.random.key(0))
    seen = []

    def without_tower_b(number, name, y):
        last_of_layer_1 = recipe == "source2012" and name == "activation"
        if not seen and (
            last_of_layer_1 or (name == "pool" and recipe != "source2012")
        ):
            seen.append(number)
            return y.at[..., y.shape[-1] // 2 :].set(0.0)
        return y

    with recorded() as before:
        small(recipe=recipe).apply(params, images, None)
    with recorded(without_tower_b) as after:
        small(recipe=recipe).apply(params, images, None)
    names = [name for name, _ in before]
    _, conv2, conv3, *_ = [
        place for place, name in enumerate(names) if name == "convolution"
    ]
    assert seen == [conv2 - 1]
    one, other = before[conv2][1], after[conv2][1]
    half = one.shape[-1] // 2
    assert (one[..., :half] == other[..., :half]).all()
    assert (one[..., half:] != other[..., half:]).any()
    one, other = before[conv3][1], after[conv3][1]
    assert (one != other).any(axis=(0, 1, 2)).all()


def test_a_norm_across_towers_sums_over_neighbors_in_the_other_tower(images):
    """Then two channels on each side of the border read the other tower."""
    crossing = {}
    for across in (False, True):
        changes = {"recipe": "source2012", "norm_across_towers": across}
        params = small(**changes).initialize(jax.random.key(0))

        def without_tower_b(number, name, y):
            return y.at[..., y.shape[-1] // 2 :].set(0.0) if number == 0 else y

        with recorded() as before:
            small(**changes).apply(params, images, None)
        with recorded(without_tower_b) as after:
            small(**changes).apply(params, images, None)
        assert before[1][0] == "norm"
        differing = (before[1][1] != after[1][1]).any(axis=(0, 1, 2))
        half = differing.size // 2
        crossing[across] = [int(i) for i in np.flatnonzero(differing[:half])]
    assert crossing == {False: [], True: [4, 5]}


def test_conv4_and_conv5_keep_the_towers_apart(params, images):
    def without_tower_b(number, name, y):
        conv3 = name == "convolution" and y.shape[-1] == 48 and not seen
        if conv3:
            seen.append(number)
            return y.at[..., y.shape[-1] // 2 :].set(0.0)
        return y

    seen = [None]  # Nothing is changed.
    with recorded() as before:
        small().apply(params, images, None)
    seen = []
    with recorded(without_tower_b) as after:
        small().apply(params, images, None)
    (conv3,) = seen
    assert [name for name, _ in before[conv3 : conv3 + 8]] == [
        *("convolution", "activation") * 3,
        *("pool", "dense"),
    ]
    for place in range(conv3 + 2, conv3 + 7):  # conv4, conv5, pool5
        (_, one), (_, other) = before[place], after[place]
        half = one.shape[-1] // 2
        assert (one[..., :half] == other[..., :half]).all()
        assert (one[..., half:] != other[..., half:]).any()
    fc6 = conv3 + 7
    assert (before[fc6][1] != after[fc6][1]).all()  # fc6 reads both towers.


def test_max_pool_before_relu_gives_the_same(params, images):
    """The order of the 2012 code, without a norm between the two."""
    plain = small(normalization="none").apply(params, images, None)
    other = small(normalization="none", layer1_order="norm pool activation").apply(
        params, images, None
    )
    assert (plain == other).all()


def test_normalization_before_relu_does_not_give_the_same(params, images):
    """Negative neighbors enter the denominator."""
    changes = {"normalization": "local_response", "norm_alpha": 1e-3}
    plain = small(**changes).outputs(params, images, None)["conv1"]
    other = small(layer1_order="norm pool activation", **changes)
    assert (plain != other.outputs(params, images, None)["conv1"]).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "tanh"},
        {"normalization": "none"},
        {"norm_alpha": 1e-3},
        {"norm_depth": 3},
        {"norm_across_towers": False},
        {"norm_k": 1.0},
        {"norm_beta": 0.5},
        {"within_channel_norm": True},
        {"layer1_order": "norm pool activation"},
        {"layer2_order": "activation pool norm"},
        {"conv1_padding": "after"},
        {"dropout_rate": 0.25},
        {"dropout_form": "inverted"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_choice_changes_the_logits(params, images, changes):
    plain = small().apply(params, images, None)
    changed = small(**changes).apply(params, images, None)
    assert changed.shape == plain.shape
    assert changed.dtype == jnp.float32
    assert np.isfinite(changed).all()
    assert (changed != plain).any(axis=1).all()


@pytest.mark.parametrize("form", ["mask", "inverted"])
def test_dropout_follows_both_hidden_dense_layers(params, images, form):
    keys = jax.random.split(jax.random.key(3), 2)
    with recorded() as outputs:
        small(dropout_form=form).apply(params, images, keys)
    assert [name for name, _ in outputs[-7:]] == [
        *("dense", "activation", "dropout", "dense", "activation", "dropout", "dense")
    ]
    alive, kept = [], []
    for place in (-5, -2):
        dense, dropped = outputs[place - 1][1], outputs[place][1]
        alive.append(np.asarray(dense > 0))
        kept.append(np.asarray(dropped > 0))
        scale = 2 if form == "inverted" else 1
        np.testing.assert_array_equal(dropped, np.where(kept[-1], scale * dense, 0))
        # About a thousand units, most of them above zero because of their bias of 1.
        assert kept[-1][alive[-1]].mean() == pytest.approx(0.5, abs=0.07)
    agreeing = (kept[0] == kept[1])[alive[0] & alive[1]]
    assert agreeing.mean() == pytest.approx(
        0.5, abs=0.07
    )  # Each layer has its own mask.


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_loss_begins_near_ln_1000(recipe):
    """No class is preferred: the loss is between 6.85 and 7.05 for random labels."""
    config = of_recipe(recipe)
    size = config.data.crop_size
    network = alexnet(recipe=recipe, image_size=size, num_classes=1000, width=0.125)
    params = network.initialize(jax.random.key(0))
    noise = np.random.default_rng(1).normal(
        size=(16, size // 16 + 1, size // 16 + 1, 3)
    )
    images = 74 * noise.repeat(16, axis=1).repeat(16, axis=2)[:, :size, :size]
    images = jnp.asarray(images / np.array(config.data.channel_scale), jnp.float32)
    logits = network.apply(params, images, None)
    labels = np.random.default_rng(2).integers(0, 1000, (16, 64))  # 64 an image.
    loss = -np.take_along_axis(jax.nn.log_softmax(logits), labels, axis=1).mean()
    assert 6.85 < loss < 7.05


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_outputs_are_what_each_layer_passes_on(recipe, images):
    network = small(recipe=recipe)
    params = network.initialize(jax.random.key(0))
    outputs = network.outputs(params, images, None)
    assert tuple(outputs) == NAMES
    assert (outputs["fc8"] == network.apply(params, images, None)).all()


@pytest.mark.slow
def test_with_bfloat16_layers_compute_in_it_and_logits_are_float32(params, images):
    network = small(dtype="bfloat16")
    outputs = network.outputs(params, images, None)
    assert all(y.dtype == jnp.bfloat16 for y in list(outputs.values())[:-1])
    assert outputs["fc8"].dtype == jnp.float32
    exact = small().outputs(params, images, None)
    for name, y in outputs.items():
        scale = jnp.abs(exact[name]).max()
        assert jnp.abs(y.astype(jnp.float32) - exact[name]).max() < 0.03 * scale, name
