"""Runs each benchmark in a new process and collects its report.

The cores of a process must be chosen before JAX, TensorFlow and PyTorch start their
threads, so no measurement shares a process with another one. A benchmark's module is run
as

    python -m benchmarks.MODULE WHAT BATCH_SIZE REPEATS DTYPE core|all IMAGES

and prints one JSON object as the last line of its standard output.
"""

import contextlib
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alexnet_jax.errors import UserError
from alexnet_jax.provenance import git_state, num_cores
from benchmarks.benchmark_tables import TARGET_BATCH_SIZES, table

# The module that measures each benchmark.
MODULES = {
    "layers": "layer_benchmarks",
    "step": "step_benchmarks",
    "input": "input_benchmarks",
    "end_to_end": "end_to_end",
    "loop": "loop_cost",
    "population": "population_cost",
    "first": "first_command",
    "predict": "prediction_speed",
    "prepare": "prepare_cost",
}
DEFAULT_BATCH_SIZES = dict.fromkeys(MODULES, 32) | TARGET_BATCH_SIZES
ALSO_ON_ONE_CORE = ("layers", "step", "input")
OF_IMAGES_ALONE = ("input", "prepare")
OF_PHOTOGRAPHS = ("input", "end_to_end", "predict")


def run_benchmark(
    what: str | None,
    *,
    batch_size: int | None,
    repeats: int,
    dtype: str,
    output: str,
    images: str,
) -> str:
    """Runs one benchmark and returns its table.

    Args:
      what: the benchmark's name, a key of `MODULES`.
      batch_size: images per step; the benchmark's own default if None.
      repeats: how often each implementation is timed.
      dtype: float32, tf32 or bfloat16.
      output: the JSON file to write the report to, or "".
      images: the folder of photographs to read; "": photographs that are made.

    Raises:
      UserError: if no benchmark is named, the dtype or the images have no effect on it,
        a folder does not exist or the timed process fails.
    """
    if what is None:
        raise UserError(
            f"Missing --what: give --what=NAME, one of {', '.join(MODULES)}."
        )
    if what in OF_IMAGES_ALONE and dtype != "float32":
        raise UserError(
            f"--dtype={dtype} has no effect on --what={what}: its images do not depend on "
            "the type that the step computes in. Remove it."
        )
    if images and what not in OF_PHOTOGRAPHS:
        raise UserError(
            f"--images has no effect on --what={what}, which reads no photographs. Remove "
            f"it, or choose {', '.join(OF_PHOTOGRAPHS[:-1])} or {OF_PHOTOGRAPHS[-1]}."
        )
    if images and not Path(images).expanduser().is_dir():
        raise UserError(f"--images={images}: no such folder.")
    path = Path(output).expanduser()
    if output and not path.absolute().parent.is_dir():
        raise UserError(f"--output={output}: no such folder: {path.parent}. Create it.")
    report = measure(
        what, batch_size or DEFAULT_BATCH_SIZES[what], repeats, dtype, images
    )
    if output:
        path.write_text(json.dumps(report, indent=2) + "\n")
    return table(report)


def measure(
    what: str, batch_size: int, repeats: int, dtype: str, images: str = ""
) -> dict[str, Any]:
    """Returns the rows of a benchmark and the conditions under which they were measured."""
    arguments = [what, str(batch_size), str(repeats), dtype]
    folder = str(Path(images).expanduser()) if images else ""
    print("Timing on all cores ...", file=sys.stderr, flush=True)
    runs = {"all": run_process([*arguments, "all", folder])}
    if runs["all"]["platform"] == "cpu" and what in ALSO_ON_ONE_CORE:
        print("Timing on one core ...", file=sys.stderr, flush=True)
        with one_core():
            runs = {"core": run_process([*arguments, "core", folder])} | runs
    rows = [
        row | {"cores": cores} for cores, run in runs.items() for row in run["rows"]
    ]
    facts = {name: fact for name, fact in runs["all"].items() if name != "rows"}
    dtype_flag = "" if what in OF_IMAGES_ALONE else f" --dtype={dtype}"
    return {
        "command": f"python -m benchmarks --what={what} "
        f"--batch_size={batch_size} --repeats={repeats}{dtype_flag}"
        f"{' --images=FOLDER' if images else ''}",
        "date": datetime.date.today().isoformat(),
        "git": git_state(),
        "what": what,
        "batch_size": batch_size,
        "repeats": repeats,
        "dtype": dtype,
        **facts,
        "cpu": cpu_model(),
        "num_cores": num_cores(),
        "memory_gb": peak_memory_gb(),
        "rows": rows,
    }


def run_process(arguments: list[str]) -> dict[str, Any]:
    """Returns the report of one process; its error output goes to ours.

    Raises:
      UserError: if the process fails.
    """
    environment = {**os.environ}
    environment.pop("JAX_NUM_CPU_DEVICES", None)  # Virtual devices share the cores.
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{MODULES[arguments[0]]}", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    if done.returncode:
        raise UserError(
            f"The timed process of --what={arguments[0]} failed with exit status "
            f"{done.returncode}; its own messages are above."
        )
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Pins this process and the processes it starts to one core, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


# Instructions that decide how fast a CPU multiplies, which a name such as "AMD EPYC" hides.
VECTOR_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_tile")


def cpu_model() -> str:
    """Returns the CPU's name and vector instructions as Linux reports them.

    Elsewhere, what Python knows of it.
    """
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    flags = facts.get("flags", "").split()
    found = [each for each in VECTOR_INSTRUCTIONS if each in flags]
    return ", ".join([facts["model name"], *found])


def peak_memory_gb() -> float:
    """Returns the peak memory of the largest timed process, in GB."""
    try:
        import resource  # Windows does not have this module.
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)  # bytes there, kB here
