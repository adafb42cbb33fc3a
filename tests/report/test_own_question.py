"""A config without a claim of the paper: its arms are compared, and no paper is spoken of."""

import json
from pathlib import Path

import pytest
from report_records import experiment, summary_of, trial, with_errors
from small_question import resolved

from alexnet_jax.config import base
from alexnet_jax.report import claims, figures, page, run_reader, tables
from alexnet_jax.report.run_reader import Outcome

ERRORS = {
    ("plain", None): [(0.1, 0.40, 0.1), (0.1, 0.41, 0.1), (0.1, 0.42, 0.1)],
    ("wide", None): [(0.1, 0.30, 0.1), (0.1, 0.31, 0.1), (0.1, 0.32, 0.1)],
    ("deep", None): [(0.1, 0.35, 0.1), (0.1, 0.45, 0.1), (0.1, 0.42, 0.1)],
}


def claim_of(arms=("plain", "wide", "deep"), **claim):
    config = base()
    config.arms = {
        arm: {"model.width": 0.5 + number / 4} for number, arm in enumerate(arms)
    }
    config.claim = claim
    config.seeds = 3
    return json.loads(json.dumps(resolved(config).as_json()["config"]["claim"]))


def test_every_other_arm_is_compared_with_the_first():
    claim = claim_of()
    assert claim["compare"] == [["wide", "plain"], ["deep", "plain"]]
    assert (claim["metric"], claim["paper"]) == ("top1_error", None)
    networks = dict.fromkeys(("plain", "wide", "deep"), 1)
    claims.check_claim(claim, experiment="x", networks=networks)
    assert claim_of(metric="overfitting_gap")["metric"] == "overfitting_gap"
    assert claim_of(compare=(("deep", "wide"),))["compare"] == [["deep", "wide"]]
    assert claim_of(("alone",))["compare"] == []


def test_a_claim_of_the_paper_must_be_whole():
    claim = claim_of(paper=0.1)
    assert claim == {"paper": 0.1}


@pytest.mark.parametrize(
    "arms", [("plain",), ("plain", "wide"), ("plain", "wide", "deep")]
)
def test_its_report_has_an_interval_and_no_word_of_a_paper(arms):
    errors = {key: value for key, value in ERRORS.items() if key[0] in arms}
    content = experiment(seeds=3, rates=(), claim=claim_of(arms), arms=arms)
    summary = summary_of(content, with_errors(errors))
    texts = [
        summary["verdict"],
        summary["question"],
        summary["answer"],
        *page.claims_and_verdicts(summary),
        *map(tables.plain, tables.tables(summary)),
    ]
    assert not any("paper" in text.lower() for text in texts)
    there = {"data": [{"name": "folder=b"}]}  # the claim has the whole path
    on_a_folder = summary_of(content | there, with_errors(errors))
    assert "paper" not in on_a_folder["verdict"].lower()
    assert "interval" in summary["verdict"]
    if len(arms) == 2:
        assert "10.0 points lower" in summary["verdict"]
        assert "clear at 95%" in summary["verdict"]


def test_a_figure_is_drawn_before_there_is_a_value():
    content = experiment(rates=(), claim=claim_of(("plain",)), arms=("plain",))
    waiting = [Outcome(trial("plain", seed), "unfinished", []) for seed in range(2)]
    drawn = figures.render(summary_of(content, waiting), waiting)
    assert drawn["png"].startswith(b"\x89PNG")


def test_an_arms_trained_network_is_named():
    claim = claim_of(("plain", "wide"))
    content = experiment(seeds=3, rates=(), claim=claim, arms=("plain", "wide"))
    content["config"]["arms"]["wide"] = {"training.init_from": "/net"}
    content["layers"] = {"training.init_from": "default"}
    content["arm_layers"] = {"wide": {"training.init_from": "command line"}}
    errors = {key: value for key, value in ERRORS.items() if key[0] != "deep"}
    outcomes = with_errors(errors)
    arms = summary_of(content, outcomes)["arms"]
    assert "init_from" not in arms["plain"]
    assert arms["wide"]["init_from"] == "/net"
    run = run_reader.run_of(Path("run"), content, outcomes)
    assert run.started_from == {"wide": "/net"}
