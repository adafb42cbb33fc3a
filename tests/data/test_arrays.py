"""NumPy archives of images and labels, in the layouts of Keras and of MedMNIST."""

import contextlib
import io
import zipfile

import numpy as np
import PIL.Image
import pytest

from alexnet_jax.data import arrays, duplicates
from alexnet_jax.data.arrays import open_arrays
from alexnet_jax.data.open import open_source
from alexnet_jax.data.pipeline import evaluation_batches, load_data
from alexnet_jax.data.prepared import build, reader
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


def test_the_fingerprint_is_of_pixels_shapes_labels_and_names(tmp_path):
    flat = {name: KERAS[name].reshape(-1, 4, 16) for name in ("x_train", "x_test")}
    changes = (
        {"y_test": np.array([2, 1, 1])},
        {"x_test": KERAS["x_test"] + np.uint8(1)},
        flat,
        {"class_names": np.array(["a", "b", "c"])},
        {"class_names": np.array(["a", "c", "b"])},
    )
    found = [
        open_arrays(written(tmp_path, KERAS | one)).fingerprint
        for one in ({}, *changes)
    ]
    assert len(set(found)) == len(found)
    typed = KERAS | {"y_train": KERAS["y_train"].astype(np.int64)}
    assert open_arrays(written(tmp_path, typed)).fingerprint == found[0]


def test_other_arrays_are_not_read_and_other_splits_are_named(tmp_path, capsys):
    more = {"meta": np.array([{}])}
    assert len(open_arrays(written(tmp_path, MEDMNIST | more)).validation) == 3
    assert "measured on val; not used: test" in capsys.readouterr().err


def test_to_measure_networks_an_archive_needs_no_training_images(tmp_path):
    held = {name: KERAS[name] for name in ("x_test", "y_test")}
    path = written(tmp_path, held)
    source = open_source(f"npz={path}", tfds_dir="", trained_on=())
    assert (source.class_names, len(source.train)) == (("0", "1", "2"), 0)
    assert [source.validation.read(k)[1] for k in range(3)] == [2, 1, 0]
    named = held | {"class_names": np.array(list("abcde"))}
    source = open_arrays(written(tmp_path, named), needs_training=False)
    assert source.class_names == tuple("abcde")
    for changes, words in (
        ({"y_test": np.array([0, 2**63, 1], np.uint64)}, "9223372036854775808 is too"),
        ({"class_names": np.array(["a", "b"])}, "class_names must be 3 strings"),
    ):
        path = written(tmp_path, held | changes)
        with pytest.raises(UserError, match=words):
            open_arrays(path, needs_training=False)
    with pytest.raises(UserError, match="lacks arrays"):
        open_arrays(path)


def test_equal_images_are_found_without_encoding_the_others(tmp_path, monkeypatch):
    images = KERAS["x_test"].copy()
    images[1] = KERAS["x_train"][4]
    source = open_arrays(written(tmp_path, KERAS | {"x_test": images}))
    encoded, png = [], arrays.png
    monkeypatch.setattr(arrays, "png", lambda x: encoded.append(1) or png(x))
    found = duplicates.find(source)
    assert (found.count, len(encoded)) == (1, 2)
    assert found.first[0].startswith("x_train[4] of ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": drawn(6, 8, 8) / 255}, "x_train has .*float64; images are uint8"),
        ({"x_train": drawn(6, 8, 8, 4)}, r"x_train has shape \(6, 8, 8, 4\)"),
        ({"x_train": drawn(6, 64)}, r"x_train has shape \(6, 64\).*height"),
        (
            {"x_train": drawn(0, 8, 8), "y_train": np.arange(0)},
            r"x_train .*\(0, 8, 8\)",
        ),
        ({"y_train": np.arange(5)}, "y_train .*each of 6 images"),
        ({"y_train": np.arange(6) / 2}, "y_train .*whole number"),
        ({"y_train": np.eye(6, dtype=int)}, "y_train .*whole number"),
        ({"y_train": np.arange(6) - 1}, "y_train .*count from 0"),
        ({"y_train": np.arange(6) * 2}, "no training image has the label 1"),
        ({"y_test": np.array([0, 1, 7])}, "no training image has the label 7"),
        ({"y_train": np.arange(6) * 2**40}, "no training image has the label 1"),
        (
            {"y_test": np.array([0, 1, 2**63], np.uint64)},
            "no training image has the label 9223372036854775808",
        ),
        ({"y_train": np.zeros(6, int), "y_test": np.zeros(3, int)}, "the same label"),
        ({"class_names": np.array(["a", "b"])}, "class_names must be 3 strings"),
        ({"class_names": np.array(["a", "b", "a"])}, "class_names has a name twice"),
        ({"class_names": np.array(["a", "b", None])}, "cannot be read .*pickle"),
        ({"x_train": np.array([{}] * 6)}, "cannot be read .*pickle"),
    ],
)
def test_other_arrays_are_refused(tmp_path, changes, words):
    path = written(tmp_path, KERAS | changes)
    with pytest.raises(UserError, match=words):
        open_arrays(path)


def test_it_is_prepared_and_read_as_any_other(tmp_path):
    source = open_arrays(written(tmp_path, MEDMNIST))
    size, how = 7, "shorter_side"  # 9 x 7 pixels: cropped, not rescaled
    data = load_data(source, rescale=how, rescale_size=size)
    batch = next(iter(evaluation_batches(data.validation, batch_size=3)))
    np.testing.assert_array_equal(batch["image"], MEDMNIST["val_images"][:, 1:8])
    build.prepare(
        source,
        tmp_path / "prepared",
        rescale=how,
        size=size,
        encoding="raw",
        skip_bad=False,
    )
    prepared = reader.open_prepared(tmp_path / "prepared")
    assert prepared.fingerprint == source.fingerprint
    pixels, label = prepared.train.read(2)
    assert pixels == MEDMNIST["train_images"][2, 1:8].tobytes()
    assert label == 0


def test_missing_files_and_arrays_are_named(tmp_path):
    path = written(tmp_path, {"x_train": KERAS["x_train"], "odd\n": KERAS["y_train"]})
    with pytest.raises(UserError, match=r"lacks arrays.*It has x_train, odd\\n"):
        open_arrays(path)
    with pytest.raises(UserError, match=r"No such file: .*Did you mean 'a set.npz'"):
        open_arrays(tmp_path / "a sett.npz")


def test_every_damaged_byte_of_a_compressed_file_gives_a_message_or_nothing(tmp_path):
    """What describes the arrays is guarded by no checksum of its own."""
    path, refused = tmp_path / "a set.npz", 0
    np.savez_compressed(path, **KERAS)
    data = path.read_bytes()
    for place in range(0, len(data), 11):
        for value in (data[place] ^ 1, 255 - data[place]):
            path.write_bytes(data[:place] + bytes([value]) + data[place + 1 :])
            with contextlib.suppress(UserError):
                open_arrays(path)
                continue
            refused += 1
    assert refused > len(data) / 11


def test_a_member_that_is_no_array_is_refused(tmp_path):
    path = written(tmp_path, {n: a for n, a in KERAS.items() if n != "x_train"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train", b"1234")
    with pytest.raises(UserError, match="x_train is no array"):
        open_arrays(path)


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
