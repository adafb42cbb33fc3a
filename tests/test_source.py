"""What is read from digits, folders and TFDS is what was written there."""

import contextlib
import io
import random
import resource
import socket
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from alexnet_jax.data import source
from alexnet_jax.errors import UserError


def png(number, size=8):
    """A picture of its own for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3))
    return tf.io.encode_png(pixels.astype(np.uint8)).numpy()


def records(split):
    return [split.read(i) for i in range(split.num_examples)]


def read_by_many_threads(split):
    """Every record, by eight threads that start together, in a mixed order."""
    start = threading.Barrier(8)

    def read(number):
        indices = list(range(split.num_examples))
        random.Random(number).shuffle(indices)
        start.wait()
        return {i: split.read(i) for i in indices}

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(read, range(8)))


@contextlib.contextmanager
def few_open_files(*, more):
    """This process may open no more than `more` files beyond those it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/dev/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- digits -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return source.open_source("digits", tfds_dir="")


def test_digits_are_1438_and_359(digits):
    assert (digits.name, digits.train.name, digits.validation.name) == (
        "digits",
        "train",
        "test",
    )
    assert digits.train.num_examples == len(digits.train) == 1438
    assert digits.validation.num_examples == len(digits.validation) == 359
    assert digits.class_names == tuple("0123456789")


def test_every_fifth_digit_is_held_out(digits):
    """Pixels and labels against scikit-learn; together the splits are all 1,797."""
    original = load_digits()
    held = set(range(4, 1797, 5))
    kept = [i for i in range(1797) if i not in held]
    for split, indices in ((digits.train, kept), (digits.validation, sorted(held))):
        assert split.num_examples == len(indices)
        for i, (encoded, label) in zip(indices, records(split), strict=True):
            assert label == original.target[i]
            pixels = tf.io.decode_png(encoded, channels=1).numpy()[..., 0]
            # 0 .. 16 are spread over 0 .. 255.
            assert np.abs(pixels / 255 - original.images[i] / 16).max() < 0.002


def test_no_digit_is_in_both_splits(digits):
    train, held = (
        {encoded for encoded, _ in records(split)}
        for split in (digits.train, digits.validation)
    )
    assert len(train) == 1438  # no two are equal
    assert train.isdisjoint(held)


def test_the_fingerprint_of_digits_is_stable(digits):
    """Another value would make every run folder there is another experiment's."""
    assert source.open_digits().fingerprint == digits.fingerprint
    assert len(digits.fingerprint) == 16
    assert int(digits.fingerprint, 16) != 0


# --- folders ----------------------------------------------------------------------


def write_pictures(root, layout):
    """Writes {"train/cat/1.png", ...}; returns the bytes by path."""
    written = {}
    for number, name in enumerate(layout):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
        written[name] = path.read_bytes()
    return written


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
    written = write_pictures(tmp_path, layout)
    (tmp_path / "train/cat/notes.txt").write_text("no picture")
    opened = source.open_source(f"folder={tmp_path}", tfds_dir="")
    assert opened.class_names == ("ant", "cat")
    assert opened.validation.name == held
    for split, folder in ((opened.train, "train"), (opened.validation, held)):
        expected = [
            (data, opened.class_names.index(name.split("/")[1]))
            for name, data in written.items()
            if name.startswith(f"{folder}/")
        ]
        assert sorted(records(split)) == sorted(expected)


def test_a_folder_without_splits_holds_out_every_tenth(tmp_path):
    names = [f"{c}/{i:02}.png" for c in ("a", "b") for i in range(15)]
    written = write_pictures(tmp_path, names)
    opened = source.open_folder(tmp_path)
    expected = [(written[name], "ab".index(name[0])) for name in names]
    assert records(opened.validation) == expected[9::10]
    assert records(opened.train) == [e for i, e in enumerate(expected) if i % 10 != 9]


def test_the_fingerprint_of_a_folder_changes_with_its_files(tmp_path):
    write_pictures(tmp_path, [f"{c}/{i:02}.png" for c in "ab" for i in range(10)])
    before = source.open_folder(tmp_path).fingerprint
    assert source.open_folder(tmp_path).fingerprint == before
    (tmp_path / "a/00.png").rename(tmp_path / "b/00x.png")
    assert source.open_folder(tmp_path).fingerprint != before


def test_a_missing_folder_is_named_with_the_layout_it_should_have(tmp_path):
    with pytest.raises(UserError, match=r"No such folder: .*nowhere.*train/CLASS"):
        source.open_source(f"folder={tmp_path / 'nowhere'}", tfds_dir="")


@pytest.mark.parametrize("made", [".", "cat", "train/cat"])
def test_an_empty_folder_is_refused(tmp_path, made):
    (tmp_path / made).mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError, match=r"No pictures in .*folder for each class"):
        source.open_folder(tmp_path)


def test_a_class_that_only_val_has_is_refused(tmp_path):
    write_pictures(tmp_path, ["train/cat/1.png", "val/cat/1.png", "val/dog/1.png"])
    with pytest.raises(UserError, match=r"val has classes that .*train lacks: dog"):
        source.open_folder(tmp_path)


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX"])
def test_folders_that_systems_put_there_are_no_classes(tmp_path, hidden):
    layout = [f"{split}/{c}/1.png" for split in ("train", "val") for c in ("b", "c")]
    write_pictures(tmp_path, [*layout, f"train/{hidden}/1.png", f"val/{hidden}/1.png"])
    opened = source.open_folder(tmp_path)
    assert opened.class_names == ("b", "c")
    assert [label for _, label in records(opened.train)] == [0, 1]
    assert opened.validation.num_examples == 2


def test_val_without_train_is_no_class(tmp_path):
    write_pictures(
        tmp_path, [f"{s}/cat/{i}.png" for s in ("trian", "val") for i in "ab"]
    )
    with pytest.raises(UserError, match="measure errors on, but no train/"):
        source.open_folder(tmp_path)


@pytest.mark.parametrize("extra", [[], ["val/cat"]])
def test_nothing_to_measure_errors_on_is_refused(tmp_path, extra):
    write_pictures(
        tmp_path, [f"{'train/' if extra else ''}cat/{i}.png" for i in range(9)]
    )
    for folder in extra:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UserError, match="No pictures to measure errors on"):
        source.open_folder(tmp_path)


# --- TensorFlow Datasets ----------------------------------------------------------


class Pictures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS set like any other; `SPLITS` says how many examples each split has."""

    VERSION = tfds.core.Version("1.2.0")
    SPLITS: ClassVar[dict[str, int]] = {"train": 12, "test": 4}
    SUPERVISED = ("image", "label")

    def _info(self):
        features = {
            "id": tfds.features.Text(),  # CIFAR-10 has one too
            "image": tfds.features.Image(encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"]),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=self.SUPERVISED,
        )

    def _split_generators(self, dl_manager):
        numbers = iter(range(sum(self.SPLITS.values())))
        return {
            split: self._generate_examples([next(numbers) for _ in range(count)])
            for split, count in self.SPLITS.items()
        }

    def _generate_examples(self, numbers):
        for i in numbers:
            encoded, label = picture(i)
            yield i, {"id": str(i), "image": io.BytesIO(encoded), "label": label}


class TrainTest(Pictures):
    SPLITS: ClassVar = {"train": 31, "test": 13}


class AllThree(Pictures):
    SPLITS: ClassVar = {"train": 12, "validation": 5, "test": 7}


class TrainOnly(Pictures):
    SPLITS: ClassVar = {"train": 25}


class TestOnly(Pictures):
    __test__ = False  # no pytest class
    SPLITS: ClassVar = {"test": 3}


class Texts(Pictures):
    SUPERVISED = ("id", "label")


class WithoutCode(Pictures, skip_registration=True):
    """On disk only: TFDS does not know this class."""


def picture(number):
    """Encoded image and label of an example."""
    return png(number, size=8 + number % 5), number % 3


def write(builder, folder, num_shards=1):
    """Writes a set as `tfds build` does; returns the folder of its files."""
    builder = builder(data_dir=folder)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=num_shards)
    )
    return Path(builder.data_dir)


def as_tensorflow_reads(files, pattern):
    """(bytes, label) of each record, shard after shard, by tf.data."""
    paths = sorted(map(str, files.glob(pattern)))
    features = {
        "image": tf.io.FixedLenFeature((), tf.string),
        "label": tf.io.FixedLenFeature((), tf.int64),
    }
    parsed = tf.data.TFRecordDataset(paths).map(
        lambda record: tf.io.parse_single_example(record, features)
    )
    return [(e["image"], e["label"]) for e in parsed.as_numpy_iterator()]


def written(numbers):
    return sorted(map(picture, numbers))


def test_a_tfds_set_of_several_shards(tmp_path):
    files = write(TrainTest, tmp_path, num_shards=4)
    assert len(list(files.glob("*-train.tfrecord*"))) == 4
    opened = source.open_source("train_test", tfds_dir=str(tmp_path))
    assert opened.name == "train_test/1.2.0"
    assert opened.class_names == ("ant", "bee", "cat")
    assert (opened.train.name, opened.validation.name) == ("train", "test")
    assert sorted(records(opened.train)) == written(range(31))
    assert sorted(records(opened.validation)) == written(range(31, 44))
    assert records(opened.train) == as_tensorflow_reads(files, "*-train.tfrecord*")
    again = source.open_source("tfds=train_test", tfds_dir=str(tmp_path))
    assert again.fingerprint == opened.fingerprint
    assert records(again.train) == records(opened.train)


def test_a_tfds_set_is_read_without_its_code(tmp_path):
    write(WithoutCode, tmp_path)
    opened = source.open_tfds("without_code", tfds_dir=str(tmp_path))
    assert sorted(records(opened.train)) == written(range(12))
    assert sorted(records(opened.validation)) == written(range(12, 16))


def test_validation_is_preferred_to_test(tmp_path):
    """ImageNet's test labels are secret."""
    write(AllThree, tmp_path)
    opened = source.open_tfds("all_three", tfds_dir=str(tmp_path))
    assert opened.validation.name == "validation"
    assert sorted(records(opened.validation)) == written(range(12, 17))


def test_a_tfds_set_without_test_split_holds_out_every_tenth(tmp_path):
    files = write(TrainOnly, tmp_path, num_shards=3)
    opened = source.open_tfds("train_only", tfds_dir=str(tmp_path))
    everything = as_tensorflow_reads(files, "*-train.tfrecord*")
    assert sorted(everything) == written(range(25))
    assert records(opened.validation) == [everything[9], everything[19]]
    assert records(opened.train) == [
        record for i, record in enumerate(everything) if i not in (9, 19)
    ]


def test_a_tfds_set_without_train_split_is_refused(tmp_path):
    write(TestOnly, tmp_path)
    with pytest.raises(UserError, match=r"'test_only' has no split 'train'.*test"):
        source.open_tfds("test_only", tfds_dir=str(tmp_path))


def test_a_tfds_set_that_is_no_image_classification_is_refused(tmp_path):
    write(Texts, tmp_path)
    expected = r"'texts' is not an image-classification set.*image, label"
    with pytest.raises(UserError, match=expected):
        source.open_tfds("texts", tfds_dir=str(tmp_path))


def test_a_tfds_set_in_another_file_format_is_refused(tmp_path):
    builder = TrainTest(data_dir=tmp_path, file_format="parquet")
    builder.download_and_prepare()
    with pytest.raises(UserError, match=r"stored as parquet; only tfrecord"):
        source.open_tfds("train_test", tfds_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("digitz", "digits"),
        ("cifar1O", "cifar10"),
        ("tfds=fashion_mnst", "fashion_mnist"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(tmp_path, name, nearest):
    with pytest.raises(UserError, match=f"Unknown dataset.*'{nearest}'"):
        source.open_source(name, tfds_dir=str(tmp_path))


@pytest.fixture
def no_fetching(monkeypatch):
    """Neither names are looked up nor files fetched; gives how each is to end."""
    ends = {"lookup": None, "fetch": OSError("reset by peer\nand more")}
    calls = []

    def end(kind):
        calls.append(kind)
        if ends[kind]:
            raise ends[kind]

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: end("lookup"))
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", lambda *_, **__: end("fetch")
    )
    return ends, calls


def assert_says_how_to_fetch(error, name, reason, folder):
    message = str(error.value)
    assert f"'{name}'" in message
    assert f"could not be fetched: {reason}\n" in message
    assert f"tfds build {name} --data_dir={folder}" in message
    assert "digits, ships with scikit-learn and needs nothing" in message
    assert not list(folder.iterdir())


def test_a_set_that_cannot_be_fetched_says_how_to(no_fetching, tmp_path):
    with pytest.raises(UserError) as raised:
        source.open_tfds("cifar10", tfds_dir=str(tmp_path))
    assert_says_how_to_fetch(raised, "cifar10", "reset by peer", tmp_path)
    assert no_fetching[1][-1] == "fetch"


def test_a_failure_without_words_is_told_by_its_type(no_fetching, tmp_path):
    no_fetching[0]["fetch"] = ValueError("")
    with pytest.raises(UserError) as raised:
        source.open_tfds("cifar10", tfds_dir=str(tmp_path))
    assert_says_how_to_fetch(raised, "cifar10", "ValueError('')", tmp_path)


def test_without_a_network_nothing_is_waited_for(no_fetching, tmp_path):
    """TFDS would try again for minutes."""
    ends, calls = no_fetching
    ends["lookup"] = socket.gaierror(-3, "Temporary failure")
    with pytest.raises(UserError, match="no network") as raised:
        source.open_tfds("cifar10", tfds_dir=str(tmp_path))
    assert "fetch" not in calls
    assert "tfds build cifar10" in str(raised.value)


def test_what_was_fetched_before_needs_no_network(no_fetching, tmp_path):
    ends, calls = no_fetching
    ends["lookup"] = socket.gaierror(-3, "Temporary failure")
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "cifar-10-binary.tar.gz").write_bytes(b"archive")
    with pytest.raises(UserError, match="reset by peer"):
        source.open_tfds("cifar10", tfds_dir=str(tmp_path))
    assert calls[-1] == "fetch"


def test_a_set_that_is_fetched_by_hand_says_so(no_fetching, tmp_path):
    with pytest.raises(UserError, match=r"by hand: .*manual_dir") as raised:
        source.open_tfds("imagenet2012", tfds_dir=str(tmp_path))
    assert f"tfds build imagenet2012 --data_dir={tmp_path}" in str(raised.value)


@pytest.mark.parametrize("cut", [1, 5, -5], ids=["a byte", "the checksum", "header"])
def test_a_tfrecord_that_is_cut_off_is_refused_by_name(tmp_path, cut):
    files = write(TrainTest, tmp_path, num_shards=2)
    path = max(files.glob("*-train.tfrecord*"))
    data = path.read_bytes()
    path.write_bytes(data[:-cut] if cut > 0 else data + data[:-cut])
    with pytest.raises(UserError, match=rf"{path.name} is cut off") as raised:
        source.open_tfds("train_test", tfds_dir=str(tmp_path))
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("kind", ["digits", "folder", "tfds"])
def test_several_threads_read_the_right_records(tmp_path, digits, kind):
    if kind == "folder":
        write_pictures(tmp_path, [f"{c}/{i:02}.png" for c in "ab" for i in range(20)])
        opened = source.open_folder(tmp_path)
    elif kind == "tfds":
        write(TrainTest, tmp_path, num_shards=4)
        opened = source.open_tfds("train_test", tfds_dir=str(tmp_path))
    else:
        opened = digits
    expected = dict(enumerate(records(opened.train)))
    assert all(got == expected for got in read_by_many_threads(opened.train))


def test_more_shards_than_a_process_may_open_are_read(tmp_path):
    """ImageNet has 1,024 + 64 shards, and a process may often open 1,024 files."""
    paths = [str(tmp_path / f"{i:03}.tfrecord") for i in range(60)]
    for number, path in enumerate(paths):
        feature = {
            "image": tf.train.Feature(
                bytes_list=tf.train.BytesList(value=[b"%d" % number])
            ),
            "label": tf.train.Feature(
                int64_list=tf.train.Int64List(value=[number % 7])
            ),
        }
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        with tf.io.TFRecordWriter(path) as writer:
            writer.write(example.SerializeToString())
    shards = source._TFRecords(paths)
    split = source.Split("train", 60, lambda i: shards.read(i, "image", "label"))
    expected = {i: (b"%d" % i, i % 7) for i in range(60)}
    with few_open_files(more=50):
        assert all(got == expected for got in read_by_many_threads(split))
