"""A trial ends once it has reached the training error that is asked about."""

import json
import signal

import pytest
from small_trial import BATCH, STEP, learned, opened, rows_of, tiny, train_one

from alexnet_jax.errors import Stopped
from alexnet_jax.training import loop
from alexnet_jax.training.context import open_session

NUM_STEPS = 60


def config_of(rate=0.03, **changes):
    return tiny(
        training__num_epochs=(NUM_STEPS - 0.1) * STEP,
        training__evaluate_every_epochs=1000.0,
        training__evaluate_at_start=False,
        optimizer__learning_rate=rate,
        **changes,
    )


def ended(folder):
    return json.loads((folder / "trial.json").read_text())


def train_rows(folder):
    return [row for row in learned(rows_of(folder)) if row["kind"] == "train"]


@pytest.fixture(scope="module")
def whole(data, devices, tmp_path_factory):
    """The folder of a trial of 60 steps, and an error that it has some rows before its end."""
    folder = tmp_path_factory.mktemp("whole")
    train_one(config_of(), data, devices, folder)
    rows = train_rows(folder)
    later = rows[3:-3]
    stop = min(later, key=lambda row: row["top1_error"])
    assert stop["top1_error"] < rows[0]["top1_error"]
    first = next(row for row in rows if row["top1_error"] <= stop["top1_error"])
    return folder, first["top1_error"], first["step"]


def test_it_ends_at_its_first_row_at_the_error(whole, data, devices, tmp_path):
    folder, error, step = whole
    trial, images = train_one(config_of(), data, devices, tmp_path, stops_at=error)
    assert (trial.status, images) == ("reached", step * BATCH)
    *rows, last = learned(rows_of(tmp_path))
    assert rows == [row for row in learned(rows_of(folder)) if row["step"] <= step]
    assert (last["kind"], last["step"]) == ("eval", step)
    assert ended(tmp_path) | {"status": "reached", "step": step} == ended(tmp_path)
    assert (tmp_path / "checkpoints" / str(step)).exists()


def test_it_goes_on_from_there_where_it_is_not_to_end(whole, data, devices, tmp_path):
    folder, error, _ = whole
    train_one(config_of(), data, devices, tmp_path, stops_at=error)
    trial, images = train_one(config_of(), data, devices, tmp_path)
    assert (trial.status, images) == ("finished", NUM_STEPS * BATCH)
    assert train_rows(tmp_path) == train_rows(folder)
    assert learned(rows_of(tmp_path))[-1] == learned(rows_of(folder))[-1]


def test_one_that_was_killed_before_it_could_end_does_so(
    whole, data, devices, tmp_path
):
    _, error, step = whole
    train_one(config_of(), data, devices, tmp_path, stops_at=error)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "trial.json").unlink()
    trial, images = train_one(config_of(), data, devices, tmp_path, stops_at=error)
    assert (trial.status, images) == ("reached", step * BATCH)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert ended(tmp_path)["step"] == step


def test_without_checkpoints_it_ends_without_one(whole, data, devices, tmp_path):
    _, error, _ = whole
    config = config_of(training__checkpoint_every_epochs=0.0)
    trial, _ = train_one(config, data, devices, tmp_path, stops_at=error)
    assert trial.status == "reached"
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


def test_at_its_last_step_it_is_finished(data, devices, tmp_path):
    config = tiny(training__log_every_epochs=1000.0)
    trial, _ = train_one(config, data, devices, tmp_path, stops_at=1.0)
    assert trial.status == "finished"


@pytest.mark.slow
def test_beside_others_it_ends_alone(whole, data, devices, tmp_path):
    _, error, step = whole
    folders = [tmp_path / "0", tmp_path / "1"]
    configs = [config_of(), config_of(rate=0.02)]
    with opened(configs, data, devices, folders, seeds=[0, 0], stops_at=error) as (
        trials,
        context,
    ):
        trials[1].stops_at = 0.0  # It never gets there.
        loop.train(trials, context)
        images = context.progress.done
    assert [trial.status for trial in trials] == ["reached", "finished"]
    # A population computes to rounding what a trial on its own does.
    assert ended(folders[0])["step"] == pytest.approx(step, abs=8)
    assert ended(folders[1])["step"] == NUM_STEPS
    evaluated = [row["step"] for row in rows_of(folders[1]) if row["kind"] == "eval"]
    assert evaluated == [NUM_STEPS]
    assert images == (ended(folders[0])["step"] + NUM_STEPS) * BATCH


def test_one_that_is_slower_than_another_is_given_up(data, devices, tmp_path):
    config = config_of()
    with opened([config], data, devices, [tmp_path], seeds=[0]) as (trials, context):
        trials[0].gives_up_at = 10 * STEP
        loop.train(trials, context)
    *_, before, last = rows_of(tmp_path)
    assert ended(tmp_path) | {"status": "behind"} == ended(tmp_path)
    assert last["kind"] == "train"  # It is not evaluated,
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))  # and not kept.
    # All of its last row is beyond.
    assert before["epoch"] >= 10 * STEP
    assert before["epoch"] - (last["epoch"] - before["epoch"]) < 10 * STEP


def test_a_signal_as_the_last_trial_ends_is_followed_before_the_next(devices):
    with open_session(devices, total_images=1, silent=True) as session:
        session.follow_signals()
        session.signals.requested = signal.SIGTERM
        with pytest.raises(Stopped, match="between trials"):
            session.follow_signals()
