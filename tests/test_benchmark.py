"""The benchmark: its forms agree, and its table says what it should. No times."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax import benchmark, contenders
from alexnet_jax.model.network import build

ROOT = Path(__file__).parent.parent


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "alexnet_jax.benchmark", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )


# --- The forms --------------------------------------------------------------------


def test_the_plain_network_is_ours_with_its_gradient():
    """With dropout, in a small size."""
    towers = 2
    setting = contenders.Setting(3, "float32")
    model = contenders.model(towers, setting) | {"width": 1 / 24}
    network = build(model, image_size=64, num_classes=10)
    params = network.initialize(jax.random.key(0))
    images = np.random.default_rng(0).standard_normal((3, 64, 64, 3)) * 50
    keys = jax.vmap(jax.random.key)(jnp.arange(3))

    @functools.partial(jax.jit, static_argnums=0)
    def logits_and_gradient(apply, params):
        logits, backward = jax.vjp(lambda params: apply(params, x, keys), params)
        return logits, backward(jnp.cos(logits))[0]

    x = jnp.asarray(images, jnp.float32)
    plain = functools.partial(contenders.library_apply, towers=towers)
    ours = logits_and_gradient(network.apply, params)
    for one, other in zip(
        *map(jax.tree.leaves, (ours, logits_and_gradient(plain, params))), strict=True
    ):
        np.testing.assert_allclose(
            one, other, rtol=1e-3, atol=1e-5 * np.abs(other).max() + 1e-12
        )


@pytest.mark.parametrize(("towers", "count"), [(2, 60_965_224), (1, 62_378_344)])
def test_pytorchs_network_has_as_many_parameters(towers, count):
    pytest.importorskip("torch", reason="PyTorch is no dependency")
    network = contenders.torch_alexnet(towers)
    assert sum(p.numel() for p in network.parameters()) == count


def test_forms_take_turns():
    turns = []
    forms = {name: functools.partial(turns.append, name) for name in ("ours", "plain")}
    ticks = iter(range(100))
    row = contenders.Row("a row", forms)
    times = contenders.timed(row, 3, lambda: float(next(ticks)))
    assert turns == ["ours", "plain"] * 4  # the first to compile
    assert times == {"ours": 1000.0, "plain": 1000.0}


# --- The command ------------------------------------------------------------------


def test_layers_are_timed_into_a_table_and_a_file(tmp_path):
    output = tmp_path / "layers.json"
    done = run("--what=layers", "--batch_size=1", "--repeats=1", f"--output={output}")
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    assert benchmark.table(report) == done.stdout.rstrip("\n")
    assert report["versions"]["jax"] == jax.__version__
    assert report["num_cores"] >= 1
    assert str(tmp_path) not in output.read_text()
    names = [row["name"] for row in report["rows"]]
    assert names[: len(names) // 2] == names[len(names) // 2 :]
    assert [row["cores"] for row in report["rows"]] == ["core"] * 13 + ["all"] * 13
    for row in report["rows"]:
        assert {"ours", "plain"} <= set(row["milliseconds"])
        assert done.stdout.count(f"{row['name']} ") >= 2
    assert "bar" not in done.stdout  # they are for batch 32


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "one of layers, step, input, both, loop, population."),
        (
            ["--what=input", "--dtype=bfloat16"],
            "--dtype=bfloat16: the input is the same",
        ),
        (["--what=layer"], "layers|step"),
        (["--what=step", "--batch_size=0"], "batch_size"),
        (["--what=step", "--repeats=many"], "repeats"),
        (["--what=step", "--dtype=float16"], "float32|tf32|bfloat16"),
        (["--what=step", "--output=nowhere/step.json"], "no such folder: nowhere"),
        (["--what=step", "--config=configs/alexnet.py"], "config"),
        (["--what=step", "more"], "Not understood: more."),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_message(arguments, said):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


# --- The table --------------------------------------------------------------------


def report(milliseconds, *, bars=None, name="two-tower step", **changes):
    rows = [{"name": name, "cores": "core", "milliseconds": milliseconds}]
    rows[0]["bars"] = bars or {}
    return {
        "command": "python -m alexnet_jax.benchmark",
        "date": "2026-01-01",
        "batch_size": 32,
        "dtype": "float32",
        "platform": "cpu",
        "devices": ["cpu"],
        "versions": {"jax": "0", "torch": "0"},
        "cpu": "a CPU",
        "num_cores": 2,
        "memory_gb": 4.0,
        "rows": rows,
    } | changes


def test_the_table_says_which_bars_are_met():
    times = {"ours": 10.0, "plain": 40.0, "torch": 12.5}
    line = benchmark.table(report(times, bars={"plain": 0.25, "torch": 0.7}))
    assert "0.25 met, bar 0.25" in line
    assert "0.80 NOT met, bar 0.70" in line


def test_without_pytorch_its_columns_are_empty():
    shown = benchmark.table(
        report(
            {"ours": 10.0, "plain": 40.0}, bars={"torch": 0.7}, versions={"jax": "0"}
        )
    )
    assert "met" not in shown
    assert "PyTorch is not installed" in shown


def test_only_a_known_gpu_is_held_against_its_computed_floor():
    def last_line(**changes):
        times = {"ours": 20.0, "plain": 40.0}
        return benchmark.table(report(times, **changes)).splitlines()[-1]

    h100 = {
        "platform": "gpu",
        "devices": ["NVIDIA H100 80GB HBM3"],
        "batch_size": 1024,
        "dtype": "bfloat16",
    }
    # 0.53 + 1024 * 0.00812
    assert last_line(**h100).endswith("44% of the computed 8.8 ms")
    assert "computed" not in last_line(**h100 | {"devices": ["NVIDIA A100"]})
    assert "computed" not in last_line(**h100 | {"name": "conv1"})
    assert "computed" not in last_line()
