"""The package as a library: its public names, none of which costs a start anything."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import PIL.Image
import pytest

import alexnet_jax
from alexnet_jax.config import recipes
from alexnet_jax.model import alexnet
from alexnet_jax.training import own_loop

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_importing_the_package_imports_neither_jax_nor_tensorflow():
    script = "import sys, alexnet_jax; alexnet_jax.__version__; print(*sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(process.stdout.split())
    assert "alexnet_jax" in loaded
    assert not loaded & {"jax", "flax", "tensorflow", "numpy", "ml_collections"}


OWN_LOOP = """
import sys
import jax, numpy as np
import alexnet_jax

images = np.zeros((4, 64, 64, 3), np.uint8)
changes = {"preset": "small", "model.width": 0.03, "training.batch_size": 4}
net = alexnet_jax.recipe("torchvision", images, classes=2, changes=changes)
params, key = net.initialize(), jax.random.key(0)
inputs = jax.jit(net.training_input)(key, images, 0)
gradients = jax.jit(jax.grad(net.loss))(params, inputs, np.zeros(4, int), key)
net.optimizer.update(gradients, net.optimizer.init(params), params)
network = alexnet_jax.TrainedNetwork.from_training(
    net.settings, params, class_names="ab", statistics=net.statistics
)
network.save("own.safetensors")
alexnet_jax.load("own.safetensors").classify(["a.png"])
print(*sys.modules)
"""


def test_neither_training_nor_classifying_files_imports_tensorflow(tmp_path):
    """In a loop of one's own: a run reads its data set with it."""
    PIL.Image.new("RGB", (90, 70)).save(tmp_path / "a.png")
    process = subprocess.run(
        [sys.executable, "-c", OWN_LOOP],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PYPROJECT.parent)},
    )
    loaded = set(process.stdout.split())
    assert {"jax", "alexnet_jax.training.own_loop"} <= loaded
    assert not {name for name in loaded if name.startswith("tensorflow")}


def test_public_names_are_those_of_their_modules():
    assert alexnet_jax.RECIPES is recipes.RECIPES
    assert alexnet_jax.AlexNet is alexnet.AlexNet
    assert alexnet_jax.recipe is own_loop.recipe
    assert {"RECIPES", "AlexNet", "__version__", "recipe"} <= set(dir(alexnet_jax))


def test_type_checkers_are_told_the_same_names():
    stub = (Path(alexnet_jax.__file__).parent / "__init__.pyi").read_text()
    for name in set(alexnet_jax.__all__) - {"__version__"}:
        assert f"import {name} as {name}\n" in stub
    assert stub.count(" import ") == len(alexnet_jax.__all__) - 1


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'AlexNett'"):
        alexnet_jax.AlexNett  # noqa: B018


def test_the_version_is_stated_once_or_alike():
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    assert project.get("version", alexnet_jax.__version__) == alexnet_jax.__version__


def test_a_misspelled_flag_of_a_command_is_answered_with_one_of_its_own():
    process = subprocess.run(
        [sys.executable, "-m", "alexnet_jax", "evaluate", "RUN", "--datset=digits"],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert "Did you mean: dataset" in process.stderr
