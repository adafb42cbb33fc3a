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
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["MPLBACKEND"] = "agg"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # as alexnet_jax.data; JAX sets another
# An array that is broadcast to more dimensions by accident is an error.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

from jaxtyping import install_import_hook

install_import_hook("alexnet_jax", "checking.checked")

import pytest  # noqa: E402

import alexnet_jax.data  # noqa: E402, F401  (sets how TensorFlow starts, before a test)
from alexnet_jax.data.open import open_source  # noqa: E402
from alexnet_jax.data.pipeline import load_data  # noqa: E402
from alexnet_jax.training.devices import Devices  # noqa: E402


@pytest.fixture(scope="session")
def data():
    """Digits at 16 x 16; some test files have data of their own."""
    source = open_source("digits", tfds_dir="")
    return load_data(source, rescale="shorter_side", rescale_size=16)


@pytest.fixture(scope="session")
def devices():
    return Devices()
