"""What a claim asks of an experiment's records, and what it may not ask.

A claim has a metric, of which smaller is better: `epochs_to_train_error` (with a
threshold), or the last error of its kind, `train_top1_error`, `top1_error` or
`top5_error`, or `overfitting_gap`, how far the last top-1 error lies above the last
training error. It may compare two arms, or several pairs of them: epochs as a ratio, errors
as a difference, first arm against second. The paper's part is a number in the metric's
unit, or "higher" or "lower" where it says only where the first arm lies, or None where it
asks without answering.

Where the paper says more of the same arms, `also` holds further claims of the same form,
each with its own metric and number; what one does not set is the claim's own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.config import networks_of
from alexnet_jax.errors import UserError, nearest

METRICS = {
    "epochs_to_train_error": "epochs",  # and the threshold, in `describe_metric`
    "train_top1_error": "last training error",
    "top1_error": "top-1 error",
    "top5_error": "top-5 error",
    "overfitting_gap": "test less training error",  # what it is: verdict.measured
}
DIRECTIONS = {"higher": 1.0, "lower": -1.0}

# What an average of networks has, which are not trained together.
OF_EVALUATION = ("top1_error", "top5_error")

_NEEDED = ("section", "text", "metric", "paper", "dataset")
_KEYS = (*_NEEDED, "compare", "threshold")


def all_claims(claim: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The claim without its `also`, then those, each made whole."""
    main = {key: value for key, value in claim.items() if key != "also"}
    return [main, *(main | dict(entry) for entry in claim.get("also", ()))]


def answers(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A summary.json, then its `also`: each with a claim, arms, comparisons, a verdict.

    Those that were written before there was an `also` have none.
    """
    return [summary, *summary.get("also", ())]


def check_claim(config: Mapping[str, Any] | ConfigDict) -> None:
    """Raises UserError if a config's claim, or one of its `also`, cannot be answered."""
    claim = config["claim"]
    where = f"The claim of '{config['experiment']}'"
    if not isinstance(claim, (Mapping, ConfigDict)):
        raise UserError(f"{where} is {claim!r}: give {{'section': ..., 'text': ...}}.")
    _check_keys(where, claim, needed=_NEEDED, known=(*_KEYS, "also"))
    also = claim.get("also", ())
    if not isinstance(also, (tuple, list)):
        raise UserError(
            f"{where} has as 'also' {also!r}: give ({{...}},), further claims with a comma "
            "behind each."
        )
    for place, entry in _entries(where, also):
        if not isinstance(entry, Mapping):
            raise UserError(
                f"{place} is {entry!r}: give {{'metric': ..., 'paper': ...}}."
            )
        # Not the claim's own: its number is one of another metric.
        _check_keys(place, entry, needed=("metric", "paper"), known=_KEYS)
    places = [where, *(place for place, _ in _entries(where, also))]
    for place, each in zip(places, all_claims(claim), strict=True):
        _check_one(place, each, config)


def _entries(where: str, also: Any) -> Iterator[tuple[str, Any]]:
    for number, entry in enumerate(also):
        named = isinstance(entry, Mapping) and "metric" in entry
        shown = f" ({entry['metric']})" if named else ""
        yield f"{where}, also[{number}]{shown},", entry


def _check_keys(
    where: str,
    claim: Mapping[str, Any],
    *,
    needed: tuple[str, ...],
    known: tuple[str, ...],
) -> None:
    for key in claim:
        if key not in known:
            raise UserError(f"{where} has '{key}', which is none.{nearest(key, known)}")
    missing = [key for key in needed if key not in claim]
    if missing:
        raise UserError(f"{where} lacks {', '.join(map(repr, missing))}.")


def _check_one(
    where: str, claim: Mapping[str, Any], config: Mapping[str, Any] | ConfigDict
) -> None:
    if claim["metric"] not in METRICS:
        raise UserError(
            f"{where} has the metric '{claim['metric']}': it is one of {', '.join(METRICS)}."
        )
    threshold = claim.get("threshold", 0)
    if is_ratio(claim) and not (
        isinstance(threshold, (int, float)) and 0 < threshold < 1
    ):
        raise UserError(
            f"{where} needs a 'threshold', a training error between 0 and 1."
        )
    paper, pairs = claim["paper"], compared_pairs(claim)
    if not (
        paper is None or isinstance(paper, (int, float)) or paper in tuple(DIRECTIONS)
    ):
        raise UserError(
            f'{where} has as \'paper\' {paper!r}: give a number, "higher" or "lower", or '
            "None where the paper does not say."
        )
    if isinstance(paper, (int, float)) and not is_ratio(claim) and abs(paper) > 1:
        raise UserError(
            f"{where} has as 'paper' {paper!r}: errors are fractions, so that "
            f"{paper:g} points are {paper / 100:g}."
        )
    none = 1.0 if is_ratio(claim) else 0.0
    if pairs and paper == none:
        raise UserError(
            f"{where} has as 'paper' {paper!r}, which is no effect: neither direction would "
            "be the paper's. Give None."
        )
    for arm in config["arms"]:
        if claim["metric"] not in OF_EVALUATION and networks_of(config, arm) > 1:
            raise UserError(
                f"{where} has the metric '{claim['metric']}', but arm '{arm}' averages "
                "networks, which trains nothing: take top1_error or top5_error."
            )
    if paper in tuple(DIRECTIONS) and not pairs:
        raise UserError(f"{where} is {paper} than what? Give it two arms to 'compare'.")
    for pair in pairs:
        if len(set(pair)) != 2 or len(pair) != 2:
            raise UserError(
                f"{where} compares {', '.join(map(repr, pair))}: give two arms, "
                "pairs of them, or none."
            )
        for arm in pair:
            if arm not in config["arms"]:
                raise UserError(
                    f"{where} compares the arm '{arm}', which there is not."
                    + nearest(arm, tuple(config["arms"]))
                )


def compared_pairs(claim: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The pairs of arms that a claim compares; its `compare` holds one, or several."""
    given = claim.get("compare") or ()
    if isinstance(given, str):  # one arm, which is no pair
        return [(given,)]
    if given and all(isinstance(arm, str) for arm in given):
        given = (given,)
    return [tuple(pair) for pair in given]


def is_ratio(claim: Mapping[str, Any]) -> bool:
    """Whether arms are compared by a ratio, of epochs, and not by a difference."""
    return claim["metric"] == "epochs_to_train_error"


def percent(share: float) -> str:
    """ "25%", and "0.01%" where it is that."""
    return f"{100 * share:g}%"


def describe_metric(claim: Mapping[str, Any]) -> str:
    if is_ratio(claim):
        return f"epochs to {percent(claim['threshold'])} training error"
    return METRICS[claim["metric"]]
