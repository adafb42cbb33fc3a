"""Every notebook of experiments/ runs, on a small run of its own config."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from alexnet_jax.config.layered import set_field
from alexnet_jax.config.resolve import resolve
from alexnet_jax.experiment import runner

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
NAMES.remove("alexnet")  # A single arm: nothing to compare.
MOST_BYTES = 400_000


def small(name):
    """Returns the config of experiments/NAME with two seeds, and two steps of 16 images."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"configs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.seeds = 2 * config.training.get("ensemble", 1)
    config.tuned = {field: values[:1] for field, values in config.tuned.items()}
    for arm in config.arms.values():  # Two networks, not five, for speed.
        if "training.ensemble" in arm:
            arm["training.ensemble"] = 2
            config.seeds = 4
    wanted = {
        "model.width": 0.0625,
        "training.batch_size": 16,
        "training.num_epochs": 2 * 16 / 1438,
        "training.log_every_epochs": 16 / 1438,
        "training.evaluate_every_epochs": 1.0,
    }
    if name == "depth":  # Three compilations, not seven, for speed.
        pairs = config.claim["compare"][:2]
        config.claim = config.claim | {"compare": pairs}
        shown = {arm for pair in pairs for arm in pair}
        for arm in set(config.arms) - shown:
            del config.arms[arm]
    if name == "relu_vs_tanh":
        wanted["model.width"] = 0.5
    for field, value in wanted.items():
        set_field(config, field, value)
    return resolve(config, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    # In a process of one device: on the tests' eight devices it would take minutes.
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.setenv("ALEXNET_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = [sys.executable, __file__, name, str(tmp_path / "run")]
    subprocess.run(made, check=True)
    notebook = nbformat.read(ROOT / f"experiments/{name}/{name}.ipynb", as_version=4)
    run = NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    run.execute()
    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"][1:]
    assert all(outputs for outputs in shown)


@pytest.mark.slow
def test_the_overview_runs_on_the_committed_summaries():
    notebook = nbformat.read(ROOT / "experiments/overview.ipynb", as_version=4)
    place = {"metadata": {"path": str(ROOT)}}
    NotebookClient(notebook, timeout=300, resources=place).execute()
    committed = len(list((ROOT / "experiments").rglob("summary.json")))
    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert len(shown[2]) == committed >= 17
    assert "ensemble on digits" in shown[1][0].data["text/markdown"]


@pytest.mark.parametrize("name", [*NAMES, ""])
def test_a_committed_notebook_is_small_complete_and_in_order(name):
    path = ROOT / f"experiments/{name}/{name or 'overview'}.ipynb"
    assert path.stat().st_size < MOST_BYTES
    notebook = json.loads(path.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    counts = [cell["execution_count"] for cell in cells]
    assert counts == list(range(1, len(cells) + 1))
    kinds = [out["output_type"] for cell in cells for out in cell["outputs"]]
    assert len(kinds) >= len(cells) - 1
    assert "error" not in kinds
    assert "/tmp/" not in path.read_text()


if __name__ == "__main__":
    runner.run(small(sys.argv[1]), Path(sys.argv[2]))
