"""Images in one folder get their classes from the lists that datasets come with."""

import shutil

import numpy as np
import pytest
from reading import records, write_images
from scipy.io import savemat

from alexnet_jax.data.folder import open_folder
from alexnet_jax.errors import UserError

TENCH, GOLDFISH = "n01440764", "n01443537"
# The classes of the three held-out images, by number.
LABELS = {1: GOLDFISH, 2: TENCH, 3: GOLDFISH}
KAGGLE_ROWS = [
    "ImageId,PredictionString",
    *(f"ILSVRC2012_val_0000000{i},{c} 1 2 3 4 {c} 5 6 7 8 " for i, c in LABELS.items()),
]
TINY_ROWS = [f"val_{i}.JPEG\t{c}\t0\t32\t44\t62" for i, c in LABELS.items()]
SYNSETS = [f"{TENCH} tench, Tinca tinca", f"{GOLDFISH} goldfish, Carassius auratus"]


def write_imagenet(root, layout="train/{}/1.JPEG"):
    names = [f"val/ILSVRC2012_val_0000000{i}.JPEG" for i in LABELS]
    return write_images(root, [layout.format(TENCH), layout.format(GOLDFISH), *names])


def write_tiny(root):
    trained = [f"train/{c}/images/{c}_0.JPEG" for c in (TENCH, GOLDFISH)]
    return write_images(root, trained + [f"val/images/val_{i}.JPEG" for i in LABELS])


def write_lines(path, lines, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())


def write_devkit(folder, numbers=(2, 1, 2)):
    """meta.mat in the form of the development kit, with one inner node."""
    write_lines(folder / "ILSVRC2012_validation_ground_truth.txt", map(str, numbers))
    fields = ("ILSVRC2012_ID", "WNID", "words")
    rows = [(1, TENCH, "tench"), (2, GOLDFISH, "goldfish"), (3, "n00001740", "entity")]
    synsets = np.empty((3, 1), [(name, "O") for name in fields])
    for i, (number, *names) in enumerate(rows):
        synsets[i, 0] = (np.float64(number), *names)
    savemat(folder / "meta.mat", {"synsets": synsets})


def assert_labeled(opened, written, pattern):
    expected = {written[pattern.format(i)]: (TENCH, GOLDFISH).index(c)
                for i, c in LABELS.items()}  # fmt: skip
    assert dict(records(opened.validation)) == expected
    assert opened.validation.num_examples == 3


@pytest.mark.parametrize("place", ["val", ".", "../../.."])
def test_kaggles_solution_sorts_imagenet(tmp_path, place):
    """Kaggle's archive has it three folders above the images' splits."""
    root = tmp_path / "ILSVRC/Data/CLS-LOC"
    written = write_imagenet(root)
    write_lines(root / place / "LOC_val_solution.csv", KAGGLE_ROWS)
    assert_labeled(open_folder(root), written, "val/ILSVRC2012_val_0000000{}.JPEG")


@pytest.mark.parametrize("place", ["val", "ILSVRC2012_devkit_t12/data"])
def test_the_development_kit_sorts_imagenet(tmp_path, place):
    written = write_imagenet(tmp_path)
    write_devkit(tmp_path / place)
    assert_labeled(open_folder(tmp_path), written, "val/ILSVRC2012_val_0000000{}.JPEG")


def test_to_measure_networks_listed_images_need_no_training_images(tmp_path):
    """ImageNet's validation archive and development kit, and nothing else."""
    written = write_imagenet(tmp_path)
    shutil.rmtree(tmp_path / "train")
    write_devkit(tmp_path / "ILSVRC2012_devkit_t12/data")
    opened = open_folder(tmp_path, trained_on=())
    assert_labeled(opened, written, "val/ILSVRC2012_val_0000000{}.JPEG")
    assert opened.class_names == (TENCH, GOLDFISH)
    assert len(opened.train) == 0


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_annotations_sort_tiny_imagenet(tmp_path, end, capsys):
    written = write_tiny(tmp_path)
    write_lines(tmp_path / "val/val_annotations.txt", TINY_ROWS, end)
    opened = open_folder(tmp_path)
    assert_labeled(opened, written, "val/images/val_{}.JPEG")
    assert opened.validation.name == "val"
    assert opened.validation.where(0) == "val/images/val_2.JPEG"
    assert capsys.readouterr().err == ""


def test_the_fingerprint_changes_with_the_list(tmp_path):
    write_tiny(tmp_path)
    write_lines(tmp_path / "val/val_annotations.txt", TINY_ROWS)
    before = open_folder(tmp_path).fingerprint
    changed = [TINY_ROWS[0].replace(GOLDFISH, TENCH), *TINY_ROWS[1:]]
    write_lines(tmp_path / "val/val_annotations.txt", changed)
    assert open_folder(tmp_path).fingerprint != before


@pytest.mark.parametrize(
    ("write", "files"),
    [
        (
            write_imagenet,
            ["LOC_val_solution.csv", "ILSVRC2012_validation_ground_truth"],
        ),
        (write_tiny, ["val_annotations.txt"]),
    ],
)
def test_a_missing_list_is_named(tmp_path, write, files):
    write(tmp_path)
    with pytest.raises(UserError, match="3 images and no class folders") as raised:
        open_folder(tmp_path)
    assert all(name in str(raised.value) for name in files)


def test_unlabeled_test_images_are_refused_rather_than_replaced(tmp_path):
    write_images(tmp_path, [f"train/{c}/{i}.png" for c in "ab" for i in range(20)])
    write_images(tmp_path, ["test/1.png", "test/2.png"])
    with pytest.raises(UserError, match=r"2 images and no class folders.* test/"):
        open_folder(tmp_path)


def test_the_list_of_other_images_is_passed_over(tmp_path):
    write_tiny(tmp_path)
    write_lines(tmp_path / "LOC_val_solution.csv", KAGGLE_ROWS)
    named = (
        r"LOC_val_solution\.csv names none of them\. Put the list .* val_annotations"
    )
    with pytest.raises(UserError, match=named):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (TINY_ROWS[:2], r"lacks 1 of 3 images .*: val_3\.JPEG"),
        ([*TINY_ROWS, f"val_1.JPEG\t{TENCH}"], "line 4: val_1.JPEG has the class"),
        (["val_1.JPEG", *TINY_ROWS], "line 1: no image name and class"),
        ([*TINY_ROWS[:2], "val_3.JPEG\tn99999999"], "lacks: n99999999"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(tmp_path, rows, message):
    write_tiny(tmp_path)
    write_lines(tmp_path / "val/val_annotations.txt", rows)
    with pytest.raises(UserError, match=message):
        open_folder(tmp_path)


def test_a_list_in_another_encoding_is_refused(tmp_path):
    write_tiny(tmp_path)
    (tmp_path / "val/val_annotations.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"val_annotations\.txt is not UTF-8"):
        open_folder(tmp_path)


def test_a_development_kit_that_does_not_fit_is_refused(tmp_path):
    write_imagenet(tmp_path)
    write_devkit(tmp_path, numbers=(2, 1))
    with pytest.raises(UserError, match="lacks 1 of 3 images"):
        open_folder(tmp_path)
    write_devkit(tmp_path, numbers=(2, 1, 7))
    with pytest.raises(UserError, match=r"ground_truth\.txt, line 3: '7'"):
        open_folder(tmp_path)
    (tmp_path / "meta.mat").write_bytes(b"not a MATLAB file")
    with pytest.raises(UserError, match=r"meta\.mat cannot be read"):
        open_folder(tmp_path)
    (tmp_path / "meta.mat").unlink()
    with pytest.raises(UserError, match=r"put the meta\.mat"):
        open_folder(tmp_path)


def test_images_that_a_list_has_in_excess_are_reported(tmp_path, capsys):
    write_tiny(tmp_path)
    more = [*TINY_ROWS, f"val_4.JPEG\t{TENCH}\t0\t1\t2\t3"]
    write_lines(tmp_path / "val/val_annotations.txt", more)
    assert open_folder(tmp_path).validation.num_examples == 3
    assert "lacks 1 of the 4 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "separator"), [("LOC_synset_mapping.txt", " "), ("words.txt", "\t")]
)
def test_wordnet_ids_get_their_words(tmp_path, name, separator):
    layout = [f"{s}/{c}/1.png" for s in ("train", "val") for c in (TENCH, GOLDFISH)]
    write_images(tmp_path, layout)
    before = open_folder(tmp_path)
    assert before.class_names == (TENCH, GOLDFISH)
    rows = ["n00001740 entity", *SYNSETS]
    write_lines(tmp_path / name, [row.replace(" ", separator, 1) for row in rows])
    opened = open_folder(tmp_path)
    assert opened.class_names == tuple(SYNSETS)
    assert opened.fingerprint == before.fingerprint


def test_words_are_of_wordnet_ids_alone(tmp_path):
    write_images(tmp_path, [f"{s}/{c}/1.png" for s in ("train", "val") for c in "ab"])
    write_lines(tmp_path / "words.txt", ["a apple"])
    assert open_folder(tmp_path).class_names == ("a", "b")
