"""Splits are recognized by the names of their folders, or the user is asked."""

import pytest
from reading import write_images

from alexnet_jax.data.folder import open_folder
from alexnet_jax.data.split_folders import find
from alexnet_jax.errors import UserError


def write(root, *folders):
    """Two images of two classes in each folder."""
    write_images(
        root, [f"{f}/{c}/{i}.png" for f in folders for c in "ab" for i in "12"]
    )


@pytest.mark.parametrize(
    ("train", "held"),
    [
        ("Train", "Val"),
        ("TRAIN", "TEST"),
        ("training", "validating"),
        ("training", "validation"),
        ("training_set", "test_set"),
        ("TrainSet", "devset"),
        ("Training Images", "Testing Images"),
        ("train-data", "eval"),
        ("train", "valid"),
        ("train", "dev"),
        ("train", "evaluation"),
        ("seg_train", "seg_test"),
        ("train2017", "val2017"),
        ("ILSVRC2012_img_train", "ILSVRC2012_img_val"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("training_set/training_set", "test_set"),
    ],
)
def test_splits_are_recognized_in_every_common_spelling(tmp_path, train, held, capsys):
    write(tmp_path, train, held)
    opened = open_folder(tmp_path)
    assert opened.class_names == ("a", "b")
    assert (opened.train.name, opened.validation.name) == ("train", held.split("/")[0])
    assert opened.train.where(0) == f"{train}/a/1.png"
    assert opened.validation.where(0) == f"{held}/a/1.png"
    assert capsys.readouterr().err == ""


def test_validation_is_preferred_to_test_whatever_the_spelling(tmp_path):
    write(tmp_path, "train", "Testing", "valid")
    assert find(tmp_path).held == "valid"
    assert find(tmp_path).unused == ("Testing",)


@pytest.mark.parametrize("names", [("val", "valid"), ("val", "Val"), ("dev", "eval")])
def test_two_names_of_one_split_are_refused(tmp_path, names):
    write(tmp_path, "train", *names)
    with pytest.raises(UserError, match="mean the same split") as raised:
        find(tmp_path)
    assert all(name in str(raised.value) for name in names)


def test_two_training_folders_are_refused(tmp_path):
    write(tmp_path, "train", "Training", "val")
    with pytest.raises(UserError, match="same split: Training, train"):
        find(tmp_path)


@pytest.mark.parametrize("name", ["holdout", "seg_val", "Prueba"])
def test_an_unknown_name_beside_train_is_not_replaced_by_held_out_images(
    tmp_path, name
):
    write(tmp_path, "train", name)
    with pytest.raises(UserError, match=f"{name}/ has the class folders a, b too"):
        find(tmp_path)


@pytest.mark.parametrize("other", ["2_val", "seg_pred"])
def test_a_lone_name_that_may_be_a_split_is_refused(tmp_path, other):
    write(tmp_path, "seg_train", other)
    with pytest.raises(UserError, match="Is it a split or a class"):
        find(tmp_path)


@pytest.mark.parametrize("name", ["val", "Test", "validation_set", "test/test"])
def test_to_measure_networks_a_split_needs_no_training_images(tmp_path, name):
    write(tmp_path, name)
    (tmp_path / "devkit/data").mkdir(parents=True)
    found = find(tmp_path, needs_training=False)
    assert (found.train, found.held) == ("", name)
    assert found.held_name == name.split("/")[0]
    with pytest.raises(UserError, match=r"but no train/"):
        find(tmp_path)


def test_of_two_lone_splits_that_of_validation_is_measured(tmp_path, capsys):
    write(tmp_path, "val", "test")
    opened = open_folder(tmp_path, trained_on=())
    assert (opened.validation.name, len(opened.validation)) == ("val", 4)
    assert "not used: test. Errors are measured on val." in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["ship/1.png", "vaild/a/1.png"])
def test_a_lone_split_beside_a_class_or_a_misspelled_split_is_asked_about(
    tmp_path, layout
):
    write(tmp_path, "Test")
    write_images(tmp_path, [layout])
    with pytest.raises(UserError, match="Is it a split or a class"):
        find(tmp_path, needs_training=False)


def test_class_names_with_the_word_of_a_split_remain_classes(tmp_path):
    classes = ("bullet_train", "dev_board", "test_tube")
    write_images(tmp_path, [f"{c}/{i}.png" for c in classes for i in range(10)])
    assert open_folder(tmp_path).class_names == classes


@pytest.mark.parametrize("name", ["train", "valid", "Test"])
def test_a_class_named_like_a_split_is_refused_and_possible_below_train(tmp_path, name):
    layout = [f"{c}/{i}.png" for c in ("ship", name) for i in range(10)]
    write_images(tmp_path / "data", layout)
    with pytest.raises(UserError, match=r"If these folders are classes.* train/"):
        open_folder(tmp_path / "data")
    write_images(tmp_path / "sorted/train", layout)
    assert set(open_folder(tmp_path / "sorted").class_names) == {"ship", name}
