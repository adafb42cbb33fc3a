"""NumPy archives of images and labels, in the layouts of Keras and of MedMNIST."""

import io

import numpy as np
import PIL.Image
import pytest

from alexnet_jax.data.arrays import open_arrays
from alexnet_jax.data.open import open_source
from alexnet_jax.errors import UserError

DRAWS = np.random.default_rng(0)


def drawn(*shape):
    return DRAWS.integers(0, 256, shape, np.uint8)


KERAS = {
    "x_train": drawn(6, 8, 8),
    "y_train": np.array([0, 1, 2, 0, 1, 2], np.uint8),
    "x_test": drawn(3, 8, 8),
    "y_test": np.array([2, 1, 0], np.uint8),
}
MEDMNIST = {
    f"{split}_{what}": array
    for split, count in (("train", 4), ("val", 3), ("test", 2))
    for what, array in (
        ("images", drawn(count, 9, 7, 3)),
        ("labels", np.arange(count).reshape(-1, 1) % 2),
    )
}


def written(folder, arrays):
    np.savez(folder / "a set.npz", **arrays)
    return folder / "a set.npz"


def pixels_of(encoded):
    return np.asarray(PIL.Image.open(io.BytesIO(encoded)))


@pytest.mark.parametrize(
    ("arrays", "names", "held_out"),
    [
        (KERAS, ("x_train", "y_train", "x_test", "y_test"), "test"),
        (MEDMNIST, ("train_images", "train_labels", "val_images", "val_labels"), "val"),
    ],
)
def test_images_and_labels_are_those_of_the_file(tmp_path, arrays, names, held_out):
    source = open_source(f"npz={written(tmp_path, arrays)}", tfds_dir="")
    assert (source.name, source.validation.name) == ("npz=a set.npz", held_out)
    for split, x, y in (
        (source.train, *names[:2]),
        (source.validation, *names[2:]),
    ):
        assert len(split) == len(arrays[x])
        for number, image in enumerate(arrays[x]):
            encoded, label = split.read(number)
            np.testing.assert_array_equal(pixels_of(encoded), image)
            assert label == arrays[y].ravel()[number]
        assert split.where(1) == f"{x}[1] of {tmp_path / 'a set.npz'}"
    assert (source.train.gray is None) == (arrays is MEDMNIST)


def test_a_single_channel_is_gray_and_classes_may_have_names(tmp_path):
    changed = KERAS | {name: KERAS[name][..., None] for name in ("x_train", "x_test")}
    named = changed | {"class_names": np.array(["cat", "dog", "fish"])}
    source = open_arrays(written(tmp_path, named))
    assert source.class_names == ("cat", "dog", "fish")
    assert source.train.gray.pixels.shape == (6, 8, 8)
    assert source.fingerprint == open_arrays(written(tmp_path, KERAS)).fingerprint
    other = KERAS | {"y_test": np.array([2, 1, 1])}
    assert source.fingerprint != open_arrays(written(tmp_path, other)).fingerprint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": drawn(6, 8, 8) / 255}, "x_train has .*float64; images are uint8"),
        ({"x_train": drawn(6, 8, 8, 4)}, r"x_train has shape \(6, 8, 8, 4\)"),
        ({"x_train": drawn(6, 64)}, "x_train .*height and a width"),
        ({"y_train": np.arange(5)}, "y_train .*each of 6 images"),
        ({"y_train": np.arange(6) / 2}, "y_train .*whole number"),
        ({"y_train": np.eye(6, dtype=int)}, "y_train .*whole number"),
        ({"y_train": np.arange(6) - 1}, "y_train .*count from 0"),
        ({"y_train": np.arange(6) * 2}, "no training image has the label 1"),
        ({"y_test": np.array([0, 1, 7])}, "no training image has the label 7"),
        ({"y_train": np.zeros(6, int), "y_test": np.zeros(3, int)}, "the same label"),
        ({"class_names": np.array(["a", "b"])}, "class_names must be 3 strings"),
        ({"x_train": np.array([{}] * 6)}, "cannot be read .*pickle"),
    ],
)
def test_other_arrays_are_refused(tmp_path, changes, words):
    path = written(tmp_path, KERAS | changes)
    with pytest.raises(UserError, match=words):
        open_arrays(path)


def test_missing_files_and_arrays_are_named(tmp_path):
    path = written(tmp_path, {"x_train": KERAS["x_train"], "odd\n": KERAS["y_train"]})
    with pytest.raises(UserError, match=r"lacks arrays.*It has x_train, odd\\n"):
        open_arrays(path)
    with pytest.raises(UserError, match=r"No such file: .*Did you mean 'a set.npz'"):
        open_arrays(tmp_path / "a sett.npz")


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "single", "flipped"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = written(tmp_path, KERAS)
    data = path.read_bytes()
    if damage == "single":
        with path.open("wb") as file:
            np.save(file, KERAS["x_train"])
    else:
        middle = len(data) // 4
        path.write_bytes(
            {
                "empty": b"",
                "cut": data[: len(data) // 2],
                "text": b"no archive",
                "flipped": data[:middle]
                + bytes([data[middle] ^ 1])
                + data[middle + 1 :],
            }[damage]
        )
    with pytest.raises(UserError, match="cannot be read as a NumPy archive"):
        open_arrays(path)
