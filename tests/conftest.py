"""Eight virtual CPU devices, shapes checked, and one compilation cache for all tests."""

import os
from pathlib import Path

# Before JAX and TensorFlow are imported.
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "true")
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
    Path(__file__).parent.parent / ".pytest_cache" / "compiled"
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
os.environ["MPLBACKEND"] = "agg"

from jaxtyping import install_import_hook

install_import_hook("alexnet_jax", "checking.checked")

import pytest  # noqa: E402

import alexnet_jax.data  # noqa: E402, F401  (sets how TensorFlow starts, before a test)
from alexnet_jax.data.pipeline import prepare  # noqa: E402
from alexnet_jax.data.source import open_source  # noqa: E402
from alexnet_jax.training.parallel import Devices  # noqa: E402


@pytest.fixture(scope="session")
def data():
    """Digits at 16 x 16; some test files have data of their own."""
    source = open_source("digits", tfds_dir="")
    return prepare(source, rescale="shorter_side", rescale_size=16)


@pytest.fixture(scope="session")
def devices():
    return Devices()
