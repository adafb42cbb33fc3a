"""A folder yields the images stored in it and reports unusual files."""

import errno
import os
import re
import unicodedata

import numpy as np
import odd_images
import pytest
import tensorflow as tf
from reading import png, read_by_many_threads, records, write_images

from alexnet_jax.data import folder, images
from alexnet_jax.data.open import open_source
from alexnet_jax.data.types import hash_of
from alexnet_jax.errors import UserError

# A second class, the last in the order of the classes.
ZOO = ("train/zoo/1.png", "val/zoo/1.png")


@pytest.mark.parametrize("held", ["val", "validation", "test"])
def test_a_folder_with_splits(tmp_path, held):
    layout = [
        "train/cat/b.png",
        "train/cat/a.JPG",
        "train/cat/more/c.gif",
        "train/ant/z.jpeg",
        f"{held}/cat/v.bmp",
        f"{held}/ant/w.png",
        f"{held}/ant/x.png",
    ]
    written = write_images(tmp_path, layout)
    (tmp_path / "train/cat/notes.txt").write_text("not an image")
    opened = open_source(f"folder={tmp_path}", tfds_dir="")
    assert opened.class_names == ("ant", "cat")
    assert opened.validation.name == held
    for split, part in ((opened.train, "train"), (opened.validation, held)):
        expected = [
            (data, opened.class_names.index(name.split("/")[1]))
            for name, data in written.items()
            if name.startswith(f"{part}/")
        ]
        assert sorted(records(split)) == sorted(expected)


def test_a_folder_without_splits_holds_out_every_tenth(tmp_path):
    names = [f"{c}/{i:02}.png" for c in ("a", "b") for i in range(15)]
    written = write_images(tmp_path, names)
    opened = folder.open_folder(tmp_path)
    expected = [(written[name], "ab".index(name[0])) for name in names]
    assert records(opened.validation) == expected[9::10]
    assert records(opened.train) == [e for i, e in enumerate(expected) if i % 10 != 9]


def test_to_measure_networks_a_folder_without_splits_is_read_whole(tmp_path, capsys):
    """Of few images too, with a class that has none, and a class of one image."""
    written = write_images(tmp_path / "train", ["a/1.png", "a/2.png", "b/1.png"])
    (tmp_path / "train/c").mkdir()
    (tmp_path / "test").mkdir()
    opened = folder.open_folder(tmp_path / "train", trained_on={"another"})
    labels = [0, 0, 1]
    expected = list(zip(written.values(), labels, strict=True))
    assert (opened.class_names, len(opened.train)) == (("a", "b", "c"), 0)
    assert records(opened.validation) == expected
    shown = capsys.readouterr().err
    assert "no images of 1 of 3 classes (c)" in shown
    assert "measured on all of its images" in shown


def test_the_fingerprint_of_a_folder_changes_with_its_files(tmp_path):
    write_images(tmp_path, [f"{c}/{i:02}.png" for c in "ab" for i in range(10)])
    before = folder.open_folder(tmp_path).fingerprint
    assert folder.open_folder(tmp_path).fingerprint == before
    (tmp_path / "a/00.png").rename(tmp_path / "b/00x.png")
    assert folder.open_folder(tmp_path).fingerprint != before


def test_a_missing_folder_message_gives_the_expected_layout(tmp_path):
    with pytest.raises(UserError, match=r"No such folder: .*nowhere.*train/CLASS"):
        open_source(f"folder={tmp_path / 'nowhere'}", tfds_dir="")


def test_an_archive_is_to_be_unpacked(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"images\.zip is a file: unpack"):
        folder.open_folder(tmp_path / "images.zip")
    (tmp_path / "train").mkdir()
    for name in ("n01440764.tar", "n01443537.tar", "README"):
        (tmp_path / "train" / name).touch()
    with pytest.raises(UserError, match=r"archives \(n01440764\.tar, n01443537\.tar\)"):
        folder.open_folder(tmp_path)


@pytest.mark.parametrize("made", [".", "cat", "train/cat"])
def test_an_empty_folder_is_refused(tmp_path, made):
    (tmp_path / made).mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError, match=r"No images in .*folder for each class"):
        folder.open_folder(tmp_path)


def test_a_class_that_only_val_has_is_refused(tmp_path):
    write_images(tmp_path, [*ZOO, "train/cat/1.png", "val/cat/1.png", "val/dog/1.png"])
    with pytest.raises(UserError, match=r"val has classes that .*train lacks: dog"):
        folder.open_folder(tmp_path)


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX", "@eaDir"])
def test_folders_of_operating_systems_are_neither_classes_nor_images(tmp_path, hidden):
    layout = [f"{split}/{c}/1.png" for split in ("train", "val") for c in ("b", "c")]
    made = [f"{hidden}/1.png", f"train/{hidden}/1.png", f"val/{hidden}/1.png"]
    write_images(tmp_path, [*layout, *made, f"train/b/{hidden}/1.png/small.png"])
    opened = folder.open_folder(tmp_path)
    assert opened.class_names == ("b", "c")
    assert [label for _, label in records(opened.train)] == [0, 1]
    assert opened.validation.num_examples == 2


def test_val_without_train_is_refused(tmp_path):
    write_images(tmp_path, [f"{s}/cat/{i}.png" for s in ("trian", "val") for i in "ab"])
    with pytest.raises(UserError, match="val/ to measure errors on, but no train/"):
        folder.open_folder(tmp_path)


@pytest.mark.parametrize("extra", [[], ["val/a"]])
def test_a_folder_without_evaluation_images_is_refused(tmp_path, extra):
    prefix = "train/" if extra else ""
    write_images(tmp_path, [f"{prefix}{'ab'[i % 2]}/{i}.png" for i in range(9)])
    for name in extra:
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match="No images to measure errors on"):
        folder.open_folder(tmp_path)


def test_images_are_found_at_any_depth_and_with_any_suffix(tmp_path):
    suffixes = ["jpg", "JPEG", "png", "bmp", "gif", "webp", "WebP"]
    names = [f"train/cat/{'deep/' * i}{i}.{s}" for i, s in enumerate(suffixes)]
    written = write_images(tmp_path, [*names, "val/cat/1.png", "train/zoo/1.png"])
    opened = folder.open_folder(tmp_path)
    assert sorted(records(opened.train)[:-1]) == sorted((written[n], 0) for n in names)
    where = [opened.train.where(i) for i in range(len(names))]
    assert sorted(where) == sorted(names)
    for i, name in enumerate(where):
        assert opened.train.read(i)[0] == written[name]


def test_several_threads_read_the_right_images(tmp_path):
    write_images(tmp_path, [f"{c}/{i:02}.png" for c in "ab" for i in range(20)])
    opened = folder.open_folder(tmp_path)
    expected = dict(enumerate(records(opened.train)))
    assert all(got == expected for got in read_by_many_threads(opened.train))


# --- Unusual and bad images -------------------------------------------------------


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory):
    """All unusual and bad images in one class, and a second class of regular ones."""
    root = tmp_path_factory.mktemp("odd")
    write_images(root, ["train/whole/1.png", "val/whole/1.png"])
    odd, reasons = odd_images.write(root / "train/odd")
    return folder.open_folder(root).train, odd, reasons


def as_the_pipeline_reads(split, indices, size=64):
    """Decoded and rescaled images, in a tf.data graph."""

    def load(i):
        data = tf.numpy_function(lambda i: split.read(int(i))[0], [i], tf.string)
        image = images.decode(data)
        return image, images.rescale(image, size, "shorter_side")

    return list(
        tf.data.Dataset.from_tensor_slices(np.int64(indices))
        .map(load, num_parallel_calls=2, deterministic=True)
        .as_numpy_iterator()
    )


def index_by_name(split):
    return {
        split.where(i).removeprefix("train/odd/"): i for i in range(split.num_examples)
    }


def test_every_odd_image_becomes_the_documented_rgb(odd_folder):
    split, odd, _ = odd_folder
    at = index_by_name(split)
    got = as_the_pipeline_reads(split, [at[name] for name in odd])
    for (name, (expected, allowed)), (image, scaled) in zip(
        odd.items(), got, strict=True
    ):
        assert image.shape == expected.shape, name
        assert np.abs(image - expected.astype(float)).max() <= allowed, name
        assert scaled.shape == (64, 64, 3), name
    tall = got[list(odd).index("20x5000.png")][1]
    assert (tall == (200, 100, 50)).all()


@pytest.mark.slow
def test_every_bad_image_is_refused_with_its_reason(odd_folder):
    split, odd, reasons = odd_folder
    at = index_by_name(split)
    assert set(at) == {*odd, *reasons, "train/whole/1.png"}
    for name, reason in reasons.items():
        with pytest.raises(tf.errors.OpError) as raised:
            as_the_pipeline_reads(split, [at[name]])
        message = raised.value.message.split("\nTraceback")[0]
        assert re.search(reason, message), (name, message)


def test_file_system_errors_name_the_file(odd_folder):
    split, _, reasons = odd_folder
    at = index_by_name(split)
    for name in ("empty.jpg", "broken link.png", "link to itself.png", "pipe.png"):
        with pytest.raises(UserError, match=reasons[name]) as raised:
            split.read(at[name])
        assert f"train/odd/{name}" in str(raised.value)
        assert "remove it from the folder" in str(raised.value)


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    """The refusal is simulated, since root may read everything."""
    write_images(tmp_path, ["train/cat/1.png", "train/cat/2.png", *ZOO])
    opened = folder.open_folder(tmp_path).train
    really = os.open

    def refuse(path, *given, **more):
        if str(path).endswith("2.png"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return really(path, *given, **more)

    monkeypatch.setattr(os, "open", refuse)
    opened.read(0)
    with pytest.raises(UserError, match=r"train/cat/2.png cannot be read: Permission"):
        opened.read(1)


def test_a_deleted_file_is_named(tmp_path):
    write_images(tmp_path, ["train/cat/1.png", *ZOO])
    opened = folder.open_folder(tmp_path).train
    (tmp_path / "train/cat/1.png").unlink()
    with pytest.raises(
        UserError, match=r"train/cat/1.png cannot be read: No such file"
    ):
        opened.read(0)


# --- Unusual folders --------------------------------------------------------------


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    """Otherwise its images would be missing silently."""
    write_images(tmp_path, ["train/cat/1.png", "train/cat/b/2.png", *ZOO])
    really = os.scandir

    def refuse(path):
        if str(path).endswith("cat/b"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return really(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"train/cat/b cannot be listed: Permission"):
        folder.open_folder(tmp_path)


@pytest.mark.parametrize("splits", [True, False], ids=["with splits", "without"])
def test_a_class_without_training_images_is_refused_by_name(tmp_path, splits):
    names = [f"cat/{i:02}.png" for i in range(20)]
    prefix = "train/" if splits else ""
    write_images(tmp_path, [prefix + n for n in names] + ["val/cat/1.png"] * splits)
    (tmp_path / prefix / "emu").mkdir()
    (tmp_path / prefix / "emu" / "notes.txt").write_text("not an image")
    with pytest.raises(UserError, match=r"without training images: emu\."):
        folder.open_folder(tmp_path)


def test_a_class_whose_only_image_is_held_out_is_refused_by_name(tmp_path):
    write_images(tmp_path, [*(f"a/{i}.png" for i in range(9)), "b/1.png"])
    with pytest.raises(UserError, match=r"every tenth .* no training images: b\."):
        folder.open_folder(tmp_path)


def test_a_class_missing_in_val_is_reported(tmp_path, capsys):
    write_images(tmp_path, ["train/cat/1.png", "train/emu/1.png", "val/cat/1.png"])
    (tmp_path / "val/emu").mkdir()
    assert folder.open_folder(tmp_path).class_names == ("cat", "emu")
    assert "has no images of 1 of 2 classes (emu)" in capsys.readouterr().err


def test_a_misspelled_val_class_message_suggests_the_nearest(tmp_path):
    write_images(tmp_path, ["train/cat/1.png", "train/emu/1.png", "val/Cat/1.png"])
    with pytest.raises(UserError, match=r"lacks: Cat\. Did you mean 'cat'\?"):
        folder.open_folder(tmp_path)


def test_ignored_files_and_folders_are_reported(tmp_path, capsys):
    write_images(tmp_path, ["train/loose.png", *ZOO, "test/cat/1.png"])
    write_images(tmp_path, [f"train/cat/x{i}.png" for i in range(10)])
    (tmp_path / "train/cat/a.tif").write_bytes(b"TIFF")
    folder.open_folder(tmp_path)
    noted = capsys.readouterr().err
    assert "not images of a class: 1 outside the class folders, 1 .tif" in noted
    assert "folders not used: test." in noted


@pytest.mark.parametrize(
    "made", ["runs/a/experiment.json", "prepared/a/plan.json", "report/report.html"]
)
@pytest.mark.parametrize("split", ["", "train/"])
def test_what_a_command_leaves_in_the_folder_is_no_class(tmp_path, capsys, made, split):
    """After `cd images` and `folder=.`, the figures of a run would be a class."""
    layout = [f"{split}{c}/{i}.png" for c in "ab" for i in range(20)]
    write_images(tmp_path, layout)
    before = folder.open_folder(tmp_path)
    assert capsys.readouterr().err == ""
    place = tmp_path / split / made
    place.parent.mkdir(parents=True)
    place.write_text("{}")
    write_images(place.parent, [f"figure{i}.png" for i in range(3)])
    after = folder.open_folder(tmp_path)
    assert (after.class_names, after.fingerprint) == (("a", "b"), before.fingerprint)
    named = made.partition("/")[0]
    assert (
        f"runs, prepared sets or reports are in them: {named}."
        in capsys.readouterr().err
    )


def test_a_class_with_pictures_beside_a_folder_of_a_run_stays_a_class(tmp_path):
    write_images(tmp_path, [f"{c}/{i}.png" for c in "ab" for i in range(20)])
    (tmp_path / "a/run").mkdir()
    (tmp_path / "a/run/experiment.json").touch()
    assert folder.open_folder(tmp_path).class_names == ("a", "b")


def test_a_regular_folder_prints_nothing(tmp_path, capsys):
    write_images(tmp_path, ["train/cat/1.png", "val/cat/1.png", *ZOO])
    folder.open_folder(tmp_path)
    assert capsys.readouterr().err == ""


def test_symlinks_are_followed(tmp_path):
    """A subset of a large dataset, made of links to files, folders and classes."""
    written = write_images(tmp_path / "large", ["1.png", "d/2.png", "emu/3.png"])
    root = tmp_path / "part"
    write_images(root, ["train/cat/0.png", "val/cat/0.png"])
    (root / "train/cat/1.png").symlink_to(tmp_path / "large/1.png")
    (root / "train/cat/d").symlink_to(tmp_path / "large/d")
    (root / "train/emu").symlink_to(tmp_path / "large/emu")
    opened = folder.open_folder(root)
    assert records(opened.train)[1:] == [
        (written["1.png"], 0),
        (written["d/2.png"], 0),
        (written["emu/3.png"], 1),
    ]
    assert opened.train.where(3) == "train/emu/3.png"


@pytest.mark.parametrize("target", ["..", ".", "../../.."])
def test_a_circular_symlink_is_refused_by_name(tmp_path, target):
    write_images(tmp_path, ["train/cat/d/1.png", "val/cat/1.png", *ZOO])
    (tmp_path / "train/cat/d/back").symlink_to(target)
    with pytest.raises(UserError, match=r"back.* leads back into a folder"):
        folder.open_folder(tmp_path)


def test_unicode_forms_of_a_class_name_are_one_class(tmp_path):
    """macOS stores é as e plus an accent, Linux as one character."""
    composed, decomposed = (unicodedata.normalize(f, "é") for f in ("NFC", "NFD"))
    write_images(tmp_path, [f"train/{composed}/1.png", f"val/{decomposed}/1.png", *ZOO])
    opened = folder.open_folder(tmp_path)
    assert opened.class_names == ("zoo", composed)
    assert [label for _, label in records(opened.validation)] == [0, 1]
    write_images(tmp_path, [f"train/{decomposed}/1.png"])
    with pytest.raises(UserError, match="two class folders"):
        folder.open_folder(tmp_path)


def test_an_undecodable_file_name_is_shown_on_one_line(tmp_path):
    write_images(tmp_path, ["train/cat/1.png", *ZOO])
    name = os.fsencode(tmp_path) + b"/train/cat/a\xff\n\x1b[2J.png"
    with open(name, "wb") as file:
        file.write(png(7))
    opened = folder.open_folder(tmp_path)
    assert opened.train.where(1) == r"train/cat/a\xff\n\x1b[2J.png"
    assert opened.train.read(1) == (png(7), 0)
    assert len(opened.fingerprint) == 16


def test_the_fingerprint_format_is_stable(tmp_path):
    """A different value would invalidate every existing run folder."""
    for place in ("train/cat", "train/dog", "val/cat"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "1.png").write_bytes(b"seven b")
    names = (b"train/cat", b"train/dog", b"val/cat")
    assert folder.open_folder(tmp_path).fingerprint == hash_of(
        [name + b"/1.png\x007" for name in names]
    )


# --- Folders that are not the dataset ---------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("", "ILSVRC/Data/CLS-LOC"),
        ("ILSVRC/Data", "ILSVRC/Data/CLS-LOC"),
        ("ILSVRC/Data/CLS-LOC/train/cat", "ILSVRC/Data/CLS-LOC"),
    ],
)
def test_a_folder_above_or_below_the_dataset_names_the_dataset(tmp_path, given, meant):
    """Above it, the network would have a single class and never err."""
    write_images(tmp_path / "ILSVRC/Data/CLS-LOC", ["train/cat/1.png", *ZOO])
    (tmp_path / "ILSVRC/Annotations").mkdir()
    with pytest.raises(UserError, match=f"mean folder={tmp_path / meant}[?]"):
        folder.open_folder(tmp_path / given)


def test_class_folders_without_splits_are_found_below(tmp_path):
    write_images(tmp_path, [f"flowers/{c}/{i}.png" for c in "ab" for i in range(10)])
    with pytest.raises(UserError, match=r"mean folder=.*/flowers\?"):
        folder.open_folder(tmp_path)


def test_a_folder_of_several_datasets_is_refused(tmp_path):
    for name in ("birds", "flowers"):
        write_images(tmp_path / name, ["train/cat/1.png", *ZOO])
    with pytest.raises(UserError, match=r"splits in them: birds, flowers"):
        folder.open_folder(tmp_path)


def test_a_misspelled_validation_folder_beside_a_test_folder_is_asked_about(tmp_path):
    splits = ("train", "test", "vaild")
    write_images(tmp_path, [f"{s}/{c}/1.png" for s in splits for c in ("cat", "dog")])
    with pytest.raises(UserError, match=r"vaild/ with the same class .*name it val/"):
        folder.open_folder(tmp_path)


@pytest.mark.parametrize("names", ["tr te", "fold1 fold2 fold3", "red blue"])
def test_folders_that_hold_the_same_folders_are_not_taken_for_classes(tmp_path, names):
    """Names have no meaning, but each of them holds cat/ and dog/."""
    write_images(
        tmp_path, [f"{s}/{c}/1.png" for s in names.split() for c in ("cat", "dog")]
    )
    with pytest.raises(UserError, match=r"holds the folders cat, dog.*train/ and val/"):
        folder.open_folder(tmp_path)


def test_kinds_of_files_are_not_classes(tmp_path):
    """A dataset for segmentation would be learned without an error."""
    kinds = ("Images", "masks")
    write_images(tmp_path, [f"{s}/{k}/1.png" for s in ("train", "val") for k in kinds])
    with pytest.raises(UserError, match="Images, masks, which are kinds of files"):
        folder.open_folder(tmp_path)


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_a_single_class_is_refused(tmp_path, prefix):
    write_images(tmp_path, [f"{prefix}cat/{i:02}.png" for i in range(20)])
    with pytest.raises(UserError, match="single class, cat, with 20 images"):
        folder.open_folder(tmp_path)


@pytest.mark.parametrize("place", [".", "train"])
def test_images_without_class_folders_are_refused(tmp_path, place):
    write_images(tmp_path / "data" / place, [f"{i}.png" for i in range(20)])
    with pytest.raises(UserError, match="20 images and no class folders"):
        folder.open_folder(tmp_path / "data")


def test_a_split_given_in_place_of_its_dataset_is_reported(tmp_path, capsys):
    write_images(tmp_path, [f"train/{c}/{i}.png" for c in "ab" for i in range(10)])
    write_images(tmp_path, ["val/a/1.png"])
    assert folder.open_folder(tmp_path / "train").validation.num_examples == 2
    assert f"folder={tmp_path}." in capsys.readouterr().err
