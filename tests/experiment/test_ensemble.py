"""Ensembles: their errors, their records, and refused configurations."""

import json

import jax
import numpy as np
import pytest
from small_trial import HELD_OUT, learned, tiny, trainer_of

from alexnet_jax.config.resolve import resolve
from alexnet_jax.data.open import open_source
from alexnet_jax.data.pipeline import evaluation_batches, load_data
from alexnet_jax.errors import UserError
from alexnet_jax.experiment import ensemble, runner
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.preprocess import crop_input, crop_places
from alexnet_jax.training.saved_network import read_weights

ARMS = {"one": {}, "two averaged": {"training.ensemble": 2}}


def configured(arms=ARMS, seeds=4, **changes):
    config = tiny(**changes)
    config.experiment = "tiny"
    config.arms, config.seeds = arms, seeds
    config.claim = {
        "section": "6",
        "text": "fewer errors by averaging",
        "metric": "top1_error",
        "compare": ("one", "two averaged"),
        "paper": 0.026,
        "dataset": "imagenet2012",
    }
    return resolve(config, {})


def rows(folder):
    return [
        json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


@pytest.fixture(scope="module", params=["local_response", "batch"])
def run(tmp_path_factory, request):
    """Without running statistics in the networks, and with those of batch normalization."""
    plan = configured(model__normalization=request.param)
    folder = tmp_path_factory.mktemp("ensemble") / "run"
    runner.run(plan, folder)
    return plan, folder


@pytest.mark.slow
def test_an_ensemble_averages_its_networks_probabilities(run):
    """Compared with the average computed in NumPy from the checkpoints."""
    plan, folder = run
    source = open_source("digits", tfds_dir="")
    data = load_data(source, rescale="shorter_side", rescale_size=16)
    trainer = trainer_of(plan.settings, data, Devices())
    mean = trainer.place_mean(data, Devices())
    apply = jax.jit(lambda params, x: trainer.network.apply(params, x, None))
    for group, seeds in enumerate(((0, 1), (2, 3))):
        held = [read_weights(folder / f"one/seed{s}", "last")[0] for s in seeds]
        loss = wrong = count = 0
        for batch in evaluation_batches(data.validation, batch_size=64):
            (place,) = crop_places(batch["image"].shape[1], trainer.form)
            x = crop_input(jax.numpy.asarray(batch["image"]), place, mean, trainer.form)
            logits = [apply(params, x) for params in held]
            p = np.mean([jax.nn.softmax(each) for each in logits], axis=0)
            real = batch["weight"] > 0
            labels = batch["label"]
            loss -= np.log(p[np.arange(len(p)), labels])[real].sum()
            wrong += (p.argmax(axis=1) != labels)[real].sum()
            count += real.sum()
        (row,) = rows(folder / f"two averaged/seed{group}")
        assert (row["seeds"], row["step"]) == (list(seeds), 10)
        assert count == HELD_OUT
        assert row["loss"] == pytest.approx(loss / count, rel=1e-5)
        assert row["top1_error"] == wrong / count
        assert row["loss"] != rows(folder / f"one/seed{seeds[0]}")[-1]["loss"]


@pytest.mark.slow
def test_an_ensemble_needs_no_training_and_is_reported(run):
    plan, folder = run
    assert {trial.arm for trial in plan.trials} == {"one"}
    assert len(plan.all_trials) == 4 + 2
    summary = json.loads((folder / "summary.json").read_text())
    (comparison,) = summary["comparisons"]
    assert (comparison["n"], comparison["seeds_per_group"]) == (2, 2)
    assert summary["unfinished_trials"] == 0
    assert "groups of 2 seeds" in (folder / "report.md").read_text()


@pytest.mark.slow
def test_an_interrupted_ensemble_is_evaluated_again(run):
    plan, folder = run
    path = folder / "two averaged/seed1"
    before = learned(rows(path))
    (path / "trial.json").unlink()
    (path / "metrics.jsonl").write_text('{"kind": "ev')
    runner.run(plan, folder)
    assert learned(rows(path)) == before
    assert json.loads((path / "trial.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_a_diverged_network_prevents_the_average(tmp_path):
    plan = configured(seeds=2, optimizer__learning_rate=1e30)
    runner.run(plan, tmp_path)
    (only,) = plan.ensembles
    marker = json.loads((tmp_path / only.folder / "trial.json").read_text())
    assert marker["status"] == "diverged"
    assert rows(tmp_path / only.folder) == []
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["comparisons"][0]["standing"] == "not answered"


@pytest.mark.slow
def test_missing_checkpoints_give_a_message(run, tmp_path):
    plan, folder = run
    (only, _) = plan.ensembles
    for seed in (0, 1):
        marker = folder / f"one/seed{seed}/trial.json"
        copy = tmp_path / f"one/seed{seed}"
        copy.mkdir(parents=True)
        (copy / "trial.json").write_text(marker.read_text())
    source = open_source("digits", tfds_dir="")
    data = load_data(source, rescale="shorter_side", rescale_size=16)
    with pytest.raises(UserError, match=r"No checkpoint can be read at .*seed0"):
        ensemble.evaluate(only, plan.ensemble_members(only), tmp_path, data, Devices())
    assert not (tmp_path / only.folder / "trial.json").exists()


@pytest.mark.parametrize(
    ("arms", "changes", "words"),
    [
        ({"five": {"training.ensemble": 2}}, {}, "no other arm trains"),
        (ARMS, {"seeds": 3}, "Use 4"),
        (ARMS, {"training__checkpoint_every_epochs": 0.0}, "keeps none"),
        ({"one": {}, "none": {"training.ensemble": 0}}, {}, "ensemble"),
    ],
)
def test_networks_that_cannot_be_averaged_are_refused(arms, changes, words):
    with pytest.raises(UserError, match=words):
        configured(arms, **changes)
