"""What a claim asks of an experiment's records, and what it may not ask.

A claim has a metric, of which smaller is better: `epochs_to_train_error` (with a
threshold), or the last error of its kind, `train_top1_error`, `top1_error` or
`top5_error`. It may compare two arms, or several pairs of them: epochs as a ratio, errors
as a difference, first arm against second. The paper's part is a number in the metric's
unit, or "higher" or "lower" where it says only where the first arm lies, or None where it
asks without answering.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.config import networks_of
from alexnet_jax.errors import UserError, nearest

METRICS = {
    "epochs_to_train_error": "epochs",  # and the threshold, in `describe_metric`
    "train_top1_error": "last training error",
    "top1_error": "top-1 error",
    "top5_error": "top-5 error",
}
DIRECTIONS = {"higher": 1.0, "lower": -1.0}


def check_claim(config: Mapping[str, Any] | ConfigDict) -> None:
    """Raises UserError if a config's claim cannot be answered."""
    claim = config["claim"]
    where = f"The claim of '{config['experiment']}'"
    for key in ("section", "text", "metric", "paper", "dataset"):
        if key not in claim:
            raise UserError(f"{where} lacks '{key}'.")
    if claim["metric"] not in METRICS:
        raise UserError(
            f"{where} has the metric '{claim['metric']}': it is one of {', '.join(METRICS)}."
        )
    threshold = claim.get("threshold", 0)
    if claim["metric"] == "epochs_to_train_error" and not (
        isinstance(threshold, (int, float)) and 0 < threshold < 1
    ):
        raise UserError(
            f"{where} needs a 'threshold', a training error between 0 and 1."
        )
    paper = claim["paper"]
    if not (
        paper is None or isinstance(paper, (int, float)) or paper in tuple(DIRECTIONS)
    ):
        raise UserError(
            f'{where} has as \'paper\' {paper!r}: give a number, "higher" or "lower", or '
            "None where the paper does not say."
        )
    for arm in config["arms"]:
        if claim["metric"] not in ("top1_error", "top5_error") and (
            networks_of(config, arm) > 1
        ):
            raise UserError(
                f"{where} has the metric '{claim['metric']}', but arm '{arm}' averages "
                "networks, which trains nothing: take top1_error or top5_error."
            )
    pairs = compared_pairs(claim)
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
    if given and all(isinstance(arm, str) for arm in given):
        given = (given,)
    return [tuple(pair) for pair in given]


def is_ratio(claim: Mapping[str, Any]) -> bool:
    """Whether arms are compared by a ratio, of epochs, and not by a difference."""
    return claim["metric"] == "epochs_to_train_error"


def describe_metric(claim: Mapping[str, Any]) -> str:
    if is_ratio(claim):
        return f"epochs to {claim['threshold']:.0%} training error"
    return METRICS[claim["metric"]]
