"""The benchmark of preparing a dataset: its files, and its table."""

from pathlib import Path

from alexnet_jax.data.open import open_source
from benchmarks import prepare_cost
from benchmarks.benchmark_tables import table


def test_small_files_are_prepared_and_told(tmp_path: Path):
    prepare_cost.write_small(tmp_path / "small", 40)
    source = open_source(f"folder={tmp_path / 'small'}", tfds_dir="")
    assert source.train.num_examples + source.validation.num_examples == 40
    row = prepare_cost.measure(
        "64x64, nothing rescaled", tmp_path / "small", 64, repeats=1
    )
    assert row["images"] == 40
    row["cpu_milliseconds"] = {"ours": 0.5, "Pillow": 0.25}
    row["milliseconds"] = {"ours": 0.3, "Pillow": 0.26}
    report = {
        "what": "prepare",
        "command": "python -m benchmarks --what=prepare",
        "date": "today",
        "num_cores": 2,
        "cpu": "a CPU",
        "devices": ["none is used"],
        "versions": {},
        "memory_gb": 1.0,
        "rows": [row],
    }
    assert table(report).splitlines()[-1] == (
        "40 x 64x64, nothing rescaled: CPU 0.50 missed (target 0.35), Pillow 0.25; wall "
        "0.30, Pillow 0.26"
    )
