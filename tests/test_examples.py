"""The Python blocks of README and docs/using.md run as they stand, where their files are."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from random_network import random_network
from two_classes import write_two_classes

from alexnet_jax.config.checkpoint_fields import fields_of
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.checkpoint_files import Position
from alexnet_jax.training.optimizer import OptimizerSpec
from alexnet_jax.training.step import initial_state

ROOT = Path(__file__).parents[1]
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3)).astype(np.uint8)


def blocks(page):
    text = (ROOT / page).read_text()
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


USE, TRAIN = blocks("docs/using.md")


def run(source, **names):
    """The names that are defined after a block has run among those given."""
    exec(compile(source, "<documentation>", "exec"), names)
    return names


@pytest.fixture
def files(tmp_path, devices, monkeypatch):
    """A folder with what the blocks name: a run, photographs, and a folder of images."""
    monkeypatch.chdir(tmp_path)
    network = random_network(classes=2, data__rescale_size=72, data__crop_size=64)
    trained_on = dataclasses.replace(network.trained_on, class_names=("bright", "dark"))
    spec = OptimizerSpec.of(network.settings.optimizer, network.settings.model)
    state = initial_state(network.network, 0, spec).starting_from(network.params)
    folder, fields = tmp_path / "runs/alexnet-digits", fields_of(network.settings)
    with Checkpoints(folder, fields, devices, trained_on) as checkpoints:
        checkpoints.save(devices.place_copies(state), Position(step=1200))
    for name in ("a.jpg", "photo.jpg"):
        PIL.Image.fromarray(PIXELS[0]).save(name)
    write_two_classes(tmp_path / "PATH")


def test_the_readme_opens_a_network_and_builds_another(files):
    (source,) = blocks("README.md")
    net = run(source, images=PIXELS)["net"]
    assert (net.settings.recipe, net.num_classes) == ("paper", 10)
    assert (net.form.crop_size, net.num_examples) == (224, 4)


def test_a_trained_network_is_of_use(files):
    found = run(USE, images=list(PIXELS), pixels=PIXELS[1])
    assert found["network"].class_names == ("bright", "dark")
    assert Path("digits.safetensors").is_file()


def test_a_training_loop_of_ones_own_runs():
    """For a few steps of the two epochs."""
    epochs = '"training.num_epochs": 2.0'
    assert epochs in TRAIN
    found = run(TRAIN.replace(epochs, epochs.replace("2.0", "0.05")))
    assert (found["net"].num_steps, found["opt_state"].step) == (3, 3)
    assert found["network"].class_names == tuple("0123456789")


@pytest.mark.slow
def test_a_training_loop_of_ones_own_learns():
    found = run(TRAIN)
    network, images = found["network"], found["images"]
    guessed = network.probabilities(images[:300]).argmax(axis=1)
    assert (guessed != found["digits"].target[:300]).mean() < 0.3
