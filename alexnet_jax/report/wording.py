"""The verdict in words, chosen by rule from the numbers of a summary.

A verdict first says what was measured, with its 95% interval and the number of paired
seeds; then what the paper reports; then whether they agree. Caveats follow, a sentence
each, and none of them is repeated on the same page.
"""

from collections.abc import Mapping
from typing import Any

from alexnet_jax.report import tuning
from alexnet_jax.report.claims import (
    answers,
    compared_pairs,
    describe_metric,
    is_of_paper,
    is_ratio,
    percent,
)
from alexnet_jax.report.formatting import (
    brief,
    dataset_title,
    field_name,
    missing_seeds,
    missing_values,
    pairs_counted,
    plural,
    same_dataset,
    show_mean,
    show_number,
    show_pair,
    show_value,
    uncertainty,
)
from alexnet_jax.report.verdict import Standing

AGREEMENT = {
    Standing.SAME_CLEAR: "In the paper's direction, statistically clear at 95%.",
    Standing.SAME_UNCLEAR: (
        "In the paper's direction, but not clear at 95%: the interval includes no effect."
    ),
    Standing.SAME_ONE_SEED: "In the paper's direction, but without an interval.",
    Standing.SAME_BOUND: "In the paper's direction, by a bound only.",
    Standing.NOT_SEEN: (
        "Not in the paper's direction, and not clear at 95%: the interval includes no "
        "effect."
    ),
    Standing.EQUAL_ONE_SEED: "No difference in one seed, and without an interval.",
    Standing.OPPOSITE_CLEAR: (
        "The opposite of the paper's result: the 95% interval lies entirely on the "
        "opposite side."
    ),
    Standing.OPPOSITE_ONE_SEED: (
        "The opposite of the paper's direction, but without an interval."
    ),
    Standing.OPPOSITE_BOUND: "The opposite of the paper's direction, by a bound only.",
    Standing.NOT_ANSWERED: "The question is not answered.",
    Standing.LEFT_OPEN: (
        "Left open: it depends on a setting that was not selected because a seed diverged "
        "there."
    ),
    Standing.DIFFERENCE_CLEAR: "The arms differ, statistically clear at 95%.",
    Standing.DIFFERENCE_UNCLEAR: (
        "No difference is clear at 95%: the interval includes no effect."
    ),
    Standing.ONE_SEED: "Without an interval, no difference is clear.",
}

CONSISTENT = "Consistent with the paper."

# Why the gaps of two arms are not to be taken at face value: see `measures.measured`.
GAP_CAVEAT = (
    "Training errors are measured on augmented images and with dropout on, so the gap of "
    "an arm with more of either is measured too small."
)
SEPARATE_INTERVALS = (
    "Each interval is a 95% interval by itself, not for all comparisons together."
)


def verdicts(summary: dict[str, Any]) -> list[str]:
    """One paragraph for each claim of a summary: the main one, then those under "also".

    Each takes the claim, arms and comparisons of its answer. What holds for the whole
    experiment, such as diverged trials, stands with the main claim.
    """
    written: set[str] = set()
    paragraphs = []
    for number, answer in enumerate(answers(summary)):
        caveats = _caveats(answer, summary["dataset"])
        if number == 0:
            caveats += _caveats_of_trials(summary)
        caveats = [one for one in caveats if one not in written]
        written |= set(caveats)
        paragraphs.append(" ".join([*_result(answer, summary["dataset"]), *caveats]))
    return paragraphs


def _result(answer: dict[str, Any], dataset: str) -> list[str]:
    """What was measured, what the paper reports, and whether they agree."""
    claim, comparisons = answer["claim"], answer["comparisons"]
    place = f"On {dataset_title(dataset)}"
    if not comparisons:
        arms = answer["arms"].items()
        measured = [_measured_arm(place, arm, facts, claim) for arm, facts in arms]
        return [*measured, *paper_sentences(claim)]
    if len(comparisons) > 1:
        together = _measured_together(place, comparisons, claim)
        return [together, *paper_sentences(claim), *_agreements(comparisons)]
    (comparison,) = comparisons
    measure = _measured_ratio if is_ratio(claim) else _measured_difference
    on_paper_data = same_dataset(dataset, claim["dataset"])
    return [
        measure(place, comparison, claim),
        *paper_sentences(claim),
        _agreement(comparison, claim, on_paper_data=on_paper_data),
    ]


def _measured_arm(
    place: str, arm: str, facts: Mapping[str, Any], claim: Mapping[str, Any]
) -> str:
    """An arm that is compared with the paper alone."""
    metric = describe_metric(claim)
    if facts["mean"] is None:
        return f"{place}, {metric} of {arm}: {missing_seeds(facts, claim)}."
    known = "one seed, no interval"
    if facts["low"] is not None:
        low, high = show_number(facts["low"], claim), show_value(facts["high"], claim)
        known = f"95% interval {low} to {high}, {plural(facts['n'], 'seed')}"
    mean = show_value(facts["mean"], claim)
    if is_ratio(claim):
        return f"{place}, {arm} needed {mean} {metric} ({known})."
    return f"{place}, {arm} had a {metric} of {mean} ({known})."


def _measured_ratio(
    place: str, comparison: dict[str, Any], claim: Mapping[str, Any]
) -> str:
    first, second = comparison["compare"]
    goal = f"to reach {percent(claim['threshold'])} training error"
    for key, words in (
        ("mean", ""),
        ("at_least", "at least "),
        ("at_most", "at most "),
    ):
        if comparison[key] is None:
            continue
        if key == "mean":
            known = uncertainty(comparison, comparison.get("seeds_per_group", 1), claim)
        else:
            known = missing_values(comparison, claim)
        times = f"{show_value(comparison[key], claim)} times "
        if key == "mean" and times == "1 times ":
            times = ""
        return (
            f"{place}, {first} needed {words}{times}as many epochs as {second} {goal} "
            f"({known})."
        )
    return (
        f"{place}, the epochs that {first} and {second} needed {goal} cannot be compared "
        f"({missing_values(comparison, claim)})."
    )


def _measured_difference(
    place: str, comparison: dict[str, Any], claim: Mapping[str, Any]
) -> str:
    first, second = (f"'{arm}'" for arm in comparison["compare"])
    metric, mean = describe_metric(claim), comparison["mean"]
    seeds_per_group = comparison.get("seeds_per_group", 1)
    if mean is None:
        reason = missing_values(comparison, claim)
        return (
            f"{place}, the {metric} of {first} and that of {second} cannot be compared "
            f"({reason})."
        )
    known = uncertainty(comparison, seeds_per_group, claim)
    number = show_number(mean, claim)
    if number == "0.0":  # also a difference of one image in 50,000
        same = "that" if abs(mean) < 1e-12 else "within 0.005 points of that"
        return f"{place}, the {metric} of {first} was {same} of {second} ({known})."
    if mean < 0:
        known = f"difference {show_value(mean, claim)}, {known}"
        number = f"{number.removeprefix('-')} points lower"
    else:
        number = f"{number} points higher"
    return f"{place}, the {metric} of {first} was {number} than that of {second} ({known})."


def _measured_together(
    place: str, comparisons: list[dict[str, Any]], claim: Mapping[str, Any]
) -> str:
    """All comparisons of a claim in one sentence."""
    counts = {
        pairs_counted(each["n"], each.get("seeds_per_group", 1)) for each in comparisons
    }
    of = f" ({counts.pop()})" if len(counts) == 1 else ""
    if any(each["low"] is not None for each in comparisons):
        of = f", with 95% intervals{of}"
    what = "ratios of" if is_ratio(claim) else "differences in"
    shown = "; ".join(
        f"{show_pair(each, claim)} {brief(each, claim)}" for each in comparisons
    )
    return f"{place}, {what} {describe_metric(claim)}{of}: {shown}."


def paper_sentences(claim: Mapping[str, Any]) -> list[str]:
    """What the paper reports, in one sentence; none if the claim is not the paper's."""
    return [paper_sentence(claim)] if is_of_paper(claim) else []


def paper_sentence(claim: Mapping[str, Any]) -> str:
    """What the paper reports, as a sentence."""
    paper, pairs = claim["paper"], compared_pairs(claim)
    if claim.get("instead_of"):
        return (
            "The paper's number is a top-5 error, which is 0 for any network with five "
            "classes or fewer: nothing is compared with it."
        )
    if paper is None:
        return "The paper does not report this."
    if not isinstance(paper, str):
        what = "a difference of " if pairs and not is_ratio(claim) else ""
        return f"The paper reports {what}{show_value(paper, claim)}."
    if len(pairs) > 1:
        what = f"a {paper} value for the first arm of each pair"
    elif is_ratio(claim):
        what = f"{'more' if paper == 'higher' else 'fewer'} epochs for {pairs[0][0]}"
    else:
        what = f"a {paper} {describe_metric(claim)} for '{pairs[0][0]}'"
    return f"The paper reports {what}, without a number."


def agreement_cell(comparison: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """Whether a comparison agrees with the paper, in a cell of a table.

    The words of an old summary.json are read as today's.
    """
    cell = Standing(comparison["standing"]).value
    passed = [
        f"{arm} had {_passed_value(facts, claim)} at {_setting(facts)}, "
        f"{_diverged_seeds(facts)}"
        for arm, facts in comparison.get(
            "passed_over", {}
        ).items()  # absent from old files
    ]
    return f"{cell} ({'; '.join(passed)})" if passed else cell


def _agreement(
    comparison: Mapping[str, Any], claim: Mapping[str, Any], *, on_paper_data: bool
) -> str:
    """Whether one comparison agrees with the paper; on its own data, its number too."""
    standing, paper = Standing(comparison["standing"]), claim["paper"]
    sentence = AGREEMENT[standing]
    if not on_paper_data:
        return sentence
    has_number = isinstance(paper, (int, float)) and comparison["low"] is not None
    inside = has_number and comparison["low"] <= paper <= comparison["high"]
    certain = not comparison.get("passed_over")  # no better setting was passed over
    if standing == Standing.SAME_CLEAR and certain and (inside or not has_number):
        return CONSISTENT
    if not has_number or standing == Standing.OPPOSITE_CLEAR:
        return sentence
    where = "inside" if inside else "outside"
    return f"{sentence} The paper's number lies {where} the interval."


def _agreements(comparisons: list[dict[str, Any]]) -> list[str]:
    """Which of several comparisons agree with the paper, a sentence each standing."""
    pairs: dict[Standing, list[str]] = {}
    for each in comparisons:
        pair = " against ".join(f"'{arm}'" for arm in each["compare"])
        pairs.setdefault(Standing(each["standing"]), []).append(pair)
    return [
        f"{standing.value[0].upper()}{standing.value[1:]}: {', '.join(names)}."
        for standing, names in pairs.items()
    ]


def _caveats(answer: dict[str, Any], dataset: str) -> list[str]:
    """What to keep in mind of one claim's comparisons."""
    claim, comparisons = answer["claim"], answer["comparisons"]
    found = []
    if is_of_paper(claim) and not same_dataset(dataset, claim["dataset"]):
        there = dataset_title(claim["dataset"])
        found.append(
            f"The paper's result is for {there}; a run on other data neither confirms nor "
            "refutes it."
            if claim["paper"] is not None
            else f"The paper's networks were trained on {there}."
        )
    if sum(each["low"] is not None for each in comparisons) > 1:
        found.append(SEPARATE_INTERVALS)
    for each in comparisons:
        finished = each.get("finished_pairs")
        if finished is not None:
            shown = show_mean(finished, each.get("seeds_per_group", 1), claim)
            pair = f" of {show_pair(each, claim)}" if len(comparisons) > 1 else ""
            pairs, give = ("pair", "gives") if finished["n"] == 1 else ("pairs", "give")
            found.append(
                f"The finished {pairs}{pair} alone {give} {shown}, which decides nothing."
            )
    early = [
        f"{arm} in {plural(facts['below_at_first_log'], 'seed')}"
        for arm, facts in answer["arms"].items()
        if facts.get("below_at_first_log")
    ]
    if early:
        found.append(
            f"Reached before the first logged step, and counted there: {', '.join(early)}."
        )
    if claim["metric"] == "overfitting_gap" and comparisons:
        found.append(GAP_CAVEAT)
    return found


def _caveats_of_trials(summary: dict[str, Any]) -> list[str]:
    """What to keep in mind of the experiment's trials and of the tuned values."""
    found = tuning.caveats(summary)
    if unfinished := summary["unfinished_trials"]:
        are = "is" if unfinished == 1 else "are"
        found.append(f"{plural(unfinished, 'trial')} {are} not finished.")
    if summary["diverged_trials"]:
        found.append(_diverged(summary))
    compared = {arm for each in summary["comparisons"] for arm in each["compare"]}
    compared = compared or set(summary["arms"])
    arms = {arm: facts for arm, facts in summary["arms"].items() if arm in compared}
    at_edge: dict[str, list[str]] = {}
    for arm, facts in arms.items():
        for field in facts["at_edge"]:
            at_edge.setdefault(field, []).append(arm)
    found += [
        f"The selected {field_name(field)} of {' and '.join(names)} is at the edge of the "
        "values tried."
        for field, names in at_edge.items()
    ]
    found += [
        _passed_over(arm, facts["passed_over"], summary["claim"])
        for arm, facts in arms.items()
        if facts["passed_over"]
    ]
    for arm, facts in arms.items():
        found += [
            _cliff(arm, field, facts["tuned"][field], values)
            for field, values in facts["adjacent_diverged"].items()
        ]
    return found


def _diverged(summary: dict[str, Any]) -> str:
    """How many trials diverged, and how many of those that the arms are measured by."""
    total = f"{plural(summary['diverged_trials'], 'trial')} diverged"
    by_arm = ", ".join(
        f"{arm} {facts['diverged']} of {len(facts['per_seed'])}"
        for arm, facts in summary["arms"].items()
        if facts["diverged"]
    )
    if not any(facts["tuned"] for facts in summary["arms"].values()):
        return f"{total}: {by_arm}."
    if not by_arm:
        return f"{total}, none at the selected values."
    return f"{total}; at the selected values {by_arm}."


def _passed_over(arm: str, facts: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """A setting with a better value in the seeds that did not diverge."""
    count = facts["seeds"] - len(facts["diverged_seeds"])
    return (
        f"{arm} at {_setting(facts)} had {_passed_value(facts, claim)} in "
        f"{count} of {plural(facts['seeds'], 'seed')}, lower than at the selected values, "
        f"but was not selected: {_diverged_seeds(facts)}."
    )


def _passed_value(facts: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    mean = facts["mean"]
    return f"{mean:.3g} epochs" if is_ratio(claim) else f"{mean:.1%}"


def _setting(facts: Mapping[str, Any]) -> str:
    return facts["tuned"].replace("_", " ").replace("=", " ").replace(",", ", ")


def _diverged_seeds(facts: Mapping[str, Any]) -> str:
    seeds = facts["diverged_seeds"]
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))} diverged"


def _cliff(arm: str, field: str, selected: float, failing: list[float]) -> str:
    """No seed has a value at a neighbor of an arm's selected value."""
    near = [
        f"{'smaller' if value < selected else 'larger'} value, {value:g},"
        for value in failing
    ]
    return (
        f"The selected {field_name(field)} of {arm} is {selected:g}; at the next "
        f"{' and the next '.join(near)} no seed succeeds, so a better value may lie between."
    )
