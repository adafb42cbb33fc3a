"""The notebooks in experiments/ run on small runs of their configs."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from few_digits import few_digits
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbclient import NotebookClient

from alexnet_jax.config.resolve import resolve
from alexnet_jax.experiment import datasets, runner

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
MOST_BYTES = 400_000

# Those that run here: one network; tuned values; further claims; averages; arms that share
# a training. The code of the others is that of `ten_views`.
RUN = ("alexnet", "relu_vs_tanh", "ensemble", "ten_views")
TRAIN, HELD_OUT = 128, 64  # digits


def small(name):
    """The config of experiments/NAME with two seeds and two steps of 16 images."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"configs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.seeds = 2 * config.training.get("ensemble", 1)
    config.tuned = {field: values[:1] for field, values in config.tuned.items()}
    for arm in config.arms.values():  # Two networks instead of five, for speed.
        if "training.ensemble" in arm:
            arm["training.ensemble"] = 2
            config.seeds = 4
    wanted = {
        "model.width": 0.0625,
        "training.batch_size": 16,
        "training.num_epochs": 2 * 16 / TRAIN,
        "training.log_every_epochs": 16 / TRAIN,
        "training.evaluate_every_epochs": 1.0,
    }
    if name == "relu_vs_tanh":
        wanted["model.width"] = 0.5
    for field, value in wanted.items():
        config.set_by("file", field, value)
    return resolve(config, wanted)


@pytest.mark.slow
def test_notebooks_run(tmp_path):
    """Each on its own run, all in one process, which imports JAX once."""
    # One device: with the tests' eight it would take minutes.
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    changed = {
        "JAX_NUM_CPU_DEVICES": "1",
        "PYTHONPATH": paths,
    }
    command = [sys.executable, __file__, str(tmp_path), *RUN]
    done = subprocess.run(
        command, env=os.environ | changed, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line in RUN] == list(RUN)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(RUN)))
def test_other_notebooks_have_the_code_of_one_that_runs(name):
    assert code_cells(name) == [
        source.replace("ten_views", name) for source in code_cells("ten_views")
    ]


def code_cells(name):
    path = ROOT / f"experiments/{name}/{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def run_notebook(name, folder):
    """Trains the notebook's experiment in `folder` and runs its cells in order.

    Raises:
      Exception: whatever a cell raises.
      ValueError: if a cell after the first shows nothing.
    """
    runner.run(small(name), folder)
    os.environ["ALEXNET_RUN"] = str(folder)
    shell = InteractiveShell()
    for number, source in enumerate(code_cells(name)):
        with capture_output() as shown:
            result = shell.run_cell(source)
        result.raise_error()
        if number > 0 and result.result is None and not shown.outputs:
            raise ValueError(f"{name}, code cell {number} shows nothing: {source}")


@pytest.mark.slow
def test_the_overview_runs_on_the_committed_summaries():
    notebook = nbformat.read(ROOT / "experiments/overview.ipynb", as_version=4)
    place = {"metadata": {"path": str(ROOT)}}
    NotebookClient(notebook, timeout=300, resources=place).execute()
    # Deeper folders are variants, which the page of their claim links to.
    evidence = ROOT / "experiments"
    committed = len(
        [*evidence.glob("*/summary.json"), *evidence.glob("*/*/summary.json")]
    )
    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert len(shown[2]) == committed >= 17
    assert "ensemble on digits" in shown[1][0].data["text/markdown"]


NOTEBOOKS = sorted((ROOT / "experiments").rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_small_complete_and_in_order(path):
    variants = {"he_unit_variance", "unit_variance"}
    others = {"overview", "photographs", "cifar10"} | variants
    assert {*NAMES, *others} == {path.stem for path in NOTEBOOKS}
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
    # A run of two steps is mostly its evaluations.
    datasets.open_source = lambda *_, **__: few_digits(train=TRAIN, held_out=HELD_OUT)
    for given in sys.argv[2:]:
        run_notebook(given, Path(sys.argv[1]) / given / "run")
        print(given, flush=True)
