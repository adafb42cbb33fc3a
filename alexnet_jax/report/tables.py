"""The tables of a report, as text and as Markdown."""

from typing import Any

from alexnet_jax.report import claims, wording
from alexnet_jax.report.formatting import (
    brief,
    describe_comparison,
    field_name,
    paper_cell,
    run_title,
    show_comparison,
    show_interval,
)

Table = list[list[str]]  # the first row holds the headings

CLAIMS_HEADINGS = [
    "section",
    "run",
    "comparison",
    "paper",
    "measured",
    "seeds",
    "agreement",
]


# --- Of one run -------------------------------------------------------------------


def tables(summary: dict[str, Any]) -> list[Table]:
    """The arms; several comparisons; and both arms at each of several tuned values."""
    found = [_arms(summary)]
    if sum(len(one["comparisons"]) for one in claims.answers(summary)) > 1:
        found.append(_comparisons(summary))
    if summary["at_equal_tuned_values"]:
        found.append(_tuned_values(summary))
    if summary.get("tuning"):  # absent from old files
        found.append(_tuning_stage(summary))
    return found


def _arms(summary: dict[str, Any]) -> Table:
    """A row for each arm at its selected tuned values: the claims' metrics, then others."""
    # Several claims may have the same metric, and compare other arms.
    claimed = {
        claims.describe_metric(one["claim"]): one for one in claims.answers(summary)
    }
    fields = list(next(iter(summary["arms"].values()))["tuned"])
    others = ["train_top1_error", "top1_error"]
    if claims.has_top5(summary.get("num_classes")):  # absent from old files
        others.append("top5_error")
    others = [metric for metric in others if claims.METRICS[metric] not in claimed]
    titles = {metric: claims.METRICS[metric] for metric in others}
    if any("final_raw_top1_error" in facts for facts in summary["arms"].values()):
        titles["raw_top1_error"] = "top-1 error, parameters not averaged"
    if any(facts.get("reached") for facts in summary["arms"].values()):
        titles = {}  # The errors of trials that ended at different epochs compare nothing.
    rows = [
        [
            "arm",
            *(field_name(field) for field in fields),
            *claimed,
            *titles.values(),
        ]
    ]
    for arm, facts in summary["arms"].items():
        rows.append(
            [
                arm,
                *(f"{facts['tuned'][field]:g}" for field in fields),
                *(
                    show_interval(one["arms"][arm], one["claim"])
                    for one in claimed.values()
                ),
                *(_percent(facts.get(f"final_{metric}")) for metric in titles),
            ]
        )
    return rows


def _comparisons(summary: dict[str, Any]) -> Table:
    """A row for each pair of arms and metric."""
    of_paper = claims.is_of_paper(summary["claim"])
    rows = [["comparison", "measured", *(["paper", "agreement"] if of_paper else [""])]]
    for one in claims.answers(summary):
        for each in one["comparisons"]:
            rows.append(
                [
                    describe_comparison(one["claim"], each),
                    show_comparison(each, one["claim"]),
                    *([paper_cell(one["claim"])] if of_paper else []),
                    wording.agreement_cell(each, one["claim"]),
                ]
            )
    return rows


def _tuned_values(summary: dict[str, Any]) -> Table:
    """A row for each tuned value: both arms there, and their comparison."""
    claim = summary["claim"]
    (main,) = summary["comparisons"]
    first, second = main["compare"]
    rows = [["both arms at", second, first, describe_comparison(claim, main)]]
    for setting, comparison in summary["at_equal_tuned_values"].items():
        row = [setting.replace("_", " ").replace("=", " ")]
        for arm in (second, first):
            row.append(show_interval(summary["arms"][arm]["by_tuned"][setting], claim))
        compared = {"compare": main["compare"]} | comparison
        rows.append([*row, show_comparison(compared, claim)])
    return rows


def _tuning_stage(summary: dict[str, Any]) -> Table:
    """A row for each tuned value: every arm's metric in the stage that chose the values."""
    claim, ended_at = summary["claim"], summary["tuning"]["ended_at"]
    rows = [
        ["tuning", *(f"{arm}, {claims.describe_metric(claim)}" for arm in ended_at)]
    ]
    for name in next(iter(ended_at.values())):
        cells = []
        for arm, ends in ended_at.items():
            facts = summary["arms"][arm]["by_tuned"][name]
            shown = show_interval(facts, claim)
            if facts["behind"]:
                shown = f"given up after {ends[name]:.3g}"
            chosen = summary["arms"][arm]["tuned"] == facts["tuned"]
            cells.append(f"{shown}: chosen" if chosen else shown)
        rows.append([name.replace("_", " ").replace("=", " "), *cells])
    return rows


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


# --- Of several runs --------------------------------------------------------------


def claims_table(
    summaries: list[dict[str, Any]], titles: list[str] | None = None
) -> Table:
    """A row for each comparison of every claim: the paper's number, and the measured one.

    Args:
      summaries: of any age; the words of old ones are read as today's.
      titles: of the runs; by default, experiment and dataset.
    """
    rows = [CLAIMS_HEADINGS]
    titles = titles or [run_title(summary) for summary in summaries]
    for title, summary in zip(titles, summaries, strict=True):
        for answer in claims.answers(summary):
            for cells in _rows_of_claim(answer, summary["seeds"]):
                section = str(answer["claim"]["section"]) or "-"
                rows.append([section, title, *cells])
    return rows


def _rows_of_claim(answer: dict[str, Any], seeds: int) -> list[list[str]]:
    claim = answer["claim"]
    paper = paper_cell(claim)
    if answer["comparisons"]:
        return [
            [
                describe_comparison(claim, each),
                paper,
                brief(each, claim),
                _pairs(each, seeds),
                wording.agreement_cell(each, claim),
            ]
            for each in answer["comparisons"]
        ]
    return [
        [
            f"{claims.describe_metric(claim)}, {arm}",
            paper,
            show_interval(facts, claim),
            f"{facts['n']} of {len(facts['per_seed'])}",
            "not compared",
        ]
        for arm, facts in answer["arms"].items()
    ]


def _pairs(comparison: dict[str, Any], seeds: int) -> str:
    """How many pairs have a value in both arms, and how many there are."""
    each = comparison.get("seeds_per_group", 1)  # absent from old files
    if each == 1:
        return f"{comparison['n']} of {seeds}"
    return f"{comparison['n']} of {seeds // each} groups of {each}"


# --- As text ----------------------------------------------------------------------


def plain(table: Table) -> str:
    """A table with aligned columns, for a terminal."""
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
