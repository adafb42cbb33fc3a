"""Reading a run folder."""

import json
import shutil

import pytest

from alexnet_jax.config.trials import ExperimentPlan
from alexnet_jax.errors import UserError
from alexnet_jax.report import run_reader

PLAN = ExperimentPlan.of_json(
    {"config": {"arms": {"a": {}}, "tuned": {}, "claim": {}, "seeds": 1}}
)


DATA = {
    "name": "digits",
    "fingerprint": "0",
    "train_examples": 2,
    "validation_examples": 1,
    "validation_split": "test",
}
EXPERIMENT = {
    "config": {"arms": {"a": {}}, "tuned": {}, "claim": {}, "seeds": 1},
    "recipes": {},
    "data": [DATA],
    "git": {"commit": None, "dirty": None},
    "versions": {},
    "devices": ["cpu"],
    "platform": "Linux",
    "command": "python",
    "started": "2026",
    "continued": [],
}


def write(folder, lines, status=None):
    trial = folder / "a" / "seed0"
    trial.mkdir(parents=True)
    (trial / "metrics.jsonl").write_text(lines)
    if status:
        (trial / "trial.json").write_text(json.dumps({"status": status}))


def row(kind, epoch, error, **more):
    """A line of metrics.jsonl whose means are all `error`."""
    means = dict.fromkeys(("loss", "top1_error", "top5_error"), error)
    facts = {"kind": kind, "step": round(epoch), "epoch": epoch}
    return json.dumps(facts | means | more) + "\n"


def test_train_rows_stand_in_the_middle_of_their_steps(tmp_path):
    write(
        tmp_path,
        row("train", 1.0, 0.9) + row("eval", 1.0, 0.7) + row("train", 3.0, 0.5),
    )
    (outcome,) = run_reader.read_outcomes(tmp_path, PLAN)
    assert outcome.curve("train", "top1_error") == [(0.5, 0.9), (2.0, 0.5)]
    assert outcome.curve("eval", "top1_error") == [(1.0, 0.7)]


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path):
    write(tmp_path, row("train", 1.0, 0.9) + '{"kind": "tra')
    (outcome,) = run_reader.read_outcomes(tmp_path, PLAN)
    assert len(outcome.rows) == 1
    assert outcome.status == "unfinished"
    assert outcome.final("train", "top1_error") is None


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    write(tmp_path, '{"kind": "tra\n' + row("train", 1.0, 0.9))
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 1"):
        run_reader.read_outcomes(tmp_path, PLAN)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[1, 2]\n", "not an object"),
        (row("eval", 2.0, float("nan")), "NaN"),
        (row("eval", 2.0, None), "None"),
        (row("eval", 2.0, 7.5), "top1_error 7.5"),
        (row("eval", 2.0, 0.5).replace('"epoch": 2.0', '"epoch": 1e999'), "epoch inf"),
        (row("eval", 2.0, 0.5, loss="0.5"), "loss '0.5'"),
        (row("train", 1.0, 0.9), "repeats"),
        (row("train", 0.0, 0.5), "step 0, after one of step 1"),
        (row("eval", 2.0, 0.5, step="2"), "step '2'"),
        ('{"kind": "eval", "step": 2, "epoch": 2.0, "loss": 1.0}\n', "top1_error None"),
    ],
)
def test_a_damaged_record_that_parses_is_refused_by_file_and_line(
    tmp_path, line, problem
):
    write(tmp_path, row("train", 1.0, 0.9) + line + row("eval", 3.0, 0.5), "finished")
    with pytest.raises(
        UserError, match=r"metrics\.jsonl, line 2 .*Put .* back"
    ) as error:
        run_reader.read_outcomes(tmp_path, PLAN)
    assert problem in str(error.value)


def test_bytes_that_are_no_text_are_refused_by_line(tmp_path):
    write(tmp_path, row("train", 1.0, 0.9))
    with (tmp_path / "a/seed0/metrics.jsonl").open("ab") as file:
        file.write(b'{"kind": "\xff\xfe"}\n' + row("eval", 2.0, 0.5).encode())
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 "):
        run_reader.read_outcomes(tmp_path, PLAN)


@pytest.mark.parametrize(
    "content", ["[]", '{"status": 3}', '{"status": "finished", "step": "9"}', "\xff"]
)
def test_a_trial_json_of_another_form_is_refused(tmp_path, content):
    write(tmp_path, row("train", 1.0, 0.9), status="finished")
    (tmp_path / "a/seed0/trial.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"trial\.json cannot be read.*Remove it"):
        run_reader.read_outcomes(tmp_path, PLAN)


@pytest.mark.parametrize(
    "content",
    ["[]", "{", '{"config": {}}', "\xff", "null"]
    + [
        json.dumps(EXPERIMENT | change)
        for change in (
            *({"config": 5}, {"config": {}}, {"config": {"arms": 3}}),
            *({"recipes": None}, {"data": []}, {"data": [{}]}, {"git": {}}),
            *({"devices": []}, {"started": None}),
            *({"config": EXPERIMENT["config"] | {"seeds": n}} for n in (0, 1e9, "3")),
            {"config": EXPERIMENT["config"] | {"arms": {"a": {"model.later": 1}}}},
            {"data": [EXPERIMENT["data"][0] | {"num_classes": "ten"}]},
        )
    ],
)
def test_an_experiment_json_that_is_partly_written_is_refused(tmp_path, content):
    (tmp_path / "experiment.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"experiment\.json cannot be read"):
        run_reader.read_experiment(tmp_path)
    (tmp_path / "experiment.json").write_text(json.dumps(EXPERIMENT))
    assert run_reader.read_experiment(tmp_path) == EXPERIMENT


def test_a_record_copied_from_another_trial_is_refused(tmp_path):
    """Two seeds of equal speeds, row for row: their spread would be 0."""
    config = EXPERIMENT["config"] | {"seeds": 2}
    plan = ExperimentPlan.of_json({"config": config})
    write(tmp_path, row("train", 1.0, 0.9, images_per_second=812.5))
    shutil.copytree(tmp_path / "a/seed0", tmp_path / "a/seed1")
    with pytest.raises(UserError, match=r"seed1/metrics\.jsonl is a copy of .*seed0"):
        run_reader.read_outcomes(tmp_path, plan)


CROPS = ExperimentPlan.of_json(
    {
        "config": {
            "arms": {"a": {}, "ten": {"data.eval_crops": "ten"}},
            "tuned": {},
            "claim": {},
            "seeds": 1,
        }
    }
)


def test_an_arm_by_other_crops_has_its_own_errors(tmp_path):
    beside = {"ten": {"loss": 0.3, "top1_error": 0.2, "top5_error": 0.1}}
    write(tmp_path, row("eval", 1.0, 0.5, beside=beside), status="finished")
    by_center, by_ten = run_reader.read_outcomes(tmp_path, CROPS)
    assert by_center.final("eval", "top1_error") == 0.5
    assert by_ten.final("eval", "top1_error") == 0.2


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"beside": None},
        {"beside": {}},
        {"beside": {"ten": {"loss": 0.3, "top1_error": None, "top5_error": 0.1}}},
    ],
)
def test_an_arm_by_other_crops_without_its_errors_is_refused(tmp_path, more):
    """It would count with those of the other arm: no difference."""
    write(tmp_path, row("eval", 1.0, 0.5, **more))
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 1 .*by ten crops"):
        run_reader.read_outcomes(tmp_path, CROPS)


def test_a_diverged_trial_has_a_curve_and_no_final_error(tmp_path):
    lines = row("train", 1.0, 0.9) + row("train", 2.0, None, diverged=True)
    write(tmp_path, lines, status="diverged")
    (outcome,) = run_reader.read_outcomes(tmp_path, PLAN)
    assert outcome.status == "diverged"
    assert outcome.curve("train", "top1_error") == [(0.5, 0.9)]
    assert outcome.final("train", "top1_error") is None


@pytest.mark.parametrize("lost", ["half of its last line", "its last line", "all"])
def test_a_finished_trial_without_its_last_evaluation_is_refused(tmp_path, lost):
    """It would count with an error from long before its end."""
    rows = [
        row("eval", 0.0, 0.9, step=0),
        row("train", 1.0, 0.5, step=45),
        row("eval", 1.0, 0.4, step=45),
    ]
    write(tmp_path, "".join(rows))
    (tmp_path / "a/seed0/trial.json").write_text('{"status": "finished", "step": 45}')
    (outcome,) = run_reader.read_outcomes(tmp_path, PLAN)
    assert outcome.final("eval", "top1_error") == 0.4
    kept = {
        "half of its last line": "".join(rows)[:-20],
        "its last line": "".join(rows[:-1]),
        "all": "",
    }
    (tmp_path / "a/seed0/metrics.jsonl").write_text(kept[lost])
    with pytest.raises(UserError, match=r"lost its end.*step 45.*Remove .*seed0"):
        run_reader.read_outcomes(tmp_path, PLAN)


def test_a_trial_that_has_not_started_is_unfinished(tmp_path):
    (outcome,) = run_reader.read_outcomes(tmp_path, PLAN)
    assert (outcome.status, outcome.rows) == ("unfinished", [])


def test_a_folder_without_an_experiment_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"experiment\.json"):
        run_reader.read_experiment(tmp_path)


def test_an_empty_trial_json_is_named(tmp_path):
    write(tmp_path, row("train", 1.0, 0.9), status="finished")
    (tmp_path / "a/seed0/trial.json").write_text("")
    with pytest.raises(UserError, match=r"trial\.json cannot be read.*Remove it"):
        run_reader.read_outcomes(tmp_path, PLAN)
