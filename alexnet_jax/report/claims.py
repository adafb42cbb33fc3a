"""What a claim of the paper is, and what it can ask of an experiment's records.

A claim has a metric, of which smaller is better: `epochs_to_train_error` (with a
`threshold`); the final `train_top1_error`, `top1_error` or `top5_error`; or
`overfitting_gap`, the final top-1 error minus the final training error. `compare` names
two arms, or several pairs of them: epochs are compared as a ratio and errors as a
difference, the first arm against the second. `paper` is the paper's number in the unit of
the metric; or "higher" or "lower", where the paper gives a direction of the first arm
without a number; or None, where it reports neither.

Where the paper says more about the same arms, `also` holds further claims of the same
form, each with its own metric and number. A key that one of them leaves out is that of
the main claim.

A config without a claim of the paper compares its arms all the same: its claim, which
`config.resolve` fills in, has an empty section, and reports of it do not speak of the paper.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.errors import UserError, nearest

METRICS = {
    "epochs_to_train_error": "epochs",  # `describe_metric` adds the threshold
    "train_top1_error": "final training error",
    "top1_error": "top-1 error",
    "top5_error": "top-5 error",
    "overfitting_gap": "gap between test and training error",  # defined at measures.measured
}
DIRECTIONS = {"higher": 1.0, "lower": -1.0}

# With so many classes or fewer, every label is among the five most probable ones.
MAX_CLASSES_WITHOUT_TOP5 = 5

# An average of networks is not trained, so it has these metrics only.
EVALUATION_METRICS = ("top1_error", "top5_error")

_NEEDED = ("section", "text", "metric", "paper", "dataset")
_KEYS = (*_NEEDED, "compare", "threshold")


def all_claims(claim: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The main claim without its `also`, then each of those, with all of its keys."""
    main = {key: value for key, value in claim.items() if key != "also"}
    return [main, *(main | dict(entry) for entry in claim.get("also", ()))]


def is_of_paper(claim: Mapping[str, Any]) -> bool:
    """Whether the paper makes the claim; otherwise it is a question of its own."""
    return claim.get("section") != ""


def has_top5(num_classes: int | None) -> bool:
    """Whether top-5 errors mean anything: with five classes or fewer all of them are 0.

    They are taken to where the classes are not known (None), as of some old records.
    """
    return num_classes is None or num_classes > MAX_CLASSES_WITHOUT_TOP5


def answerable_claims(
    claim: Mapping[str, Any], num_classes: int | None
) -> list[dict[str, Any]]:
    """`all_claims` with the metrics that data of so many classes have.

    Where top-5 errors mean nothing, further claims about them are left out, and a main
    claim about them asks for the top-1 error of the same arms instead. The paper's number
    is then none of that metric: `paper` is None, and `instead_of` is "top5_error".
    """
    main, *others = all_claims(claim)
    if has_top5(num_classes):
        return [main, *others]
    others = [other for other in others if other["metric"] != "top5_error"]
    if main["metric"] != "top5_error":
        return [main, *others]
    instead = main | {
        "metric": "top1_error",
        "paper": None,
        "instead_of": "top5_error",
    }
    for other in others:  # may ask for the same, and with the paper's own number
        if all(other.get(key) == instead.get(key) for key in ("metric", "compare")):
            return [other, *(one for one in others if one is not other)]
    return [instead, *others]


def answers(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers to all claims of a summary.json: itself, then those under "also".

    Each has the keys "claim", "arms", "comparisons" and "verdict". Old files have no
    "also".
    """
    return [summary, *summary.get("also", ())]


def check_claim(claim: Any, *, experiment: str, networks: Mapping[str, int]) -> None:
    """Checks that a claim can be answered by an experiment.

    Args:
      claim: as a configuration or experiment.json holds it.
      experiment: the name of the experiment, for the message.
      networks: by arm, how many networks it averages; 1 if it averages none.

    Raises:
      UserError: if the claim, or one under its `also`, cannot be answered.
    """
    where = f"The claim of '{experiment}'"
    if not isinstance(claim, (Mapping, ConfigDict)):
        raise UserError(f"{where} is {claim!r}: give {{'section': ..., 'text': ...}}.")
    _check_keys(where, claim, needed=_NEEDED, known=(*_KEYS, "also"))
    also = claim.get("also", ())
    if not isinstance(also, (tuple, list)):
        raise UserError(
            f"{where}: 'also' is {also!r}. Give a tuple of further claims, such as "
            "({...},)."
        )
    for place, entry in _entries(where, also):
        if not isinstance(entry, Mapping):
            raise UserError(
                f"{place} is {entry!r}: give {{'metric': ..., 'paper': ...}}."
            )
        # The main claim's number is one of another metric.
        _check_keys(place, entry, needed=("metric", "paper"), known=_KEYS)
    places = [where, *(place for place, _ in _entries(where, also))]
    for place, each in zip(places, all_claims(claim), strict=True):
        _check_texts(place, each)
        _check_metric(place, each, networks)
        _check_compare(place, each.get("compare"))
        _check_paper(place, each)
        _check_pairs(place, compared_pairs(each), networks)


def _entries(where: str, also: Any) -> Iterator[tuple[str, Any]]:
    for number, entry in enumerate(also):
        named = isinstance(entry, Mapping) and "metric" in entry
        metric = f" ({entry['metric']})" if named else ""
        yield f"{where}, also[{number}]{metric},", entry


def _check_keys(
    where: str,
    claim: Mapping[str, Any],
    *,
    needed: tuple[str, ...],
    known: tuple[str, ...],
) -> None:
    for key in claim:
        if key not in known:
            raise UserError(
                f"{where} has the unknown key '{key}'.{nearest(str(key), known)}"
            )
    missing = [key for key in needed if key not in claim]
    if missing:
        raise UserError(f"{where} lacks {', '.join(map(repr, missing))}.")


def _check_texts(where: str, claim: Mapping[str, Any]) -> None:
    for key in ("section", "text", "dataset"):
        if not isinstance(claim[key], str):
            raise UserError(f"{where}: '{key}' is {claim[key]!r}: give text.")


def _check_compare(where: str, given: Any) -> None:
    """Checks that `compare` has the form that `compared_pairs` reads."""
    sequence = (tuple, list)
    pairs = isinstance(given, sequence) and (
        all(isinstance(each, str) for each in given)
        or all(
            isinstance(each, sequence) and all(isinstance(arm, str) for arm in each)
            for each in given
        )
    )
    if given is not None and not isinstance(given, str) and not pairs:
        raise UserError(
            f"{where}: 'compare' is {given!r}. Give two arms, such as ('tanh', 'ReLU'), or "
            "a tuple of such pairs."
        )


def _check_metric(
    where: str, claim: Mapping[str, Any], networks: Mapping[str, int]
) -> None:
    metric = claim["metric"]
    if not isinstance(metric, str) or metric not in METRICS:
        raise UserError(
            f"{where} has the unknown metric {metric!r}."
            + nearest(str(metric), tuple(METRICS))
            + f" Use one of {', '.join(METRICS)}."
        )
    if is_ratio(claim):
        threshold = claim.get("threshold")
        if not isinstance(threshold, (int, float)) or not 0 < threshold < 1:
            raise UserError(
                f"{where} needs a 'threshold', a training error between 0 and 1."
            )
    for arm, count in networks.items():
        if metric not in EVALUATION_METRICS and count > 1:
            raise UserError(
                f"{where} has the metric '{metric}', but arm '{arm}' averages networks "
                "and is not trained itself. Use top1_error or top5_error."
            )


def _check_paper(where: str, claim: Mapping[str, Any]) -> None:
    paper, ratio = claim["paper"], is_ratio(claim)
    compares = bool(compared_pairs(claim))
    if isinstance(paper, (int, float)) and not isinstance(paper, bool):
        if not math.isfinite(paper) or (ratio and paper <= 0):
            needed = "a ratio of epochs above 0" if ratio else "a fraction"
            raise UserError(f"{where}: 'paper' is {paper!r}. Give {needed}, or None.")
        if not ratio and abs(paper) > 1:
            raise UserError(
                f"{where}: 'paper' is {paper!r}. Errors are fractions: write "
                f"{paper / 100:g} for {paper:g} points."
            )
        if not ratio and not compares and paper < 0:
            raise UserError(
                f"{where}: 'paper' is {paper!r}, and an error is never negative."
            )
        if compares and paper == (1.0 if ratio else 0.0):
            raise UserError(
                f"{where}: 'paper' is {paper!r}, which is no effect, so that neither "
                "direction would be the paper's. Give None."
            )
    elif paper is not None and (not isinstance(paper, str) or paper not in DIRECTIONS):
        raise UserError(
            f'{where}: \'paper\' is {paper!r}. Give a number, "higher" or "lower", or '
            "None where the paper does not report any."
        )
    elif paper is not None and not compares:
        raise UserError(
            f"{where}: 'paper' is '{paper}', but no arms are compared. Give two arms to "
            "'compare'."
        )


def _check_pairs(
    where: str, pairs: list[tuple[str, ...]], networks: Mapping[str, int]
) -> None:
    for pair in pairs:
        if len(set(pair)) != 2 or len(pair) != 2:
            raise UserError(
                f"{where} compares {', '.join(map(repr, pair))}: give two different "
                "arms, several pairs of arms, or nothing."
            )
        for arm in pair:
            if arm not in networks:
                raise UserError(
                    f"{where} compares '{arm}', but there is no such arm."
                    + nearest(arm, tuple(networks))
                )


def compared_pairs(claim: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The pairs of arms that a claim compares; its `compare` holds one, or several."""
    given = claim.get("compare") or ()
    if isinstance(given, str):  # a single arm: `check_claim` refuses it
        return [(given,)]
    if given and all(isinstance(arm, str) for arm in given):
        given = (given,)
    return [tuple(pair) for pair in given]


def is_ratio(claim: Mapping[str, Any]) -> bool:
    """Whether arms are compared by a ratio of epochs, not by a difference of errors."""
    return claim["metric"] == "epochs_to_train_error"


def paper_direction(claim: Mapping[str, Any]) -> float | None:
    """The direction of the first arm in the paper: 1 for more, -1 for less, or None."""
    paper = claim["paper"]
    if paper is None:
        return None
    if isinstance(paper, str):
        return DIRECTIONS[paper]
    return math.copysign(1.0, paper - (1.0 if is_ratio(claim) else 0.0))


def percent(fraction: float) -> str:
    """For example "25%", or "0.01%"."""
    return f"{100 * fraction:g}%"


def describe_metric(claim: Mapping[str, Any]) -> str:
    """For example "top-1 error", or "epochs to 25% training error"."""
    if is_ratio(claim):
        return f"epochs to {percent(claim['threshold'])} training error"
    return METRICS[claim["metric"]]
