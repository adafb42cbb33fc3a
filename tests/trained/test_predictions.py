"""The command `predict`: tables, JSON Lines and figures of what is in images."""

import io
import json
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from forked import command

from alexnet_jax.data.digits import open_digits
from alexnet_jax.errors import UserError
from alexnet_jax.trained import prediction_figure, predictions
from alexnet_jax.trained.guesses import Guess, Predicted
from alexnet_jax.trained.locate import load
from alexnet_jax.trained.predictions import predict

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trial(run_folder):
    return str(run_folder / "ReLU/seed0")


@pytest.fixture
def folder(tmp_path):
    """Six digits in folders of their classes, a broken file and one that is no image."""
    split = open_digits().validation
    for index in range(6):
        content, label = split.read(index)
        (tmp_path / str(label)).mkdir(exist_ok=True)
        (tmp_path / str(label) / f"{index}.png").write_bytes(content)
    (tmp_path / "broken.png").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_is_classified_and_a_bad_file_named(trial, folder, capsys):
    assert predict(trial, [str(folder)], as_json=True) == 1
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert len(lines) == 6
    network = load(trial)
    for line in lines:
        assert line["true_class"] == line["image"].split("/")[-2]
        expected = network.classify([line["image"]])[0]
        assert [each["name"] for each in line["classes"]] == [g.name for g in expected]
        assert len(line["classes"]) == 5
    assert "broken.png" in shown.err
    assert "notes.txt" not in shown.err


def test_the_table_has_bars_and_marks_the_true_class():
    pixels = np.zeros((4, 4, 3), np.uint8)
    guesses = [Guess("cat", 0.75), Guess("dog", 0.2), Guess("fish", 0.001)]
    lines = predictions.text(Predicted("a.jpg", pixels, guesses, "dog")).splitlines()
    assert lines[0] == "a.jpg"
    assert lines[1].count("█") == 15
    assert lines[2].count("█") == 4
    assert "its folder" in lines[2]
    assert lines[3].count("█") == 0
    assert "0.1%" in lines[3]


def test_standard_input_is_an_image(trial, folder, capsys, monkeypatch):
    path = next(folder.rglob("0.png"))

    class Input:
        buffer = io.BytesIO(path.read_bytes())

    monkeypatch.setattr("sys.stdin", Input)
    assert predict(trial, ["-"], as_json=True, top=1) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["image"] == "-"
    assert found["true_class"] is None
    assert found["classes"][0]["name"] == load(trial).classify([path])[0][0].name


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_picture_has_every_image_and_the_lengths_of_its_bars(
    trial, folder, kind, capsys
):
    path = folder / f"picture.{kind}"
    network = load(trial)
    files = sorted(map(str, folder.rglob("[0-9].png")))
    found = list(predictions.predictions(network, files))
    figure = prediction_figure.draw(found)
    shown = [axis for axis in figure.axes if axis.images]
    bars = [axis for axis in figure.axes if axis.patches]
    assert (len(shown), len(bars)) == (6, 6)
    for one, image, bar in zip(found, shown, bars, strict=True):
        assert (np.asarray(image.images[0].get_array()) == one.pixels).all()
        widths = [patch.get_width() for patch in bar.patches]
        assert widths == pytest.approx([guess.probability for guess in one.guesses])
        red = [patch.get_facecolor()[0] > 0.8 for patch in bar.patches]
        assert red == [guess.name == one.true_class for guess in one.guesses]
    assert predict(trial, files, picture=str(path)) == 0
    if kind == "png":
        with PIL.Image.open(path) as image:
            assert min(image.size) > 300
    else:
        assert path.read_text().startswith("<?xml")


def test_a_missing_file_is_named_and_the_others_go_on(trial, folder, capsys):
    missing = str(folder / "no such.png")
    image = str(next(folder.rglob("0.png")))
    assert predict(trial, [missing, image, f"{missing}/"], as_json=True) == 2
    shown = capsys.readouterr()
    assert [json.loads(line)["image"] for line in shown.out.splitlines()] == [image]
    assert f"Unreadable: {missing}: No such file or directory." in shown.err
    with pytest.raises(
        UserError, match=f"No such image or folder: {missing}, {missing}x"
    ):
        predict("no network", [missing, f"{missing}x"])
    with pytest.raises(UserError, match="None of the 2 images"):
        predict(trial, [missing, str(folder / "broken.png")])
    os.mkfifo(folder / "pipe")  # to read it would wait for ever
    with pytest.raises(UserError, match="pipe is a device or a pipe"):
        predict("no network", [image, str(folder / "pipe")])


def test_bad_input_is_refused_before_the_network_is_read(trial, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for images, changes, said in (
        (["/no/such.jpg"], {}, "No such image or folder: /no/such.jpg"),
        ([str(tmp_path / "empty")], {}, "holds no image"),
        ([str(folder)], {"picture": "a.pdf"}, r"\.png or \.svg"),
        ([str(folder)], {"picture": "/no/such/a.png"}, "no such folder"),
    ):
        with pytest.raises(UserError, match=said):
            predict("no network", images, **changes)
    with pytest.raises(UserError, match="None of the 1 images"):
        predict(trial, [str(folder / "broken.png")])


@pytest.mark.slow
def test_commands_end_with_a_message_and_a_status(trial, folder):
    """As a user types them."""
    image = str(next(folder.rglob("0.png")))
    for arguments, status, said in (
        (["--help"], 0, "predict"),
        (["predict", trial, image], 0, "%"),
        (["predict", trial, str(folder)], 1, "broken.png"),
        (["predict", trial, image, "no such.png"], 1, "no such.png: No such file"),
        (["predict", trial, "no such.png"], 2, "No such image or folder: no such.png"),
        (["predict", trial], 2, "takes RUN IMAGE"),
        (["predikt", trial], 2, "Did you mean 'predict'"),
        (["train"], 2, "alexnet_jax.main"),
        (["kernels", trial, f"--output={folder}/k.png"], 0, "of their energy is color"),
        (["kernels", trial, "--output=k.pdf"], 2, "ends in .png or .svg"),
        (["evaluate", trial], 0, "top-1 error"),
        (["evaluate", trial, "--crops=5"], 2, "crops"),
        (["evaluate"], 2, "takes RUN"),
    ):
        done = command("alexnet_jax", *arguments)
        assert done.returncode == status, (arguments, done.stderr)
        assert said in done.stdout + done.stderr, (arguments, done)
        assert "Traceback" not in done.stderr
