"""One page over many run folders, from records that the test writes."""

import base64
import html
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import measured
from forked import command
from test_page import folder as run_folder

from alexnet_jax.errors import UserError
from alexnet_jax.report import overview, shared_networks
from alexnet_jax.report.tables import CLAIMS_HEADINGS, claims_table

ROOT = Path(__file__).parents[2]
run_folder = run_folder  # the fixture: tanh takes twice as long as ReLU


@pytest.fixture
def two(run_folder, tmp_path_factory):
    """That run, on digits; and a copy whose data are CIFAR-10, of two arms by error."""
    base = tmp_path_factory.mktemp("runs")
    shutil.copytree(run_folder, base / "digits")
    shutil.copytree(run_folder, base / "cifar10")
    path = base / "cifar10/experiment.json"
    held = json.loads(path.read_text())
    held["data"][0]["name"] = "cifar10:3.0.2"
    held["config"]["claim"] |= {"text": "tanh <b>&</b> ReLU"}
    path.write_text(json.dumps(held))
    return [base / "digits", base / "cifar10"]


class Page(HTMLParser):
    """Tags, and what they load."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loaded = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href")]


def test_the_report_of_a_run_is_not_overwritten(two):
    with pytest.raises(UserError, match="is a run folder"):
        overview.write(two, two[0])


def test_the_page_has_a_row_per_comparison_and_is_self_contained(two, tmp_path):
    printed = overview.write(two, tmp_path / "out")
    assert "relu_vs_tanh on digits" in printed
    assert "1 of 2 runs used other data than the paper's" in printed
    assert "compare within a row" in printed
    text = (tmp_path / "out/report.html").read_text()
    found = Page(text)
    assert found.tags.count("h2") == found.tags.count("img") == 2
    for source in found.loaded:
        if source.startswith("#"):  # within the page
            assert f'id="{source[1:]}"' in text
            continue
        kind, _, data = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        ElementTree.fromstring(base64.b64decode(data))
    assert "<b>" not in text  # what a config says is text
    assert "tanh &lt;b&gt;&amp;" in text
    markdown = (tmp_path / "out/report.md").read_text()
    for name in re.findall(r"\]\((.*?)\)", markdown):
        assert (tmp_path / "out" / name).is_file()
    row = next(line for line in markdown.splitlines() if line.startswith("| 3.1"))
    # The root of (4.5 / 2) * (4.75 / 2.25): epochs 2.5 * slow - 0.5, see test_page.
    assert "| 2.2 [" in row
    assert "2 of 2" in row


@pytest.mark.usefixtures("undrawn")
def test_two_runs_of_one_experiment_are_told_apart_by_their_folders(two, tmp_path):
    digits, cifar10 = two
    again = tmp_path / "again"
    shutil.copytree(digits, again)
    printed = overview.write([digits, again, cifar10], tmp_path / "out")
    text = (tmp_path / "out/report.html").read_text()
    for folder in (digits, again):
        assert f"relu_vs_tanh on digits ({folder})" in printed
        assert f">relu_vs_tanh on digits ({folder})</h2>" in text
    assert ">relu_vs_tanh on cifar10:3.0.2</h2>" in text


@pytest.mark.usefixtures("undrawn")
def test_further_claims_have_rows_of_their_own(two, tmp_path):
    path = two[0] / "experiment.json"
    held = json.loads(path.read_text())
    held["config"]["claim"]["also"] = [
        {"metric": "top5_error", "paper": 0.012, "text": "and <i>fewer</i>"}
    ]
    path.write_text(json.dumps(held))
    printed = overview.write(two, tmp_path / "out")
    rows = [line for line in printed.splitlines() if line.startswith("3.1")]
    assert len(rows) == 3
    assert re.search(r"top-5 error, tanh - ReLU +1\.2 points +0\.0 points", rows[1])
    text = (tmp_path / "out/report.html").read_text()
    assert "<strong>Also, top-5 error.</strong> and &lt;i&gt;fewer&lt;/i&gt;." in text
    assert "**Also, top-5 error.**" in (tmp_path / "out/report.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_the_answers_come_first(two, tmp_path):
    overview.write(two, tmp_path / "out")
    for name in ("report.html", "report.md"):
        text = (tmp_path / "out" / name).read_text()
        body = text[text.index("and what was measured") :]
        answer = overview.read(two[0]).summary["answer"]
        places = [body.index(answer), body.index("used other data"), body.index("3.1")]
        assert places == sorted(places)


def changed(folder, **training):
    """Sets fields of the section training of a run folder."""
    path = folder / "experiment.json"
    held = json.loads(path.read_text())
    held["config"]["training"] |= training
    path.write_text(json.dumps(held))


@pytest.mark.usefixtures("undrawn")
def test_runs_that_share_networks_are_named_and_no_others(two, run_folder, tmp_path):
    changed(two[1], batch_size=7)
    assert not shared_networks.in_common([overview.read(each).run for each in two])
    changed(run_folder, checkpoint_every_epochs=3.0)  # the same networks
    runs = [*two, run_folder]  # digits, others, digits again
    assert shared_networks.in_common([overview.read(each).run for each in runs]) == [
        [0, 2]
    ]
    printed = overview.write([two[0], run_folder], tmp_path / "out")
    assert overview.SHARED in printed
    text = (tmp_path / "out/report.md").read_text()
    assert overview.SHARED in text
    for folder in (two[0], run_folder):
        assert f"relu_vs_tanh on digits ({folder})" in printed
    for name in ("crops_and_flips", "dropout"):  # experiments that are not on the page
        assert name not in text
    notebook = json.loads((ROOT / "experiments/overview.ipynb").read_text())
    assert overview.SHARED in "".join(notebook["cells"][0]["source"])


def test_averages_of_networks_are_counted_in_groups():
    path = ROOT / "experiments/ensemble/summary.json"
    _, row, *_ = claims_table([json.loads(path.read_text())])
    assert row[CLAIMS_HEADINGS.index("seeds")] == "3 of 3 groups of 5"


def test_summaries_from_before_further_claims_existed_are_shown():
    old = [
        json.loads(path.read_text())
        for path in sorted((ROOT / "experiments").glob("*/summary.json"))
    ]
    for summary in old:
        summary.pop("also", None)
    rows = claims_table(old)[1:]
    assert len(rows) >= len(old)
    assert not any("resolved" in cell for row in rows for cell in row)


@pytest.mark.usefixtures("undrawn")
def test_an_unfinished_run_is_shown_as_far_as_it_is(two, tmp_path):
    trial = two[0] / "tanh/learning_rate=0.1/seed1"
    (trial / "trial.json").unlink()
    records = trial / "metrics.jsonl"
    records.write_text(records.read_text()[:-20])
    printed = overview.write(two[:1], tmp_path / "out")
    assert "relu_vs_tanh on digits" in printed
    assert "1 trial is not finished." in (tmp_path / "out/report.md").read_text()


def test_a_broken_line_within_a_record_is_named(two, tmp_path):
    records = two[0] / "tanh/learning_rate=0.1/seed1/metrics.jsonl"
    lines = records.read_text().splitlines()
    records.write_text("\n".join([lines[0], lines[1][:-5], *lines[2:]]))
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
        overview.write(two, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_a_run_is_refused_with_the_runs_inside_it(two, tmp_path):
    with pytest.raises(UserError, match=r"not a run folder.*Did you mean .*cifar10"):
        overview.write([two[0].parent], tmp_path / "out")
    with pytest.raises(UserError, match="given twice"):
        overview.write([two[0], two[0]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


# A frame is as wide as asked; the window of a headless browser has a smallest width.
MEASURE = """<!DOCTYPE html><meta charset="utf-8">
<iframe id="frame" style="width: {width}px; height: 844px; border: 0" srcdoc="{page}">
</iframe><pre id="found"></pre>
<script>
addEventListener("load", () => {{
  const page = document.getElementById("frame").contentDocument;
  const root = page.documentElement;
  const wide = [...page.querySelectorAll("body *")].filter(
    one => one.getBoundingClientRect().right > root.clientWidth + 0.5
      || one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX != "visible");
  const top = name => page.querySelector(name).getBoundingClientRect().top;
  document.getElementById("found").textContent = JSON.stringify({{
    width: root.clientWidth, scrolled: root.scrollWidth,
    wide: wide.map(one => one.tagName + " " + one.textContent.slice(0, 60)),
    answer: top(".answer"), table: top("table"), figure: top("img")}});
}});
</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_on_the_page_is_scrolled_sideways(two, tmp_path, width):
    experiment = json.loads((two[0] / "experiment.json").read_text())
    experiment["command"] += " --workdir=/" + "a_long_name_of_a_folder/" * 9
    (two[0] / "experiment.json").write_text(json.dumps(experiment))
    again = tmp_path / ("the_folder_of_another_run_" * 5)
    shutil.copytree(two[0], again)  # so that the folders are part of the titles
    overview.write([*two, again], tmp_path / "out")
    page = html.escape((tmp_path / "out/report.html").read_text())
    found = measured(MEASURE.format(width=width, page=page), tmp_path)
    assert found["wide"] == []
    # A vertical scroll bar may take some of the width.
    assert width - 20 <= found["width"] <= width
    assert found["scrolled"] <= found["width"]
    # On the first screen of a phone stands an answer; tables and figures are below.
    assert found["answer"] < 400
    assert found["answer"] < found["table"] < found["figure"]


@pytest.mark.slow
def test_the_command(two, tmp_path):
    done = command("alexnet_jax.report", *two, f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    assert (tmp_path / "out/report.html").stat().st_size > 10_000
    nothing = command("alexnet_jax.report")
    assert nothing.returncode == 2
    assert nothing.stderr.startswith("Error: Missing run folder.")
