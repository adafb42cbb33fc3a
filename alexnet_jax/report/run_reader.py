"""Reads a run folder: the experiment, its trials and their learning curves.

Only this module of a report knows how a configuration is laid out. The others work on a
`Run`, which holds every fact that they take from it.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.config.fields import FIELDS, NO_RECIPE
from alexnet_jax.config.trials import ExperimentPlan, Trial
from alexnet_jax.errors import UserError
from alexnet_jax.report.record_checks import ERRORS, is_error, problem

# What experiment.json must hold. The key "layers" is newer and may be absent.
_FORM: dict[str, type] = {
    "config": dict,
    "recipes": dict,
    "data": list,
    "git": dict,
    "versions": dict,
    "devices": list,
    "platform": str,
    "command": str,
    "started": str,
    "continued": list,
}
_FORM_OF_DATA = (
    "name",
    "fingerprint",
    "train_examples",
    "validation_examples",
    "validation_split",
)

COMPLETE = ("finished", "reached")
ENDED = (*COMPLETE, "behind", "diverged")

# Layers of a configuration from which a value comes without anybody asking for it.
_IMPLICIT_LAYERS = ("default", "recipe")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One trial and the records that it has written.

    Attributes:
      trial: its arm, tuned values and seed.
      status: "finished"; "reached", where it ended at the training error that was asked
        about; "behind", where it was given up; "diverged"; or "unfinished".
      rows: the lines of metrics.jsonl, in order, without a last line that was cut off
        while being written.
    """

    trial: Trial
    status: str
    rows: list[dict[str, Any]]

    def curve(self, kind: str, metric: str) -> list[tuple[float, float]]:
        """Points (epoch, value) of the "train" or "eval" rows that have a value.

        A train row is a mean over the steps since the previous one, so its point stands
        in the middle of them. An eval row stands where it was measured.
        """
        points, previous = [], 0.0
        for row in self.rows:
            if row["kind"] != kind or row.get(metric) is None:
                continue
            epoch = row["epoch"]
            middle = (previous + epoch) / 2
            points.append((middle if kind == "train" else epoch, row[metric]))
            previous = epoch
        return points

    def last_train_epochs(self) -> float:
        """The epochs over which the last "train" row is a mean; 0 without such a row."""
        ends = [
            row["epoch"]
            for row in self.rows
            if row["kind"] == "train" and row["top1_error"] is not None
        ]
        return ends[-1] - (ends[-2] if len(ends) > 1 else 0.0) if ends else 0.0

    def final(self, kind: str, metric: str) -> float | None:
        """The last value of a trial that ended; None if it diverged or is unfinished."""
        points = self.curve(kind, metric)
        return points[-1][1] if points and self.status in COMPLETE else None


@dataclasses.dataclass(frozen=True)
class Setting:
    """A configuration value that is neither a default nor the recipe's.

    Attributes:
      field: its dotted name.
      by_arm: for each arm its value, None if it is tuned and so selected, and the layer
        from which it comes, such as "preset", "arm" or "command line".
    """

    field: str
    by_arm: dict[str, tuple[Any, str]]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder as it was read.

    Attributes:
      folder: the run folder.
      experiment: the content of experiment.json.
      outcomes: every measured trial, arm by arm; with a tuning stage at every tuned value,
        of which only the chosen one is trained.
      tuning: the trials of the stage that chooses tuned values; empty without it.
      networks: by arm, how many networks it averages; 1 if it averages none.
      trained_as: by arm, the arm whose training it shares; most often itself.
      tuned_values: by tuned field, the values tried, in order.
      recipes: by arm, its recipe and the choices that depart from it; arms without a
        recipe are left out.
      settings: the values that somebody has set; empty where the folder does not record
        where its values come from.
    """

    folder: Path
    experiment: dict[str, Any]
    outcomes: list[Outcome]
    networks: dict[str, int]
    trained_as: dict[str, str]
    tuned_values: dict[str, tuple]
    recipes: dict[str, dict[str, Any]]
    settings: list[Setting]
    tuning: tuple[Outcome, ...] = ()

    @property
    def name(self) -> str:
        return self.experiment["config"]["experiment"]

    @property
    def claim(self) -> dict[str, Any]:
        return self.experiment["config"]["claim"]

    @property
    def arms(self) -> list[str]:
        return list(self.networks)

    @property
    def started_from(self) -> dict[str, str]:
        """By arm, the trained network that its networks start from; most have none."""
        given = [one for one in self.settings if one.field == "training.init_from"]
        return {
            arm: value
            for setting in given
            for arm, (value, _) in setting.by_arm.items()
            if value
        }

    @property
    def data(self) -> dict[str, Any]:
        """Facts on the data: every form of it has the same images, so the first's."""
        return self.experiment["data"][0]


def read_run(folder: Path) -> Run:
    """Reads a run folder, whether its trials are finished or still running.

    Raises:
      UserError: if the folder is not a run folder, or a file in it cannot be read.
    """
    experiment = read_experiment(folder)
    plan = ExperimentPlan.of_json(experiment)
    outcomes = read_outcomes(folder, plan)
    measured = [one for one in outcomes if not one.trial.for_tuning]
    tuning = [one for one in outcomes if one.trial.for_tuning]
    return run_of(folder, experiment, measured, tuning)


def read_tuning_trials(folder: Path, arm: str) -> Run | None:
    """A run with an arm's tuning trials alone; None if one of them cannot be read."""
    experiment = read_experiment(folder)
    plan = ExperimentPlan.of_json(experiment)
    own = [trial for trial in plan.tuning_trials if trial.arm == arm]
    try:
        outcomes = [read_outcome(folder, trial) for trial in own]
    except UserError:
        return None
    return run_of(folder, experiment, [], outcomes)


def run_of(
    folder: Path,
    experiment: dict[str, Any],
    outcomes: list[Outcome],
    tuning: Sequence[Outcome] = (),
) -> Run:
    """A `Run` of these records, with the facts that follow from its configuration."""
    plan = ExperimentPlan.of_json(experiment)
    return Run(
        folder=folder,
        experiment=experiment,
        outcomes=outcomes,
        networks={arm: plan.networks(arm) for arm in plan.arms},
        trained_as={trial.arm: trial.trained_as for trial in plan.all_trials},
        tuned_values=plan.tuned_values,
        recipes={
            arm: facts
            for arm, facts in experiment.get("recipes", {}).items()
            if facts["recipe"] != NO_RECIPE
        },
        settings=[
            setting
            for setting in (_setting(plan, field) for field in plan.layers)
            if any(by not in _IMPLICIT_LAYERS for _, by in setting.by_arm.values())
        ],
        tuning=tuple(tuning),
    )


def _setting(plan: ExperimentPlan, field: str) -> Setting:
    by_arm = {}
    for arm, changes in plan.arms.items():
        layer = plan.layer_of(arm, field)
        tuned = field in plan.tuned_values
        value = None if tuned else changes.get(field, plan.values[field])
        by_arm[arm] = (value, layer)
    return Setting(field, by_arm)


def read_experiment(folder: Path) -> dict[str, Any]:
    """The content of `experiment.json`.

    Raises:
      UserError: if there is no such file, it cannot be read, or it is incomplete.
    """
    path = folder / "experiment.json"
    try:
        experiment = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    if not isinstance(experiment, dict):
        raise UserError(f"{path} cannot be read: it is not a JSON object.")
    problem = _problem_of_experiment(experiment)
    if problem:
        raise UserError(f"{path} cannot be read: {problem}.")
    try:
        ExperimentPlan.of_json(experiment)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read: it is damaged, or a later version has written it "
            f"({type(error).__name__}: {error})."
        ) from error
    return experiment


def _problem_of_experiment(experiment: dict[str, Any]) -> str | None:
    """What a report needs of it that is missing or of another type; None if nothing."""
    missing = [key for key in _FORM if key not in experiment]
    if missing:
        return f"{', '.join(missing)} is missing"
    for key, kind in _FORM.items():
        if not isinstance(experiment[key], kind):
            return f"{key} is {experiment[key]!r}"
    if not experiment["devices"]:
        return "no device is named"
    if not experiment["data"]:
        return "no data is named"
    for data in experiment["data"]:
        if not isinstance(data, dict) or any(key not in data for key in _FORM_OF_DATA):
            return f"data holds {data!r}"
        if type(data.get("num_classes")) not in (int, type(None)):
            return f"num_classes is {data['num_classes']!r}"
    seeds = experiment["config"].get("seeds", 1)
    if type(seeds) is not int or not 1 <= seeds <= FIELDS["seeds"].maximum:
        return f"seeds is {seeds!r}"
    if not {"commit", "dirty"} <= experiment["git"].keys():
        return f"git is {experiment['git']!r}"
    return None


def read_outcomes(folder: Path, plan: ExperimentPlan) -> list[Outcome]:
    """All trials of an experiment, arm by arm, after those of a tuning stage.

    An arm that shares the training of another is read from the other's records. The
    records of an ensemble are its own: one evaluation.
    """
    found = []
    known: dict[tuple[str, str, str], Path] = {}
    for trial in (*plan.tuning_trials, *plan.all_trials):
        outcome = read_outcome(folder, trial)
        path = folder / trial.records_folder / "metrics.jsonl"
        # Two seeds never measure the same to the last digit in every row. Where nothing was
        # measured, as at a first loss that is not finite, their rows may be equal.
        key = (trial.arm, trial.tuned_name, json.dumps(outcome.rows))
        measured = any(row.get("loss") is not None for row in outcome.rows)
        if measured and known.setdefault(key, path) != path:
            raise UserError(
                f"{path} is a copy of {known[key]}. Remove {path.parent}, and the "
                "command of the run trains that trial again."
            )
        if trial.records_folder != trial.folder:
            crops = trial.settings.data.eval_crops
            rows = [
                _by_crops(row, crops, path, number)
                for number, row in enumerate(outcome.rows, start=1)
            ]
            outcome = Outcome(trial, outcome.status, rows)
        found.append(outcome)
    return found


def _by_crops(
    row: dict[str, Any], crops: str, path: Path, number: int
) -> dict[str, Any]:
    """An eval row with the loss and the errors that its network has by other crops.

    Raises:
      UserError: if the row, the line of this number of the file, lacks them.
    """
    if row["kind"] != "eval" or row.get("diverged"):
        return row
    beside = row.get("beside")
    own = beside.get(crops) if isinstance(beside, dict) else None
    if not isinstance(own, dict):
        raise _damaged(path, number, f"lacks the errors by {crops} crops")
    for name in ERRORS:
        if not is_error(own.get(name)):
            raise _damaged(
                path, number, f"has {name} {own.get(name)!r} by {crops} crops"
            )
    return row | own


def read_outcome(folder: Path, trial: Trial) -> Outcome:
    """One trial of a run folder, from the records that measure it.

    Raises:
      UserError: if a record cannot be read, or has lost its end.
    """
    status, last_step = read_status(folder / trial.records_folder / "trial.json")
    path = folder / trial.records_folder / "metrics.jsonl"
    rows = _read_rows(path)
    # Without its end, a finished trial would count with an error from long before it.
    evaluated = [row.get("step") for row in rows if row.get("kind") == "eval"]
    lost = last_step is not None and evaluated[-1:] != [last_step]
    if status in COMPLETE and lost:
        raise UserError(
            f"{path} has lost its end: according to trial.json the trial was evaluated at "
            f"step {last_step}, and there is no such line. Remove {path.parent}, and the "
            "command of the run trains that trial again."
        )
    return Outcome(trial, status, rows)


def read_status(path: Path) -> tuple[str, int | None]:
    """The status of a trial, and its last step where the file records it."""
    if not path.exists():
        return "unfinished", None
    try:
        content = json.loads(path.read_text())
        status, step = content["status"], content.get("step")
        if status not in ENDED or type(step) not in (int, type(None)):
            raise ValueError(f"status {status!r}, step {step!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read: {error!r}. Remove it: the trial continues from its "
            "last checkpoint."
        ) from error
    return status, step


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a trial; a last line that was cut off while being written is none."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line, parse_constant=_refused)
        except ValueError as error:
            if number == len(lines):
                break
            raise _damaged(path, number, f"is not valid JSON: {error}") from error
        found = problem(row, rows)
        if found:
            raise _damaged(path, number, found)
        rows.append(row)
    return rows


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _damaged(path: Path, number: int, problem: str) -> UserError:
    return UserError(
        f"{path}, line {number} {problem}. Put the file back as it was, or remove "
        f"{path.parent}, and the command of the run trains that trial again."
    )
