"""Files that are there whole or not at all."""

import json
import os

import pytest

from alexnet_jax.files import write_json


def test_json_is_written_as_it_is_read_back(tmp_path):
    value = {"status": "finished", "numbers": [1, 0.5, None], "name": "ReLU ×"}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text()) == value
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"run": 1})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"run": 2})
    assert json.loads(path.read_text()) == {"run": 1}


def test_a_write_that_fails_leaves_no_half_a_file(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(tmp_path / "a.json", {"run": 1})
    assert not (tmp_path / "a.json").exists()


def test_a_value_that_is_no_json_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"run": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"run": float("nan")})
    assert json.loads(path.read_text()) == {"run": 1}
