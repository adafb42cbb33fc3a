"""The command: processes and their cores, reports and refusals."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from alexnet_jax.errors import UserError
from benchmarks import run as benchmark_run
from benchmarks.benchmark_tables import table

ROOT = Path(__file__).parents[2]


def run_command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_layers_are_timed_into_a_table_and_a_file(tmp_path):
    output = tmp_path / "layers.json"
    arguments = ("--what=layers", "--batch_size=1", "--repeats=1")
    done = run_command(*arguments, f"--output={output}")
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    assert table(report) == done.stdout.rstrip("\n")
    assert report["versions"]["jax"] == jax.__version__
    assert report["num_cores"] >= 1
    assert str(tmp_path) not in output.read_text()
    names = [row["name"] for row in report["rows"]]
    assert names[: len(names) // 2] == names[len(names) // 2 :]
    assert [row["cores"] for row in report["rows"]] == ["core"] * 20 + ["all"] * 20
    for row in report["rows"]:
        assert {"ours", "plain"} <= set(row["milliseconds"])


def test_every_benchmark_has_a_module():
    for module in benchmark_run.MODULES.values():
        assert importlib.util.find_spec(f"benchmarks.{module}"), module


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="cores are pinned on Linux only"
)
@pytest.mark.parametrize(
    ("what", "platform", "runs"),
    [
        ("layers", "cpu", ["all", "core"]),
        ("input", "cpu", ["all", "core"]),
        ("step", "gpu", ["all"]),
        ("end_to_end", "cpu", ["all"]),
        ("loop", "cpu", ["all"]),
        ("population", "cpu", ["all"]),
    ],
)
def test_what_is_also_timed_on_one_core_is_pinned_to_it(
    what, platform, runs, monkeypatch
):
    allowed = os.sched_getaffinity(0)
    found = []

    def run_process(arguments):
        assert arguments[:4] == [what, "8", "2", "float32"]
        found.append((arguments[4], len(os.sched_getaffinity(0))))
        return {"platform": platform, "devices": ["one"], "rows": [{"name": "a row"}]}

    monkeypatch.setattr(benchmark_run, "run_process", run_process)
    report = benchmark_run.measure(what, 8, 2, "float32")
    num_cores = {"all": len(allowed), "core": 1}
    assert found == [(cores, num_cores[cores]) for cores in runs]
    assert os.sched_getaffinity(0) == allowed
    assert [row["cores"] for row in report["rows"]] == runs[::-1]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"what": None},
            ["--what", "layers, step, input, end_to_end, loop, population"],
        ),
        ({"what": "input", "dtype": "bfloat16"}, ["--dtype=bfloat16", "Remove it"]),
        ({"output": "nowhere/step.json"}, ["--output", "no such folder: nowhere"]),
        (
            {"images": "photos"},
            ["--images", "--what=step", "input, end_to_end or predict"],
        ),
        ({"what": "input", "images": "nowhere"}, ["--images=nowhere: no such folder"]),
    ],
)
def test_what_cannot_be_run_is_refused(changes, named):
    request = {"batch_size": None, "repeats": 1, "dtype": "float32", "output": ""}
    request["images"] = ""
    with pytest.raises(UserError) as refused:
        benchmark_run.run_benchmark(**{"what": "step", **request, **changes})
    for text in named:
        assert text in str(refused.value)


def test_a_refusal_is_one_message_and_exit_status_2():
    done = run_command("--what=both")  # the former name of end_to_end
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert "end_to_end" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_process_that_fails_is_an_error(monkeypatch):
    failed = SimpleNamespace(returncode=3, stdout="")
    monkeypatch.setattr(benchmark_run.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UserError, match="status 3"):
        benchmark_run.run_process(["layers", "1", "1", "float32", "all"])


def test_a_cpu_is_named_with_its_vector_instructions(monkeypatch):
    facts = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512f\n\n"
    monkeypatch.setattr(Path, "read_text", lambda _: 2 * facts)
    assert benchmark_run.cpu_model() == "Some CPU, avx2, avx512f"
    monkeypatch.setattr(Path, "read_text", lambda _: facts.replace("avx", "x"))
    assert benchmark_run.cpu_model() == "Some CPU"
    monkeypatch.setattr(Path, "read_text", lambda _: "")
    assert benchmark_run.cpu_model()
