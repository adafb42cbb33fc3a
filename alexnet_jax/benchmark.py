"""Times this project's layers, train step or input against the usual others.

python -m alexnet_jax.benchmark --what=layers|step|input|both|loop|population
                                [--batch_size=32] [--repeats=5]
                                [--dtype=float32|tf32|bfloat16] [--output=FILE.json]

layers, step: against the library's and PyTorch's. input: images/s against plain tf.data,
Pillow and grain, in batches of 128. both: the step fed by the input, and which waits.
loop: what a run costs besides its steps of 128: the loop, a save, a start. population:
small trials one after the other, and as populations, of as many as --config.population has.

All forms of a row run in one process and take turns; given are their medians. On a CPU
once on one core, by the process's CPU time, and once on all, by the clock on the wall;
on a GPU, and for both, loop and population, by the latter alone. Steps take 5 GB of
memory at batch 32.
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
from alexnet_jax.provenance import git_state, num_cores

# What can be timed, and the module that is run as a process to do it.
MODULES = {
    "layers": "contenders",
    "step": "contenders",
    "input": "input_contenders",
    "both": "fed_step",
    "loop": "loop_cost",
    "population": "population_cost",
}
BATCH_SIZES = {name: 128 if name in ("input", "loop") else 32 for name in MODULES}
BY_THE_WALL = ("both", "loop", "population")

WHAT = flags.DEFINE_enum("what", None, list(MODULES), "What is timed.")
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    None,
    "Images a step. Default: 32; of input and loop 128.",
    lower_bound=1,
)
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

# Of the loop over its bare steps; of what a step pays for saves, over its time; of a start
# with a cache of compiled programs over one without. For batch 128.
LOOP_BARS = {"loop": 1.03, "save": 0.05, "start": 0.4}

WAITING = 0.05  # share of the time, from which on it is said that the step waits


def main(_: list[str]) -> None:
    what = WHAT.value
    if what is None:
        raise UserError(
            f"What is to be timed? Give --what=NAME, one of {', '.join(MODULES)}."
        )
    if what == "input" and DTYPE.value != "float32":
        raise UserError(
            f"--dtype={DTYPE.value}: the input is the same whatever a step computes in. "
            "Leave it away."
        )
    output = Path(OUTPUT.value).expanduser()
    if OUTPUT.value and not output.absolute().parent.is_dir():
        raise UserError(f"--output={OUTPUT.value}: no such folder: {output.parent}.")
    batch_size = BATCH_SIZE.value or BATCH_SIZES[what]
    report = measure(what, batch_size, REPEATS.value, DTYPE.value)
    print(TABLES[what](report))
    if OUTPUT.value:
        output.write_text(json.dumps(report, indent=2) + "\n")


def measure(what: str, batch_size: int, repeats: int, dtype: str) -> dict[str, Any]:
    """The times of all rows, and what they depend on."""
    arguments = [what, str(batch_size), str(repeats), dtype]
    print("Timing on all cores ...", file=sys.stderr, flush=True)
    runs = {"all": run_contenders([*arguments, "all"])}
    if runs["all"]["platform"] == "cpu" and what not in BY_THE_WALL:
        print("Timing on one core ...", file=sys.stderr, flush=True)
        with one_core():
            runs = {"core": run_contenders([*arguments, "core"])} | runs
    rows = [
        row | {"cores": cores} for cores, run in runs.items() for row in run["rows"]
    ]
    facts = {name: fact for name, fact in runs["all"].items() if name != "rows"}
    of_dtype = "" if what == "input" else f" --dtype={dtype}"
    return {
        "command": f"python -m alexnet_jax.benchmark --what={what} "
        f"--batch_size={batch_size} --repeats={repeats}{of_dtype}",
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
        [sys.executable, "-m", f"alexnet_jax.{MODULES[arguments[0]]}", *arguments],
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
    lines = [
        *conditions(report),
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


def conditions(report: dict[str, Any]) -> list[str]:
    """What the figures of a report depend on: the first lines of its table."""
    versions = ", ".join(f"{name} {v}" for name, v in report["versions"].items())
    return [
        report["command"],
        f"{report['date']}; {report['num_cores']} cores, {report['cpu']}; "
        f"{len(report['devices'])} x {report['devices'][0]}",
        f"{versions}; at most {report['memory_gb']:.1f} GB of memory",
    ]


def ratio(times: dict[str, float], form: str, bar: float | None) -> str:
    if form not in times:
        return "-"
    value = times["ours"] / times[form]
    if bar is None:
        return f"{value:.2f}"
    return f"{value:.2f} {'met' if value <= bar else 'NOT met'}, bar {bar:.2f}"


def input_table(report: dict[str, Any]) -> str:
    """One line a form and number of cores; then scaling, the first batch and memory.

    Bars, which are for batch 128, only there.
    """
    with_bars = report["batch_size"] == BATCH_SIZES["input"]
    others = ("plain", "Pillow", "grain")
    lines = [
        *conditions(report),
        f"Photographs: {report['photographs']}",
        "by CPU time where cores is 1, by the wall clock where it is all; "
        "plain, Pillow: from originals",
        "",
        f"{'':20}{'cores':>5}{'images/s':>10}"
        + "".join(f"  {'ours/' + other:24}" for other in others).rstrip(),
    ]
    rates = {}
    for row in report["rows"]:
        rate = rates[row["name"], row["cores"]] = row["images_per_second"]
        cells = [
            at_least(row["ratios"].get(other), row["bars"].get(other), with_bars)
            for other in others
        ]
        cores = "1" if row["cores"] == "core" else "all"
        line = f"{row['name']:20}{cores:>5}{rate:10.0f}"
        if row["ratios"]:
            line += "".join(f"  {cell:24}" for cell in cells)
        lines.append(line.rstrip())
    lines.append("")
    for name, cores in rates:
        if name.startswith("ours") and cores == "all":
            value = rates[name, "all"] / rates[name, "core"]
            bar = at_least(value, 1.75, with_bars and report["num_cores"] == 2)
            lines.append(f"{name}: all {report['num_cores']} cores / one: {bar}")
    first = report["first_batch_seconds"]
    lines.append(
        "First batch of an epoch of 1,281,167 examples, JPEG cache: "
        f"{first['start']:.2f} s at its start, {first['middle']:.2f} s in its middle"
        + (
            f" {'met' if first['middle'] < 1 else 'NOT met'}, bar 1 s"
            if with_bars
            else ""
        )
    )
    memory = report["memory_mb"]
    if memory is None:
        lines.append("Memory over ten epochs: not measured, this system does not say.")
    else:
        lines.append(
            f"Memory, JPEG cache: {memory['first']:.0f} MB after the first epoch, "
            f"{memory['last']:.0f} MB after the tenth, at most {memory['most']:.0f} MB: "
            f"{memory['last'] - memory['first']:+.0f} MB"
        )
    if "grain" not in report["versions"]:
        lines.append("grain is not installed: pip install grain")
    return "\n".join(lines)


def at_least(value: float | None, bar: float | None, with_bars: bool) -> str:
    if value is None:
        return "-"
    if bar is None or not with_bars:
        return f"{value:.2f}"
    return f"{value:.2f} {'met' if value >= bar else 'NOT met'}, bar {bar:.2f}"


def both_table(report: dict[str, Any]) -> str:
    """A line a source of images, and a sentence on each: which side waits."""
    lines = [
        *conditions(report),
        f"Photographs: {report['photographs']}",
        "images/s by the wall clock, on all cores",
        "",
        f"{'images from':14}{'input alone':>12}{'step alone':>12}{'together':>10}"
        f"{'waiting':>9}",
    ]
    lines += [
        f"{row['name']:14}{row['input']:12.1f}{row['step']:12.1f}{row['both']:10.1f}"
        f"{row['waiting']:9.1%}"
        for row in report["rows"]
    ]
    lines += [f"From {row['name']}: {who_waits(row)}" for row in report["rows"]]
    return "\n".join(lines)


def who_waits(row: dict[str, Any]) -> str:
    if row["waiting"] >= WAITING:
        return f"The step waits for the input, {row['waiting']:.0%} of the time."
    return "The input waits for the step."


def loop_table(report: dict[str, Any]) -> str:
    """What the loop, a save and a start take; bars, which are for batch 128, only there."""
    with_bars = report["batch_size"] == BATCH_SIZES["loop"]
    bars = LOOP_BARS if with_bars else {}
    rows = {row["name"]: row for row in report["rows"]}
    loop, save = rows["loop"], rows["save"]
    cold, warm = rows["cold"], rows["warm"]
    times = loop["milliseconds"]
    lines = [
        *conditions(report),
        "by the wall clock, on all cores",
        "",
        f"A step in the loop: {times['loop']:.1f} ms, bare {times['bare']:.1f} ms, in "
        f"turns of {loop['steps']}",
        f"loop/bare: {at_most(loop['ratio'], bars.get('loop'), '.3f')}, from "
        f"{min(loop['ratios']):.3f} to {max(loop['ratios']):.3f}; "
        f"{loop['waiting']:.1%} of the time waiting for input",
        "",
        f"A save of {save['state_bytes'] / 1e6:.0f} MB, {save['bytes'] / 1e6:.0f} MB on "
        f"disk: blocks for {save['blocked']:.2f} s; written {save['written']:.1f} s "
        f"behind, in which steps take {save['extra']:+.2f} s",
        f"Lost to it: {save['lost']:.2f} s; of a step's time, at one an epoch of "
        f"1,281,167 images, {at_most(save['share'], bars.get('save'), '.3%')}",
        f"A restore: {save['restore']:.2f} s",
        "",
        f"{'from the start of the process, s':34}{'cold':>7}{'warm':>7}  warm/cold",
    ]
    parts = {"whole": (cold["whole"], warm["whole"])} | {
        f"  {name}": (seconds, warm["seconds"][name])
        for name, seconds in cold["seconds"].items()
    }
    for name, (before, after) in parts.items():
        bar = bars.get("start") if name == "whole" else None
        shown = at_most(after / before, bar, ".2f")
        lines.append(f"{name:34}{before:7.2f}{after:7.2f}  {shown}")
    lines += [
        f"Of {start['compiled']['programs']} programs compiled by a {start['name']} "
        f"start, {start['compiled']['from the cache']} came from the cache."
        for start in (cold, warm)
    ]
    return "\n".join(lines)


def population_table(report: dict[str, Any]) -> str:
    """One line a network and number of trials."""
    lines = [
        *conditions(report),
        f"an epoch on digits a trial, in batches of {report['batch_size']}; by the wall "
        "clock, on all cores",
        "",
        f"{'':16}{'trials':>7}  {'trials/s: alone':>15}{'population':>11}"
        f"  {'population/alone':24}  the first time, compiling",
    ]
    for row in report["rows"]:
        rate, first = row["trials_per_second"], row["first_seconds"]
        spread = (
            f"{row['ratio']:.2f} ({min(row['ratios']):.2f} to {max(row['ratios']):.2f})"
        )
        lines.append(
            f"{row['name']:16}{row['trials']:>7}  {rate['alone']:15.2f}"
            f"{rate['population']:11.2f}  {spread:24}  {first['alone']:.1f} s and "
            f"{first['population']:.1f} s"
        )
    return "\n".join(lines)


def at_most(value: float, bar: float | None, form: str) -> str:
    if bar is None:
        return f"{value:{form}}"
    of_bar = form.replace(".3%", ".0%").replace(".3f", ".2f")
    return f"{value:{form}} {'met' if value <= bar else 'NOT met'}, bar {bar:{of_bar}}"


TABLES = {
    "layers": table,
    "step": table,
    "input": input_table,
    "both": both_table,
    "loop": loop_table,
    "population": population_table,
}


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
