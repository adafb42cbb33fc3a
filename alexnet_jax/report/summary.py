"""Makes and writes summary.json: arms at their selected tuned values, and comparisons."""

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.errors import UserError, nearest
from alexnet_jax.files import write_json
from alexnet_jax.report import claims, headline, wording
from alexnet_jax.report.measures import Measures
from alexnet_jax.report.record_checks import is_error
from alexnet_jax.report.run_reader import Outcome, Run, read_run
from alexnet_jax.report.tuning import Stage, measured

# Today's name of each key that had another one.
_RENAMED_KEYS = {
    "seeds_each": "seeds_per_group",
    "beside_cliff": "adjacent_diverged",
    "at_first_record": "below_at_first_log",
}


def read_summary(path: Path) -> dict[str, Any]:
    """Reads a summary.json of this or an older version, with the keys of this one."""

    def renamed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {_RENAMED_KEYS.get(key, key): value for key, value in pairs}

    return json.loads(path.read_text(), object_pairs_hook=renamed)


def write_summary(run: Run) -> dict[str, Any]:
    """Writes summary.json into the run folder, and returns its content.

    Raises:
      UserError: if the claim names an unknown metric or arm.
    """
    summary = summarize(run)
    write_json(run.folder / "summary.json", summary)
    return summary


def summarize(run: Run) -> dict[str, Any]:
    """The content of summary.json.

    Each arm's tuned values are selected by the metric of the main claim; the claims under
    "also" are measured at the same values.

    Raises:
      UserError: if the claim names an unknown metric or arm.
    """
    claims.check_claim(run.claim, experiment=run.name, networks=run.networks)
    stage = Stage.of(run) if run.tuning else None
    tuned = {
        outcome.trial.tuned_name: dict(outcome.trial.tuned) for outcome in run.outcomes
    }
    run = measured(run)
    num_classes = run.data.get("num_classes")  # absent from old run folders
    asked = claims.answerable_claims(run.claim, num_classes)
    main, *others = [Measures(run, each) for each in asked]
    by = stage.measures if stage else main
    if stage:
        selected = {arm: stage.chosen()[run.trained_as[arm]] for arm in run.arms}
    else:
        selected = {arm: min(tuned, key=partial(main.rank, arm)) for arm in run.arms}
    statuses = [outcome.status for outcome in run.outcomes]
    summary = {
        "experiment": run.name,
        "dataset": run.data["name"],
        "num_classes": num_classes,
        "bad_files": _bad_files(run),
        "claim": main.claim,
        "seeds": run.experiment["config"]["seeds"],
        "arms": {
            arm: main.arm(arm, name)
            | _final_errors(main.trials[arm, name])
            | _tuned_facts(run, by, arm, name, tuned)
            | _origin(run, arm)
            for arm, name in selected.items()
        },
        "comparisons": main.comparisons(selected, by),
        "at_equal_tuned_values": (
            {} if stage else _at_equal_tuned_values(main, list(tuned))
        ),
        "tuning": stage.facts() if stage else None,
        "unfinished_trials": statuses.count("unfinished"),
        "diverged_trials": statuses.count("diverged"),
        "also": [
            {
                "claim": other.claim,
                "arms": {arm: other.arm(arm, name) for arm, name in selected.items()},
                "comparisons": other.comparisons(
                    selected, Measures(stage.run, other.claim) if stage else None
                ),
            }
            for other in others
        ],
    }
    _add_words(summary)
    return summary


def _add_words(summary: dict[str, Any]) -> None:
    """Adds the question, the answer and the verdict of each claim."""
    verdicts = wording.verdicts(summary)
    for answer, text in zip(claims.answers(summary), verdicts, strict=True):
        answer["verdict"] = text
        answer["question"] = headline.question(answer)
        answer["answer"] = headline.short_answer(answer)


def _tuned_facts(
    run: Run, by: Measures, arm: str, name: str, tuned: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """The selected tuned values `name` of an arm, and the others that were tried.

    Args:
      by: the measures by which the values were selected.
      tuned: the values by name.
    """
    if (arm, name) not in by.trials:
        arm = run.trained_as[
            arm
        ]  # A tuning stage has no trials of the arms that share.
    selected = tuned[name]
    tried = {other: by.arm(arm, other) | {"tuned": tuned[other]} for other in tuned}
    failed = [
        tuned[other]
        for other, facts in tried.items()
        if not _any_value(facts["per_seed"])
        and facts["without_value"] > facts["behind"]
    ]
    has_value = _any_value(tried[name]["per_seed"])
    return {
        "tuned": selected,
        # Where no seed has a value, no tuned value is better than another.
        "at_edge": _at_edge(selected, run.tuned_values) if has_value else [],
        "passed_over": by.passed_over(arm, name),
        "adjacent_diverged": _adjacent_diverged(selected, run.tuned_values, failed),
        "by_tuned": tried,
    }


def _at_equal_tuned_values(main: Measures, names: list[str]) -> dict[str, Any]:
    """The one comparison of a claim at each of several tuned values."""
    pairs = claims.compared_pairs(main.claim)
    if len(pairs) != 1 or len(names) < 2:
        return {}
    return {name: main.compared(*pairs[0], name) for name in names}


def _origin(run: Run, arm: str) -> dict[str, Any]:
    """The trained network that an arm starts from; nothing where it starts anew."""
    found = run.started_from.get(arm)
    return {"init_from": found} if found else {}


def _bad_files(run: Run) -> int:
    prepared = [
        each.get("prepared") or {"bad_files": 0} for each in run.experiment["data"]
    ]
    return max(each["bad_files"] for each in prepared)


def _at_edge(selected: Mapping[str, Any], tried: Mapping[str, tuple]) -> list[str]:
    """Fields whose selected value is the smallest or the largest of several tried."""
    return [
        field
        for field, value in selected.items()
        if len(tried[field]) > 1 and value in (min(tried[field]), max(tried[field]))
    ]


def _adjacent_diverged(
    selected: dict[str, Any], tried: Mapping[str, tuple], failed: list[dict[str, Any]]
) -> dict[str, list[Any]]:
    """By field, the neighbors of the selected value at which no seed has a value.

    A better value may lie between the selected one and such a neighbor.
    """
    if selected in failed:
        return {}
    found = {}
    for field, value in selected.items():
        values = sorted(set(tried[field]))
        index = values.index(value)
        neighbors = values[max(0, index - 1) : index] + values[index + 1 : index + 2]
        failing = [other for other in neighbors if selected | {field: other} in failed]
        if failing:
            found[field] = failing
    return found


def _any_value(per_seed: list[float | None]) -> bool:
    return any(value is not None for value in per_seed)


def _final_errors(own: list[Outcome]) -> dict[str, Any]:
    """Means over seeds of the last train and eval rows; None if a trial lacks them."""

    def mean(kind: str, metric: str) -> float | None:
        finals = [outcome.final(kind, metric) for outcome in own]
        present = [value for value in finals if value is not None]
        return float(np.mean(present)) if len(present) == len(finals) else None

    raw = [_final_raw_error(outcome) for outcome in own]
    known = [error for error in raw if error is not None]
    of_raw = {"final_raw_top1_error": float(np.mean(known))} if known else {}
    return {
        "final_train_top1_error": mean("train", "top1_error"),
        "final_top1_error": mean("eval", "top1_error"),
        "final_top5_error": mean("eval", "top5_error"),
        **(of_raw if len(known) == len(own) else {}),
    }


def _final_raw_error(outcome: Outcome) -> float | None:
    """The last top-1 error of the parameters beside their average, where there is one.

    It is that by the crops of the trial that trained the network.
    """
    evaluated = [row for row in outcome.rows if row["kind"] == "eval"]
    of_own_crops = outcome.trial.records_folder == outcome.trial.folder
    if outcome.final("eval", "top1_error") is None or not of_own_crops:
        return None
    beside = evaluated[-1].get("beside")
    raw = beside.get("raw") if isinstance(beside, dict) else None
    error = raw.get("top1_error") if isinstance(raw, dict) else None
    return error if is_error(error) else None


def trial_folder(run_folder: Path, arm: str) -> Path:
    """The folder of an arm's trial of seed 0, at its selected tuned values.

    Args:
      run_folder: of a run.
      arm: its name; may be empty if there is one.

    Raises:
      UserError: if there is no such arm, it averages several networks, or a record cannot
        be read.
    """
    run = read_run(run_folder)
    if not arm:
        if len(run.arms) > 1:
            raise UserError(
                f"{run_folder} holds the networks of several arms: choose one by --arm "
                f"(in Python arm=...), of {', '.join(run.arms)}."
            )
        (arm,) = run.arms
    if arm not in run.arms:
        raise UserError(
            f"{run_folder} has no arm '{arm}': it has {', '.join(run.arms)}."
            f"{nearest(arm, run.arms)}"
        )
    own = [one.trial for one in run.outcomes if one.trial.arm == arm]
    if run.networks[arm] > 1:
        members = run_folder / run.trained_as[arm]
        raise UserError(
            f"Arm '{arm}' averages {run.networks[arm]} networks: name their folders, such "
            f"as {members}{os.sep}seed0."
        )
    if len({trial.tuned_name for trial in own}) > 1 or run.tuning:
        tuned = summarize(run)["arms"][arm]["tuned"]
        own = [trial for trial in own if dict(trial.tuned) == dict(tuned)]
    return run_folder / next(t for t in own if t.seed == 0).records_folder
