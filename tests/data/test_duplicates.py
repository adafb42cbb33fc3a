"""Images that are in training and in validation are counted, and little is read."""

import dataclasses

import pytest
from reading import write_images

from alexnet_jax.data import duplicates
from alexnet_jax.data.folder import open_folder
from alexnet_jax.data.types import Source, Split


@pytest.fixture
def images(tmp_path):
    names = [f"{s}/{c}/{i}.png" for s in ("train", "val") for c in "ab" for i in "123"]
    write_images(tmp_path, names)
    return tmp_path


def copy(root, train, held):
    (root / held).write_bytes((root / train).read_bytes())


def test_equal_images_are_counted_with_place_and_class(images):
    assert duplicates.find(open_folder(images)).count == 0
    copy(images, "train/a/2.png", "val/a/1.png")
    copy(images, "train/a/2.png", "val/b/3.png")
    copy(images, "train/b/1.png", "train/b/2.png")  # in one split: not counted
    found = duplicates.find(open_folder(images))
    assert (found.count, found.total, found.other_class) == (2, 6, 1)
    assert found.first == ("train/a/2.png", "val/a/1.png")
    assert "2 of 6 images of val" in found.sentence()


def test_held_out_images_of_one_folder_are_compared_too(tmp_path):
    write_images(tmp_path, [f"{c}/{i}.png" for c in "ab" for i in range(10)])
    copy(tmp_path, "a/0.png", "b/9.png")
    assert duplicates.find(open_folder(tmp_path)).first == ("a/0.png", "b/9.png")


def test_unreadable_images_equal_none(images):
    for name in ("train/a/1.png", "val/a/1.png"):
        (images / name).write_bytes(b"")
    for name in ("train/b/1.png", "val/b/1.png"):
        (images / name).unlink()
        (images / name).symlink_to("nowhere")
    assert duplicates.find(open_folder(images)).count == 0


def test_only_images_of_equal_size_and_end_are_read(tmp_path):
    end = bytes(5000)
    for name, data in {
        "train/a/same.png": b"1" + end,
        "train/a/start.png": b"2" + end,
        "train/a/end.png": b"3" + end[1:] + b"x",
        "train/b/size.png": end,
        "val/a/same.png": b"1" + end,
        "val/b/size.png": end[:10],
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    opened, read, ends = open_folder(tmp_path), [], []

    def watched(split):
        def whole(i):
            read.append(split.where(i))
            return split.read(i)

        def last(i):
            ends.append(split.where(i))
            return split.read_end(i)

        return dataclasses.replace(split, read=whole, read_end=last)

    splits = {"train": watched(opened.train), "validation": watched(opened.validation)}
    found = duplicates.find(dataclasses.replace(opened, **splits))
    assert found.first == ("train/a/same.png", "val/a/same.png")
    same = {"train/a/same.png", "train/a/start.png", "val/a/same.png"}
    assert set(read) == same
    assert set(ends) == same | {"train/a/end.png"}


def test_many_images_of_unknown_size_are_not_read(monkeypatch):
    def split(name, images):
        return Split(name, len(images), lambda i: (images[i], 0))

    train, held = split("train", [b"x", b"y", b"z"]), split("test", [b"a", b"y"])
    source = Source("set", ("a", "b"), train, held, "fingerprint")
    monkeypatch.setattr(duplicates, "READ_AT_MOST", 5)
    assert duplicates.find(source).count == 1
    monkeypatch.setattr(duplicates, "READ_AT_MOST", 4)
    assert duplicates.find(source).count is None
    assert "Not compared" in duplicates.find(source).sentence()
