"""Eight virtual CPU devices, shapes checked, and one compilation cache for all tests.

Most programs here run once, on a few small images, so XLA is set to optimize little and
to compile fusions in its older way, which together takes a seventh of the time. The tests of
OPTIMIZED are about what the compiler makes of a program. `XLA_FLAGS= pytest` compiles
everything as users do.
"""

import gc
import os
from importlib.metadata import version
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
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # as alexnet_jax; JAX sets another
# A jaxlib that does not know the flag would end the process: others compile as users do.
# Processes that the tests start inherit it.
FAST = "--xla_cpu_use_fusion_emitters=false"
known = version("jaxlib").startswith("0.10.")
AS_USERS_COMPILE = os.environ.setdefault("XLA_FLAGS", FAST if known else "") != FAST
if not AS_USERS_COMPILE:
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
# An array that is broadcast to more dimensions by accident is an error.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

# The packages whose functions say what shapes they take and return.
PACKAGES = (
    "data",
    "experiment.ensemble",
    "model",
    "trained",
    "training",
)
OPTIMIZED = ("tests/model/layers/",)

gc.set_threshold(50_000, 20, 50)  # as cli.run


def pytest_configure(config):
    """Before a test file imports the package."""
    # With the slow tests alone, whose functions the fast ones check, this would take a
    # sixth of the time.
    if config.option.markexpr != "slow":
        modules = [f"alexnet_jax.{name}" for name in PACKAGES]
        install_import_hook(modules, "checking.checked")
    import alexnet_jax  # noqa: F401  (sets how TensorFlow starts, before a test)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Before the fixtures of a module, which belong to it alone."""
    optimized = AS_USERS_COMPILE or item.nodeid.startswith(OPTIMIZED)
    jax.config.update("jax_disable_most_optimizations", not optimized)


# The files with the longest slow tests.
LONGEST = (
    "tests/test_sweep.py",
    "tests/training/test_faults.py",
    "tests/training/test_population.py",
    "tests/experiment/test_notebooks.py",
    "tests/data/prepared/test_build.py",
    "tests/training/test_distributed.py",
)


def pytest_collection_modifyitems(items):
    """The longest first: beside the last one that runs, processors would be idle."""

    def place(item):
        file = item.nodeid.partition("::")[0]
        return LONGEST.index(file) if file in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="session")
def data():
    """Digits at 16 x 16; some test files have data of their own."""
    from alexnet_jax.data.open import open_source
    from alexnet_jax.data.pipeline import load_data

    source = open_source("digits", tfds_dir="")
    return load_data(source, rescale="shorter_side", rescale_size=16)


@pytest.fixture(scope="session")
def devices():
    from alexnet_jax.training.devices import Devices

    return Devices()
