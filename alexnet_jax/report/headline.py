"""The question of a claim and its answer, each in one line.

They are the titles of the figures, and what a page says first. The verdict (`wording`)
says the same with its caveats.
"""

from collections.abc import Mapping
from typing import Any

from alexnet_jax.report.claims import (
    describe_metric,
    is_ratio,
    paper_direction,
    percent,
)
from alexnet_jax.report.formatting import (
    missing_values,
    plural,
    show_comparison,
    show_interval,
    show_number,
    show_pair,
)
from alexnet_jax.report.verdict import Standing

ANSWERS = {
    Standing.SAME_CLEAR: "Yes",
    Standing.SAME_UNCLEAR: "It seems so, but that is not clear",
    Standing.SAME_ONE_SEED: "In one seed, yes",
    Standing.SAME_BOUND: "Yes, by a bound only",
    Standing.NOT_SEEN: "It does not seem so, but that is not clear",
    Standing.EQUAL_ONE_SEED: "Not in one seed",
    Standing.OPPOSITE_CLEAR: "No, the opposite",
    Standing.OPPOSITE_ONE_SEED: "In one seed, the opposite",
    Standing.OPPOSITE_BOUND: "The opposite, by a bound only",
    Standing.NOT_ANSWERED: "Not answered",
    Standing.LEFT_OPEN: "Left open by a diverged seed",
    Standing.DIFFERENCE_CLEAR: "Yes",
    Standing.DIFFERENCE_UNCLEAR: "Not clear",
    Standing.ONE_SEED: "Not known from one seed",
}


def question(answer: Mapping[str, Any]) -> str:
    """What is asked, such as "Does tanh need more epochs than ReLU to reach ...?".

    Args:
      answer: one of `claims.answers`.
    """
    claim, pairs = answer["claim"], [one["compare"] for one in answer["comparisons"]]
    side = paper_direction(claim)
    metric = describe_metric(claim)
    goal = ""
    if is_ratio(claim):
        goal = f"to reach {percent(claim['threshold'])} training error"
    if not pairs:
        arms = list(answer["arms"])
        which = f"'{arms[0]}'" if len(arms) == 1 else "each arm"
        if is_ratio(claim):
            return f"How many epochs does {which} need {goal}?"
        return f"What is the {metric} of {which}?"
    if len(pairs) > 1:
        return _question_of_pairs(claim, pairs, metric, goal)
    first, second = (f"'{arm}'" for arm in pairs[0])
    if is_ratio(claim):
        if side is None:
            return f"Do {first} and {second} need as many epochs {goal}, or not?"
        more = "more" if side > 0 else "fewer"
        return f"Does {first} need {more} epochs than {second} {goal}?"
    if side is None:
        return f"Does the {metric} of {first} differ from that of {second}?"
    higher = "higher" if side > 0 else "lower"
    return f"Is the {metric} of {first} {higher} than that of {second}?"


def _question_of_pairs(
    claim: Mapping[str, Any], pairs: list[Any], metric: str, goal: str
) -> str:
    side = paper_direction(claim)
    reference = _reference(pairs)
    which = "Which arms" if reference else "In which pairs does the first arm"
    other = f"'{reference}'" if reference else "the second"
    if is_ratio(claim):
        need = {None: "another number of", 1.0: "more", -1.0: "fewer"}[side]
        return f"{which} need {need} epochs than {other} {goal}?"
    if side is None:
        return f"{which} differ from {other} in {metric}?"
    higher = "higher" if side > 0 else "lower"
    return f"{which} have a {higher} {metric} than {other}?"


def short_answer(answer: Mapping[str, Any]) -> str:
    """What was measured, such as "No, the opposite: tanh / ReLU 0.61 (95% ...)"."""
    claim, found = answer["claim"], answer["comparisons"]
    if not found:
        return "; ".join(
            ("" if len(answer["arms"]) == 1 else f"{arm} ") + _measured(facts, claim)
            for arm, facts in answer["arms"].items()
        )
    if len(found) > 1:
        return _answer_of_pairs(claim, found)
    standing = Standing(found[0]["standing"])
    if standing == Standing.NOT_ANSWERED:
        return f"{ANSWERS[standing]}. {missing_values(found[0], claim)}"
    measured = f"{show_pair(found[0], claim)} {show_comparison(found[0], claim)}"
    return f"{ANSWERS[standing]}: {measured}"


def _measured(facts: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """One arm's value with its interval, or why it has none."""
    if facts["mean"] is None or facts["low"] is None:
        return show_interval(facts, claim)
    unit = "" if is_ratio(claim) else "%"
    mean, low, high = (show_number(facts[k], claim) for k in ("mean", "low", "high"))
    seeds = plural(facts["n"], "seed")
    return f"{mean}{unit} (95% interval {low} to {high}{unit}, {seeds})"


def _answer_of_pairs(claim: Mapping[str, Any], found: list[dict[str, Any]]) -> str:
    """The clear ones by name, and how many others there are."""
    reference = _reference([each["compare"] for each in found])
    sides: dict[str, list[str]] = {}
    for each in found:
        name = each["compare"][0] if reference else show_pair(each, claim)
        side = _SIDES.get(Standing(each["standing"]), "not clear")
        sides.setdefault(side, []).append(name)
    parts = [f"{_CLEAR}: {', '.join(sides.get(_CLEAR, ['none']))}"]
    if _OPPOSITE in sides:
        parts.append(f"{_OPPOSITE}: {', '.join(sides[_OPPOSITE])}")
    for side in ("not clear", "not answered"):
        if side in sides:
            parts.append(f"{side}: {len(sides[side])} of {len(found)}")
    return "; ".join(parts)


_CLEAR, _OPPOSITE = "Clear at 95%", "clearly the opposite"
_SIDES = {
    Standing.SAME_CLEAR: _CLEAR,
    Standing.DIFFERENCE_CLEAR: _CLEAR,
    Standing.OPPOSITE_CLEAR: _OPPOSITE,
    Standing.NOT_ANSWERED: "not answered",
    Standing.LEFT_OPEN: "not answered",
}


def _reference(pairs: list[Any]) -> str | None:
    """The arm against which all pairs compare; None if they compare several."""
    seconds = {second for _, second in pairs}
    return seconds.pop() if len(seconds) == 1 else None
