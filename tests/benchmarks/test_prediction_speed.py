"""The benchmark of trained networks in use: its parts on few images, and its table."""

import numpy as np
import PIL.Image
import pytest

from alexnet_jax.trained.locate import load
from benchmarks import prediction_speed, torch_baselines
from benchmarks.benchmark_tables import PREDICT_TARGETS, predict_lines
from benchmarks.prediction_baselines import TorchPredictions, pillow_crop
from benchmarks.random_network import random_network, save


@pytest.fixture
def image(tmp_path):
    draws = np.random.default_rng(0)
    path = tmp_path / "a.jpg"
    pixels = draws.integers(0, 256, (300, 400, 3)).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(path)
    return str(path)


def test_neighbors_are_timed():
    row = prediction_speed.neighbors_row(1, rows=2500, width=16)
    assert (row["rows"], row["width"], row["queries"]) == (2500, 16, 5)
    assert row["seconds"] > 0


def test_files_are_made_or_taken(image, tmp_path):
    with prediction_speed.files("") as (paths, note):
        assert len(paths) == 66
        assert "66 parts" in note
    with prediction_speed.files(str(tmp_path)) as (paths, note):
        assert paths == [image]
        assert note.startswith("1 images")


def test_the_saved_network_is_opened(tmp_path):
    network = random_network(10, width=0.125)
    save(network, tmp_path)
    found = load(tmp_path)
    assert found.class_names == network.class_names
    np.testing.assert_array_equal(
        found.params["fc6"]["kernel"], network.params["fc6"]["kernel"]
    )


@pytest.mark.slow
def test_every_implementation_answers(image, monkeypatch):
    small = random_network(10, width=0.125)
    monkeypatch.setattr(prediction_speed, "random_network", lambda _: small)
    row = prediction_speed.throughput_row([image], 1, 2, num_classes=10)
    assert row["images_per_second"]["ours"] > 0
    if torch_baselines.pytorch():
        assert len(row["images_per_second"]) == 5
        assert row["fastest"].startswith("torch")
        assert len(row["ratios"]) == 1


def test_pytorch_sees_a_center_crop_of_the_rescaled_image(image):
    """And its answers are probabilities, best first, one list an image."""
    assert pillow_crop(image).shape == (224, 224, 3)
    torch = torch_baselines.pytorch()
    if not torch:
        pytest.skip("PyTorch is not installed")
    baseline = TorchPredictions(torch, [image] * 3, 2, num_classes=10)
    answers = baseline.answers(baseline.from_threads())
    assert len(answers) == 3
    for answer in answers:
        values = [probability for _, probability in answer]
        assert len(values) == 5
        assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("good", [True, False])
def test_the_table_says_whether_targets_are_met(good):
    ratio, seconds = (1.6, 0.9) if good else (1.4, 4.1)
    rows = [
        {
            "name": "from files",
            "images_per_second": {"ours": 80.0, "torch threads": 50.0},
            "fastest": "torch threads",
            "ratios": [ratio],
            "ratio": ratio,
        },
        {"name": "first answer", "start": "cold", "seconds": 9.0},
        {"name": "first answer", "start": "warm", "seconds": seconds},
        {
            "name": "neighbors",
            "rows": 100_000,
            "width": 4096,
            "queries": 5,
            "seconds": seconds,
        },
    ]
    report = {"batch_size": 128, "photographs": "two", "rows": rows, "versions": {}}
    lines = predict_lines(report)
    wanted, other = ("met", "missed") if good else ("missed", "met")
    shown = "\n".join(lines)
    assert shown.count(f" {wanted} (target") == len(PREDICT_TARGETS)
    assert f" {other} (target" not in shown
    assert "target" not in "\n".join(predict_lines(report | {"batch_size": 8}))
