"""Everything once, and what it says the run will cost."""

import jax
import pytest
from small_trial import tiny

from alexnet_jax import preflight
from alexnet_jax.config import finish
from alexnet_jax.errors import UserError
from alexnet_jax.preflight import Cost, duration, seconds_of
from alexnet_jax.training import loop
from alexnet_jax.training.checkpoint import KEPT
from alexnet_jax.training.member import Plan


@pytest.fixture(scope="module")
def config():
    config = tiny()
    config.experiment = "small"
    config.arms = {"ReLU": {}, "tanh": {"model.activation": "tanh"}}
    config.seeds = 2
    config.claim = {
        "section": "3.1",
        "text": "one is better",
        "metric": "top1_error",
        "compare": ("tanh", "ReLU"),
        "paper": 0.1,
        "dataset": "cifar10",
    }
    return finish(config, {})


def test_everything_is_done_and_nothing_left(config, tmp_path):
    said = preflight.run(config, tmp_path / "runs" / "small").splitlines()
    assert said[0] == "ReLU: 2 x 10 steps of 16 images"
    assert said[4] == "tanh: 2 x 10 steps of 16 images"
    assert "MB of each device by the compiler's figures" in said[3]
    assert said[-1].endswith("nothing was written.")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_too_small_for_the_run_is_refused(config, tmp_path, monkeypatch):
    """The checkpoints kept, the best one, and one being written, of every trial."""
    monkeypatch.setattr(
        preflight, "measure", lambda *_: Cost(1, 0.1, 0, 0.1, 0.1, 10**6, 10**6)
    )
    needed, free = 4 * (KEPT + 2) * 10**6, [0]
    usage = type("usage", (), {"free": property(lambda _: free[0])})
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: usage())
    free[0] = needed
    assert "16.00 MB of checkpoints" in preflight.run(config, tmp_path / "run")
    free[0] = needed - 1
    with pytest.raises(UserError, match="disk is too small"):
        preflight.run(config, tmp_path / "run")


def test_what_would_stop_a_run_stops_its_preflight(config, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match="Cannot write the run folder"):
        preflight.run(config, tmp_path / "run")


def test_out_of_memory_is_explained(config, tmp_path, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: too much")

    monkeypatch.setattr(loop.Run, "take_step", full)
    with pytest.raises(UserError, match="Out of device memory"):
        preflight.run(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_seconds_of_a_trial_are_those_of_its_steps_and_evaluations(data, devices):
    config = tiny()  # ten steps; evaluations before, after five, and after ten
    cost = Cost(
        first_step=7,
        step=2,
        input_wait=0,
        evaluation_batch=0.5,
        checkpoint_tried=0,
        checkpoint_bytes=0,
        step_bytes=0,
    )
    plan = Plan.of(config, data.train.num_examples)
    batches = 3  # of 128, for 359 images
    found = seconds_of(config, plan, data, cost, devices)
    assert found == pytest.approx(7 + 9 * 2 + 3 * batches * 0.5, abs=batches * 0.5)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (4.4, "4 s"),
        (90.1, "2 min"),
        (3599, "1 h 0 min"),
        (8000, "2 h 13 min"),
        (500000, "5 d 18 h"),
    ],
)
def test_a_duration_is_said_in_two_units(seconds, said):
    assert duration(seconds) == said
