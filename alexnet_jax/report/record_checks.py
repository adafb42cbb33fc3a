"""What no run writes: checks of the rows of metrics.jsonl."""

import math
from typing import Any

# Every "train" and "eval" row has them, unless it says that the trial diverged.
ERRORS = ("top1_error", "top5_error")


def problem(row: Any, before: list[dict[str, Any]]) -> str | None:
    """What no run writes about a row: see docs/run-folder.md. None if nothing."""
    if not isinstance(row, dict):
        return f"is {row!r}, not an object"
    kind, step = row.get("kind"), row.get("step")
    if not isinstance(kind, str) or type(step) is not int or step < 0:
        return f"has kind {kind!r} and step {step!r}"
    if before and step < before[-1]["step"]:
        return f"is of step {step}, after one of step {before[-1]['step']}"
    if any(row == other for other in before[-4:]):
        return "repeats an earlier line"
    if kind in ("train", "eval") and not row.get("diverged"):
        for name in ("epoch", *row.keys() & {"loss"}):
            if not is_number(row.get(name)):
                return f"has {name} {row.get(name)!r}"
        for name in ERRORS:
            if not is_error(row.get(name)):
                return f"has {name} {row.get(name)!r}"
    return None


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def is_error(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1
