"""A prepared set is read back as written; damage is refused."""

import dataclasses
import functools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_images

from alexnet_jax import files
from alexnet_jax.data import images, pipeline, statistics
from alexnet_jax.data.augmentation import Augmentation
from alexnet_jax.data.prepared import reader, writer
from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.data.types import Source, Split
from alexnet_jax.errors import UserError

SIZE = 64


def photographs(count, seed=0):
    """Encoded regions of many sizes from scikit-learn's two photographs."""
    rng = np.random.default_rng(seed)
    whole = load_sample_images().images
    for i in range(count):
        height, width = rng.integers(100, 400, 2)
        top, left = rng.integers(0, [427 - height, 640 - width])
        piece = np.ascontiguousarray(
            whole[i % 2][top : top + height, left : left + width]
        )
        encode = tf.io.encode_png if i % 3 else tf.io.encode_jpeg
        yield encode(piece).numpy()


def source_of(train, validation, fingerprint="0123456789abcdef"):
    def split(name, encoded):
        return Split(name, len(encoded), lambda i: (encoded[i], i % 2))

    return Source(
        "photographs",
        ("even", "odd"),
        split("train", train),
        split("test", validation),
        fingerprint,
    )


@pytest.fixture(scope="module")
def source():
    encoded = list(photographs(26))
    return source_of(encoded[:20], encoded[20:])


def prepare(source, folder, *, encoding="raw", size=SIZE, rescale="shorter_side"):
    """A set of its own in shards of 8 examples, which a test may damage."""
    first = prepared_once(source, folder.parents[1], encoding, size, rescale)
    shutil.copytree(first, folder)
    return folder


@functools.cache
def prepared_once(source, base, encoding, size, rescale):
    folder = Path(tempfile.mkdtemp(dir=base))
    job = writer.Job(source, folder, rescale, size, encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "SHARD_EXAMPLES", 8)
        files.write_json(folder / reader.PLAN, job.plan())
        writer.write_shards(job, writer.missing(job), lambda _: None)
        writer.list_bad_files(job)
        writer.complete(job)
    return folder


def pixels(source, split, size=SIZE, rescale="shorter_side"):
    """All images of a split, as in training."""
    data = RescaledSplit(getattr(source, split), size, rescale)
    batches = pipeline.evaluation_batches(data, batch_size=4)
    found = [batch["image"][batch["weight"] > 0] for batch in batches]
    return np.concatenate(found)


def psnr(one, other):
    """The peak signal-to-noise ratio over all pixels, in decibels."""
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return 10 * np.log10(255**2 / error)


def choose(source, folder, **changed):
    arguments = {"required": False, "rescale": "shorter_side", "rescale_size": SIZE}
    return reader.choose(source, folder=folder, **arguments | changed)


# --- The images -------------------------------------------------------------------


@pytest.mark.parametrize("rescale", ["shorter_side", "warp"])
def test_raw_images_are_bit_identical_to_the_originals(source, tmp_path, rescale):
    opened = reader.open_prepared(prepare(source, tmp_path / "set", rescale=rescale))
    for split in ("train", "validation"):
        np.testing.assert_array_equal(
            pixels(opened, split), pixels(source, split, rescale=rescale)
        )


@pytest.mark.parametrize(("size", "decibels"), [(64, 33), (256, 38)])
def test_jpeg_images_differ_by_one_round_trip(source, tmp_path, size, decibels):
    """At 256 x 256: 39.9 dB over all photographs, 34 dB for each image.

    At 64 x 64 the photographs have more detail per pixel and lose more.
    """
    opened = reader.open_prepared(
        prepare(source, tmp_path / "set", encoding="jpeg", size=size)
    )
    for split in ("train", "validation"):
        originals = pixels(source, split, size)
        got = pixels(opened, split, size)
        for one, original in zip(got, originals, strict=True):
            record = tf.io.encode_jpeg(original, format="rgb", quality=95)
            np.testing.assert_array_equal(one, images.decode(record))
            assert psnr(one, original) > decibels - 4
        assert psnr(got, originals) > decibels


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_training_batches_of_a_prepared_set_are_those_of_the_originals(
    source, tmp_path, encoding
):
    """Everything is equal except JPEG pixels, which differ by one round trip."""
    opened = reader.open_prepared(prepare(source, tmp_path / "set", encoding=encoding))
    batches = []
    for one in (source, opened):
        data = pipeline.load_data(one, rescale="shorter_side", rescale_size=SIZE)
        augmentation = Augmentation(
            crop_size=56,
            random_crop=True,
            random_flip=True,
            crop_sharing=1,
            lighting_std=0.1,
            lighting_shrink=False,
            lighting_off_epoch=0.0,
            components=data.statistics.components("standard_deviation"),
        )
        found = pipeline.train_batches(
            data.train,
            augmentation,
            seed=3,
            steps=range(7),
            batch_size=6,
            host=0,
            num_hosts=1,
        )
        batches.append(list(found))
    for original, got in zip(*batches, strict=True):
        for name in original:
            if name == "image" and encoding == "jpeg":
                assert psnr(got[name], original[name]) > 30  # few small images
            else:
                np.testing.assert_array_equal(got[name], original[name])


def test_records_have_their_labels_and_locations(source, tmp_path):
    opened = reader.open_prepared(prepare(source, tmp_path / "set"))
    assert (opened.train.name, opened.validation.name) == ("train", "test")
    assert (len(opened.train), len(opened.validation)) == (20, 6)
    assert opened.train.encoding == "raw"
    assert opened.class_names == ("even", "odd")
    assert [opened.train.read(i)[1] for i in range(20)] == [0, 1] * 10
    place = f"train-00001.bin, byte {SIZE * SIZE * 3} (example 9 of the source)"
    assert opened.train.where(9).endswith(place)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
@pytest.mark.parametrize("part", [False, True], ids=["whole", "crop"])
def test_a_flipped_byte_is_reported_with_file_offset_and_example(
    source, tmp_path, encoding, part
):
    folder = prepare(source, tmp_path / "set", encoding=encoding)
    opened = reader.open_prepared(folder)
    where = opened.train.where(7)
    path, _, place = where.partition(", byte ")
    content = bytearray(Path(path).read_bytes())
    content[int(place.split()[0]) + 300] ^= 1
    Path(path).write_bytes(content)
    opened = reader.open_prepared(folder)
    opened.train.read(6)
    parts = part and encoding == "raw"
    with pytest.raises(UserError, match=r"is not what was written.*prepare it again"):
        # Rows after that byte, or the whole record.
        opened.train.read_part(7, SIZE * 60, SIZE * 3) if parts else opened.train.read(
            7
        )
    assert where.endswith("(example 7 of the source)")


# --- The statistics ---------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_statistics_match_numpy_on_the_training_split(source, tmp_path, encoding):
    """They are computed before JPEG encoding, so both encodings have the same."""
    opened = reader.open_prepared(prepare(source, tmp_path / "set", encoding=encoding))
    got = opened.statistics
    train = pixels(source, "train")
    np.testing.assert_allclose(
        got.mean_image, np.mean(train, axis=0, dtype=np.float64), rtol=1e-14
    )
    covariance = np.cov(train.reshape(-1, 3).astype(np.float64), rowvar=False)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(got.eigenvalues, eigenvalues[::-1], rtol=1e-10)
    cosines = np.sum(got.eigenvectors * eigenvectors[:, ::-1], axis=0)
    np.testing.assert_allclose(np.abs(cosines), 1, rtol=1e-12)


def test_statistics_are_bit_identical_to_those_of_the_originals(source, tmp_path):
    opened = reader.open_prepared(prepare(source, tmp_path / "set"))
    data = pipeline.load_data(source, rescale="shorter_side", rescale_size=SIZE)
    for one, other in zip(
        dataclasses.astuple(opened.statistics),
        dataclasses.astuple(data.statistics),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_sharded_statistics_of_a_million_pixels_match_numpy_to_1e_9():
    """245 dark images of 64 x 64 with little color, which would reveal rounding."""
    rng = np.random.default_rng(0)
    gray = rng.normal(40, 12, (245, 64, 64, 1))
    made = np.clip(gray + rng.normal(0, [3, 1, 2], (245, 64, 64, 3)), 0, 255)
    made = made.astype(np.uint8)
    assert made.size / 3 > 1_000_000
    sums = statistics.Sums.zero(64, 64)
    for part in np.array_split(made, 13):
        sums += statistics.sums_of(part)
    got = sums.statistics()
    mean = np.mean(made, axis=0, dtype=np.float64)
    np.testing.assert_allclose(got.mean_image, mean, rtol=1e-9)
    covariance = np.cov(made.reshape(-1, 3).astype(np.float64), rowvar=False)
    vectors, values = got.eigenvectors, got.eigenvalues
    np.testing.assert_allclose(
        vectors @ np.diag(values) @ vectors.T, covariance, rtol=1e-9
    )
    np.testing.assert_allclose(values, np.linalg.eigvalsh(covariance)[::-1], rtol=1e-9)


# --- Selection of the prepared set ------------------------------------------------


def test_a_set_that_matches_is_used_and_named(source, tmp_path, capsys):
    folder = prepare(source, tmp_path / "set", encoding="jpeg")
    opened = choose(source, folder)
    assert opened.train.encoding == "jpeg"
    printed = capsys.readouterr().err
    assert str(folder) in printed
    assert "JPEG of quality 95" in printed
    assert opened.prepared["fingerprint"] in printed


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rescale_size": 32}, "rescale_size: 64 there, 32 requested"),
        ({"rescale": "warp"}, "rescale: shorter_side there, warp requested"),
    ],
)
def test_a_set_of_another_size_or_rescaling_is_refused(
    source, tmp_path, changed, words
):
    folder = prepare(source, tmp_path / "set")
    with pytest.raises(UserError, match=words):
        choose(source, folder, **changed)


def test_a_set_of_other_images_is_refused_with_both_fingerprints(source, tmp_path):
    folder = prepare(source, tmp_path / "set")
    other = dataclasses.replace(source, fingerprint="another")
    with pytest.raises(UserError) as refused:
        choose(other, folder)
    assert "fingerprint: 0123456789abcdef there, another requested" in str(
        refused.value
    )
    assert "--config.data.prepared_dir=none" in str(refused.value)


def test_without_a_manifest_the_originals_are_used_unless_the_set_is_required(
    source, tmp_path, capsys
):
    folder = prepare(source, tmp_path / "set")
    (folder / reader.MANIFEST).unlink()
    assert choose(source, folder) is source
    assert "incomplete" in capsys.readouterr().err
    with pytest.raises(UserError, match="incomplete"):
        choose(source, folder, required=True)
    with pytest.raises(UserError, match="does not exist"):
        choose(source, tmp_path / "nowhere", required=True)
    assert choose(source, tmp_path / "nowhere") is source
    assert choose(source, None, required=True) is source


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("train-00001.bin", lambda data: data[:-1]),
        ("train-00001.npz", lambda data: data[:-30]),
        ("train-00001.npz", lambda data: b""),
        ("statistics.npz", lambda data: data[:100]),
        ("manifest.json", lambda data: data[:50]),
        ("manifest.json", lambda data: b"[]"),
        ("test-00000.npz", None),
        ("train-00000.bin", None),
    ],
)
def test_a_damaged_set_is_refused_naming_the_file(source, tmp_path, name, damage):
    folder = prepare(source, tmp_path / "set")
    path = folder / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="prepare it again") as refused:
        choose(source, folder)
    assert name.split(".")[0] in str(refused.value)


def test_shards_of_another_set_are_refused(source, tmp_path):
    folder = prepare(source, tmp_path / "set")
    other = prepare(
        source_of(list(photographs(20, 5)), list(photographs(6, 6))), tmp_path / "b"
    )
    for ending in (".bin", ".npz"):
        (other / f"train-00001{ending}").replace(folder / f"train-00001{ending}")
    with pytest.raises(UserError, match="do not belong to its manifest"):
        choose(source, folder)


def test_a_set_of_a_newer_format_is_refused_naming_both(source, tmp_path):
    folder = prepare(source, tmp_path / "set")
    manifest = json.loads((folder / reader.MANIFEST).read_text())
    (folder / reader.MANIFEST).write_text(json.dumps(manifest | {"format": 3}))
    with pytest.raises(UserError, match="has format 3; this code reads format 2"):
        choose(source, folder)


def test_a_record_truncated_after_opening_names_file_and_byte(source, tmp_path):
    folder = prepare(source, tmp_path / "set")
    opened = reader.open_prepared(folder)
    path = folder / "train-00000.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"train-00000\.bin .*byte 86016 is not"):
        opened.train.read(7)
