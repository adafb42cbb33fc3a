"""The driver of a sweep leaves the GPUs to the trials."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_driver_imports_neither_jax_nor_tensorflow():
    """JAX would claim a GPU; TensorFlow would take seconds and 700 MB."""
    code = (
        "import sys, alexnet_jax.sweep, alexnet_jax.experiment.cluster.driver; "
        "print({'jax', 'flax', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "set()"
