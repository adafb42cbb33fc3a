"""Features on disk: nothing half-written looks complete, and damage is noticed."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from alexnet_jax.errors import UserError
from alexnet_jax.files import lock_folder
from alexnet_jax.trained.similar import feature_cache
from alexnet_jax.trained.similar.feature_cache import FeatureCache

ROWS, WIDTH = 45, 3
KEY = {"dataset": "d", "network": "n", "layer": "fc7"}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Of ten rows, of which two are saved at a time."""
    monkeypatch.setattr(feature_cache, "BLOCK_BYTES", 10 * 4 * WIDTH)
    monkeypatch.setattr(feature_cache, "BLOCKS_SAVED", 2)


@pytest.fixture
def features():
    draws = np.random.default_rng(0)
    return draws.standard_normal((ROWS, WIDTH)).astype(np.float32)


def batches(features, first=0, size=7, stop_at=ROWS):
    for start in range(first, ROWS, size):
        if start >= stop_at:
            raise KeyboardInterrupt
        yield features[start : start + size]


def opened(folder, **changes):
    return FeatureCache.open(folder, "fc7", KEY | changes, ROWS, WIDTH)


@pytest.fixture
def complete(tmp_path, features):
    cache = opened(tmp_path)
    assert not cache.complete
    cache.write(batches(features))
    return cache


def test_what_was_written_is_read(tmp_path, features, complete):
    for cache in (complete, opened(tmp_path)):
        assert cache.complete
        found = [block.copy() for block in cache.blocks()]
        assert [len(block) for block in found] == [10, 10, 10, 10, 5]
        np.testing.assert_array_equal(np.concatenate(found), features)
    path = complete.folder / "features.npy"
    np.testing.assert_array_equal(np.load(path), features)
    assert path.stat().st_size == complete.num_bytes


@pytest.mark.parametrize("name", KEY)
def test_features_of_something_else_are_not_used(tmp_path, complete, name):
    other = opened(tmp_path, **{name: "other"})
    assert other.rows_done == 0
    assert opened(tmp_path).complete


@pytest.mark.parametrize("stop_at", [1, 14, 28, 42])
def test_an_interrupted_computation_is_continued(tmp_path, features, stop_at):
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path).write(batches(features, stop_at=stop_at))
    cache = opened(tmp_path)
    assert not (cache.folder / "features.npy").exists()
    assert cache.rows_done <= stop_at + 6
    assert cache.rows_done >= (stop_at + 6) // 7 * 7 - 9
    cache.write(batches(features, first=cache.rows_done))
    np.testing.assert_array_equal(
        np.concatenate([b.copy() for b in cache.blocks()]), features
    )


@pytest.mark.parametrize("missing", [1, 100, 10**9])
def test_a_truncated_file_is_noticed_and_completed(
    tmp_path, features, complete, missing
):
    path = complete.folder / "features.npy"
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - missing)])
    cache = opened(tmp_path)
    assert not cache.complete
    cache.write(batches(features, first=cache.rows_done))
    assert path.read_bytes() == content


def test_a_file_truncated_while_it_is_read_is_noticed(complete):
    path = complete.folder / "features.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="images 40 to 44 is not as it was written"):
        list(complete.blocks())


def test_a_changed_byte_is_refused(tmp_path, complete):
    path = complete.folder / "features.npy"
    content = bytearray(path.read_bytes())
    content[-4 * WIDTH * 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"images 20 to 29 .* Remove .*fc7-"):
        list(opened(tmp_path).blocks())


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", "null", '{"format": 1, "key": 1}']
)
def test_an_entry_that_is_not_described_is_begun_again(
    tmp_path, features, complete, content
):
    (complete.folder / "about.json").write_text(content)
    cache = opened(tmp_path)
    assert cache.rows_done == 0
    cache.write(batches(features))
    assert json.loads((cache.folder / "about.json").read_text())["rows"] == ROWS
    assert opened(tmp_path).complete


def test_too_little_space_is_said_before(tmp_path, features, monkeypatch):
    monkeypatch.setattr(
        feature_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=539)
    )
    with pytest.raises(UserError, match=r"take 668 bytes.*room for 539.*--cache"):
        opened(tmp_path).write(batches(features))


def test_a_second_process_waits(tmp_path, features):
    cache = opened(tmp_path)
    with lock_folder(cache.folder, "x", "y"), pytest.raises(UserError, match="--cache"):
        cache.write(batches(features))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--cache=FOLDER"):
        opened(tmp_path / "file")
