"""What a step cannot be faster than: its multiplications at the rate of a matrix product.

The rate is measured in the same run, for the type and the cores of the steps. On one H100 the
bounds are computed instead, with the bytes of each layer.
"""

from typing import Any

SIDE = 1024  # of the square matrices
MATRIX_PRODUCT = f"matrix product, {SIDE}"

# The least wanted share of the floor in a step's time, by row, on one core.
FLOOR_TARGETS = {"four-layer relu, batch 128": 0.60}

# Lower bounds of a step's milliseconds on one H100, by row and dtype: for the weights,
# and for each image. Computed, not measured: for each layer the longer of its
# multiplications (800 TFLOP/s in bfloat16, 400 in tf32, 60 in float32) and its bytes
# (3.0 TB/s).
H100_BOUNDS = {
    ("two-tower step", "bfloat16"): (0.53, 0.00812),
    ("two-tower step", "tf32"): (0.65, 0.0162),
    ("two-tower step", "float32"): (0.65, 0.0745),
    ("one-tower step", "bfloat16"): (0.53, 0.0112),
    ("one-tower step", "tf32"): (0.65, 0.0226),
    ("one-tower step", "float32"): (0.65, 0.116),
}


def share_of_floor(report: dict[str, Any], row: dict[str, Any]) -> str:
    """How much of a step's time its floor is; "" if that is not known."""
    ours = row["milliseconds"]["ours"]
    if (least := _h100_milliseconds(report, row)) is not None:
        return f"  {least / ours:.0%} of the computed {least:.1f} ms"
    rates = [
        other["gflop"] / other["milliseconds"]["ours"]
        for other in report["rows"]
        if other["name"] == MATRIX_PRODUCT and other["cores"] == row["cores"]
    ]
    if not rates or row["name"] == MATRIX_PRODUCT or not row.get("gflop"):
        return ""
    share = row["gflop"] / rates[0] / ours
    target = FLOOR_TARGETS.get(row["name"]) if row["cores"] == "core" else None
    verdict = ""
    if target is not None:
        met = "met" if share >= target else "missed"
        verdict = f" {met} (target {target:.2f})"
    return f"  floor/ours {share:.2f}{verdict}"


def _h100_milliseconds(report: dict[str, Any], row: dict[str, Any]) -> float | None:
    bounds = H100_BOUNDS.get((row["name"], report["dtype"]))
    if bounds is None or len(report["devices"]) > 1:
        return None
    if "H100" not in report["devices"][0]:
        return None
    weights, image = bounds
    return weights + image * report["batch_size"]


def rate_line(report: dict[str, Any]) -> list[str]:
    """The measured rates, in a line for a table; none in older reports."""
    rates = [
        f"{row['gflop'] / row['milliseconds']['ours'] * 1000:.0f} GFLOP/s on "
        f"{'one core' if row['cores'] == 'core' else 'all'}"
        for row in report["rows"]
        if row["name"] == MATRIX_PRODUCT
    ]
    if not rates:
        return []
    return [
        "floor: the products of a step at the rate of JAX's matrix product, "
        f"{', '.join(rates)}"
    ]
