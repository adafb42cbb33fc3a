"""Rows and event files that a trial writes while it runs."""

import importlib
import json
import struct
import sys

import google_crc32c
import pytest

from alexnet_jax.errors import UserError
from alexnet_jax.training.records import Record

ROWS = [
    {"kind": "eval", "step": 0, "loss": 2.5, "learning_rate": 0.01, "rate": None},
    {"kind": "train", "step": 10, "loss": 1.5, "learning_rate": 0.01, "rate": 9.0},
    {"kind": "train", "step": 20, "loss": None, "diverged": True},
]


def lines(folder):
    return (folder / "metrics.jsonl").read_text().splitlines()


# --- Rows -------------------------------------------------------------------------


def test_a_row_is_one_json_object_on_a_line_of_its_own(tmp_path):
    with Record(tmp_path / "arm" / "seed0", tensorboard=False) as opened:
        for row in ROWS:
            opened.write(row)
    assert [json.loads(line) for line in lines(tmp_path / "arm" / "seed0")] == ROWS


def test_rows_can_be_read_while_the_trial_runs(tmp_path):
    with Record(tmp_path, tensorboard=False) as opened:
        for number, row in enumerate(ROWS, start=1):
            opened.write(row)
            assert len(lines(tmp_path)) == number


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_row_that_is_not_valid_json_is_refused_unwritten(tmp_path, value):
    with Record(tmp_path, tensorboard=False) as opened:
        opened.write(ROWS[0])
        with pytest.raises(ValueError, match="not JSON compliant"):
            opened.write(ROWS[0] | {"loss": value})
    assert len(lines(tmp_path)) == 1


def test_closing_a_trial_writes_its_final_status(tmp_path):
    with Record(tmp_path, tensorboard=False) as opened:
        opened.write(ROWS[0])
        assert not (tmp_path / "trial.json").exists()
        opened.close_trial("finished", step=20, epoch=1.5)
    assert json.loads((tmp_path / "trial.json").read_text()) == {
        "status": "finished",
        "step": 20,
        "epoch": 1.5,
    }


@pytest.mark.parametrize("kept", [0, 1, 2, len(ROWS)])
def test_a_record_resumes_after_the_checkpointed_rows(tmp_path, kept):
    with Record(tmp_path, tensorboard=False) as opened:
        sizes = [opened.size()]
        for row in ROWS:
            opened.write(row)
            sizes.append(opened.size())
        opened.close_trial("diverged")
    before = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    with Record(tmp_path, tensorboard=False) as opened:
        assert not (tmp_path / "trial.json").exists()
        opened.resume(sizes[kept], google_crc32c.value(b"".join(before[:kept])))
        opened.write(ROWS[1])
    written = [json.loads(line) for line in lines(tmp_path)]
    assert written == [*ROWS[:kept], ROWS[1]]


def test_a_record_shorter_than_at_the_checkpoint_is_refused(tmp_path):
    with (
        Record(tmp_path, tensorboard=False) as opened,
        pytest.raises(UserError, match="has 0 bytes, but 7 were written"),
    ):
        opened.resume(7)


@pytest.mark.parametrize(
    ("change", "checked"),
    [("CRLF", True), ("a row twice", True), ("a value", True), ("CRLF", False)],
)
def test_a_record_that_was_changed_is_refused_and_not_cut(tmp_path, change, checked):
    """By its checksum, or in older checkpoints by where its lines end."""
    path = tmp_path / "metrics.jsonl"
    with Record(tmp_path, tensorboard=False) as opened:
        for row in ROWS:
            opened.write(row)
        size, checksum = opened.size(), opened.checksum
    lines = path.read_bytes().splitlines(keepends=True)
    changed = {
        "CRLF": b"".join(line.replace(b"\n", b"\r\n") for line in lines),
        "a row twice": b"".join([lines[0], *lines]),
        "a value": b"".join(lines).replace(b"1", b"2"),
    }[change]
    path.write_bytes(changed)
    with (
        Record(tmp_path, tensorboard=False) as opened,
        pytest.raises(UserError, match=r"was changed.*remove .* to start that trial"),
    ):
        opened.resume(size, checksum if checked else None)
    assert path.read_bytes() == changed


# --- TensorBoard ------------------------------------------------------------------


def scalars(folder):
    """(tag, step, value) of every scalar in the folder's event files."""
    events = importlib.import_module("tensorboardX.proto.event_pb2")
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:  # length, its checksum, the event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = events.Event.FromString(data[12 : 12 + length])
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            data = data[16 + length :]
    return found


def test_tensorboard_shows_the_values_of_the_rows(tmp_path):
    with Record(tmp_path, tensorboard=True) as opened:
        for row in ROWS:
            opened.write(row)
    assert len(lines(tmp_path)) == len(ROWS)
    assert sorted(scalars(tmp_path)) == [
        ("eval/learning_rate", 0, pytest.approx(0.01)),
        ("eval/loss", 0, 2.5),
        ("train/learning_rate", 10, pytest.approx(0.01)),
        ("train/loss", 10, 1.5),
        ("train/rate", 10, 9.0),
    ]


def test_without_tensorboard_there_are_no_event_files(tmp_path):
    with Record(tmp_path, tensorboard=False) as opened:
        opened.write(ROWS[0])
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_opening_a_record_again_removes_the_old_event_files(tmp_path):
    """TensorBoard draws all event files of a folder as one curve."""
    with Record(tmp_path, tensorboard=True) as opened:
        opened.write({"kind": "eval", "step": 0, "loss": 2.5})
    (events,) = tmp_path.glob("events.out.tfevents.*")
    events.rename(tmp_path / "events.out.tfevents.1.host")  # an earlier second
    with Record(tmp_path, tensorboard=True) as opened:
        opened.write({"kind": "eval", "step": 0, "loss": 3.5})
    assert scalars(tmp_path) == [("eval/loss", 0, 3.5)]


def test_a_missing_tensorboardx_message_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)  # importing it fails
    with pytest.raises(
        UserError, match=r"config\.training\.tensorboard .*tensorboard\]"
    ):
        Record(tmp_path, tensorboard=True)


def test_a_record_that_cannot_be_opened_keeps_existing_files(tmp_path, monkeypatch):
    with Record(tmp_path, tensorboard=False) as opened:
        opened.write(ROWS[0])
        opened.close_trial("finished")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError):
        Record(tmp_path, tensorboard=True)
    assert len(lines(tmp_path)) == 1
    assert (tmp_path / "trial.json").exists()
