"""Writes the answer of a run folder: the figure, report.md, and the text that is printed.

`summary.py` makes summary.json and writes it, as the first of them.
"""

import os
from pathlib import Path
from typing import Any

from alexnet_jax.files import atomic_file
from alexnet_jax.report import claims, figures
from alexnet_jax.report.run_reader import Outcome, Run, read_run
from alexnet_jax.report.summary import write_summary
from alexnet_jax.report.tables import markdown, plain, tables

SELECTION = (
    "Each arm is measured at its selected tuned values: those at which the most seeds have "
    "a value, then those with the smallest mean. "
)
ON_THE_SAME_SEEDS = (
    "They are selected on the same seeds that are reported, which the intervals do not "
    "account for. "
)
BY_TUNING = (
    "They were selected in a first stage, with seeds of its own that are not reported. A "
    "trial of that stage is given up where its values cannot be selected any more. "
)
EXPLANATION = (
    "Brackets and intervals are 95% "
    "intervals by Student's t over seeds, computed on logarithms for ratios. For "
    "comparisons, the standard deviation is at least what rounding gives: errors count "
    "whole images, and epochs are known only to the nearest logged step. Trials with the "
    "same seed share initial weights, example order and augmentation, and are compared in "
    "pairs."
)


def write(folder: Path) -> str:
    """Writes summary.json, figure.png, figure.svg and report.md; returns what to print.

    Raises:
      UserError: if the records of the folder cannot be read, or do not fit its claim.
    """
    run = read_run(folder)
    summary = write_summary(run)
    figures.draw(summary, run.outcomes, folder)
    with atomic_file(folder / "report.md") as file:
        # A command line may hold a path that is not UTF-8.
        file.write(report(run, summary).encode(errors="backslashreplace"))
    heading = f"{summary['experiment']} on {summary['dataset']}"
    if summary["bad_files"]:
        heading += f", {summary['bad_files']:,} bad files left out"
    figure = os.path.relpath(folder / "figure.png")
    return "\n\n".join(
        [
            heading,
            *(plain(table) for table in tables(summary)),
            f"Verdict: {summary['verdict']}",
            *(f"Also, {_metric(one)}: {one['verdict']}" for one in summary["also"]),
            f"Figure: {figure}",
        ]
    )


def report(run: Run, summary: dict[str, Any]) -> str:
    """The page: claim, verdict, figure, tables, and what they were measured with."""
    parts = [
        f"# {summary['experiment']} on {summary['dataset']}",
        *claims_and_verdicts(summary),
        "![learning curves](figure.png)",
        *(markdown(table) for table in tables(summary)),
        _selection(run, summary) + EXPLANATION,
        *_origins(run),
        *_warnings([*run.tuning, *run.outcomes]),
        "## Measured with",
        "\n".join(f"- {line}" for line in _measured_with(run, summary)),
    ]
    return "\n\n".join(parts) + "\n"


def _selection(run: Run, summary: dict[str, Any]) -> str:
    """How tuned values were selected; nothing where there is no choice."""
    if all(len(tried) < 2 for tried in run.tuned_values.values()):
        return ""
    return SELECTION + (BY_TUNING if summary["tuning"] else ON_THE_SAME_SEEDS)


def claims_and_verdicts(summary: dict[str, Any]) -> list[str]:
    """Paragraphs: the verdict and its claim, then those under "also"."""
    claim = summary["claim"]
    found = [f"**Verdict.** {summary['verdict']}"]
    if claims.is_of_paper(claim):
        found.append(f"Claim (section {claim['section']}): {claim['text']}.")
    for one in summary.get("also", ()):
        text = one["claim"]["text"]
        own = f" {text}." if text != claim["text"] else ""
        found.append(f"**Also, {_metric(one)}.**{own} {one['verdict']}")
    return found


def commit(experiment: dict[str, Any]) -> str:
    """The commit of the code, and whether it had changes that were not committed."""
    git = experiment["git"]
    dirty = " with uncommitted changes" if git["dirty"] else ""
    return f"{git['commit'] or 'unknown'}{dirty}"


def _metric(answer: dict[str, Any]) -> str:
    return claims.describe_metric(answer["claim"])


def _origins(run: Run) -> list[str]:
    """A sentence about each arm that starts from a trained network."""
    return [
        f"The networks of '{arm}' start from the trained network {network}, in all layers "
        "but the last, whose initial weights are drawn."
        for arm, network in run.started_from.items()
    ]


def _warnings(outcomes: list[Outcome]) -> list[str]:
    """A heading and the warnings of all trials, or nothing."""
    lines = [
        f"- {outcome.trial.name}: {row['warning']}"
        for outcome in outcomes
        for row in outcome.rows
        if row.get("warning")
    ]
    return ["## Warnings", "\n".join(lines)] if lines else []


def _measured_with(run: Run, summary: dict[str, Any]) -> list[str]:
    experiment, data = run.experiment, run.data
    devices = experiment["devices"]
    versions = ", ".join(f"{k} {v}" for k, v in experiment["versions"].items())
    return [
        f"command: `{experiment['command']}`",
        *_recipes(run),
        *_settings(run, summary),
        f"code: commit {commit(experiment)}",
        f"data: {data['name']}, {data['train_examples']:,} training and "
        f"{data['validation_examples']:,} {data['validation_split']} images, fingerprint "
        f"{data['fingerprint']}",
        *_images(experiment),
        f"devices: {len(devices)} x {devices[0]}; {experiment['platform']}",
        f"versions: {versions}",
        f"started {experiment['started']}; continued "
        f"{len(experiment['continued'])} times with other code or devices, or more seeds",
        *(
            f"seeds at first: {one['seeds_before']}; more were added by `{one['command']}`, "
            "and no interval accounts for adding seeds after the result was seen"
            for one in experiment["continued"]
            if "seeds_before" in one
        ),
    ]


def _recipes(run: Run) -> list[str]:
    """For each arm its recipe, and the choices that depart from it."""
    lines = []
    for arm, facts in run.recipes.items():
        departing = [f"{name}={value}" for name, value in facts["departures"].items()]
        exceptions = f", except {', '.join(departing)}" if departing else ""
        lines.append(f"recipe of {arm}: {facts['recipe']}{exceptions}")
    return lines


def _settings(run: Run, summary: dict[str, Any]) -> list[str]:
    """Values that somebody has set, such as "batch_size 32 (preset)"."""
    lines = []
    for setting in run.settings:
        shown = {
            arm: f"{summary['arms'][arm]['tuned'].get(setting.field, value)} ({layer})"
            for arm, (value, layer) in setting.by_arm.items()
        }
        name = setting.field.rpartition(".")[2]
        if len(set(shown.values())) == 1:
            lines.append(f"{name} {next(iter(shown.values()))}")
        else:
            parts = ", ".join(f"{text} in {arm}" for arm, text in shown.items())
            lines.append(f"{name} {parts}")
    return lines


def _images(experiment: dict[str, Any]) -> list[str]:
    """For each form of the data: originals, or a prepared dataset and its bad files."""
    lines = []
    for data in experiment["data"]:
        facts = data.get("prepared")
        if facts is None:
            lines.append("images: originals, rescaled while they were read")
            continue
        raw = facts["encoding"] == "raw"
        encoding = "raw" if raw else f"JPEG of quality {facts['jpeg_quality']}"
        lines.append(
            f"images: a prepared dataset of {data['rescale_size']} x "
            f"{data['rescale_size']} pixels, {encoding}, fingerprint "
            f"{facts['fingerprint']}; bad files left out: {facts['bad_files']:,}"
        )
    return lines
