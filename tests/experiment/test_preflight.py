"""The preflight runs every part once and estimates the cost of the run."""

import jax
import pytest
from small_trial import opened, tiny

from alexnet_jax.config.resolve import resolve
from alexnet_jax.errors import UserError
from alexnet_jax.experiment import preflight
from alexnet_jax.experiment.preflight import duration
from alexnet_jax.training import loop, rehearsal
from alexnet_jax.training.checkpoint import KEPT
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.group import resume


def cost(**changes):
    """Ten steps, with evaluations before, after five steps and after ten."""
    return rehearsal.Cost(
        **{
            "num_trials": 1,
            "spread": "on one device",
            "num_steps": 10,
            "batch_size": 16,
            "evaluation_batches": 9,
            "first_step": 7.0,
            "step": 2.0,
            "input_wait": 0.0,
            "evaluation_batch": 0.5,
            "checkpoint_seconds": 0.1,
            "checkpoint_bytes": 0,
            "step_bytes": 10**6,
        }
        | changes
    )


@pytest.fixture(scope="module")
def plan():
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
    return resolve(config, {})


@pytest.mark.slow
def test_a_preflight_runs_every_part_and_leaves_nothing_behind(plan, tmp_path):
    said = preflight.run(plan, tmp_path / "runs" / "small").splitlines()
    assert said[0] == "ReLU: 2 x 10 steps of 16 images"
    assert said[2].strip().startswith("whole trials side by side on 2 x 2 devices")
    assert said[5] == "tanh: 2 x 10 steps of 16 images"
    assert "MB of each device by the compiler's figures" in said[4]
    assert "No image of test is also in train" in said[10]
    assert said[-1].endswith("nothing was written.")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_too_small_for_the_run_is_refused(plan, tmp_path, monkeypatch):
    """Each trial keeps its last checkpoints and the best, and one is being written."""
    monkeypatch.setattr(
        rehearsal, "rehearse", lambda *_, **__: cost(checkpoint_bytes=10**6)
    )
    needed, free = 4 * (KEPT + 2) * 10**6, [0]
    usage = type("usage", (), {"free": property(lambda _: free[0])})
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: usage())
    free[0] = needed
    assert "16.00 MB of checkpoints" in preflight.run(plan, tmp_path / "run")
    free[0] = needed - 1
    with pytest.raises(UserError, match="disk is too small"):
        preflight.run(plan, tmp_path / "run")


def test_errors_that_would_stop_a_run_stop_its_preflight(plan, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match="Cannot write the run folder"):
        preflight.run(plan, tmp_path / "run")


def test_two_preflights_of_one_folder_do_not_disturb_each_other(plan, tmp_path):
    scratch = tmp_path / ".preflight-run"
    (scratch / "left by one that was killed").mkdir(parents=True)
    with preflight._scratch(tmp_path / "run", Devices()) as held:
        assert not list(held.iterdir())
        (held / "a checkpoint").touch()
        with pytest.raises(UserError, match="Another preflight is already running"):
            preflight.run(plan, tmp_path / "run")
        assert (held / "a checkpoint").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_out_of_memory_is_explained(plan, tmp_path, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: too much")

    monkeypatch.setattr(loop, "take_step", full)
    with pytest.raises(UserError, match="Out of device memory"):
        preflight.run(plan, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_trials_seconds_are_those_of_its_steps_and_evaluations(
    plan, data, devices, tmp_path
):
    assert cost().group_seconds == 7 + 9 * 2 + 9 * 0.5
    with opened([plan.settings], data, devices, [tmp_path], seeds=[0]) as opening:
        (group,) = resume(*opening)
        measured = rehearsal.rehearse(group)
    assert (measured.num_steps, measured.batch_size) == (10, 16)
    # Evaluations before the first step, after five steps and after ten, of 359 images
    # in batches of 128; the estimate may be one evaluation too high.
    batches = -(-359 // devices.rounded_up(128))
    assert 3 * batches <= measured.evaluation_batches <= 4 * batches


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
def test_a_duration_is_printed_in_two_units(seconds, said):
    assert duration(seconds) == said


def test_a_single_step_is_not_timed_as_a_later_one(plan, tmp_path, monkeypatch):
    """Its time is that of the compilation."""
    monkeypatch.setattr(
        rehearsal, "rehearse", lambda *_, **__: cost(num_steps=1, step=7.0)
    )
    said = preflight.run(plan, tmp_path / "run").splitlines()
    assert said[0] == "ReLU: 2 x 1 step of 16 images"
    assert said[1] == "  first step 7.0 s, which compiles; there is no other"
    monkeypatch.setattr(rehearsal, "rehearse", lambda *_, **__: cost())
    said = preflight.run(plan, tmp_path / "run").splitlines()
    assert said[1].startswith("  first step 7.0 s, then 2.000 s a step (8 images/s)")


@pytest.mark.slow
def test_a_trial_is_as_long_as_measured_where_a_tuning_group_is_larger(tmp_path):
    """Four tuning trials of half the steps are one program, and so is each arm's one."""
    config = tiny()
    config.experiment = "small"
    config.arms = {"ReLU": {}, "tanh": {"model.activation": "tanh"}}
    config.tuned = {"optimizer.learning_rate": (0.001, 0.002, 0.003, 0.004)}
    config.tuning_seeds, config.population = 1, True
    config.tuning_epochs = config.training.num_epochs / 2
    said = preflight.run(resolve(config, {}), tmp_path / "run")
    assert "ReLU: 1 x 10 steps of 16 images" in said
    assert "before them 4 tuning trials of 50% of these steps" in said
