"""Files are written atomically, and one process at a time holds a folder."""

import errno
import json
import os

import pytest

from alexnet_jax.errors import UserError
from alexnet_jax.files import lock_folder, write_json


def test_json_is_written_as_it_is_read_back(tmp_path):
    value = {"status": "finished", "numbers": [1, 0.5, None], "name": "ReLU ×"}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text()) == value
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_draft(
    tmp_path, monkeypatch, existing, step
):
    path = tmp_path / "a.json"
    if existing:
        write_json(path, {"run": 1})

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left") as raised:
        write_json(path, {"run": 2})
    assert raised.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [path] * existing
    assert not existing or json.loads(path.read_text()) == {"run": 1}


def test_a_value_that_json_cannot_express_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"run": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"run": float("nan")})
    assert json.loads(path.read_text()) == {"run": 1}


def test_a_locked_folder_is_refused_until_it_is_released(tmp_path):
    with (
        lock_folder(tmp_path, "Another run", "use --workdir=DIR"),
        pytest.raises(
            UserError, match=r"Another run .* or use --workdir=DIR"
        ) as refused,
        lock_folder(tmp_path, "Another run", "use --workdir=DIR"),
    ):
        pass
    assert str(tmp_path) in str(refused.value)
    with lock_folder(tmp_path, "Another run", "use --workdir=DIR"):
        pass
