"""Errors are counted as training counts them, over networks, crops and classes."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from alexnet_jax.data.digits import open_digits
from alexnet_jax.errors import UserError
from alexnet_jax.trained import error_tables, measuring
from alexnet_jax.trained.locate import load
from alexnet_jax.trained.measuring import measure


@pytest.fixture(scope="module")
def relu(run_folder):
    return load(run_folder / "ReLU/seed0")


@pytest.fixture(scope="module")
def tanh(run_folder):
    return load(run_folder / "tanh/seed0")


@pytest.fixture(scope="module")
def digits():
    return open_digits()


@pytest.fixture(scope="module")
def of_relu(relu, digits):
    return measure([relu], digits)


def test_the_errors_are_those_that_training_recorded(relu, of_relu):
    assert of_relu.num_examples == 359
    assert of_relu.top1_error == relu.measured["top1_error"]
    assert of_relu.top5_error == relu.measured["top5_error"]
    assert of_relu.loss == pytest.approx(relu.measured["loss"], rel=1e-5)
    assert of_relu.confusion.sum() == 359
    assert of_relu.confusion.trace() == 359 - of_relu.top1_errors


def images_and_labels(source):
    split = source.validation
    return zip(*(split.read(k) for k in range(split.num_examples)), strict=True)


@pytest.mark.parametrize("crops", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_an_average_of_networks_is_that_of_a_slow_loop(relu, tanh, digits, crops):
    contents, labels = images_and_labels(digits)
    total = sum(one.probabilities(contents, crops=crops) for one in (relu, tanh)) / 2
    found = measure([relu, tanh], digits, crops=crops)
    wrong = total.argmax(axis=1) != np.array(labels)
    assert found.top1_errors == wrong.sum()
    assert found.networks == (relu.origin, tanh.origin)
    chosen = total[np.arange(len(labels)), list(labels)]
    assert found.loss == pytest.approx(-np.log(chosen).mean(), rel=1e-4)


def test_classes_are_matched_by_name_in_whatever_order(relu, tanh, digits, of_relu):
    """A dataset and a second network whose classes are numbered the other way round."""
    names = digits.class_names[::-1]

    def read(index):
        content, label = digits.validation.read(index)
        return content, 9 - label

    held = dataclasses.replace(digits.validation, read=read, gray=None)
    turned = dataclasses.replace(digits, class_names=names, validation=held)
    found = measure([relu], turned)
    assert (found.confusion == of_relu.confusion).all()

    last = relu.params["fc4"]
    other = dataclasses.replace(
        relu,
        params=relu.params | {"fc4": {name: x[..., ::-1] for name, x in last.items()}},
        trained_on=dataclasses.replace(relu.trained_on, class_names=names),
    )
    assert (measure([relu, other], digits).confusion == of_relu.confusion).all()


def test_networks_with_other_classes_are_refused(relu, digits):
    fewer = dataclasses.replace(
        relu, trained_on=dataclasses.replace(relu.trained_on, class_names=("0", "1"))
    )
    with pytest.raises(UserError, match="2 classes and"):
        measure([relu, fewer], digits)


def test_reassessed_labels_replace_those_of_the_dataset(relu, digits, of_relu):
    """Every second image has none, the others both their own and a further class."""
    _, labels = images_and_labels(digits)
    sets = [
        [label, (label + 1) % 10] if k % 2 else [] for k, label in enumerate(labels)
    ]
    found = measure([relu], digits, reassessed=sets)
    assert (found.num_examples, found.unlabeled) == (179, 180)
    assert found.loss is None
    contents, _ = images_and_labels(digits)
    best = relu.probabilities(contents).argmax(axis=1)
    wrong = sum(
        own != [] and int(k) not in own for k, own in zip(best, sets, strict=True)
    )
    assert found.top1_errors == wrong <= of_relu.top1_errors


def test_the_paper_stands_beside_its_own_protocol_only(of_relu):
    classes = tuple(f"n{k:08d}" for k in range(1000))

    def imagenet(**changes):
        errors = dataclasses.replace(
            of_relu,
            class_names=classes,
            examples=np.full(1000, 50),
            top1_wrong=np.full(1000, 20),
            top5_wrong=np.full(1000, 9),
            confusion=np.zeros((1000, 1000), int),
            crops=10,
        )
        return dataclasses.replace(errors, **changes)

    row = measuring.paper_row(imagenet())
    assert (row.top1, row.top5) == (0.407, 0.182)
    assert "the paper: Table 2, 1 CNN" in error_tables.text(imagenet())
    assert measuring.paper_row(imagenet(networks=tuple("abcde"))).top5 == 0.164
    for changes in (
        {"crops": 1},
        {"networks": ("a", "b")},
        {"networks": ("a",) * 5},
        {"examples": np.full(1000, 10)},
        {"loss": None},
        {"class_names": tuple(map(str, range(1000)))},
    ):
        assert measuring.paper_row(imagenet(**changes)) is None


# --- The command ------------------------------------------------------------------


def evaluate(origins, **changes):
    arguments = {
        "arm": "",
        "dataset": "",
        "tfds_dir": "",
        "crops": 1,
        "per_class": "",
        "reassessed": "",
        "as_json": False,
    }
    return error_tables.evaluate(origins, **arguments | changes)


def test_the_command_prints_and_writes_the_errors(
    run_folder, of_relu, tmp_path, capsys
):
    path = tmp_path / "classes.csv"
    shown = evaluate([str(run_folder)], arm="ReLU", per_class=str(path))
    assert f"{of_relu.top1_error:.2%} ({of_relu.top1_errors})" in shown
    assert "first choice" in shown
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["top1_errors"]) for row in rows) == of_relu.top1_errors
    assert sum(int(row["examples"]) for row in rows) == 359
    shares = [float(row["top1_error"]) for row in rows]
    assert shares == sorted(shares, reverse=True)
    held = json.loads(evaluate([str(run_folder)], arm="ReLU", as_json=True))
    assert held["top1_errors"] == of_relu.top1_errors
    (name,) = held["networks"]  # which trial and step was measured
    assert name in shown
    assert name.startswith(f"{run_folder / 'ReLU/seed0'}@")
    assert json.loads(evaluate([name], as_json=True)) == held


def test_what_was_measured_is_printed_where_the_csv_cannot_be_written(
    run_folder, of_relu, tmp_path, capsys, monkeypatch
):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(error_tables, "write_by_class", full)
    path = str(tmp_path / "classes.csv")
    with pytest.raises(OSError, match="No space"):
        evaluate([str(run_folder)], arm="ReLU", per_class=path)
    assert f"({of_relu.top1_errors})" in capsys.readouterr().out


def test_bad_input_is_refused_before_anything_is_written(run_folder, tmp_path):
    trial = str(run_folder / "ReLU/seed0")
    sets = tmp_path / "real.json"
    sets.write_text("[[1], [2]]")
    broken = tmp_path / "broken.json"
    broken.write_text("[[1000]]")
    for changes, said in (
        ({"per_class": str(tmp_path / "no/such/file.csv")}, "no such folder"),
        ({"per_class": str(tmp_path)}, "is a folder"),
        ({"reassessed": str(tmp_path / "missing.json")}, "cannot be read"),
        ({"reassessed": str(broken)}, "numbers from 0 to 9"),
        ({"reassessed": str(sets)}, "ImageNet's validation images"),
        ({"dataset": "folder=/no/such"}, "No such folder"),
    ):
        with pytest.raises(UserError, match=said):
            evaluate([trial], **changes)
    assert not (tmp_path / "no").exists()
