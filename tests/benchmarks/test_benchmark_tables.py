"""The tables: a smoke test of each kind, and which side of a target is good."""

import json
from pathlib import Path

import pytest

from benchmarks.benchmark_tables import table

EVIDENCE = sorted(Path(__file__).parents[2].glob("experiments/benchmarks/*.json"))
CONDITIONS = {
    "command": "python -m benchmarks",
    "date": "2026-01-01",
    "platform": "cpu",
    "devices": ["cpu"],
    "dtype": "float32",
    "versions": {"jax": "0", "torch": "0", "tensorflow-cpu": "0", "grain": "0"},
    "cpu": "a CPU",
    "num_cores": 2,
    "memory_gb": 4.0,
    "photographs": "66 parts",
}


def report(what, rows, **changes):
    return {**CONDITIONS, "what": what, "rows": rows, **changes}


@pytest.mark.parametrize("path", EVIDENCE, ids=lambda path: path.stem)
def test_the_reports_in_experiments_are_printed(path):
    """All kinds of tables, from reports that older versions wrote."""
    stored = json.loads(path.read_text())
    shown = table(stored)
    assert shown.startswith(stored["command"])
    if stored["what"] in ("layers", "step", "input", "loop"):
        # Targets hold for the processors they were set on, never for a GPU.
        assert ("met (target" in shown) == (stored["platform"] == "cpu")
    assert ("of the computed" in shown) == (stored["platform"] == "gpu")
    for row in stored["rows"]:
        assert row["name"] in shown


def step_table(**changes):
    row = {
        "name": "two-tower step",
        "cores": "core",
        "milliseconds": {"ours": 10.0, "plain": 40.0, "torch": 12.5},
        "targets": {"plain": 0.25, "torch": 0.7},
    }
    return table(report("step", [row], **{"batch_size": 32} | changes))


def test_a_step_should_take_at_most_its_target():
    assert "0.25 met (target 0.25)" in step_table()
    assert "0.80 missed (target 0.70)" in step_table()


def test_throughput_should_be_at_least_its_target():
    row = {
        "name": "ours, originals",
        "cores": "core",
        "images_per_second": 100.0,
        "ratios": {"plain": 1.4, "Pillow": 1.5},
        "targets": {"plain": 1.4, "Pillow": 2.0},
    }
    both = [row, row | {"cores": "all"}]
    memory = {"first": 900.0, "last": 890.0, "most": 910.0}
    seconds = {"start": 0.25, "middle": 1.5}
    shown = table(
        report(
            "input",
            both,
            batch_size=128,
            first_batch_seconds=seconds,
            memory_mb=memory,
        )
    )
    assert "1.40 met (target 1.40)" in shown
    assert "1.50 missed (target 2.00)" in shown


@pytest.mark.parametrize("changes", [{"batch_size": 16}, {"platform": "gpu"}])
def test_a_target_holds_for_its_batch_size_on_cpus(changes):
    assert "target" not in step_table(**changes)
