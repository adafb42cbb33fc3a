"""Whether a start that will not move is seen, its cause named, and a good one let be."""

import math

import jax
import numpy as np
import pytest

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.model.network import build
from alexnet_jax.training import diagnosis
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.preprocess import InputForm

COUNT, SIZE = 8, 96
LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]


def photographs(side, seed=0):
    """Noise with the spectrum of photographs, 1/f, and their colours' common part."""
    draws = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(side)] * 2))
    frequency[0, 0] = 1 / side
    grey = draws.standard_normal((COUNT, 1, side, side))
    colours = 0.3 * draws.standard_normal((COUNT, 3, side, side))
    x = np.fft.ifft2(np.fft.fft2(grey + colours) / frequency).real
    x = 118 + 65 * x / x.std()
    return np.clip(x, 0, 255).transpose(0, 2, 3, 1).astype(np.uint8)


def make_batch(images):
    count = len(images)
    return {
        "image": images,
        "label": np.zeros(count, np.int32),
        "offset": np.zeros((count, 2), np.int32),
        "mirrored": np.zeros(count, np.int32),
        "lighting": np.zeros((count, 3), np.float32),
        "gain": np.ones(count, np.float32),
        "example": np.arange(count, dtype=np.int32),
        "epoch": np.zeros(count, np.int32),
    }


def recipe(name, **changes):
    """A recipe's configuration with an eighth of its width, for small images."""
    config = base()
    config.recipe = name
    config.model.width = 0.125
    config.data.crop_size = SIZE
    for field, value in changes.items():
        section, _, last = field.partition("__")
        config[section][last] = value
    return resolve(config, {}).settings


def four_layer(**changes):
    config = base(network="four_layer")
    config.data.crop_size = 16
    config.model.width = 0.25
    config.model.weight_stds = (0.01, 0.05, 0.05, 0.05)
    for field, value in changes.items():
        config.model[field] = value
    return config


@pytest.fixture(scope="module")
def devices():
    return Devices()


def diagnosed(config, devices, images, seed=0):
    """The row of the diagnosis of the initial weights."""
    size = config.data.crop_size
    network = build(config.model, image_size=size, num_classes=10)
    form = InputForm.of(config.data)
    mean = form.mean_of(np.full((size, size, 3), 118.0), np.full(3, 118.0))
    measured = diagnosis.make_diagnose(network.outputs, form)(
        devices.place_state(network.initialize(jax.random.key(seed))),
        make_batch(images),
        devices.place_state(mean),
    )
    return diagnosis.row(measured, config)


# --- What is measured -------------------------------------------------------------


def test_deviations_and_spreads_are_numpys_of_the_outputs(devices):
    """Of all of a layer's outputs; and between images, averaged over the units."""
    config = four_layer(dropout_rate=0.5)
    images = photographs(16)
    row = diagnosed(config, devices, images)
    network = build(config.model, image_size=16, num_classes=10)
    x = images - np.float32(118)
    params = network.initialize(jax.random.key(0))
    outputs = {
        name: np.asarray(y, np.float64)
        for name, y in network.outputs(params, jax.numpy.asarray(x), None).items()
    }
    assert row["input_std"] == pytest.approx(x.std(), rel=1e-5)
    assert list(row["layers"]) == list(outputs) == ["conv1", "conv2", "conv3", "fc4"]
    for name, y in outputs.items():
        layer = row["layers"][name]
        assert set(layer) == {"std", "spread", "dead"}
        assert layer["std"] == pytest.approx(y.std(), rel=1e-4)
        spreads = [
            np.std([image[unit] for image in y]) for unit in np.ndindex(y.shape[1:])
        ]
        assert layer["spread"] == pytest.approx(np.mean(spreads), rel=1e-4)
        dead = [
            all((y[..., channel] == y[:1, ..., channel]).ravel())
            for channel in range(y.shape[-1])
        ]
        assert layer["dead"] == pytest.approx(np.mean(dead))
    assert row["logit_spread"] == row["layers"]["fc4"]["spread"]
    assert row["images"] == COUNT


def test_a_channel_is_dead_where_it_gives_all_images_the_same_at_each_place():
    """Places may differ from one another; a dense unit has one place."""
    y = np.zeros((3, 2, 2, 4), np.float32)
    y[:, 0, 0, 1] = 7  # the same of every image
    y[1, 1, 0, 2] = 1e-6  # differs at one place
    y[..., 3] = np.arange(3).reshape(3, 1, 1)
    assert float(diagnosis._dead(jax.numpy.asarray(y))) == 0.5
    dense = np.array([[1, 2, 0, 4], [1, 3, 0, 4]], np.float32)
    assert float(diagnosis._dead(jax.numpy.asarray(dense))) == 0.75


def test_a_large_batch_is_judged_by_its_first_images(devices):
    config = four_layer()
    images = np.concatenate([photographs(16, seed) for seed in range(9)])
    of_all = diagnosed(config, devices, images)
    assert of_all["images"] == diagnosis.MOST_IMAGES == 64
    of_first = diagnosed(config, devices, images[:64])
    assert of_all == of_first
    assert of_all != diagnosed(config, devices, images[8:])


# --- What is said -----------------------------------------------------------------


@pytest.mark.slow
def test_inputs_of_deviation_one_under_the_papers_first_weights_are_the_cause(devices):
    """The commonest fault: divided by 74 gray levels, and weights of 0.01."""
    config = recipe("paper", data__channel_scale=(74.0, 73.0, 76.0))
    row = diagnosed(config, devices, photographs(SIZE))
    assert 0.5 < row["input_std"] < 1.5
    assert row["logit_spread"] < 0.0001
    for part in (
        f"{row['logit_spread']:.2g}",
        "0.0003",
        f"the input has a standard deviation of {row['input_std']:.2g}",
        "--config.data.channel_scale=1,1,1",
        "--config.model.weight_stds",
    ):
        assert part in row["warning"]


@pytest.mark.slow
def test_source2012_starts_well_on_the_same_images(devices):
    row = diagnosed(recipe("source2012"), devices, photographs(SIZE))
    assert list(row["layers"]) == LAYERS
    assert row["input_std"] > 50
    assert row["logit_spread"] > 0.003
    assert row["warning"] is None


@pytest.mark.slow
def test_a_layer_whose_units_are_dead_is_named(devices):
    """At a bias that no input reaches; what follows is dead because of it."""
    config = four_layer(biases=(0.0, -1e9, 0.0, 0.0))
    row = diagnosed(config, devices, photographs(16))
    assert [layer["dead"] for layer in row["layers"].values()] == [0, 1, 1, 1]
    assert row["logit_spread"] == 0
    for part in ("100% of conv2", "config.model.biases", "config.model.weight_stds"):
        assert part in row["warning"]


@pytest.mark.slow
def test_first_weights_that_are_too_small_are_named(devices):
    config = four_layer(weight_stds=(0.01, 0.001, 0.001, 0.001))
    row = diagnosed(config, devices, photographs(16))
    assert 0 < row["logit_spread"] < 0.00001
    assert "(0.01, 0.001, 0.001, 0.001), are too small" in row["warning"]
    assert "config.model.weight_stds" in row["warning"]


def measured(*, images=8, input_std=60.0, spread=1e-9, **dead):
    layers = {
        name: {"std": 1.0, "spread": spread, "dead": dead.get(name, 0.0)}
        for name in LAYERS
    }
    return {
        "input_std": input_std,
        "layers": layers,
        "images": images,
        "logit_spread": spread,
    }


def warning(name="source2012", **numbers):
    return diagnosis.row(measured(**numbers), recipe(name))["warning"]


def test_a_row_says_what_was_measured_before_the_first_step():
    row = diagnosis.row(measured(), recipe("source2012"))
    facts = {"kind": "diagnosis", "step": 0, "epoch": 0.0, "warning": row["warning"]}
    assert row == measured() | facts


@pytest.mark.parametrize("spread", [0.0003, 0.1])
def test_logits_that_differ_enough_are_not_warned_of(spread):
    """Whatever else is odd."""
    assert warning(spread=spread, input_std=0.1, conv3=1.0) is None
    assert warning(spread=0.00029) is not None


def test_the_bound_is_the_configurations():
    config = recipe("source2012", training__warn_below_spread=0.0)
    assert diagnosis.row(measured(), config)["warning"] is None
    config = recipe("source2012", training__warn_below_spread=0.5)
    assert "0.5" in diagnosis.row(measured(spread=0.4), config)["warning"]


def test_one_image_alone_says_nothing():
    assert warning(images=1, spread=0.0) is None
    assert warning(images=2, spread=0.0) is not None


def test_a_spread_that_is_not_a_number_is_warned_of():
    assert "nan" in warning(spread=math.nan)


def test_numbers_that_json_has_not_are_null():
    """An overflow of the initial weights: training will tell."""
    row = diagnosis.row(measured(spread=math.inf), recipe("source2012"))
    assert row["warning"] is None
    assert row["logit_spread"] is row["layers"]["fc6"]["spread"] is None
    assert row["layers"]["fc6"]["std"] == 1


def test_the_inputs_deviation_is_blamed_before_dead_units_and_those_before_weights():
    assert "the input has a standard deviation of 1," in warning(
        input_std=1.0, conv4=0.9
    )
    assert "90% of conv4 are dead" in warning(conv4=0.9, fc6=1.0)
    assert "the initial weights" in warning(conv4=0.5)


def test_first_weights_scaled_to_their_inputs_are_not_blamed_for_the_inputs():
    """Nor are fields named that have no effect on them."""
    small = warning("torchvision", input_std=1.0)
    dead = warning("torchvision", input_std=1.0, fc6=0.8)
    assert "the initial weights are too small (config.model.initialization)" in small
    assert "80% of fc6 are dead" in dead
    for text in (small, dead):
        assert "weight_stds" not in text
        assert "config.model.biases" not in text
        assert "channel_scale" not in text


# --- The loss of the first steps --------------------------------------------------

UNMOVED = math.log(10)


def warned(losses, *, every=100, after=300, num_classes=10):
    """Numbers of the steps whose rows are warned of."""
    config = recipe("source2012", training__warn_after_steps=after)
    monitor = diagnosis.StartMonitor(config, num_classes=num_classes)
    found = []
    for number, loss in enumerate(losses, start=1):
        row = {"step": number * every, "loss": loss, "learning_rate": 0.01}
        checked = monitor.checked(row)
        assert {name: checked[name] for name in row} == row
        if "warning" in checked:
            found.append(row["step"])
        else:
            assert checked == row
    return found


def test_a_loss_that_has_not_fallen_is_warned_of_once():
    assert warned([UNMOVED] * 6) == [300]
    assert warned([UNMOVED] * 6, every=160) == [320]
    assert warned([UNMOVED] * 6, after=1) == [100]
    assert warned([UNMOVED] * 2) == []
    assert warned([9.0] * 6) == [300]


def test_a_loss_that_has_fallen_is_not_warned_of_even_if_it_rises_again():
    assert warned([UNMOVED, 0.9 * UNMOVED, UNMOVED, UNMOVED]) == []
    assert warned([UNMOVED, UNMOVED, 0.9 * UNMOVED, UNMOVED]) == []


def test_a_warning_given_is_not_repeated_after_the_loss_has_fallen_and_risen():
    assert warned([UNMOVED] * 3 + [0.1, UNMOVED, UNMOVED]) == [300]


def test_counting_the_classes_is_not_learning():
    """Slightly below ln(classes) a network gets by their frequencies alone."""
    assert warned([0.995 * UNMOVED] * 4) == [300]
    assert warned([0.985 * UNMOVED] * 4) == []
    assert warned([0.985 * UNMOVED] * 4, num_classes=9) == [300]


def test_one_class_has_nothing_to_learn():
    assert warned([0.0] * 6, num_classes=1) == []


def test_a_diverged_row_is_not_warned_of():
    assert warned([UNMOVED, UNMOVED, None]) == []


def test_the_warning_says_the_step_the_loss_and_the_learning_rate():
    config = recipe("source2012", training__warn_after_steps=300)
    monitor = diagnosis.StartMonitor(config, num_classes=1000)
    row = {"step": 320, "loss": 6.90775, "learning_rate": 0.01}
    text = monitor.checked(row)["warning"]
    for part in ("320 steps", "6.908", "6.839"):
        assert part in text
    assert "config.optimizer.learning_rate=0.01 " in text


# --- At full size -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes", "fires"),
    [
        ("source2012", {}, False),
        ("torchvision", {}, False),
        ("paper", {}, False),
        ("paper", {"channel_scale": (74.0, 73.0, 76.0)}, True),
    ],
)
def test_the_bound_lies_between_the_recipes_and_the_fault(name, changes, fires):
    """On 224 x 224 pixels, of width 1, for 1000 classes: 0.0003."""
    config = base()
    config.recipe = name
    for field, value in changes.items():
        config.data[field] = value
    config = resolve(config, {}).settings
    network = build(config.model, image_size=224, num_classes=1000)
    form = InputForm.of(config.data)
    mean = form.mean_of(np.full((256, 256, 3), 118.0), np.full(3, 118.0))
    batch = make_batch(photographs(224))
    params = network.initialize(jax.random.key(0))
    measured = diagnosis.make_diagnose(network.outputs, form)(
        params, batch, jax.device_put(mean)
    )
    assert (diagnosis.row(measured, config)["warning"] is not None) == fires
    assert (measured["logit_spread"] < config.training.warn_below_spread) == fires
