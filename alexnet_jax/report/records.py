"""Reads a run folder: what was asked, and the curves of its trials."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from alexnet_jax.config import Trial, all_trials, networks_of, trained_as, views_of
from alexnet_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One trial as its records tell it.

    Attributes:
      status: "finished", "diverged", or "unfinished" where it has not run to its end.
      rows: of metrics.jsonl, in order; a last line cut off in writing is left out.
    """

    trial: Trial
    status: str
    rows: list[dict[str, Any]]

    def curve(self, kind: str, metric: str) -> list[tuple[float, float]]:
        """(epoch, value) of the "train" or "eval" rows, without the diverged one.

        A train row is a mean over the steps since the last one: it stands at their
        middle. An eval row stands where it was measured.
        """
        points, before = [], 0.0
        for row in self.rows:
            if row["kind"] != kind or row[metric] is None:
                continue
            epoch = row["epoch"]
            points.append(
                ((before + epoch) / 2 if kind == "train" else epoch, row[metric])
            )
            before = epoch
        return points

    def last_train_epochs(self) -> float:
        """Epochs that the last sound "train" row is the mean of; 0 without one."""
        sound = [
            row["epoch"]
            for row in self.rows
            if row["kind"] == "train" and row["top1_error"] is not None
        ]
        return sound[-1] - (sound[-2] if len(sound) > 1 else 0.0) if sound else 0.0

    def final(self, kind: str, metric: str) -> float | None:
        """The last value, or None where the trial has not run to its end soundly."""
        points = self.curve(kind, metric)
        return points[-1][1] if points and self.status == "finished" else None


def read_experiment(folder: Path) -> dict[str, Any]:
    """What `experiment.json` says.

    Raises:
      UserError: if there is none that can be read.
    """
    path = folder / "experiment.json"
    try:
        experiment = json.loads(path.read_text())
        missing = {"config", "recipes", "data", "git", "versions", "devices"} - set(
            experiment
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    if missing:
        raise UserError(
            f"{path} cannot be read: it lacks {', '.join(sorted(missing))}."
        )
    return experiment


def read_outcomes(folder: Path, config: dict[str, Any]) -> list[Outcome]:
    """All trials of an experiment, arm by arm.

    Those of an arm that shares another's training are read from that one's records; an
    ensemble's hold one evaluation.
    """
    found = []
    for trial in all_trials(config):
        source = trained_as(config, trial.arm)
        if networks_of(config, trial.arm) > 1:  # has records of its own
            source = trial.arm
        outcome = read_outcome(folder, dataclasses.replace(trial, arm=source))
        if source != trial.arm:
            rows = [_by_views(row, views_of(config, trial.arm)) for row in outcome.rows]
            outcome = Outcome(trial, outcome.status, rows)
        found.append(outcome)
    return found


def _by_views(row: dict[str, Any], views: str) -> dict[str, Any]:
    """An eval row with the loss and errors that its network has by other views."""
    return row | row.get("beside", {}).get(views, {})


def read_outcome(folder: Path, trial: Trial) -> Outcome:
    """One trial of a run folder, as its own records tell it."""
    status, end = "unfinished", None
    marker = folder / trial.folder / "trial.json"
    if marker.exists():
        try:
            held = json.loads(marker.read_text())
            status, end = held["status"], held.get("step")
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{marker} cannot be read: {error!r}. Remove it: the trial goes on from "
                "its last checkpoint."
            ) from error
    path = folder / trial.folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise UserError(
                    f"{path}, line {number} is no JSON: {error}."
                ) from error
    # Without its end a finished trial would count as what it was long before.
    evaluated = [row.get("step") for row in rows if row.get("kind") == "eval"]
    if status == "finished" and end is not None and evaluated[-1:] != [end]:
        raise UserError(
            f"{path} has lost its end: {marker.name} says that the trial was evaluated at "
            f"step {end}, and there is no such line. Remove {path.parent}, and the command "
            "of the run trains that trial again."
        )
    return Outcome(trial, status, rows)
