"""Experiments on a few steps: what is left to run, what is refused, what is recorded."""

import json
import shutil

import pytest
from small_trial import learned

from alexnet_jax import experiment
from alexnet_jax.config import base, finish, trials
from alexnet_jax.errors import UserError
from alexnet_jax.report.records import read_outcomes


@pytest.fixture
def config():
    """Two arms, two learning rates, one seed: a quarter of an epoch each, seconds."""
    config = base(network="four_layer").copy_and_resolve_references()
    config.experiment = "tiny"
    config.arms = {
        "ReLU": {"model.activation": "relu"},
        "tanh": {"model.activation": "tanh"},
    }
    config.tuned = {"optimizer.learning_rate": (0.001, 1e30)}
    config.data.rescale_size = config.data.crop_size = 8
    config.model.width = 0.1
    config.training.batch_size = 32
    config.training.num_epochs = 0.25
    config.training.record_every_epochs = 0.1
    config.claim = {
        "section": "3.1",
        "text": "faster",
        "metric": "epochs_to_train_error",
        "threshold": 0.25,
        "compare": ("tanh", "ReLU"),
        "paper": 6.0,
        "dataset": "cifar10",
    }
    return finish(config, {})


@pytest.fixture
def folder(config, tmp_path):
    experiment.run(config, tmp_path / "run")
    return tmp_path / "run"


def rows(folder, trial):
    lines = (folder / trial.folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def without_speed(rows):
    return learned(rows)


def test_every_trial_leaves_its_records_and_the_rest_goes_on_when_one_diverges(
    folder, config
):
    for trial in trials(config):
        status = json.loads((folder / trial.folder / "trial.json").read_text())
        # tanh only saturates at that rate: its loss is huge, and finite.
        diverges = (
            trial.arm == "ReLU" and trial.tuned["optimizer.learning_rate"] == 1e30
        )
        assert status["status"] == ("diverged" if diverges else "finished")
        assert ("diverged" in rows(folder, trial)[-1]) == diverges
    for name in ("summary.json", "figure.png", "figure.svg", "report.md"):
        assert (folder / name).stat().st_size > 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["diverged_trials"] == 1


def test_experiment_json_holds_what_a_result_depends_on(folder, config):
    held = json.loads((folder / "experiment.json").read_text())
    assert held["config"]["training"]["batch_size"] == 32
    assert held["config"]["arms"] == config.arms
    assert set(held["git"]) == {"commit", "dirty"}
    assert {"python", "jax", "flax", "numpy"} <= set(held["versions"])
    assert len(held["devices"]) == 8
    assert held["data"][0]["fingerprint"]
    assert held["data"][0]["train_examples"] == 1438


def test_finished_trials_are_not_repeated(folder, config, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(experiment.loop, "train", fail)
    assert "Figure:" in experiment.run(config, folder)


def test_an_unfinished_trial_is_run_again_and_gives_the_same_rows(folder, config):
    trial = trials(config)[0]
    before = rows(folder, trial)
    (folder / trial.folder / "trial.json").unlink()
    shutil.rmtree(folder / trial.folder / "checkpoints")
    metrics = folder / trial.folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines()[0] + '\n{"kind": "tr')
    experiment.run(config, folder)
    assert without_speed(rows(folder, trial)) == without_speed(before)


def test_a_folder_of_another_configuration_is_refused_naming_the_fields(folder, config):
    other = config.copy_and_resolve_references()
    other.training.batch_size = 64
    other.model.width = 0.2
    before = (folder / "experiment.json").read_text()
    with pytest.raises(UserError) as refused:
        experiment.run(other, folder)
    assert "training.batch_size: 32 there, 64 now" in str(refused.value)
    assert "model.width: 0.1 there, 0.2 now" in str(refused.value)
    assert "optimizer" not in str(refused.value)
    assert (folder / "experiment.json").read_text() == before


def test_a_folder_of_other_data_is_refused(folder, config):
    path = folder / "experiment.json"
    held = json.loads(path.read_text())
    held["data"][0]["fingerprint"] = "other"
    path.write_text(json.dumps(held))
    with pytest.raises(UserError, match="data fingerprint"):
        experiment.run(config, folder)


def test_going_on_with_other_code_is_written_down(folder, config):
    path = folder / "experiment.json"
    held = json.loads(path.read_text())
    held["git"]["commit"] = "another"
    path.write_text(json.dumps(held))
    experiment.run(config, folder)
    held = json.loads(path.read_text())
    assert held["git"]["commit"] == "another"
    assert len(held["continued"]) == 1


def test_a_folder_that_holds_something_else_is_left_alone(config, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="something else"):
        experiment.run(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_broken_experiment_json_is_said(config, tmp_path):
    (tmp_path / "experiment.json").write_text("{")
    with pytest.raises(UserError, match=r"experiment\.json cannot be read"):
        experiment.run(config, tmp_path)


def test_a_folder_below_a_file_is_refused_and_nothing_is_made(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--workdir"):
        experiment.run(config, tmp_path / "file" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training.batch_size": 30}, "24 or 32"),
        ({"data.dataset": "digitz"}, "'digits'"),
        ({"data.dataset": "folder=nowhere"}, "No such folder"),
    ],
)
def test_what_will_not_do_is_refused_before_anything_is_written(
    config, tmp_path, change, words
):
    config = config.copy_and_resolve_references()
    for name, value in change.items():
        section, field = name.split(".")
        config[section][field] = value
    with pytest.raises(UserError, match=words):
        experiment.run(config, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_too_small_an_image_is_refused_before_anything_is_written(tmp_path):
    config = base().copy_and_resolve_references()
    config.data.rescale_size, config.data.crop_size = 8, 7
    config.claim = {
        "section": "6", "text": "t", "metric": "top5_error", "paper": 0.2, "dataset": "x",
    }  # fmt: skip
    with pytest.raises(UserError, match="conv1 leaves no pixel"):
        experiment.run(finish(config, {}), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_arms_that_differ_in_their_views_share_one_training(config, tmp_path):
    """Each has the evaluations that it would have had by itself, to the last bit."""
    views = {"ten views": {"data.views": "ten"}, "centre": {"data.views": "center"}}
    claim = {
        "section": "6",
        "text": "fewer errors by ten views",
        "metric": "top1_error",
        "compare": ("centre", "ten views"),
        "paper": 0.015,
        "dataset": "imagenet2012",
    }

    def ran(arms, compare, name):
        with config.unlocked():
            config.arms, config.tuned, config.seeds = arms, {}, 2
            config.claim = claim | {"compare": compare}
            config.data.rescale_size = 12
        finished = finish(config, {})
        experiment.run(finished, tmp_path / name)
        outcomes = read_outcomes(tmp_path / name, finished.to_dict())
        return {
            (o.trial.arm, o.trial.seed): (o.status, o.curve("eval", "loss"))
            for o in outcomes
        }

    together = ran(views, claim["compare"], "together")
    trained = [path.parent.name for path in tmp_path.glob("together/*/seed0")]
    assert trained == ["ten views"]
    alone = {}
    for arm, chosen in views.items():
        alone |= ran({arm: chosen}, (), arm)
    assert together == alone
    assert together["centre", 0] != together["ten views", 0]
    summary = json.loads((tmp_path / "together/summary.json").read_text())
    assert summary["comparisons"][0]["n"] == 2


def test_a_run_that_is_under_way_is_not_started_again(config, devices, tmp_path):
    """Two would write to one metrics.jsonl."""
    experiment.run(config, tmp_path / "run")
    first = tmp_path / "run" / trials(config)[0].folder
    (first / "trial.json").unlink()
    before = (first / "metrics.jsonl").read_bytes()
    with (
        experiment.alone_in(first, devices),
        pytest.raises(UserError, match=r"Another run is at work in .*--workdir"),
    ):
        experiment.run(config, tmp_path / "run")
    assert (first / "metrics.jsonl").read_bytes() == before
