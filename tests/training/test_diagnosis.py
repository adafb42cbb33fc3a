"""Starts that cannot learn are detected and their cause named; good starts pass."""

import math

import jax
import numpy as np
import pytest

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.model.network import build
from alexnet_jax.training import diagnosis
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.diagnosis import DiagnosisSpec
from alexnet_jax.training.preprocess import InputForm

COUNT, SIZE = 8, 96
LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]


def photographs(side, seed=0):
    """Noise like photographs: a 1/f spectrum and correlated color channels."""
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


def row_of(measured, config):
    return diagnosis.row(measured, DiagnosisSpec.of(config))


def diagnosed(config, devices, images, seed=0):
    """The diagnosis row of the initial weights."""
    size = config.data.crop_size
    network = build(config.model, image_size=size, num_classes=10)
    form = InputForm.of(config.data)
    mean = form.mean_of(np.full((size, size, 3), 118.0), np.full(3, 118.0))
    measured = diagnosis.make_diagnose(network.outputs_of_batch, form)(
        devices.place_copies(network.initialize(jax.random.key(seed))),
        make_batch(images),
        devices.place_copies(mean),
    )
    return row_of(measured, config)


# --- Measurements -----------------------------------------------------------------


def test_stds_and_spreads_match_numpy(devices):
    """std is over all outputs; spread is between images, averaged over units."""
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


def test_a_channel_that_is_constant_across_images_is_dead():
    """Positions may differ from one another; a dense unit has one position."""
    y = np.zeros((3, 2, 2, 4), np.float32)
    y[:, 0, 0, 1] = 7  # the same for every image
    y[1, 1, 0, 2] = 1e-6  # differs at one position
    y[..., 3] = np.arange(3).reshape(3, 1, 1)
    assert float(diagnosis._dead(jax.numpy.asarray(y))) == 0.5
    dense = np.array([[1, 2, 0, 4], [1, 3, 0, 4]], np.float32)
    assert float(diagnosis._dead(jax.numpy.asarray(dense))) == 0.75


def test_only_the_first_images_of_a_large_batch_are_measured(devices):
    config = four_layer()
    images = np.concatenate([photographs(16, seed) for seed in range(9)])
    of_all = diagnosed(config, devices, images)
    assert of_all["images"] == diagnosis.MOST_IMAGES == 64
    of_first = diagnosed(config, devices, images[:64])
    assert of_all == of_first
    assert of_all != diagnosed(config, devices, images[8:])


# --- Messages ---------------------------------------------------------------------


@pytest.mark.slow
def test_the_warning_blames_inputs_of_unit_std(devices):
    """The most common fault: inputs divided by 74 gray levels, weights of std 0.01."""
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
def test_a_layer_with_dead_units_is_named(devices):
    """Its bias is out of reach of any input; later layers are dead as a consequence."""
    config = four_layer(biases=(0.0, -1e9, 0.0, 0.0))
    row = diagnosed(config, devices, photographs(16))
    assert [layer["dead"] for layer in row["layers"].values()] == [0, 1, 1, 1]
    assert row["logit_spread"] == 0
    for part in ("100% of conv2", "config.model.biases", "config.model.weight_stds"):
        assert part in row["warning"]


@pytest.mark.slow
def test_too_small_initial_weights_are_named(devices):
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
    return row_of(measured(**numbers), recipe(name))["warning"]


def test_a_row_holds_the_measurements_before_the_first_step():
    row = row_of(measured(), recipe("source2012"))
    facts = {"kind": "diagnosis", "step": 0, "epoch": 0.0, "warning": row["warning"]}
    assert row == measured() | facts


@pytest.mark.parametrize("spread", [0.0003, 0.1])
def test_sufficient_logit_spread_gives_no_warning(spread):
    """Even if other measurements are unusual."""
    assert warning(spread=spread, input_std=0.1, conv3=1.0) is None
    assert warning(spread=0.00029) is not None


def test_the_threshold_comes_from_the_configuration():
    config = recipe("source2012", training__warn_below_spread=0.0)
    assert row_of(measured(), config)["warning"] is None
    config = recipe("source2012", training__warn_below_spread=0.5)
    assert "0.5" in row_of(measured(spread=0.4), config)["warning"]


def test_a_single_image_gives_no_warning():
    assert warning(images=1, spread=0.0) is None
    assert warning(images=2, spread=0.0) is not None


def test_a_nan_spread_gives_a_warning():
    assert "nan" in warning(spread=math.nan)


def test_non_finite_numbers_become_null():
    """No warning: if the initial weights overflow, training will show it."""
    row = row_of(measured(spread=math.inf), recipe("source2012"))
    assert row["warning"] is None
    assert row["logit_spread"] is row["layers"]["fc6"]["spread"] is None
    assert row["layers"]["fc6"]["std"] == 1


def test_the_input_std_is_blamed_before_dead_units_and_these_before_weights():
    assert "the input has a standard deviation of 1," in warning(
        input_std=1.0, conv4=0.9
    )
    assert "90% of conv4 are dead" in warning(conv4=0.9, fc6=1.0)
    assert "the initial weights" in warning(conv4=0.5)


def test_the_inputs_are_not_blamed_if_weights_scale_with_fan_in():
    """Fields without effect on such weights are not named either."""
    small = warning("torchvision", input_std=1.0)
    dead = warning("torchvision", input_std=1.0, fc6=0.8)
    assert "the initial weights are too small (config.model.initialization)" in small
    assert "80% of fc6 are dead" in dead
    for text in (small, dead):
        assert "weight_stds" not in text
        assert "config.model.biases" not in text
        assert "channel_scale" not in text


# --- Loss of the first steps ------------------------------------------------------

UNMOVED = math.log(10)


def warned(losses, *, every=100, after=300, num_classes=10):
    """Steps whose rows carry a warning."""
    config = recipe("source2012", training__warn_after_steps=after)
    monitor = diagnosis.StartMonitor(DiagnosisSpec.of(config), num_classes=num_classes)
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


def test_a_loss_that_does_not_fall_gives_one_warning():
    assert warned([UNMOVED] * 6) == [300]
    assert warned([UNMOVED] * 6, every=160) == [320]
    assert warned([UNMOVED] * 6, after=1) == [100]
    assert warned([UNMOVED] * 2) == []
    assert warned([9.0] * 6) == [300]


def test_a_loss_that_falls_and_rises_again_gives_no_warning():
    assert warned([UNMOVED, 0.9 * UNMOVED, UNMOVED, UNMOVED]) == []
    assert warned([UNMOVED, UNMOVED, 0.9 * UNMOVED, UNMOVED]) == []


def test_a_warning_is_not_repeated_after_the_loss_falls_and_rises():
    assert warned([UNMOVED] * 3 + [0.1, UNMOVED, UNMOVED]) == [300]


def test_learning_only_class_frequencies_gives_a_warning():
    """Class frequencies alone bring the loss slightly below ln(classes)."""
    assert warned([0.995 * UNMOVED] * 4) == [300]
    assert warned([0.985 * UNMOVED] * 4) == []
    assert warned([0.985 * UNMOVED] * 4, num_classes=9) == [300]


def test_a_single_class_gives_no_warning():
    assert warned([0.0] * 6, num_classes=1) == []


def test_a_diverged_row_gives_no_warning():
    assert warned([UNMOVED, UNMOVED, None]) == []


def test_the_warning_gives_step_loss_and_learning_rate():
    config = recipe("source2012", training__warn_after_steps=300)
    monitor = diagnosis.StartMonitor(DiagnosisSpec.of(config), num_classes=1000)
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
        ("torchvision", {}, False),
        ("paper", {}, False),
        ("paper", {"channel_scale": (74.0, 73.0, 76.0)}, True),
    ],
)
def test_the_threshold_separates_the_recipes_from_the_fault(name, changes, fires):
    """At 224 x 224 pixels, width 1 and 1000 classes the threshold is 0.0003."""
    config = base()
    config.recipe = name
    for field, value in changes.items():
        config.data[field] = value
    config = resolve(config, {}).settings
    network = build(config.model, image_size=224, num_classes=1000)
    form = InputForm.of(config.data)
    mean = form.mean_of(np.full((256, 256, 3), 118.0), np.full(3, 118.0))
    batch = make_batch(photographs(224))
    params = jax.device_put(network.initialize(jax.random.key(0)))
    measured = diagnosis.make_diagnose(network.outputs_of_batch, form)(
        params, batch, jax.device_put(mean)
    )
    assert (row_of(measured, config)["warning"] is not None) == fires
    assert (measured["logit_spread"] < config.training.warn_below_spread) == fires
