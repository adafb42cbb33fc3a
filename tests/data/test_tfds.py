"""A TFDS dataset yields the examples written to it."""

import io
import re
import socket
import urllib.request
from pathlib import Path
from typing import ClassVar

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from reading import png, read_by_many_threads, records

from alexnet_jax.data.open import open_source
from alexnet_jax.data.tfds import open_tfds
from alexnet_jax.errors import UserError


class Images(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A regular TFDS dataset; `SPLITS` gives the number of examples per split."""

    VERSION = tfds.core.Version("1.2.0")
    SPLITS: ClassVar[dict[str, int]] = {"train": 12, "test": 4}
    SUPERVISED = ("image", "label")
    CLASSES: ClassVar[list[str]] = ["ant", "bee", "cat"]

    def _info(self):
        features = {
            "id": tfds.features.Text(),  # CIFAR-10 has one too
            "image": tfds.features.Image(encoding_format="png"),
            "label": tfds.features.ClassLabel(names=self.CLASSES),
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
            encoded, label = image(i)
            label %= len(self.CLASSES)
            yield i, {"id": str(i), "image": io.BytesIO(encoded), "label": label}


class TrainTest(Images):
    SPLITS: ClassVar = {"train": 31, "test": 13}


class AllThree(Images):
    SPLITS: ClassVar = {"train": 12, "validation": 5, "test": 7}


class TrainOnly(Images):
    SPLITS: ClassVar = {"train": 25}


class TestOnly(Images):
    __test__ = False  # not a test class
    SPLITS: ClassVar = {"test": 3}


class WithoutTrain(Images):
    SPLITS: ClassVar = {"test": 4, "validation": 5}


class Unlabeled(Images):
    SPLITS: ClassVar = {"extra": 4}


class Texts(Images):
    SUPERVISED = ("id", "label")


class OneClass(Images):
    CLASSES: ClassVar = ["ant"]


class WithoutCode(Images, skip_registration=True):
    """A dataset on disk whose builder class TFDS does not know."""


def image(number):
    """Encoded image and label of an example."""
    return png(number, size=8 + number % 5), number % 3


def write(builder, folder, num_shards=1):
    """Writes a dataset as `tfds build` does; returns the folder of its files."""
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
    return sorted(map(image, numbers))


def test_a_tfds_set_of_several_shards(tmp_path):
    files = write(TrainTest, tmp_path, num_shards=4)
    assert len(list(files.glob("*-train.tfrecord*"))) == 4
    opened = open_source("train_test", tfds_dir=str(tmp_path))
    assert opened.name == "train_test/1.2.0"
    assert opened.class_names == ("ant", "bee", "cat")
    assert (opened.train.name, opened.validation.name) == ("train", "test")
    assert sorted(records(opened.train)) == written(range(31))
    assert sorted(records(opened.validation)) == written(range(31, 44))
    assert records(opened.train) == as_tensorflow_reads(files, "*-train.tfrecord*")
    again = open_source("tfds=train_test", tfds_dir=str(tmp_path))
    assert again.fingerprint == opened.fingerprint
    assert records(again.train) == records(opened.train)


def test_a_tfds_set_is_read_without_its_code(tmp_path):
    write(WithoutCode, tmp_path)
    opened = open_tfds("without_code", tfds_dir=str(tmp_path))
    assert sorted(records(opened.train)) == written(range(12))
    assert sorted(records(opened.validation)) == written(range(12, 16))


def test_validation_is_preferred_to_test(tmp_path):
    """ImageNet's test labels are secret."""
    write(AllThree, tmp_path)
    opened = open_tfds("all_three", tfds_dir=str(tmp_path))
    assert opened.validation.name == "validation"
    assert sorted(records(opened.validation)) == written(range(12, 17))


def test_a_tfds_set_without_test_split_holds_out_every_tenth(tmp_path):
    files = write(TrainOnly, tmp_path, num_shards=3)
    opened = open_tfds("train_only", tfds_dir=str(tmp_path))
    everything = as_tensorflow_reads(files, "*-train.tfrecord*")
    assert sorted(everything) == written(range(25))
    assert records(opened.validation) == [everything[9], everything[19]]
    assert records(opened.train) == [
        record for i, record in enumerate(everything) if i not in (9, 19)
    ]


def test_a_tfds_set_without_train_split_is_refused(tmp_path):
    write(TestOnly, tmp_path)
    with pytest.raises(UserError, match=r"'test_only' has no split 'train'.*test"):
        open_tfds("test_only", tfds_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("builder", "name", "split", "count"),
    [
        (TestOnly, "test_only", "test", 3),
        (WithoutTrain, "without_train", "validation", 5),
        (TrainOnly, "train_only", "all images", 25),
        (TrainTest, "train_test", "test", 13),
    ],
)
def test_to_measure_networks_a_tfds_set_needs_no_train_split(
    tmp_path, builder, name, split, count
):
    files = write(builder, tmp_path, num_shards=2)
    opened = open_source(name, tfds_dir=str(tmp_path), trained_on={"another"})
    assert (opened.validation.name, len(opened.validation)) == (split, count)
    pattern = f"*-{'train' if count == 25 else split}.tfrecord*"
    assert records(opened.validation) == as_tensorflow_reads(files, pattern)
    assert len(opened.train) == (31 if builder is TrainTest else 0)


def test_of_a_tfds_set_of_the_training_the_held_out_images_are_measured(tmp_path):
    write(TrainOnly, tmp_path)
    trained = open_tfds("train_only", tfds_dir=str(tmp_path))
    opened = open_tfds(
        "train_only", tfds_dir=str(tmp_path), trained_on={trained.fingerprint}
    )
    assert records(opened.validation) == records(trained.validation)
    assert (opened.validation.name, len(opened.train)) == ("test", 23)


def test_a_tfds_set_without_any_split_to_measure_on_is_refused(tmp_path):
    write(Unlabeled, tmp_path)
    with pytest.raises(UserError, match=r"no split to measure errors on.*'extra'"):
        open_tfds("unlabeled", tfds_dir=str(tmp_path), trained_on=())


def test_a_tfds_set_without_image_classification_is_refused(tmp_path):
    write(Texts, tmp_path)
    expected = r"'texts' is not for image classification.*image, label"
    with pytest.raises(UserError, match=expected):
        open_tfds("texts", tfds_dir=str(tmp_path))


def test_a_tfds_set_with_a_single_class_is_refused(tmp_path):
    write(OneClass, tmp_path)
    with pytest.raises(UserError, match="'one_class' has a single class"):
        open_tfds("one_class", tfds_dir=str(tmp_path))


def test_a_tfds_set_in_another_file_format_is_refused(tmp_path):
    builder = TrainTest(data_dir=tmp_path, file_format="parquet")
    builder.download_and_prepare()
    with pytest.raises(UserError, match=r"stored as parquet; only tfrecord"):
        open_tfds("train_test", tfds_dir=str(tmp_path))


@pytest.mark.parametrize("name", ["zoo", "./zoo", "{}/zoo"])
def test_a_path_in_place_of_a_name_is_told_how_to_write_it(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo").mkdir()
    name = name.format(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"Did you mean folder={name}?")):
        open_source(name, tfds_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("digitz", "digits"),
        ("cifar1O", "cifar10"),
        ("tfds=fashion_mnst", "fashion_mnist"),
    ],
)
def test_an_unknown_name_message_suggests_the_nearest(tmp_path, name, nearest):
    with pytest.raises(UserError, match=f"Unknown dataset.*'{nearest}'"):
        open_source(name, tfds_dir=str(tmp_path))


@pytest.fixture
def no_download(monkeypatch):
    """Simulates host lookups and downloads; returns their outcomes and the calls."""
    ends = {"lookup": None, "download": OSError("reset by peer\nand more")}
    calls = []

    def end(kind):
        calls.append(kind)
        if ends[kind]:
            raise ends[kind]

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: end("lookup"))
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr(
        tfds.core.DatasetBuilder,
        "download_and_prepare",
        lambda *_, **__: end("download"),
    )
    return ends, calls


def assert_says_how_to_download(error, name, reason, folder):
    message = str(error.value)
    assert f"'{name}'" in message
    assert f"could not be downloaded: {reason}\n" in message
    assert f"tfds build {name} --data_dir={folder}" in message
    assert "digits, comes with scikit-learn" in message
    assert not list(folder.iterdir())


def test_a_failed_download_says_how_to_do_it_elsewhere(no_download, tmp_path):
    with pytest.raises(UserError) as raised:
        open_tfds("cifar10", tfds_dir=str(tmp_path))
    assert_says_how_to_download(raised, "cifar10", "reset by peer", tmp_path)
    assert no_download[1][-1] == "download"


def test_a_failure_without_a_message_is_reported_by_its_type(no_download, tmp_path):
    no_download[0]["download"] = ValueError("")
    with pytest.raises(UserError) as raised:
        open_tfds("cifar10", tfds_dir=str(tmp_path))
    assert_says_how_to_download(raised, "cifar10", "ValueError('')", tmp_path)


def test_without_a_network_it_fails_at_once(no_download, tmp_path):
    """TFDS would retry for minutes."""
    ends, calls = no_download
    ends["lookup"] = socket.gaierror(-3, "Temporary failure")
    with pytest.raises(UserError, match="no network") as raised:
        open_tfds("cifar10", tfds_dir=str(tmp_path))
    assert "download" not in calls
    assert "tfds build cifar10" in str(raised.value)


def test_a_downloaded_set_needs_no_network(no_download, tmp_path):
    ends, calls = no_download
    ends["lookup"] = socket.gaierror(-3, "Temporary failure")
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "cifar-10-binary.tar.gz").write_bytes(b"archive")
    with pytest.raises(UserError, match="reset by peer"):
        open_tfds("cifar10", tfds_dir=str(tmp_path))
    assert calls[-1] == "download"


def test_a_manual_download_is_explained(no_download, tmp_path):
    with pytest.raises(UserError, match=r"by hand: .*manual_dir") as raised:
        open_tfds("resisc45", tfds_dir=str(tmp_path))
    assert f"tfds build resisc45 --data_dir={tmp_path}" in str(raised.value)


@pytest.mark.parametrize("cut", [1, 5, -5], ids=["a byte", "the checksum", "header"])
def test_a_tfrecord_that_is_cut_off_is_refused_by_name(tmp_path, cut):
    files = write(TrainTest, tmp_path, num_shards=2)
    path = max(files.glob("*-train.tfrecord*"))
    data = path.read_bytes()
    path.write_bytes(data[:-cut] if cut > 0 else data + data[:-cut])
    with pytest.raises(UserError, match=rf"{path.name} is truncated") as raised:
        open_tfds("train_test", tfds_dir=str(tmp_path))
    assert str(path) in str(raised.value)


def test_several_threads_read_the_right_examples(tmp_path):
    write(TrainTest, tmp_path, num_shards=4)
    opened = open_tfds("train_test", tfds_dir=str(tmp_path))
    expected = dict(enumerate(records(opened.train)))
    assert all(got == expected for got in read_by_many_threads(opened.train))


def test_where_identifies_the_example(tmp_path):
    files = write(TrainOnly, tmp_path, num_shards=3)
    opened = open_tfds("train_only", tfds_dir=str(tmp_path))
    for split in (opened.train, opened.validation):
        for i in range(split.num_examples):
            name, offset = split.where(i).split(", byte ")
            (tmp_path / "rest").write_bytes((files / name).read_bytes()[int(offset) :])
            assert as_tensorflow_reads(tmp_path, "rest")[0] == split.read(i)


def test_a_set_stored_as_array_record_is_read_too(tmp_path):
    pytest.importorskip("array_record")
    builder = TrainTest(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    opened = open_tfds("train_test", tfds_dir=str(tmp_path))
    assert sorted(records(opened.train)) == written(range(31))
    assert sorted(records(opened.validation)) == written(range(31, 44))
    assert ".array_record-" in opened.train.where(30)
    assert opened.train.where(30).endswith(", record 30")


class Configured(Images):
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="few", version="1.0.0"),
        tfds.core.BuilderConfig(name="many", version="2.1.0"),
    ]

    def _split_generators(self, dl_manager):
        count = {"few": 3, "many": 6}[self.builder_config.name]
        numbers = list(range(count))
        return {s: self._generate_examples(numbers) for s in ("train", "test")}


@pytest.mark.parametrize(
    ("name", "full_name", "count"),
    [
        ("configured/few", "configured/few/1.0.0", 3),
        ("configured/many", "configured/many/2.1.0", 6),
        ("configured/many:2.1.0", "configured/many/2.1.0", 6),
        ("tfds=configured/few:1.0.0", "configured/few/1.0.0", 3),
    ],
)
def test_a_configuration_and_a_version_can_be_named(tmp_path, name, full_name, count):
    for config in ("few", "many"):
        Configured(data_dir=tmp_path, config=config).download_and_prepare()
    opened = open_source(name, tfds_dir=str(tmp_path))
    assert opened.name == full_name
    assert opened.train.num_examples == count


@pytest.mark.parametrize(
    "name", ["configured/fex", "configured/few:9.9.9", "configured:1.0.0/few"]
)
def test_an_unavailable_version_message_lists_the_available_ones(tmp_path, name):
    Configured(data_dir=tmp_path, config="few").download_and_prepare()
    with pytest.raises(UserError, match=r"holds: configured/few:1.0.0"):
        open_tfds(name, tfds_dir=str(tmp_path))


def test_a_flipped_byte_in_a_set_is_named_with_file_and_byte(tmp_path):
    files = write(TrainTest, tmp_path, num_shards=2)
    whole = open_tfds("train_test", tfds_dir=str(tmp_path)).train
    name, offset = whole.where(4).split(", byte ")
    data = bytearray((files / name).read_bytes())
    data[int(offset) + 40] ^= 1
    (files / name).write_bytes(bytes(data))
    damaged = open_tfds("train_test", tfds_dir=str(tmp_path)).train
    with pytest.raises(UserError, match=rf"{name}: the record at byte {offset} is dam"):
        damaged.read(4)
    others = [i for i in range(31) if i != 4]
    assert [damaged.read(i) for i in others] == [whole.read(i) for i in others]


def test_a_set_cut_between_two_records_is_refused(tmp_path):
    files = write(TrainTest, tmp_path)
    opened = open_tfds("train_test", tfds_dir=str(tmp_path)).train
    name, offset = opened.where(20).split(", byte ")
    (files / name).write_bytes((files / name).read_bytes()[: int(offset)])
    with pytest.raises(UserError, match="holds 20 records instead of 31"):
        open_tfds("train_test", tfds_dir=str(tmp_path))


def test_all_missing_imagenet_archives_are_named(no_download, tmp_path):
    with pytest.raises(UserError) as raised:
        open_tfds("imagenet2012", tfds_dir=str(tmp_path))
    message = str(raised.value)
    for part in (
        "ILSVRC2012_img_train.tar",
        "ILSVRC2012_img_val.tar",
        "image-net.org",
        f"into {tmp_path / 'downloads' / 'manual'}",
        f"tfds build imagenet2012 --data_dir={tmp_path}",
        f"--config.data.tfds_dir={tmp_path}",
    ):
        assert part in message
    assert not no_download[1]


def test_only_missing_imagenet_archives_are_requested(no_download, tmp_path):
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    (manual / "ILSVRC2012_img_train.tar").write_bytes(b"archive")
    with pytest.raises(
        UserError, match=r"missing: ILSVRC2012_img_val.tar \(6.3 GB\)\."
    ):
        open_tfds("imagenet2012", tfds_dir=str(tmp_path))
    (manual / "ILSVRC2012_img_val.tar").write_bytes(b"archive")
    with pytest.raises(UserError, match="could not be downloaded: reset by peer"):
        open_tfds("imagenet2012", tfds_dir=str(tmp_path))
