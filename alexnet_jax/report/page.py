"""The answer of a run folder: summary.json, figure, report.md, and what to print."""

import os
from pathlib import Path
from typing import Any

from alexnet_jax.files import whole_file, write_json
from alexnet_jax.recipe import NO_RECIPE
from alexnet_jax.report import claims, figures, verdict, words
from alexnet_jax.report.records import Outcome, read_experiment, read_outcomes

Table = list[list[str]]  # first row: headings


def write(folder: Path) -> str:
    """Writes summary.json, figure.png, figure.svg and report.md; returns what to print.

    Raises:
      UserError: if the folder's records cannot be read, or do not fit its claim.
    """
    experiment = read_experiment(folder)
    outcomes = read_outcomes(folder, experiment["config"])
    summary = verdict.summarize(experiment, outcomes)
    figures.draw(summary, outcomes, folder)
    write_json(folder / "summary.json", summary)
    with whole_file(folder / "report.md") as file:
        file.write(report(experiment, summary, outcomes).encode())
    shown = "\n\n".join(plain(table) for table in tables(summary))
    heading = f"{summary['experiment']} on {summary['dataset']}"
    figure = os.path.relpath(folder / "figure.png")
    if summary["bad_files"]:
        heading += f", {summary['bad_files']:,} bad files left out"
    verdicts = [f"Verdict: {summary['verdict']}"]
    verdicts += [f"Also, {_subject(one)}: {one['verdict']}" for one in summary["also"]]
    return "\n\n".join([heading, shown, *verdicts, f"Figure: {figure}"])


def report(
    experiment: dict[str, Any], summary: dict[str, Any], outcomes: list[Outcome]
) -> str:
    """The page: claim, verdict, figure, tables, and what they were measured with."""
    data = experiment["data"][0]
    commit = experiment["git"]["commit"] or "unknown"
    dirty = " with uncommitted changes" if experiment["git"]["dirty"] else ""
    versions = ", ".join(f"{k} {v}" for k, v in experiment["versions"].items())
    devices = experiment["devices"]
    shown = "\n\n".join(markdown(table) for table in tables(summary))
    lines = [
        f"# {summary['experiment']} on {summary['dataset']}",
        *claims_and_verdicts(summary),
        "![learning curves](figure.png)",
        shown,
        "Each arm's values are those of the tuned value that served it best: reached by "
        "most seeds, then smallest mean. In brackets, 95% intervals by Student's t over "
        "seeds; of ratios, over their logarithms. Those of a comparison have at least the "
        "deviation that comes of counting in whole images, and of epochs known to a record "
        "only; an arm's own have what its seeds have. Trials with the "
        "same seed share first weights, order of examples and augmentation, and are "
        "compared pair by pair. A tuned value is chosen on the seeds that are measured; the "
        "interval knows nothing of that choice.",
        *_warnings(outcomes),
        "## Measured with",
        f"- command: `{experiment['command']}`\n"
        f"{_recipes(experiment)}"
        f"- code: commit {commit}{dirty}\n"
        f"- data: {data['name']}, {data['train_examples']:,} training and "
        f"{data['validation_examples']:,} {data['validation_split']} images, fingerprint "
        f"{data['fingerprint']}\n"
        f"{_images(experiment)}"
        f"- devices: {len(devices)} x {devices[0]}; {experiment['platform']}\n"
        f"- versions: {versions}\n"
        f"- started {experiment['started']}; continued "
        f"{len(experiment['continued'])} times with other code or devices",
    ]
    return "\n\n".join(lines) + "\n"


def claims_and_verdicts(summary: dict[str, Any]) -> list[str]:
    """Paragraphs: the claim, its verdict, and those of what it says also."""
    claim = summary["claim"]
    found = [
        f"Claim (section {claim['section']}): {claim['text']}.",
        f"**Verdict.** {summary['verdict']}",
    ]
    for one in summary.get("also", ()):
        text = one["claim"]["text"]
        own = f" {text}." if text != claim["text"] else ""
        found.append(f"**Also, {_subject(one)}.**{own} {one['verdict']}")
    return found


def _subject(answer: dict[str, Any]) -> str:
    return claims.describe_metric(answer["claim"])


def _warnings(outcomes: list[Outcome]) -> list[str]:
    """A heading and the warnings of all trials, or nothing."""
    lines = [
        f"- {outcome.trial.name}: {row['warning']}"
        for outcome in outcomes
        for row in outcome.rows
        if row.get("warning")
    ]
    return ["## Warnings", "\n".join(lines)] if lines else []


def _images(experiment: dict[str, Any]) -> str:
    """A line a form of the data: its originals, or a prepared set and its bad files."""
    lines = []
    for data in experiment["data"]:
        facts = data.get("prepared")
        if facts is None:
            lines.append("- images: the originals, rescaled as they were read\n")
            continue
        raw = facts["encoding"] == "raw"
        kind = "raw" if raw else f"JPEG of quality {facts['jpeg_quality']}"
        lines.append(
            f"- images: a prepared set of {data['rescale_size']} x "
            f"{data['rescale_size']} pixels, {kind}, fingerprint {facts['fingerprint']}; "
            f"bad files left out: {facts['bad_files']:,}\n"
        )
    return "".join(lines)


def _recipes(experiment: dict[str, Any]) -> str:
    """A line an arm: its recipe and what departs from it."""
    lines = []
    for arm, facts in experiment["recipes"].items():
        if facts["recipe"] == NO_RECIPE:
            continue
        departing = [f"{name}={value}" for name, value in facts["departures"].items()]
        but = f" but {', '.join(departing)}" if departing else ""
        lines.append(f"- recipe of {arm}: {facts['recipe']}{but}\n")
    return "".join(lines)


def tables(summary: dict[str, Any]) -> list[Table]:
    """Of the arms, of several comparisons, of equal tuned values."""
    found = [_arms(summary)]
    if sum(len(one["comparisons"]) for one in claims.answers(summary)) > 1:
        found.append(_comparisons(summary))
    if summary["at_equal_tuned_values"]:
        found.append(_tuned_values(summary))
    return found


def _arms(summary: dict[str, Any]) -> Table:
    """A row an arm, at its best tuned value: what is claimed, then the other errors."""
    # Several claims may be of one metric, and compare other arms.
    measured = {_subject(one): one for one in claims.answers(summary)}
    fields = list(next(iter(summary["arms"].values()))["tuned"])
    others = [
        metric
        for metric in ("train_top1_error", "top1_error", "top5_error")
        if claims.METRICS[metric] not in measured
    ]
    rows = [
        [
            "arm",
            *(_words(field) for field in fields),
            *measured,
            *(claims.METRICS[metric] for metric in others),
        ]
    ]
    for arm, facts in summary["arms"].items():
        rows.append(
            [
                arm,
                *(f"{facts['tuned'][field]:g}" for field in fields),
                *(
                    words.show_interval(one["arms"][arm], one["claim"])
                    for one in measured.values()
                ),
                *(_percent(facts[f"final_{metric}"]) for metric in others),
            ]
        )
    return rows


def _comparisons(summary: dict[str, Any]) -> Table:
    """A row a pair of arms and metric, where a claim compares several."""
    rows = [["compared", "here", "the paper", "beside the paper"]]
    for one in claims.answers(summary):
        for each in one["comparisons"]:
            rows.append(
                [
                    words.describe_comparison(one["claim"], each),
                    words.show_comparison(each, one["claim"]),
                    words.papers_part(one["claim"]),
                    each["standing"],
                ]
            )
    return rows


def _tuned_values(summary: dict[str, Any]) -> Table:
    """A row a tuned value: both arms there, and their comparison."""
    claim = summary["claim"]
    (main,) = summary["comparisons"]
    first, second = main["compare"]
    rows = [["at equal", second, first, words.describe_comparison(claim, main)]]
    for setting, comparison in summary["at_equal_tuned_values"].items():
        row = [setting.replace("_", " ").replace("=", " ")]
        for arm in (second, first):
            facts = summary["arms"][arm]["by_tuned"][setting]
            row.append(words.show_interval(facts, claim))
        shown = words.show_comparison({"compare": main["compare"]} | comparison, claim)
        rows.append([*row, shown])
    return rows


def _words(field: str) -> str:
    return field.rpartition(".")[2].replace("_", " ")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def plain(table: Table) -> str:
    """Columns lined up for a terminal."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in table
    )


def markdown(table: Table) -> str:
    heading, *rows = table
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
