"""The package as a library: its public names, none of which costs a start anything."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import alexnet_jax
from alexnet_jax.config import recipes
from alexnet_jax.model import alexnet

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_importing_the_package_imports_neither_jax_nor_tensorflow():
    script = "import sys, alexnet_jax; alexnet_jax.__version__; print(*sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(process.stdout.split())
    assert "alexnet_jax" in loaded
    assert not loaded & {"jax", "flax", "tensorflow", "numpy", "ml_collections"}


def test_public_names_are_those_of_their_modules():
    assert alexnet_jax.RECIPES is recipes.RECIPES
    assert alexnet_jax.AlexNet is alexnet.AlexNet
    assert {"RECIPES", "AlexNet", "__version__"} <= set(dir(alexnet_jax))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'AlexNett'"):
        alexnet_jax.AlexNett  # noqa: B018


def test_the_version_is_stated_once_or_alike():
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    assert project.get("version", alexnet_jax.__version__) == alexnet_jax.__version__
