"""What the notebooks show about the networks of a run."""

import dataclasses
import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from small_trial import HELD_OUT
from two_arms import two_arms

from alexnet_jax.config.resolve import resolve
from alexnet_jax.errors import UserError
from alexnet_jax.experiment import analysis, runner
from alexnet_jax.trained.trained_network import center_input

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("analysis") / "run"
    runner.run(resolve(two_arms(), {}), folder)
    return analysis.RunAnalysis(folder)


def test_errors_by_class_average_to_the_recorded_error(run):
    """Weighted by images per class, they average to the last evaluation's error."""
    for arm in run.arms():
        network = run.network(arm)
        found = network.errors_by_class()
        labels = np.concatenate([labels for _, labels in network.batches()])
        assert len(labels) == HELD_OUT
        assert list(found) == [str(digit) for digit in range(10)]
        mean = sum(found[str(label)] for label in labels) / HELD_OUT
        text = (run.run.folder / arm / "seed0/metrics.jsonl").read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        errors = [row["top1_error"] for row in rows if row["kind"] == "eval"]
        assert mean == pytest.approx(errors[-1])


def test_kernels_are_normalized_individually(run):
    kernels = run.network("ReLU").kernels()
    assert kernels.shape == (8, 5, 5, 3)
    assert kernels.min(axis=(1, 2, 3)) == pytest.approx(np.zeros(8))
    assert kernels.max(axis=(1, 2, 3)) == pytest.approx(np.ones(8))


@pytest.mark.parametrize("kind", ["center", "ten"])
def test_the_inspected_crop_is_the_center(run, kind):
    """Also for a network evaluated on ten crops."""
    form = run.network("ReLU").network.form
    form = dataclasses.replace(form, crop_size=16, eval_crops=kind)
    images = np.arange(20 * 20 * 3).reshape(1, 20, 20, 3).astype(np.uint8)
    crops = center_input(jnp.asarray(images), jnp.zeros((20, 20, 3)), form)
    np.testing.assert_array_equal(crops, images[:, 2:18, 2:18])


@pytest.mark.parametrize(
    ("kernels", "maximum", "drawn"),
    [
        (8, 8, range(8)),
        (8, 24, range(8)),
        (8, 4, (0, 2, 4, 6)),
        (96, 24, range(0, 96, 4)),  # twelve from each tower
        (5, 4, (0, 1, 2, 3)),
    ],
)
def test_drawn_kernels_come_from_both_towers(run, monkeypatch, kernels, maximum, drawn):
    """Each kernel has its own gray level, in a white border."""
    greys = np.arange(kernels) / kernels
    flat = np.tile(greys[:, None, None, None], (1, 5, 5, 3))
    network = SimpleNamespace(kernels=lambda: flat)
    monkeypatch.setattr(run, "network", lambda _: network)
    figure = run.draw_kernels(maximum=maximum)
    for axis in figure.axes:
        shown = np.asarray(axis.images[0].get_array())[3, 3::7, 0]
        assert shown == pytest.approx(greys[list(drawn)])


@pytest.mark.parametrize("arm", ["ReLU", "tanh"])
@pytest.mark.parametrize("count", [0, 3, 8])
def test_dead_and_saturated_units_are_found(run, arm, count):
    """`count` of the eight channels have a bias far below zero, the others 0.5."""
    network = run.network(arm)
    assert set(network.units()) == {"conv1", "conv2", "conv3"}
    bias = np.full(8, 0.5, np.float32)
    bias[:count] = -1e6
    params = network.network.params
    conv1 = {"kernel": np.zeros_like(params["conv1"]["kernel"]), "bias": bias}
    of_network = dataclasses.replace(network.network, params=params | {"conv1": conv1})
    changed = dataclasses.replace(network, network=of_network)
    assert changed.units()["conv1"] == count / 8


def test_answer_tables_and_drawings(run):
    assert run.answer().startswith("**")
    assert "| tanh | saturated outputs |" in run.units_table()
    assert "| ReLU | dead units |" in run.units_table()
    for figure in (run.draw_kernels(), run.draw_classes(), run.draw_beside_paper()):
        assert len(figure.axes) > 0
        assert figure._repr_png_().startswith(b"\x89PNG")
    assert run.figure().stat().st_size > 0


def test_a_folder_may_be_relative_to_the_root_of_the_repository(
    run, monkeypatch, tmp_path
):
    """A notebook's working directory is its own folder."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/mine").symlink_to(run.run.folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(analysis, "ROOT", tmp_path)
    monkeypatch.setenv("ALEXNET_RUN", "runs/mine")
    assert analysis.open_run("tiny").run.name == "tiny"


def test_the_environment_may_name_the_run(run, monkeypatch, tmp_path):
    monkeypatch.setenv("ALEXNET_RUN", str(run.run.folder))
    assert analysis.open_run("tiny").run.name == "tiny"
    with pytest.raises(UserError, match=r"experiment\.json"):
        analysis.open_run("dropout", tmp_path)


def test_a_run_of_another_experiment_is_refused_by_name(run):
    with pytest.raises(UserError, match="'tiny', and this notebook is about 'dropout'"):
        analysis.open_run("dropout", run.run.folder)


@pytest.mark.parametrize("count", [2, 8])
def test_errors_by_class_tell_any_number_of_arms_apart(count):
    """More arms than colors are the rows of a table."""
    arms, names = [f"arm {n}" for n in range(count)], ["cat", "dog", "fish"]
    values = np.arange(3.0 * count).reshape(count, 3)
    (axis,) = analysis.draw_classes(arms, names, values).axes
    assert [label.get_text() for label in axis.get_xticklabels()] == names
    if count == 2:
        colors = {bar.get_facecolor() for bar in axis.patches}
        assert [bar.get_height() for bar in axis.patches] == [*range(6)]
        assert len(colors) == count
    else:
        assert [label.get_text() for label in axis.get_yticklabels()] == arms
        assert [text.get_text() for text in axis.texts] == [
            f"{value:.1f}" for value in values.ravel()
        ]
