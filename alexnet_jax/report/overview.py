"""Many experiments on one page: what the paper claims, and what was measured of it."""

import base64
import html
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from alexnet_jax.errors import UserError
from alexnet_jax.files import whole_file
from alexnet_jax.report import claims, figures, page, verdict, words
from alexnet_jax.report.records import Outcome, read_experiment, read_outcomes


class Read(NamedTuple):
    """A run folder, and what its records say now: its summary.json may be of before."""

    folder: Path
    experiment: dict[str, Any]
    outcomes: list[Outcome]
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        return _name(self.summary)

    def title(self, runs: "list[Read]") -> str:
        """Its name, and its folder where another run has the same."""
        alike = sum(other.name == self.name for other in runs)
        return f"{self.name} ({self.folder})" if alike > 1 else self.name


def read(folder: Path) -> Read:
    """A run folder, be it done or still at work.

    Raises:
      UserError: if it is none, its records cannot be read, or do not fit its claim.
    """
    if not (folder / "experiment.json").is_file():
        inside = sorted(p.parent for p in folder.glob("*/experiment.json"))
        hint = f" Did you mean {' '.join(map(str, inside))}?" if inside else ""
        raise UserError(f"{folder} is no run folder: no experiment.json.{hint}")
    experiment = read_experiment(folder)
    outcomes = read_outcomes(folder, experiment["config"])
    return Read(folder, experiment, outcomes, verdict.summarize(experiment, outcomes))


def write(folders: list[Path], output: Path) -> str:
    """Writes report.md with its figures, and report.html, which needs nothing beside it.

    Returns what to print.

    Raises:
      UserError: as `read`; nothing is written then.
    """
    same = [f for f in folders if sum(f.resolve() == o.resolve() for o in folders) > 1]
    if same:
        raise UserError(f"{same[0]} is given twice.")
    runs = [read(folder) for folder in folders]
    output.mkdir(parents=True, exist_ok=True)
    pictures = []
    for number, run in enumerate(runs, start=1):
        with tempfile.TemporaryDirectory(dir=output) as scratch:
            figures.draw(run.summary, run.outcomes, Path(scratch))
            pictures.append((Path(scratch) / "figure.svg").read_bytes())
            os.replace(Path(scratch) / "figure.png", output / f"figure{number}.png")
    with whole_file(output / "report.md") as file:
        file.write(_markdown(runs).encode())
    with whole_file(output / "report.html") as file:
        file.write(_html(runs, pictures).encode())
    shown = [os.path.relpath(output / f"report.{kind}") for kind in ("md", "html")]
    found = page.plain(_of_runs(runs))
    return f"{found}\n\n{_of_data(runs)}\n\nPages: {', '.join(shown)}"


def _name(summary: dict[str, Any]) -> str:
    return f"{summary['experiment']} on {summary['dataset']}"


HEADINGS = ["section", "run", "compared", "paper", "here", "seeds", "verdict"]


def table(
    summaries: list[dict[str, Any]], titles: list[str] | None = None
) -> page.Table:
    """A row a comparison, of the claim and of what it says also: the paper's number, and
    ours beside it. `titles`: of the runs; by default, experiment and data."""
    rows = [HEADINGS]
    titles = titles or [_name(summary) for summary in summaries]
    for title, summary in zip(titles, summaries, strict=True):
        for answer in claims.answers(summary):
            for cells in _rows(answer, summary["seeds"]):
                section = str(answer["claim"]["section"])
                rows.append([section, title, *cells])
    return rows


def _of_runs(runs: list[Read]) -> page.Table:
    return table([run.summary for run in runs], [run.title(runs) for run in runs])


def _rows(answer: dict[str, Any], seeds: int) -> list[list[str]]:
    claim = answer["claim"]
    paper = words.papers_part(claim)
    if answer["comparisons"]:
        return [
            [
                words.describe_comparison(claim, each),
                paper,
                _brief(each, claim),
                _paired(each, seeds),
                each["standing"],
            ]
            for each in answer["comparisons"]
        ]
    return [
        [
            f"{claims.describe_metric(claim)}, {arm}",
            paper,
            words.show_interval(facts, claim),
            f"{facts['n']} of {len(facts['per_seed'])}",
            "not compared",
        ]
        for arm, facts in answer["arms"].items()
    ]


def _paired(comparison: dict[str, Any], seeds: int) -> str:
    """How many pairs have a value in both arms, of how many."""
    each = comparison.get("seeds_each", 1)  # answers of before there were averages
    if each == 1:
        return f"{comparison['n']} of {seeds}"
    return f"{comparison['n']} of {seeds // each} groups of {each}"


def _brief(comparison: dict[str, Any], claim: dict[str, Any]) -> str:
    if comparison["low"] is None:
        return words.show_comparison(comparison, claim)
    numbers = (comparison[name] for name in ("mean", "low", "high"))
    mean, low, high = (words.show_value(number, claim) for number in numbers)
    return f"{mean} [{low.removesuffix(' points')}, {high.removesuffix(' points')}]"


# Said wherever several verdicts stand on one page.
SHARED = (
    "Experiments on one data set have a control in common where it is the same network from "
    "the same seeds, as in crops_and_flips, depth, dropout and most others: a lucky or an "
    "unlucky control shows in all of them, so their verdicts are not independent."
)


def _of_data(runs: list[Read]) -> str:
    """What may be read from these runs together, and what not."""
    sets = list(dict.fromkeys(run.summary["dataset"] for run in runs))
    away = [
        run
        for run in runs
        if not words.same_dataset(
            run.summary["dataset"], run.summary["claim"]["dataset"]
        )
    ]
    text = f"{len(away)} of {len(runs)} runs are on other data than the paper's: they "
    text += "neither confirm nor refute it."
    if len(sets) > 1:
        text += (
            f" The runs are of different data ({', '.join(sets)}): compare within a row "
            "only; nothing here is averaged over them."
        )
    if len(sets) < len(runs):
        text += f" {SHARED}"
    return text + (
        " In brackets 95% intervals by Student's t over paired seeds, each by itself; "
        "seeds: those that have a value in both arms."
    )


def _markdown(runs: list[Read]) -> str:
    parts = ["# The paper's claims, and what was measured", _of_data(runs)]
    parts.append(page.markdown(_of_runs(runs)))
    for number, run in enumerate(runs, start=1):
        parts += [
            f"## {run.title(runs)}",
            *page.claims_and_verdicts(run.summary),
            f"![learning curves](figure{number}.png)",
            *(page.markdown(table) for table in page.tables(run.summary)),
            f"`{run.experiment['command']}`, commit {_commit(run)}.",
        ]
    return "\n\n".join(parts) + "\n"


def _commit(run: Read) -> str:
    git = run.experiment["git"]
    dirty = " with uncommitted changes" if git["dirty"] else ""
    return f"{git['commit'] or 'unknown'}{dirty}"


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; font-size: 0.88rem; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #d0d0d0; padding: 0.35rem 0.7rem; text-align: left;
  vertical-align: top; }
th { background: #f2f2f2; }
img { max-width: 100%; }
code { background: #f2f2f2; padding: 0.1rem 0.3rem; overflow-wrap: anywhere; }
"""


def _html(runs: list[Read], pictures: list[bytes]) -> str:
    text = html.escape
    body = [
        "<h1>The paper's claims, and what was measured</h1>",
        f"<p>{text(_of_data(runs))}</p>",
        _html_table(_of_runs(runs)),
    ]
    for run, picture in zip(runs, pictures, strict=True):
        inline = base64.b64encode(picture).decode()
        alt = text(f"learning curves of {run.title(runs)}")
        body += [
            f"<h2>{text(run.title(runs))}</h2>",
            *(
                f"<p>{_bold(text(one))}</p>"
                for one in page.claims_and_verdicts(run.summary)
            ),
            f'<p><img alt="{alt}" src="data:image/svg+xml;base64,{inline}"></p>',
            *(_html_table(table) for table in page.tables(run.summary)),
            f"<p><code>{text(run.experiment['command'])}</code>, commit "
            f"{text(_commit(run))}.</p>",
        ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>AlexNet: the paper's claims</title>\n<style>{STYLE}</style>\n</head>\n"
        "<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _bold(paragraph: str) -> str:
    """Markdown's **heading** of a paragraph; stars of its text stay as they are."""
    before, opened, rest = paragraph.partition("**")
    heading, closed, text = rest.partition("**")
    if before or not (opened and closed):
        return paragraph
    return f"<strong>{heading}</strong>{text}"


def _html_table(table: page.Table) -> str:
    def row(cells: list[str], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)

    heading, *rows = table
    lines = [
        f"<tr>{row(heading, 'th')}</tr>",
        *(f"<tr>{row(r, 'td')}</tr>" for r in rows),
    ]
    return "<table>\n" + "\n".join(lines) + "\n</table>"
