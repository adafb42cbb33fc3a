"""The experiment that the tests of sweeps run: two arms of a tiny network."""

from pathlib import Path

from small_trial import tiny

from alexnet_jax.config.resolve import resolve

FILE = """
import sys
sys.path.insert(0, {tests!r})
from small_sweep import config

def get_config(dataset="digits"):
    return config(**{settings!r})
"""


def config(*, seeds=2, epochs=12.0, epochs_of_tanh=None, tuning_seeds=0):
    result = tiny(
        training__num_epochs=epochs,
        training__log_every_epochs=0.5,
        training__evaluate_every_epochs=4.0,
    )
    result.experiment = "tiny"
    result.arms = {
        "ReLU": {},
        # Gets a warning, whatever its initial weights.
        "tanh": {"model.activation": "tanh", "training.warn_below_spread": 1e9},
    }
    if epochs_of_tanh is not None:
        result.arms["tanh"]["training.num_epochs"] = epochs_of_tanh
    result.seeds = seeds
    result.claim = {
        "section": "3.1",
        "text": "fewer errors",
        "metric": "top1_error",
        "compare": ("tanh", "ReLU"),
        "paper": "higher",
        "dataset": "cifar10",
    }
    if tuning_seeds:
        result.tuning_seeds = tuning_seeds
        result.tuned = {"optimizer.learning_rate": (0.002, 0.004)}
        asked = {"metric": "epochs_to_train_error", "threshold": 0.85}
        result.claim = dict(result.claim) | asked
    return result


def resolved_plan(**changes):
    """Its plan, with e.g. `population=True`."""
    result = config()
    for name, value in changes.items():
        result[name] = value
    return resolve(result, {})


def write_config(folder, **settings):
    """Writes folder/tiny.py, with the settings of `config`; returns its plan."""
    tests = str(Path(__file__).parent)
    text = FILE.format(tests=tests, settings=settings)
    (folder / "tiny.py").write_text(text)
    return resolve(config(**settings), {})
