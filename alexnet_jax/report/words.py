"""The answer in words: the verdict, chosen by rule, and numbers as they are shown."""

from collections.abc import Mapping
from typing import Any

from alexnet_jax.config import short_name
from alexnet_jax.report.claims import describe_metric, is_ratio

SENTENCES = {
    "same direction, resolved": "As the paper says: the interval excludes no effect.",
    "same direction, not resolved": (
        "In the paper's direction, but not resolved: the interval includes no effect."
    ),
    "same direction, one seed": ("In the paper's direction, by one seed: no interval."),
    "same direction, a bound only": (
        "In the paper's direction, by a bound: some trials never got there."
    ),
    "no effect seen": (
        "No effect seen: the interval includes none, and its mean is not on the paper's "
        "side."
    ),
    "opposite": (
        "Opposite to the paper: the interval excludes no effect, on the other side."
    ),
    "opposite, one seed": "Opposite to the paper, by one seed: no interval.",
    "opposite, a bound only": (
        "Opposite to the paper, by a bound: some trials never got there."
    ),
    "not answered": "Not answered: trials diverged, never got there or are not done.",
    "a difference": "They differ: the interval excludes no difference.",
    "no difference resolved": ("No difference resolved: the interval includes none."),
    "one seed": "One seed only: no interval, and the paper says nothing of it.",
}


# Else "as the paper says" would say too much: see `verdict.measured`.
GAPS = (
    "Training errors are of augmented images, with dropout on: of two arms, the one with "
    "more of these has its gap measured too small."
)


def verdict(summary: dict[str, Any]) -> str:
    """The answer in words, chosen by rule from the summary's numbers."""
    parts = []
    if summary["unfinished_trials"]:
        parts.append(
            f"{summary['unfinished_trials']} trials have not run to their end."
        )
    parts += _findings(summary)
    if summary["diverged_trials"]:
        parts.append(_diverged(summary))
    compared_arms = {arm for each in summary["comparisons"] for arm in each["compare"]}
    edges = [arm for arm in summary["arms"] if summary["arms"][arm]["at_edge"]]
    edges = [arm for arm in edges if arm in compared_arms]
    if edges:
        parts.append(
            f"The best value of {' and '.join(edges)} is at the edge of those tried."
        )
    for arm in summary["arms"]:
        if arm in compared_arms:
            parts += _cliffs(arm, summary["arms"][arm])
    return " ".join([*parts, *_of_other_data(summary)])


def _sentence(standing: str, claim: Mapping[str, Any]) -> str:
    if standing == "not answered" and not is_ratio(claim):
        return "Not answered: trials diverged or are not done."
    return SENTENCES[standing]


def _diverged(summary: dict[str, Any]) -> str:
    """How many, and how many of those that the arms are measured by."""
    count = summary["diverged_trials"]
    of_arms = [
        f"{arm} {facts['diverged']} of {len(facts['per_seed'])}"
        for arm, facts in summary["arms"].items()
        if facts["diverged"]
    ]
    said = f"{count} trial{'s' * (count != 1)} diverged"
    if not any(facts["tuned"] for facts in summary["arms"].values()):
        return f"{said}: {', '.join(of_arms)}."
    return f"{said}, at the values compared {', '.join(of_arms) or 'none'}."


def _cliffs(arm: str, facts: dict[str, Any]) -> list[str]:
    return [
        f"Beside {arm}'s best {_field(name)}, {facts['tuned'][name]:g}, lies a cliff: "
        f"no seed gets there at {' and '.join(f'{value:g}' for value in fallen)}. A "
        "better value may lie between."
        for name, fallen in facts["beside_cliff"].items()
    ]


def _field(name: str) -> str:
    return name.rpartition(".")[2].replace("_", " ")


def also_verdict(answer: dict[str, Any]) -> str:
    """The same of what a claim says `also`: what is no part of it stands in the main."""
    return " ".join([*_findings(answer), *_of_other_data(answer)])


def _findings(answer: dict[str, Any]) -> list[str]:
    """How the claim's comparisons stand; without any, the arms' values."""
    found = [*_standings(answer), *_at_first_record(answer)]
    if answer["claim"]["metric"] == "overfitting_gap" and answer["comparisons"]:
        found.append(GAPS)
    return found


def _at_first_record(answer: dict[str, Any]) -> list[str]:
    early = [
        f"{arm} in {_seeds(facts['at_first_record'])}"
        for arm, facts in answer["arms"].items()
        if facts.get("at_first_record")
    ]
    if not early:
        return []
    return [
        f"There at the first record already: {', '.join(early)}. It counts as there at "
        "that record, and may have been sooner."
    ]


def _standings(answer: dict[str, Any]) -> list[str]:
    claim, comparisons = answer["claim"], answer["comparisons"]
    if not comparisons:
        arms = [
            f"{arm}: {describe_metric(claim)} {show_interval(facts, claim)}."
            for arm, facts in answer["arms"].items()
        ]
        return [*arms, show_paper(claim)]
    if len(comparisons) == 1:
        (comparison,) = comparisons
        compared = describe_comparison(claim, comparison)
        return [
            _sentence(comparison["standing"], claim),
            f"{compared[0].upper()}{compared[1:]}: {show_comparison(comparison, claim)}.",
            _beside_paper(comparison, claim),
        ]
    parts = []
    for standing in dict.fromkeys(each["standing"] for each in comparisons):
        alike = [
            show_pair(each, claim)
            + ("" if each["mean"] is None else f" ({show_value(each['mean'], claim)})")
            for each in comparisons
            if each["standing"] == standing
        ]
        parts.append(f"{_sentence(standing, claim)} So stand {', '.join(alike)}.")
    together = "Each interval is of 95% by itself, not all of them together."
    return [*parts, show_paper(claim), together]


def _of_other_data(answer: dict[str, Any]) -> list[str]:
    here, there = answer["dataset"], answer["claim"]["dataset"]
    if same_dataset(here, there):
        return []
    return [
        f"Measured on {here}, not on the paper's {there}: it neither confirms nor refutes "
        "the paper."
    ]


def show_paper(claim: Mapping[str, Any]) -> str:
    """What the paper says, as a sentence."""
    paper = claim["paper"]
    if paper is None:
        return "The paper gives no number."
    if isinstance(paper, str):
        return f"The paper: {paper}, without a number."
    return f"The paper: {show_value(paper, claim)}."


def papers_part(claim: Mapping[str, Any]) -> str:
    """The same in a cell of a table."""
    return show_paper(claim).removeprefix("The paper: ").rstrip(".")


def _beside_paper(comparison: dict[str, Any], claim: dict[str, Any]) -> str:
    paper = claim["paper"]
    if comparison["low"] is None or not isinstance(paper, (int, float)):
        return show_paper(claim)
    inside = comparison["low"] <= paper <= comparison["high"]
    where = "inside" if inside else "outside"
    return f"The paper: {show_value(paper, claim)}, {where} that interval."


def same_dataset(measured_on: str, paper: str) -> bool:
    """Whatever version it is of."""
    return short_name(measured_on) == paper


def describe_comparison(claim: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    return f"{describe_metric(claim)}, {show_pair(comparison, claim)}"


def show_pair(comparison: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    return (" / " if is_ratio(claim) else " - ").join(comparison["compare"])


def show_value(value: float, claim: Mapping[str, Any]) -> str:
    if is_ratio(claim):
        return f"{value:.3g}"
    points = _tenths(100 * value)
    return f"{points} points" if claim.get("compare") else f"{points}%"


def _tenths(value: float) -> str:
    """To one decimal; never "-0.0"."""
    return f"{round(value, 1) + 0.0:.1f}"


def show_interval(facts: dict[str, Any], claim: Mapping[str, Any]) -> str:
    """ "1.4 [1.2, 1.6]", in percent if an error; what is missing, where it is."""
    if facts["mean"] is None:
        return _missing(facts, claim)

    def show(value: float) -> str:
        return f"{value:.2f}" if is_ratio(claim) else f"{_tenths(100 * value)}%"

    if facts["low"] is None:
        return f"{show(facts['mean'])} (one seed)"
    return f"{show(facts['mean'])} [{show(facts['low'])}, {show(facts['high'])}]"


def _missing(facts: dict[str, Any], claim: Mapping[str, Any]) -> str:
    """Why an arm has no mean: an error is there unless its trial diverged or is at work.

    A summary.json of before says of the values chosen only how many are missing.
    """
    missing, seeds = facts["without_value"], len(facts["per_seed"])
    why = [
        f"{facts[how]} {words}"
        for how, words in (("diverged", "diverged"), ("unfinished", "not done"))
        if facts.get(how)
    ]
    if is_ratio(claim):
        return ", ".join([f"not reached by {missing} of {seeds} seeds", *why])
    return f"none in {missing} of {seeds} seeds" + (
        f": {', '.join(why)}" if why else ""
    )


def show_comparison(comparison: dict[str, Any], claim: dict[str, Any]) -> str:
    if comparison["mean"] is not None:
        return _with_interval(comparison, comparison.get("seeds_each", 1), claim)
    first, second = comparison["compare"]
    without = (comparison["missing_first"], comparison["missing_second"])
    if comparison["at_least"] is not None:
        return (
            f"at least {show_value(comparison['at_least'], claim)} "
            f"({first} not there in {_seeds(without[0])})"
        )
    if comparison["at_most"] is not None:
        return (
            f"at most {show_value(comparison['at_most'], claim)} "
            f"({second} not there in {_seeds(without[1])})"
        )
    there = "not there in" if is_ratio(claim) else "without a value in"
    if comparison.get("seeds_each", 1) > 1:
        counts = [f"{n} group{'s' * (n != 1)}" for n in without]
    else:
        counts = [_seeds(n) for n in without]
    why = [
        f"{arm} {there} {count}"
        for arm, count, n in zip((first, second), counts, without, strict=True)
        if n
    ]
    answer = f"no answer ({', '.join(why)})"
    finished = comparison.get("finished_pairs")
    if finished is None:
        return answer
    shown = _with_interval(finished, comparison.get("seeds_each", 1), claim)
    return f"{answer}; of the pairs that finished alone, which decides nothing: {shown}"


def _with_interval(
    facts: Mapping[str, Any], seeds_each: int, claim: Mapping[str, Any]
) -> str:
    mean, low, high = (
        None if facts[end] is None else show_value(facts[end], claim)
        for end in ("mean", "low", "high")
    )
    if low is None:
        return f"{mean} (one seed, no interval)"
    of = "paired seeds" if seeds_each == 1 else f"groups of {seeds_each} seeds"
    return f"{mean}, 95% interval {low} to {high} from {facts['n']} {of}"


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"
