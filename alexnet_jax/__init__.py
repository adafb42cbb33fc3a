"""AlexNet (2012) as a research codebase in JAX and Flax.

The commands are modules: `python -m alexnet_jax.main --config=configs/alexnet.py`. As a
library the package offers the names in `__all__`. Importing it loads neither JAX nor
TensorFlow; that happens when a name is first used.
"""

import importlib
import os
from typing import Any

# These must be set before TensorFlow is first imported, and before JAX, which sets a lower
# level of the log. That log says nothing to a user, and TensorFlow's errors are raised as
# well as logged. Looking for the legacy Keras, in vain, avoids importing the new one:
# TensorFlow starts in 7 s instead of 10 s.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

__version__ = "0.1.0"

__all__ = [
    "RECIPES",
    "AlexNet",
    "Recipe",
    "TrainedNetwork",
    "__version__",
    "load",
    "recipe",
]

# `__init__.pyi` says the same to type checkers.
_MODULES = {
    "AlexNet": "alexnet_jax.model.alexnet",
    "RECIPES": "alexnet_jax.config.recipes",
    "Recipe": "alexnet_jax.training.own_loop",
    "TrainedNetwork": "alexnet_jax.trained.trained_network",
    "load": "alexnet_jax.trained.locate",
    "recipe": "alexnet_jax.training.own_loop",
}


def __getattr__(name: str) -> Any:
    """Imports the module of a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
