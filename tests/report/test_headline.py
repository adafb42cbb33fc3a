"""The question of a claim and its answer, each in one line."""

import json
from pathlib import Path

import pytest
from report_records import (
    CLAIM,
    all_reaching,
    experiment,
    summary_of,
    summary_of_errors,
    with_errors,
)

from alexnet_jax.report import claims, formatting, headline
from alexnet_jax.report.verdict import Standing

ROOT = Path(__file__).parents[2]


def test_a_ratio_is_asked_in_the_papers_direction_and_answered():
    epochs = {("ReLU", 0.1): [2.0, 2.0, 2.0], ("tanh", 0.1): [1.0, 1.2, 1.1]}
    content = experiment(seeds=3, rates=(0.1,))
    summary = summary_of(content, all_reaching(epochs))
    assert headline.question(summary) == (
        "Does 'tanh' need more epochs than 'ReLU' to reach 25% training error?"
    )
    assert headline.short_answer(summary).startswith(
        "No, the opposite: tanh / ReLU 0.55 (95% interval"
    )
    assert formatting.paper_note(CLAIM) == "The paper, on CIFAR-10: 6."


@pytest.mark.parametrize(
    ("paper", "words"), [(0.01, "higher"), ("lower", "lower"), (None, "differ")]
)
def test_a_difference_is_asked_in_the_papers_direction(paper, words):
    summary = summary_of_errors(paper=paper)
    assert words in headline.question(summary)
    pairs = [["tanh", "ReLU"], ["ReLU", "tanh"]]
    assert words in headline.question(summary_of_errors(paper=paper, compare=pairs))


def test_of_several_comparisons_the_clear_ones_are_named():
    errors = {
        "all": (0.40, 0.41, 0.39),
        "without conv2": (0.43, 0.44, 0.418),
        "without fc6": (0.38, 0.39, 0.371),
        "without fc7": (0.40, 0.42, 0.38),
    }
    outcomes = with_errors(
        {(arm, None): [(e, e, e) for e in values] for arm, values in errors.items()}
    )
    pairs = [[arm, "all"] for arm in list(errors)[1:]]
    claim = CLAIM | {"metric": "top1_error", "compare": pairs, "paper": 0.02}
    content = experiment(seeds=3, claim=claim, rates=(), arms=errors)
    summary = summary_of(content, outcomes)
    assert headline.question(summary) == (
        "Which arms have a higher top-1 error than 'all'?"
    )
    assert headline.short_answer(summary) == (
        "Clear at 95%: without conv2; clearly the opposite: without fc6; "
        "not clear: 1 of 3"
    )


def test_an_arm_that_nothing_is_compared_with_is_asked_for_its_value():
    summary = summary_of_errors(compare=None, paper=0.182)
    assert headline.question(summary) == "What is the top-1 error of each arm?"
    assert "ReLU 40.0% (95% interval" in headline.short_answer(summary)


def test_every_standing_has_an_answer_and_committed_summaries_a_question():
    assert set(headline.ANSWERS) == set(Standing)
    for path in (ROOT / "experiments").rglob("summary.json"):
        for answer in claims.answers(json.loads(path.read_text())):
            assert headline.question(answer).endswith("?")
            assert headline.short_answer(answer)


def test_unanswered_questions_say_why():
    nothing = {(arm, 0.1): [None, None] for arm in ("ReLU", "tanh")}
    summary = summary_of(experiment(rates=(0.1,)), all_reaching(nothing))
    assert headline.short_answer(summary) == (
        "Not answered. tanh: 2 seeds did not reach it; ReLU: 2 seeds did not reach it"
    )
