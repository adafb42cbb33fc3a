"""One page over many experiments: what the paper claims, and what was measured."""

import base64
import dataclasses
import html
import os
from pathlib import Path
from typing import Any, NamedTuple

from alexnet_jax.errors import UserError
from alexnet_jax.files import atomic_file
from alexnet_jax.report import figures, page
from alexnet_jax.report.claims import is_of_paper
from alexnet_jax.report.formatting import paper_note, plural, run_title, same_dataset
from alexnet_jax.report.run_reader import Run, read_run
from alexnet_jax.report.shared_networks import in_common
from alexnet_jax.report.summary import summarize
from alexnet_jax.report.tables import Table, claims_table, markdown, plain, tables

TITLE = "The paper's claims, and what was measured"
# Where no question is the paper's.
OWN_TITLE = "Experiments, and what was measured"

# Belongs wherever several verdicts of the same trained networks stand on one page.
SHARED = (
    "An unusually good or bad control shows in all of them, so their verdicts are not "
    "independent."
)


class Reported(NamedTuple):
    """A run folder, and the summary of its records as they are now."""

    run: Run
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        return run_title(self.summary)

    def title(self, others: "list[Reported]") -> str:
        """The run's name, with its folder if another run has the same name."""
        alike = sum(other.name == self.name for other in others)
        return f"{self.name} ({self.run.folder})" if alike > 1 else self.name


def read(folder: Path) -> Reported:
    """Reads a run folder, whether its trials are finished or still running.

    Raises:
      UserError: if it is not a run folder, its records cannot be read, or they do not fit
        its claim.
    """
    if not (folder / "experiment.json").is_file():
        inside = sorted(p.parent for p in folder.glob("*/experiment.json"))
        hint = f" Did you mean {' '.join(map(str, inside))}?" if inside else ""
        raise UserError(
            f"{folder} is not a run folder: it has no experiment.json.{hint}"
        )
    run = read_run(folder)
    summary = summarize(run)
    if summary[
        "tuning"
    ]:  # Of the measured trials, only those at the chosen values ran.
        chosen = {arm: facts["tuned"] for arm, facts in summary["arms"].items()}
        ran = [o for o in run.outcomes if o.trial.tuned == chosen[o.trial.arm]]
        run = dataclasses.replace(run, outcomes=ran)
    return Reported(run, summary)


def write(folders: list[Path], output: Path) -> str:
    """Writes report.md with its figures, and report.html, which is self-contained.

    Returns what to print.

    Raises:
      UserError: if one is not a run folder, is given twice or cannot be read, or `output`
        is a run folder. Then nothing is written.
    """
    same = [f for f in folders if sum(f.resolve() == o.resolve() for o in folders) > 1]
    if same:
        raise UserError(f"{same[0]} is given twice.")
    runs = [read(folder) for folder in folders]
    if (output / "experiment.json").exists():
        raise UserError(
            f"{output} is a run folder, with a report of its own. Choose another folder "
            "with --output=DIR."
        )
    output.mkdir(parents=True, exist_ok=True)
    drawn = [figures.render(r.summary, r.run.outcomes, narrow=True) for r in runs]
    for number, figure in enumerate(drawn, start=1):
        with atomic_file(output / f"figure{number}.png") as file:
            file.write(figure["png"])
    with atomic_file(output / "report.md") as file:
        file.write(_markdown(runs).encode(errors="backslashreplace"))
    with atomic_file(output / "report.html") as file:
        whole = _html(runs, [figure["svg"] for figure in drawn])
        file.write(whole.encode(errors="backslashreplace"))
    pages = [os.path.relpath(output / f"report.{kind}") for kind in ("md", "html")]
    answers = plain(_table_of_runs(runs))
    return f"{answers}\n\n{_scope(runs)}\n\nPages: {', '.join(pages)}"


def _table_of_runs(runs: list[Reported]) -> Table:
    titles = [one.title(runs) for one in runs]
    return claims_table([one.summary for one in runs], titles)


def _of_paper(runs: list[Reported]) -> list[Reported]:
    return [one for one in runs if is_of_paper(one.summary["claim"])]


def _title(runs: list[Reported]) -> str:
    return TITLE if _of_paper(runs) else OWN_TITLE


def _scope(runs: list[Reported]) -> str:
    """What may be concluded from these runs together, and what may not."""
    datasets = list(dict.fromkeys(one.summary["dataset"] for one in runs))
    of_paper = _of_paper(runs)
    away = [
        one
        for one in of_paper
        if not same_dataset(one.summary["dataset"], one.summary["claim"]["dataset"])
    ]
    text = ""
    if of_paper:
        text = (
            f"{len(away)} of {plural(len(of_paper), 'run')} used other data than the "
            "paper's, which neither confirms nor refutes its results."
        )
    if len(datasets) > 1:
        text += (
            f" The runs used different datasets ({', '.join(datasets)}): compare within a "
            "row only."
        )
    for numbers in in_common([one.run for one in runs]):
        names = [runs[number].title(runs) for number in numbers]
        text += (
            f" {', '.join(names[:-1])} and {names[-1]} have trained networks in common "
            f"(the same settings, seeds and data). {SHARED}"
        )
    return (
        f"{text} Brackets are 95% intervals by Student's t over paired seeds, each by "
        "itself; the column of seeds counts the pairs that have a value in both arms."
    ).lstrip()


def _markdown(runs: list[Reported]) -> str:
    answers = [
        f"- **{one.title(runs)}.** {one.summary['question']} **{one.summary['answer']}** "
        f"{paper_note(one.summary['claim'])}".rstrip()
        for one in runs
    ]
    parts = [f"# {_title(runs)}", "\n".join(answers), _scope(runs)]
    parts.append(markdown(_table_of_runs(runs)))
    for number, one in enumerate(runs, start=1):
        experiment = one.run.experiment
        parts += [
            f"## {one.title(runs)}",
            *page.claims_and_verdicts(one.summary),
            f"![the answer, drawn](figure{number}.png)",
            *(markdown(each) for each in tables(one.summary)),
            f"`{experiment['command']}`, commit {page.commit(experiment)}.",
        ]
    return "\n\n".join(parts) + "\n"


# On a screen narrower than 48 rem a table has a block for every row, with the heading of
# each cell before it, so that nothing has to be scrolled sideways.
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; color: #1a1a1a; background: #fff; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.25; }
h2 { margin-top: 3rem; border-top: 1px solid #d0d0d0; padding-top: 1rem; }
ol.answers { list-style: none; padding: 0; }
ol.answers li { border-left: 4px solid #0072b2; padding: 0.1rem 0 0.1rem 0.8rem;
  margin: 1rem 0; }
.answer { font-weight: 600; }
.note { color: #555; font-size: 0.88rem; }
table { border-collapse: collapse; font-size: 0.88rem; margin: 1rem 0; }
th, td { border-bottom: 1px solid #d0d0d0; padding: 0.35rem 0.7rem; text-align: left;
  vertical-align: top; }
th { background: #f2f2f2; }
td { min-width: 3.5rem; }
img { max-width: 100%; height: auto; }
code { background: #f2f2f2; padding: 0.1rem 0.3rem; }
@media (max-width: 48rem) {
  body { margin: 1rem auto; }
  table, tbody, tr, td { display: block; }
  thead { display: none; }
  tr { border: 1px solid #d0d0d0; border-radius: 4px; margin: 0.6rem 0; padding: 0.4rem; }
  td { border: 0; padding: 0.1rem 0.3rem; }
  td::before { content: attr(data-heading) ": "; color: #555; }
}
"""


def _html(runs: list[Reported], images: list[bytes]) -> str:
    """The answers first, then what may be concluded from them, then run after run."""
    text = html.escape
    answers = [
        f'<li><a href="#run{number}">{text(one.title(runs))}</a><br>\n'
        f"{_html_answer(one.summary)}</li>"
        for number, one in enumerate(runs, start=1)
    ]
    body = [
        f"<h1>{text(_title(runs))}</h1>",
        '<ol class="answers">\n' + "\n".join(answers) + "\n</ol>",
        f"<p>{text(_scope(runs))}</p>",
        _html_table(_table_of_runs(runs)),
    ]
    for number, (one, image) in enumerate(zip(runs, images, strict=True), start=1):
        experiment = one.run.experiment
        paragraphs = page.claims_and_verdicts(one.summary)
        source = f"data:image/svg+xml;base64,{base64.b64encode(image).decode()}"
        drawn = text(f"{one.summary['question']} {one.summary['answer']}")
        body += [
            f'<h2 id="run{number}">{text(one.title(runs))}</h2>',
            *(f"<p>{_bold(text(paragraph))}</p>" for paragraph in paragraphs),
            f'<p><img alt="{drawn}" src="{source}"></p>',
            *(_html_table(each) for each in tables(one.summary)),
            f"<p><code>{text(experiment['command'])}</code>, commit "
            f"{text(page.commit(experiment))}.</p>",
        ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(_title(runs))}</title>\n<style>{STYLE}</style>\n</head>\n"
        "<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _html_answer(summary: dict[str, Any]) -> str:
    question, answer = (html.escape(summary[key]) for key in ("question", "answer"))
    note = html.escape(paper_note(summary["claim"]))
    return (
        f'{question} <span class="answer">{answer}</span>\n'
        f'<br><span class="note">{note}</span>'
    )


def _bold(paragraph: str) -> str:
    """A paragraph whose leading Markdown **heading** is bold; later stars are text."""
    before, opened, rest = paragraph.partition("**")
    heading, closed, text = rest.partition("**")
    if before or not (opened and closed):
        return paragraph
    return f"<strong>{heading}</strong>{text}"


def _html_table(content: Table) -> str:
    """A table whose cells know their heading: see `STYLE`."""
    escaped = [[html.escape(cell) for cell in row] for row in content]
    heading, *rows = escaped
    lines = ["<thead><tr>", *(f"<th>{cell}</th>" for cell in heading), "</tr></thead>"]
    lines.append("<tbody>")
    for row in rows:
        cells = [
            f'<td data-heading="{name}">{cell}</td>'
            for name, cell in zip(heading, row, strict=True)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</tbody>\n</table>"
