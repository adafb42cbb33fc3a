"""The command `evaluate` measures every labeled image of a folder, each once, and says which."""

import dataclasses
import json

import numpy as np
import pytest
from reading import png, write_images

from alexnet_jax.data.digits import open_digits
from alexnet_jax.data.folder import open_folder
from alexnet_jax.errors import UserError
from alexnet_jax.trained import error_tables, locate
from alexnet_jax.trained.exchange.foreign_classes import imagenet_classes
from alexnet_jax.trained.locate import load

ARGUMENTS = {
    "arm": "",
    "tfds_dir": "",
    "crops": 1,
    "per_class": "",
    "reassessed": "",
    "as_json": False,
}


def evaluate(origins, dataset, **changes):
    return error_tables.evaluate(origins, dataset=dataset, **ARGUMENTS | changes)


@pytest.fixture(scope="module")
def trial(run_folder):
    return str(run_folder / "ReLU/seed0")


@pytest.fixture(scope="module")
def network(trial):
    return load(trial)


@pytest.fixture
def as_loaded(monkeypatch):
    """Names a network that the command then opens."""

    def named(network):
        monkeypatch.setattr(locate, "load", lambda *_, **__: network)

    return named


def renamed(network, class_names, fingerprint="abc"):
    """A network with other classes, its last weights cut or drawn."""
    draws = np.random.default_rng(0)
    kernel = network.params["fc4"]["kernel"]
    last = {
        "kernel": draws.normal(size=(*kernel.shape[:-1], len(class_names))),
        "bias": draws.normal(size=len(class_names)),
    }
    last = {name: array.astype(np.float32) for name, array in last.items()}
    trained_on = dataclasses.replace(
        network.trained_on, class_names=tuple(class_names), fingerprint=fingerprint
    )
    params = network.params | {"fc4": last}
    return dataclasses.replace(network, params=params, trained_on=trained_on)


# --- Which images -----------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "train/", "val/", "Test/", "validation/"])
def test_every_image_of_a_folder_is_measured(trial, network, tmp_path, prefix):
    """Of one without splits, of one with a single split; the errors are a slow loop's."""
    split, count = open_digits().validation, 47
    images, labels = zip(*(split.read(k) for k in range(count)), strict=True)
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / f"{prefix}{label}/{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    shown = evaluate([trial], f"folder={tmp_path}")
    wrong = network.probabilities(images).argmax(axis=1) != np.array(labels)
    name = prefix.strip("/")
    which = "all images" if name in ("", "train") else f"{name} split"
    assert shown.startswith(f"folder={tmp_path.name}, {which}, center crop:")
    assert f"{wrong.mean():.2%} ({wrong.sum()})" in shown
    held = json.loads(evaluate([trial], f"folder={tmp_path}", as_json=True))
    assert (held["examples"], held["top1_errors"]) == (count, wrong.sum())
    assert network.evaluate(f"folder={tmp_path}").num_examples == count


def test_folders_with_imagenets_numbers_are_measured_whole(
    network, tmp_path, as_loaded
):
    """As ImageNetV2 has them, here with a few of the classes."""
    names = [f"{c}/{k}.png" for c in (0, 1, 10, 100, 999) for k in range(4)]
    write_images(tmp_path, names)
    shuffled = np.random.default_rng(1).permutation(imagenet_classes()).tolist()
    as_loaded(renamed(network, shuffled))
    found = json.loads(evaluate(["x"], f"folder={tmp_path}", as_json=True))
    assert (found["split"], found["examples"]) == ("all images", 20)
    assert "in the order of their WordNet ids" in found["notes"][0]
    assert found["confusion"] is None
    shown = evaluate(["x"], f"folder={tmp_path}", per_class=str(tmp_path / "a.csv"))
    assert "all images" in shown
    rows = (tmp_path / "a.csv").read_text().splitlines()[1:]
    wanted = {imagenet_classes()[k][:9] for k in (0, 1, 10, 100, 999)}
    assert {row.strip('"')[:9] for row in rows} == wanted


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_of_the_folder_of_the_training_the_held_out_images_are_measured(
    network, tmp_path, prefix, capsys
):
    names = [f"{prefix}{c}/{k:02}.png" for c in ("cat", "dog") for k in range(20)]
    write_images(tmp_path, names)
    opened = open_folder(tmp_path)
    trained = renamed(network, ("cat", "dog"), opened.fingerprint)
    other = renamed(network, ("cat", "dog"), "another")
    for first, beside in ((trained, []), (other, [trained])):
        source = first.open_to_measure(f"folder={tmp_path}", beside=beside)
        places = [source.validation.where(k) for k in range(len(source.validation))]
        assert source.validation.name == "test"
        assert places == [opened.validation.where(k) for k in range(4)]
        assert source.train.num_examples == 36
    whole = other.open_to_measure(f"folder={tmp_path}")
    assert (len(whole.validation), len(whole.train)) == (40, 0)
    assert whole.fingerprint == opened.fingerprint
    assert other.evaluate(f"folder={tmp_path}").num_examples == 40
    assert "dataset of the training" not in capsys.readouterr().err


def test_a_dataset_of_the_training_that_has_changed_is_said(network, tmp_path, capsys):
    write_images(tmp_path, [f"{c}/{k}.png" for c in ("cat", "dog") for k in range(5)])
    changed = renamed(network, ("cat", "dog"))
    changed = dataclasses.replace(
        changed,
        trained_on=dataclasses.replace(
            changed.trained_on, dataset=f"folder={tmp_path.name}"
        ),
    )
    assert changed.evaluate(f"folder={tmp_path}").num_examples == 10
    assert "its files are others" in capsys.readouterr().err


def test_one_class_is_enough_to_be_measured(network, tmp_path):
    write_images(tmp_path, [f"3/{k}.png" for k in range(3)])
    assert network.evaluate(f"folder={tmp_path}").num_examples == 3


def test_arrays_without_training_images_are_measured(network, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8), np.uint8)
    labels = np.array([0, 1, 9, 9, 3, 5, 0])
    np.savez(tmp_path / "a.npz", x_test=images, y_test=labels)
    errors = network.evaluate(f"npz={tmp_path / 'a.npz'}")
    assert (errors.split, errors.num_examples) == ("test", 7)
    assert errors.examples.tolist() == [2, 1, 0, 1, 0, 1, 0, 0, 0, 2]


# --- Reassessed labels ------------------------------------------------------------


def test_reassessed_numbers_are_imagenets_whatever_the_order_of_the_classes(
    network, tmp_path, as_loaded
):
    """Of folders that sort as text, and a network with the classes in another order."""
    known, chosen = imagenet_classes(), (0, 1, 10, 100, 2)
    shuffled = np.random.default_rng(1).permutation(known).tolist()
    trained = renamed(network, shuffled)
    sets, images = [], {}
    for number in range(1, 21):
        own = chosen[number % len(chosen)]
        image = png(number)
        best = shuffled[int(trained.probabilities([image]).argmax())]
        right = known.index(best)
        # Right, right and another, wrong, and none.
        sets.append([[right], [own, right], [(right + 1) % 1000], []][number % 4])
        images[f"{own}/ILSVRC2012_val_{number:08}.JPEG"] = image
    for name, image in images.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    (tmp_path / "real.json").write_text(json.dumps(sets))
    as_loaded(trained)
    given = {"reassessed": str(tmp_path / "real.json")}
    dataset = f"folder={tmp_path / 'images'}"
    found = json.loads(evaluate(["x"], dataset, as_json=True, **given))
    assert (found["examples"], found["unlabeled"], found["loss"]) == (15, 5, None)
    assert found["top1_errors"] == 5
    said = "real.json were read as ImageNet's classes in the order of their WordNet ids"
    assert any(said in note for note in found["notes"])
    assert said in evaluate(["x"], dataset, **given)


def test_other_reassessed_numbers_are_names_or_positions(
    trial, network, tmp_path, as_loaded
):
    """Of a network whose classes are called so, and of a dataset's classes in order."""
    sets = [[k % 2] for k in range(6)]
    (tmp_path / "real.json").write_text(json.dumps(sets))
    given = {"reassessed": str(tmp_path / "real.json"), "as_json": True}
    for names, classes, said in (
        (("3", "5"), network.class_names, "the names of the network's classes"),
        (("ant", "bee"), ("bee", "emu", "ant"), "positions among the classes"),
    ):
        trained = renamed(network, classes)
        folder = tmp_path / names[0]
        layout = [f"{names[k // 3]}/ILSVRC2012_val_{k + 1:08}.png" for k in range(6)]
        images = list(write_images(folder, layout).values())
        as_loaded(trained)
        found = json.loads(evaluate(["x"], f"folder={folder}", **given))
        best = [classes[k] for k in trained.probabilities(images).argmax(axis=1)]
        meant = ("0", "1") if names[0] == "3" else names
        wrong = sum(b != meant[k] for b, (k,) in zip(best, sets, strict=True))
        assert found["top1_errors"] == wrong
        assert any(said in note for note in found["notes"])


def test_a_number_above_those_of_the_classes_is_refused(network, tmp_path, as_loaded):
    write_images(tmp_path / "images", ["0/ILSVRC2012_val_00000001.png"])
    (tmp_path / "real.json").write_text("[[1000]]")
    as_loaded(renamed(network, imagenet_classes()))
    with pytest.raises(UserError, match="from 0 to 999, which are ImageNet's"):
        evaluate(
            ["x"],
            f"folder={tmp_path / 'images'}",
            reassessed=str(tmp_path / "real.json"),
        )


# --- Several networks, and what is printed ----------------------------------------


def test_a_network_is_not_averaged_with_itself(run_folder, trial, network, tmp_path):
    network.save(tmp_path / "copy.safetensors")
    copy = str(tmp_path / "copy.safetensors")
    for origins, said in (
        ([trial, trial], "is given twice"),
        ([trial, str(run_folder / "tanh/seed0"), f"{trial}@best"], "is given twice"),
        ([copy, trial], "the same weights"),
    ):
        with pytest.raises(UserError, match=said):
            evaluate(origins, "folder=/no/such")
    both = evaluate([trial, str(run_folder / "tanh/seed0")], "digits")
    assert "average of 2 networks" in both


def test_json_has_the_confusion_matrix_of_few_classes(trial, network, monkeypatch):
    found = json.loads(evaluate([trial], "", as_json=True))
    errors = network.evaluate("digits")
    assert found["confusion"]["classes"] == list(network.class_names)
    assert found["confusion"]["images"] == errors.confusion.tolist()
    monkeypatch.setattr(error_tables, "CONFUSION_CLASSES", 9)
    assert json.loads(evaluate([trial], "", as_json=True))["confusion"] is None
