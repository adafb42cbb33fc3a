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
    for row in stored["rows"]:
        assert row["name"] in shown


def test_ratios_of_steps_should_be_at_most_their_targets():
    row = {
        "name": "two-tower step",
        "cores": "core",
        "milliseconds": {"ours": 10.0, "plain": 40.0, "torch": 12.5},
        "targets": {"plain": 0.25, "torch": 0.7},
    }
    shown = table(report("step", [row], batch_size=32))
    assert "0.25 met (target 0.25)" in shown
    assert "0.80 missed (target 0.70)" in shown
    # The targets are for batch size 32, float32, on CPUs.
    assert "target" not in table(report("step", [row], batch_size=16))
    h100 = {
        "platform": "gpu",
        "devices": ["NVIDIA H100 80GB HBM3"],
        "batch_size": 1024,
        "dtype": "bfloat16",
    }
    times = {"ours": 20.0, "plain": 40.0}
    on_h100 = report(
        "step", [row | {"milliseconds": times}], **h100, versions={"jax": "0"}
    )
    # 0.53 + 1024 * 0.00812
    assert "44% of the computed 8.8 ms" in table(on_h100)
    assert "PyTorch is not installed" in table(on_h100)
    assert "computed" not in table(on_h100 | {"devices": ["NVIDIA A100"]})


def test_ratios_of_the_input_should_be_at_least_their_targets():
    def row(name, cores, throughput, ratios):
        targets = {"plain": 1.4, "Pillow": 2.0} if ratios else {}
        return {
            "name": name,
            "cores": cores,
            "images_per_second": throughput,
            "ratios": ratios,
            "targets": targets,
        }

    found = report(
        "input",
        [
            row("ours, originals", "core", 100.0, {"plain": 1.4, "Pillow": 1.5}),
            row("plain", "core", 71.0, {}),
            row("ours, originals", "all", 180.0, {"plain": 1.5, "Pillow": 2.5}),
            row("plain", "all", 120.0, {}),
        ],
        batch_size=128,
        first_batch_seconds={"start": 0.25, "middle": 1.5},
        memory_mb={"first": 900.0, "last": 890.0, "most": 910.0},
    )
    shown = table(found)
    assert "1.40 met (target 1.40)" in shown
    assert "1.50 missed (target 2.00)" in shown
    assert "all 2 cores / one: 1.80 met (target 1.75)" in shown
    assert "1.50 missed (target 1.00)" in shown  # seconds to the first batch
    assert "-10 MB" in shown
    assert "target" not in table(found | {"batch_size": 32})
    incomplete = table(found | {"memory_mb": None, "versions": {"jax": "0"}})
    assert "pip install grain" in incomplete
    assert "not measured" in incomplete


def test_the_end_to_end_table_names_the_side_that_waits():
    rows = [
        {
            "name": name,
            "input": 90.0,
            "step": 20.0,
            "together": 18.0,
            "waiting": waiting,
        }
        for name, waiting in (("originals", 0.31), ("JPEG cache", 0.01))
    ]
    lines = table(report("end_to_end", rows)).splitlines()
    assert "originals: The step waits for the input, 31% of the time." in lines
    assert "JPEG cache: The input waits for the step." in lines


def test_the_loops_table_says_which_targets_are_met():
    def start(name, first_step, cached):
        return {
            "name": name,
            "seconds": {"imports": 10.0, "first step": first_step},
            "whole": 10.0 + first_step,
            "compiled": {"programs": 20, "from the cache": cached},
        }

    loop = {
        "name": "loop",
        "steps": 6,
        "milliseconds": {"bare": 2000.0, "loop": 2100.0},
        "ratio": 1.02,
        "ratios": [1.01, 1.02, 1.05],
        "waiting": 0.001,
    }
    save = {
        "name": "save",
        "blocked": 0.25,
        "written": 4.0,
        "extra": 1.5,
        "lost": 1.75,
        "restore": 2.5,
        "bytes": 456_000_000,
        "state_bytes": 488_000_000,
        "share": 0.06,
    }
    rows = [loop, save, start("cold", 40.0, 0), start("warm", 5.0, 7)]
    shown = table(report("loop", rows, batch_size=128))
    assert "1.020 met (target 1.03)" in shown
    assert "6.000% missed (target 5%)" in shown
    assert "0.30 met (target 0.40)" in shown
    assert "488 MB, 456 MB on disk: blocks for 0.25 s" in shown
    assert "target" not in table(report("loop", rows, batch_size=16))


def test_the_table_of_populations_shows_both_ways_of_training():
    row = {
        "name": "four-layer",
        "trials": 16,
        "first_seconds": {"alone": 9.04, "population": 21.0},
        "trials_per_second": {"alone": 1.5, "population": 3.0},
        "ratio": 2.0,
        "ratios": [1.9, 2.0, 2.2],
    }
    line = table(report("population", [row], batch_size=32)).splitlines()[-1]
    cells = "four-layer 16 1.50 3.00 2.00 (1.90 to 2.20) 9.0 s and 21.0 s"
    assert " ".join(line.split()) == cells
