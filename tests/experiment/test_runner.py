"""Experiments of a few steps: what is left to run, refused and recorded."""

import json
import shutil

import pytest
from small_trial import learned

from alexnet_jax.config import base
from alexnet_jax.config.old_names import RENAMED
from alexnet_jax.config.resolve import resolve
from alexnet_jax.errors import UserError
from alexnet_jax.experiment import run_folder, runner, tuning_stage
from alexnet_jax.report.run_reader import read_outcomes


def small_question():
    """Two arms, two learning rates, one seed, a quarter of an epoch each."""
    config = base(network="four_layer").copy_and_resolve_references()
    config.experiment = "tiny"
    config.arms = {
        "ReLU": {"model.activation": "relu"},
        "tanh": {"model.activation": "tanh"},
    }
    config.tuned = {"optimizer.learning_rate": (0.001, 1e30)}
    config.data.rescale_size = config.data.crop_size = 8
    config.model.width = 0.1
    config.training.batch_size = 32
    config.training.num_epochs = 0.25
    config.training.log_every_epochs = 0.1
    config.claim = {
        "section": "3.1",
        "text": "faster",
        "metric": "epochs_to_train_error",
        "threshold": 0.25,
        "compare": ("tanh", "ReLU"),
        "paper": 6.0,
        "dataset": "cifar10",
    }
    return config


@pytest.fixture
def question():
    return small_question()


@pytest.fixture
def plan(question):
    return resolve(question, {})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    runner.run(resolve(small_question(), {}), folder)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of a finished run, which the test may change."""
    return shutil.copytree(finished, tmp_path / "run")


def rows(folder, trial):
    lines = (folder / trial.folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_every_trial_is_recorded_and_others_continue_when_one_diverges(folder, plan):
    for trial in plan.trials:
        status = json.loads((folder / trial.folder / "trial.json").read_text())
        # tanh only saturates at that learning rate: its loss is huge but finite.
        diverges = (
            trial.arm == "ReLU" and trial.tuned["optimizer.learning_rate"] == 1e30
        )
        assert status["status"] == ("diverged" if diverges else "finished")
        assert ("diverged" in rows(folder, trial)[-1]) == diverges
    written = ("summary.json", "figure.png", "figure.svg", "report.md")
    for name in (*written, "contact_sheet.png"):
        assert (folder / name).stat().st_size > 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["diverged_trials"] == 1


def test_experiment_json_holds_what_a_result_depends_on(folder, plan):
    held = json.loads((folder / "experiment.json").read_text())
    assert held["config"]["training"]["batch_size"] == 32
    assert held["config"]["arms"] == plan.arms
    assert set(held["git"]) == {"commit", "dirty"}
    assert {"python", "jax", "flax", "numpy"} <= set(held["versions"])
    assert len(held["devices"]) == 8
    assert held["data"][0]["fingerprint"]
    assert held["data"][0]["train_examples"] == 1438


def test_finished_trials_are_not_repeated(folder, plan, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(runner.loop, "train", fail)
    assert "Figure:" in runner.run(plan, folder)


@pytest.mark.slow
def test_an_unfinished_trial_runs_again_with_the_same_rows(folder, plan):
    trial = plan.trials[0]
    before = rows(folder, trial)
    (folder / trial.folder / "trial.json").unlink()
    shutil.rmtree(folder / trial.folder / "checkpoints")
    metrics = folder / trial.folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines()[0] + '\n{"kind": "tr')
    runner.run(plan, folder)
    assert learned(rows(folder, trial)) == learned(before)


def test_a_folder_of_another_configuration_is_refused_naming_the_fields(
    folder, question
):
    question.training.batch_size = 64
    question.model.width = 0.2
    before = (folder / "experiment.json").read_text()
    with pytest.raises(UserError) as refused:
        runner.run(resolve(question, {}), folder)
    assert "training.batch_size: 32 there, 64 now" in str(refused.value)
    assert "model.width: 0.1 there, 0.2 now" in str(refused.value)
    assert "optimizer" not in str(refused.value)
    assert (folder / "experiment.json").read_text() == before


# What `Datasets.describe` says of some data.
DATA = [
    {
        "name": "digits",
        "fingerprint": "0",
        "train_examples": 2,
        "validation_examples": 1,
        "validation_split": "test",
    }
]


def write_as_older_code(folder, *, renamed, missing):
    """Rewrites experiment.json with old field names and without some fields."""
    path = folder / "experiment.json"
    held = json.loads(path.read_text())
    for name in missing:
        section, field = name.split(".")
        del held["config"][section][field]
    old_names = {new: old for old, new in RENAMED.items() if old in renamed}
    for new, old in old_names.items():
        section, field = new.split(".")
        held["config"][section][old.split(".")[1]] = held["config"][section].pop(field)
    for arm, overrides in held["config"]["arms"].items():
        held["config"]["arms"][arm] = {
            old_names.get(name, name): value for name, value in overrides.items()
        }
    held["config"]["tuned"] = {
        ",".join(old_names.get(name, name) for name in key.split(",")): values
        for key, values in held["config"]["tuned"].items()
    }
    path.write_text(json.dumps(held))


def test_a_run_folder_of_older_code_can_be_continued(question, tmp_path):
    """A missing field takes its default; a renamed field is recognized."""
    question.arms = {
        "all": {"data.lighting_std": 0.2},
        "none": {"data.lighting_std": 0.1},
    }
    question.tuned = {
        "optimizer.learning_rate,optimizer.bias_lr_multiplier": ((0.001, 1.0),)
    }
    plan = resolve(question, {})
    run_folder.open_or_create(tmp_path, plan, data=DATA, device_kinds=["cpu"])
    write_as_older_code(
        tmp_path,
        renamed={"model.weight_deviations", "data.lighting_deviation"}
        | {"data.views", "optimizer.bias_rate"},
        missing=["model.dtype", "training.ensemble"],
    )
    held = json.loads((tmp_path / "experiment.json").read_text())["config"]
    assert "data.lighting_deviation" in held["arms"]["all"]
    assert "optimizer.learning_rate,optimizer.bias_rate" in held["tuned"]
    run_folder.check_same_experiment(tmp_path, plan)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.dtype", "bfloat16"),
        ("data.eval_crops", "ten"),
        ("data.lighting_std", 0.3),
    ],
)
def test_a_changed_field_in_a_folder_of_older_code_is_refused(
    question, tmp_path, name, value
):
    """Neither a missing nor a renamed field hides a difference."""
    plan = resolve(question, {})
    run_folder.open_or_create(tmp_path, plan, data=DATA, device_kinds=["cpu"])
    write_as_older_code(
        tmp_path,
        renamed={"data.views", "data.lighting_deviation"},
        missing=["model.dtype"],
    )
    section, field = name.split(".")
    question[section][field] = value
    with pytest.raises(UserError, match=f"{name}: .* there, .* now"):
        run_folder.check_same_experiment(tmp_path, resolve(question, {}))


def with_seeds(question, seeds, **changes):
    """The plan of the question with so many seeds."""
    changed = question.copy_and_resolve_references()
    changed.seeds = seeds
    for name, value in changes.items():
        changed.set_by("file", name.replace("__", "."), value)
    return resolve(changed, {})


def test_seeds_are_added_to_a_run_and_recorded(question, tmp_path, capsys):
    for seeds in (2, 2, 5):
        wanted = with_seeds(question, seeds)
        run_folder.check_same_experiment(tmp_path, wanted)
        run_folder.open_or_create(tmp_path, wanted, data=DATA, device_kinds=["cpu"])
    held = json.loads((tmp_path / "experiment.json").read_text())
    assert held["config"]["seeds"] == 5
    (entry,) = held["continued"]
    assert entry["seeds_before"] == 2
    assert entry["command"]
    assert entry["git"] == held["git"]
    assert capsys.readouterr().err.count("adds 3 seeds to the 2 of") == 1


@pytest.mark.parametrize(
    ("seeds", "changes", "said"),
    [
        (
            1,
            {},
            "seeds: 2 there, 1 now\nSeeds can be added to a run, but not taken away",
        ),
        (3, {"model__width": 0.2}, "model.width: 0.1 there, 0.2 now"),
        (3, {"optimizer__momentum": 0.5}, "seeds: 2 there, 3 now"),
    ],
)
def test_seeds_are_not_taken_away_nor_added_to_another_experiment(
    question, tmp_path, seeds, changes, said
):
    there = with_seeds(question, 2)
    run_folder.open_or_create(tmp_path, there, data=DATA, device_kinds=["cpu"])
    with pytest.raises(UserError) as refused:
        run_folder.check_same_experiment(
            tmp_path, with_seeds(question, seeds, **changes)
        )
    assert said in str(refused.value)


@pytest.mark.slow
def test_a_run_with_more_seeds_trains_these_alone(folder, plan, question):
    before = {trial: rows(folder, trial) for trial in plan.trials}
    more = with_seeds(question, 2)
    runner.run(more, folder)
    assert {trial: rows(folder, trial) for trial in plan.trials} == before
    outcomes = read_outcomes(folder, more)
    assert len(outcomes) == 8
    assert "unfinished" not in [outcome.status for outcome in outcomes]
    said = (folder / "report.md").read_text()
    assert "seeds at first: 1; more were added by `python -m alexnet_jax.main" in said
    with pytest.raises(UserError, match="not taken away"):
        runner.run(plan, folder)


def test_a_folder_of_other_data_is_refused(folder, plan):
    path = folder / "experiment.json"
    held = json.loads(path.read_text())
    held["data"][0]["fingerprint"] = "other"
    path.write_text(json.dumps(held))
    with pytest.raises(UserError, match="data fingerprint"):
        runner.run(plan, folder)


def test_continuing_with_other_code_is_recorded(folder, plan):
    path = folder / "experiment.json"
    held = json.loads(path.read_text())
    held["git"]["commit"] = "another"
    path.write_text(json.dumps(held))
    runner.run(plan, folder)
    held = json.loads(path.read_text())
    assert held["git"]["commit"] == "another"
    assert len(held["continued"]) == 1


def test_a_folder_that_is_not_a_run_folder_is_left_alone(plan, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"experiment\.json.*--workdir"):
        runner.run(plan, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_broken_experiment_json_is_named(plan, tmp_path):
    (tmp_path / "experiment.json").write_text("{")
    with pytest.raises(UserError, match=r"experiment\.json cannot be read"):
        runner.run(plan, tmp_path)


def test_a_folder_below_a_file_is_refused_and_nothing_is_created(plan, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--workdir"):
        runner.run(plan, tmp_path / "file" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training.batch_size": 2000}, "take at most 1438"),
        ({"data.dataset": "digitz"}, "'digits'"),
        ({"data.dataset": "folder=nowhere"}, "No such folder"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    question, tmp_path, change, words
):
    for name, value in change.items():
        section, field = name.split(".")
        question[section][field] = value
    plan = resolve(question, {})
    with pytest.raises(UserError, match=words):
        runner.run(plan, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_too_small_an_image_is_refused_before_anything_is_written(tmp_path):
    config = base().copy_and_resolve_references()
    config.data.rescale_size, config.data.crop_size = 8, 7
    config.claim = {
        "section": "6", "text": "t", "metric": "top5_error", "paper": 0.2, "dataset": "x",
    }  # fmt: skip
    with pytest.raises(UserError, match="conv1 leaves no pixel"):
        runner.run(resolve(config, {}), tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_arms_that_differ_in_their_crops_share_one_training(question, tmp_path):
    """Each arm has bit-identical evaluations to those it would have alone."""
    crops = {
        "ten crops": {"data.eval_crops": "ten"},
        "center": {"data.eval_crops": "center"},
    }
    claim = {
        "section": "6",
        "text": "fewer errors by ten crops",
        "metric": "top1_error",
        "compare": ("center", "ten crops"),
        "paper": 0.015,
        "dataset": "imagenet2012",
    }

    def ran(arms, compare, name):
        question.arms, question.tuned, question.seeds = arms, {}, 2
        question.claim = claim | {"compare": compare}
        question.data.rescale_size = 12
        plan = resolve(question, {})
        runner.run(plan, tmp_path / name)
        outcomes = read_outcomes(tmp_path / name, plan)
        return {
            (o.trial.arm, o.trial.seed): (o.status, o.curve("eval", "loss"))
            for o in outcomes
        }

    together = ran(crops, claim["compare"], "together")
    trained = [path.parent.name for path in tmp_path.glob("together/*/seed0")]
    assert trained == ["ten crops"]
    alone = {}
    for arm, chosen in crops.items():
        alone |= ran({arm: chosen}, (), arm)
    assert together == alone
    assert together["center", 0] != together["ten crops", 0]
    summary = json.loads((tmp_path / "together/summary.json").read_text())
    assert summary["comparisons"][0]["n"] == 2


def test_a_trial_that_is_running_is_not_started_again(folder, plan, devices):
    """Two processes would write to one metrics.jsonl."""
    first = folder / plan.trials[0].folder
    (first / "trial.json").unlink()
    before = (first / "metrics.jsonl").read_bytes()
    with (
        runner.lock(first, devices),
        pytest.raises(UserError, match=r"already running in .*--workdir"),
    ):
        runner.run(plan, folder)
    assert (first / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_a_trial_that_ended_at_the_error_asked_about_can_go_on(tmp_path):
    config = small_question()
    config.tuned = {"optimizer.learning_rate": (0.001,)}
    config.claim["threshold"] = 0.95  # reached by the first row
    config.training.log_every_epochs = 0.05
    plan = resolve(config, {})
    runner.run(plan, tmp_path / "run")
    outcomes = read_outcomes(tmp_path / "run", plan)
    assert {outcome.status for outcome in outcomes} == {"reached"}
    ended = {outcome.rows[-1]["epoch"] for outcome in outcomes}

    runner.run(plan, tmp_path / "run")  # nothing is left to run
    assert read_outcomes(tmp_path / "run", plan) == outcomes

    config.training.stop_when_answered = False
    runner.run(resolve(config, {}), tmp_path / "run")
    for outcome in read_outcomes(tmp_path / "run", plan):
        assert outcome.status == "finished"
        assert outcome.rows[-1]["epoch"] == pytest.approx(0.25, abs=0.02)
        assert outcome.rows[-1]["epoch"] > max(ended)


def staged_question():
    config = small_question()
    config.tuned = {"optimizer.learning_rate": (0.001, 0.002, 0.004)}
    config.tuning_seeds, config.seeds = 1, 2
    config.claim["threshold"] = 0.9
    config.training.log_every_epochs = 0.05
    return config


def folders_of(run):
    return sorted(
        str(path.parent.relative_to(run)) for path in run.rglob("metrics.jsonl")
    )


@pytest.mark.slow
def test_a_tuning_stage_chooses_where_the_measured_seeds_are_trained(tmp_path, capsys):
    folder, plan = tmp_path / "run", resolve(staged_question(), {})
    report = runner.run(plan, folder)
    chosen = tuning_stage.chosen(folder)
    rates = plan.tuned_values["optimizer.learning_rate"]
    expected = [
        *(f"{arm}/learning_rate={r}/seed1000" for arm in chosen for r in rates),
        *(f"{arm}/{name}/seed{n}" for arm, name in chosen.items() for n in range(2)),
    ]
    assert folders_of(folder) == sorted(expected)
    assert tuning_stage.describe(chosen) in capsys.readouterr().err
    assert ": chosen" in report
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["unfinished_trials"] == 0
    assert all(len(arm["per_seed"]) == 2 for arm in summary["arms"].values())

    # Stopped in the second stage, it goes on there.
    before = {path: (folder / path / "metrics.jsonl").read_bytes() for path in expected}
    shutil.rmtree(folder / expected[-1])
    runner.run(plan, folder)
    assert "3 of 4 trials are already done" in capsys.readouterr().err
    for path in expected[:-1]:
        assert (folder / path / "metrics.jsonl").read_bytes() == before[path]


def test_a_run_without_a_tuning_stage_does_not_go_on_with_one(finished):
    config = small_question()
    config.tuning_seeds = 1
    with pytest.raises(UserError, match="tuning_seeds: 0 there, 1 now"):
        runner.check(resolve(config, {}), finished)


@pytest.mark.slow
def test_a_copy_of_a_tuning_record_is_refused(tmp_path):
    folder, plan = tmp_path / "run", resolve(staged_question(), {})
    runner.run_trials(
        list(plan.tuning_trials[:1]),
        folder,
        plan,
        *_opened(plan, folder),
    )
    first = plan.tuning_trials[0].folder
    copy = folder / first.replace("seed1000", "seed0")
    shutil.copytree(folder / first, copy)
    with pytest.raises(UserError, match="is a copy of"):
        read_outcomes(folder, plan)


def _opened(plan, folder):
    devices = runner.check(plan, folder)
    datasets = runner.open_data(plan, devices)
    runner.open_folder(folder, plan, datasets, devices)
    return datasets, devices
