"""Times this project's layers or train step against the library's and PyTorch's.

python -m alexnet_jax.benchmark --what=layers|step [--batch_size=32] [--repeats=5]
                                [--dtype=float32|tf32|bfloat16] [--output=FILE.json]

All forms of a row run in one process and take turns; given are their medians. On a CPU
once on one core, by the process's CPU time, and once on all, by the clock on the wall;
on a GPU by the latter alone. Steps take 5 GB of memory at batch 32.
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

from absl import flags

from alexnet_jax import command
from alexnet_jax.errors import UserError
from alexnet_jax.provenance import git_state

WHAT = flags.DEFINE_enum("what", None, ["layers", "step"], "What is timed.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images a step.", lower_bound=1)
REPEATS = flags.DEFINE_integer("repeats", 5, "Times each form runs.", lower_bound=1)
DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "tf32", "bfloat16"], "What is computed in."
)
OUTPUT = flags.DEFINE_string("output", "", "JSON file for the results.")

# Least milliseconds of a step on an H100, by towers and dtype: for the weights, and for
# an image. Computed, for each layer the longer of its multiplications (800 TFLOP/s in
# bfloat16, 400 in tf32, 60 in float32) and its bytes (3.0 TB/s); not measured.
H100 = {
    ("two-tower step", "bfloat16"): (0.53, 0.00812),
    ("two-tower step", "tf32"): (0.65, 0.0162),
    ("two-tower step", "float32"): (0.65, 0.0745),
    ("one-tower step", "bfloat16"): (0.53, 0.0112),
    ("one-tower step", "tf32"): (0.65, 0.0226),
    ("one-tower step", "float32"): (0.65, 0.116),
}


def main(_: list[str]) -> None:
    if WHAT.value is None:
        raise UserError("What is to be timed? Give --what=layers or --what=step.")
    output = Path(OUTPUT.value).expanduser()
    if OUTPUT.value and not output.absolute().parent.is_dir():
        raise UserError(f"--output={OUTPUT.value}: no such folder: {output.parent}.")
    report = measure(WHAT.value, BATCH_SIZE.value, REPEATS.value, DTYPE.value)
    print(table(report))
    if OUTPUT.value:
        output.write_text(json.dumps(report, indent=2) + "\n")


def measure(what: str, batch_size: int, repeats: int, dtype: str) -> dict[str, Any]:
    """The times of all rows, and what they depend on."""
    arguments = [what, str(batch_size), str(repeats), dtype]
    print("Timing on all cores ...", file=sys.stderr, flush=True)
    runs = {"all": run_contenders([*arguments, "all"])}
    if runs["all"]["platform"] == "cpu":
        print("Timing on one core ...", file=sys.stderr, flush=True)
        with one_core():
            runs = {"core": run_contenders([*arguments, "core"])} | runs
    rows = [
        row | {"cores": cores} for cores, run in runs.items() for row in run["rows"]
    ]
    facts = {name: runs["all"][name] for name in ("platform", "devices", "versions")}
    return {
        "command": f"python -m alexnet_jax.benchmark --what={what} "
        f"--batch_size={batch_size} --repeats={repeats} --dtype={dtype}",
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


def run_contenders(arguments: list[str]) -> dict[str, Any]:
    """One process that times all forms; what it says of errors goes to ours."""
    environment = {**os.environ}
    environment.pop("JAX_NUM_CPU_DEVICES", None)  # virtual devices share the cores
    done = subprocess.run(
        [sys.executable, "-m", "alexnet_jax.contenders", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    if done.returncode:
        raise UserError(f"The timed process failed, exit status {done.returncode}.")
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Processes started here stay on one core, where the system can pin them."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def table(report: dict[str, Any]) -> str:
    """One line a row; bars, which are for float32 at batch 32 on CPUs, only there."""
    with_bars = (report["platform"], report["dtype"], report["batch_size"]) == (
        "cpu",
        "float32",
        32,
    )
    versions = ", ".join(f"{name} {v}" for name, v in report["versions"].items())
    lines = [
        report["command"],
        f"{report['date']}; {report['num_cores']} cores, {report['cpu']}; "
        f"{len(report['devices'])} x {report['devices'][0]}",
        f"{versions}; at most {report['memory_gb']:.1f} GB of memory",
        "ms by CPU time where cores is 1, by the wall clock where it is all",
        "",
        f"{'':26}{'cores':>5}{'ours':>9}{'plain':>9}{'PyTorch':>9}"
        f"  {'ours/plain':20}  ours/PyTorch",
    ]
    for row in report["rows"]:
        times = row["milliseconds"]
        cells = "".join(
            f"{times[form]:9.1f}" if form in times else f"{'-':>9}"
            for form in ("ours", "plain", "torch")
        )
        ratios = [
            ratio(times, form, row["bars"].get(form) if with_bars else None)
            for form in ("plain", "torch")
        ]
        cores = "1" if row["cores"] == "core" else "all"
        line = f"{row['name']:26}{cores:>5}{cells}  {ratios[0]:20}  {ratios[1]}"
        lines.append(line.rstrip() + floor(report, row))
    if "torch" not in report["versions"]:
        lines.append("PyTorch is not installed, or has no use of this device.")
    return "\n".join(lines)


def ratio(times: dict[str, float], form: str, bar: float | None) -> str:
    if form not in times:
        return "-"
    value = times["ours"] / times[form]
    if bar is None:
        return f"{value:.2f}"
    return f"{value:.2f} {'met' if value <= bar else 'NOT met'}, bar {bar:.2f}"


def floor(report: dict[str, Any], row: dict[str, Any]) -> str:
    """The share of the computed floor that a step reaches on one known GPU."""
    constants = H100.get((row["name"], report["dtype"]))
    if constants is None or len(report["devices"]) > 1:
        return ""
    if "H100" not in report["devices"][0]:
        return ""
    weights, image = constants
    least = weights + image * report["batch_size"]
    return f"  {least / row['milliseconds']['ours']:.0%} of the computed {least:.1f} ms"


def cpu_model() -> str:
    """As Linux names it; elsewhere what Python knows."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory_gb() -> float:
    """Of the largest process timed."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)  # bytes there


if __name__ == "__main__":
    command.run(main, with_config=False)
