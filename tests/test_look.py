"""What the notebooks show of a run's networks."""

import dataclasses
import json

import numpy as np
import pytest
from small_trial import HELD_OUT, tiny

from alexnet_jax import experiment, look
from alexnet_jax.config import finish
from alexnet_jax.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = tiny(training__num_epochs=0.5)
    config.experiment = "tiny"
    with config.unlocked():
        config.arms = {"ReLU": {}, "tanh": {"model.activation": "tanh"}}
    config.claim = {
        "section": "3.1",
        "text": "fewer errors",
        "metric": "top1_error",
        "compare": ("tanh", "ReLU"),
        "paper": "higher",
        "dataset": "cifar10",
    }
    folder = tmp_path_factory.mktemp("look") / "run"
    experiment.run(finish(config, {}), folder)
    return look.Run(folder)


def test_errors_by_class_are_those_of_the_record(run):
    """Weighted by the classes' test images they are the last evaluation's error."""
    for arm in run.arms():
        found = run.errors_by_class(arm)
        labels = np.concatenate([labels for _, labels in run.batches(arm)])
        assert len(labels) == HELD_OUT
        assert list(found) == [str(digit) for digit in range(10)]
        mean = sum(found[str(label)] for label in labels) / HELD_OUT
        text = (run.folder / arm / "seed0/metrics.jsonl").read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        errors = [row["top1_error"] for row in rows if row["kind"] == "eval"]
        assert mean == pytest.approx(errors[-1])


def test_kernels_are_stretched_each_by_itself(run):
    kernels = run.kernels("ReLU")
    assert kernels.shape == (8, 5, 5, 3)
    assert kernels.min(axis=(1, 2, 3)) == pytest.approx(np.zeros(8))
    assert kernels.max(axis=(1, 2, 3)) == pytest.approx(np.ones(8))


@pytest.mark.parametrize("kind", ["center", "ten"])
def test_the_view_looked_at_is_the_centre(run, kind):
    """Also of a network that was evaluated on ten views."""
    form = dataclasses.replace(run.network("ReLU")[1].form, crop_size=16, views=kind)
    assert look._central_view(20, form).tolist() == [2, 2, 0]


@pytest.mark.parametrize(
    ("kernels", "most", "drawn"),
    [
        (8, 8, range(8)),
        (8, 24, range(8)),
        (8, 4, (0, 2, 4, 6)),
        (96, 24, range(0, 96, 4)),  # twelve of each tower
        (5, 4, (0, 1, 2, 3)),
    ],
)
def test_of_many_kernels_those_drawn_are_of_both_towers(
    run, monkeypatch, kernels, most, drawn
):
    """Each is a map of one grey, its number, wider by the white around it."""
    greys = np.arange(kernels) / kernels
    flat = np.tile(greys[:, None, None, None], (1, 5, 5, 3))
    monkeypatch.setattr(run, "kernels", lambda _: flat)
    figure = run.draw_kernels(most=most)
    for axis in figure.axes:
        shown = np.asarray(axis.images[0].get_array())[3, 3::7, 0]
        assert shown == pytest.approx(greys[list(drawn)])


@pytest.mark.parametrize("arm", ["ReLU", "tanh"])
@pytest.mark.parametrize("count", [0, 3, 8])
def test_dead_and_saturated_units_are_found(run, monkeypatch, arm, count):
    """Of eight maps some with a bias that nothing lifts, the others at a half."""
    config, trainer, params, data = run.network(arm)
    assert set(run.units(arm)) == {"conv1", "conv2", "conv3"}
    bias = np.full(8, 0.5, np.float32)
    bias[:count] = -1e6
    conv1 = {"kernel": np.zeros_like(params["conv1"]["kernel"]), "bias": bias}
    changed = params | {"conv1": conv1}
    monkeypatch.setattr(run, "network", lambda _: (config, trainer, changed, data))
    assert run.units(arm)["conv1"] == count / 8


def test_what_is_drawn_and_said(run):
    assert run.answer().startswith("**")
    assert "| tanh | saturated outputs |" in run.units_table()
    assert "| ReLU | dead units |" in run.units_table()
    for figure in (run.draw_kernels(), run.draw_classes(), run.draw_beside_paper()):
        assert len(figure.axes) > 0
        assert figure._repr_png_().startswith(b"\x89PNG")
    assert run.figure().stat().st_size > 0


def test_a_folder_is_found_as_it_was_typed_beside_the_readme(
    run, monkeypatch, tmp_path
):
    """A notebook runs in its own folder."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/mine").symlink_to(run.folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(look, "ROOT", tmp_path)
    monkeypatch.setenv("ALEXNET_RUN", "runs/mine")
    assert look.run_of("dropout").experiment["config"]["experiment"] == "tiny"


def test_the_run_given_by_the_environment_is_taken(run, monkeypatch, tmp_path):
    monkeypatch.setenv("ALEXNET_RUN", str(run.folder))
    assert look.run_of("dropout").experiment["config"]["experiment"] == "tiny"
    with pytest.raises(UserError, match=r"experiment\.json"):
        look.run_of("dropout", tmp_path)
