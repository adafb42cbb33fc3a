"""Prints the reports of benchmarks as tables, and whether they meet their targets.

A report is the JSON object that `run.py` collects. Older reports, which say "bars" for
targets and "both" for the end-to-end benchmark, are printed as well.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.floors import rate_line, share_of_floor

Report = dict[str, Any]

# The default batch sizes of the benchmarks that have targets, which hold only for them.
TARGET_BATCH_SIZES = {
    "layers": 32,
    "step": 32,
    "input": 128,
    "loop": 128,
    "predict": 128,
}

# The largest wanted time of a step in the loop over that of a bare step; share of a step
# spent on saves; time of a start with a cache of compiled programs over one without.
LOOP_TARGETS = {"loop": 1.03, "save": 0.05, "start": 0.4}
CORE_SCALING_TARGET = 1.75  # Our throughput on two cores over that on one, at least.
FIRST_BATCH_TARGET = 1.0  # seconds, in the middle of an epoch, at most

# Seconds of the first commands on two cores, and GB of memory, at most.
FIRST_TARGETS = {
    ("relu_vs_tanh.py", "cold"): 45.0,
    ("relu_vs_tanh.py", "warm"): 25.0,
    ("alexnet.py, small", "cold"): 12.0,
    ("alexnet.py, small", "warm"): 6.0,
}
FIRST_MEMORY_TARGET = 0.8

# Our images/s from files over PyTorch's, at least; seconds of the command predict to its
# first answer with compiled programs, and of neighbors among 100,000 features, at most.
PREDICT_TARGETS = {"ratio": 1.5, "warm": 4.0, "neighbors": 1.0}

# CPU milliseconds an image, at most.
PREPARE_TARGETS = {"64x64, nothing rescaled": 0.35}

# The share of its time from which on the step is reported to wait for its input.
WAITING_SHARE = 0.05


def table(report: Report) -> str:
    """Returns the table of any benchmark's report."""
    return "\n".join([*conditions(report), *TABLES[report["what"]](report)])


def conditions(report: Report) -> list[str]:
    """Returns the first lines of every table: what its numbers depend on."""
    versions = ", ".join(f"{name} {v}" for name, v in report["versions"].items())
    return [
        report["command"],
        f"{report['date']}; {report['num_cores']} cores, {report['cpu']}; "
        f"{len(report['devices'])} x {report['devices'][0]}",
        f"{versions}; at most {report['memory_gb']:.1f} GB of memory",
    ]


def row_targets(row: dict[str, Any]) -> dict[str, float]:
    return row["targets"] if "targets" in row else row.get("bars", {})


def at_most(value: float, target: float | None, digits: str = ".2f") -> str:
    """Returns the value and whether it stays within its target, if it has one."""
    if target is None:
        return f"{value:{digits}}"
    target_digits = digits.replace(".3%", ".0%").replace(".3f", ".2f")
    verdict = "met" if value <= target else "missed"
    return f"{value:{digits}} {verdict} (target {target:{target_digits}})"


def at_least(value: float, target: float | None) -> str:
    """Returns the value and whether it reaches its target, if it has one."""
    if target is None:
        return f"{value:.2f}"
    verdict = "met" if value >= target else "missed"
    return f"{value:.2f} {verdict} (target {target:.2f})"


# --- Layers and steps -------------------------------------------------------------


def comparison_lines(report: Report) -> list[str]:
    """Returns a line per comparison. Targets hold for float32 at batch size 32 on CPUs."""
    conditions = (report["platform"], report["dtype"], report["batch_size"])
    with_targets = conditions == ("cpu", "float32", 32)
    lines = [
        "ms by CPU time on 1 core, by the wall clock on all; plain: JAX and Flax's own "
        "operations",
        "",
        f"{'':26}{'cores':>5}{'ours':>9}{'plain':>9}{'PyTorch':>9}"
        f"  {'ours/plain':27}  ours/PyTorch",
    ]
    for row in report["rows"]:
        times = dict(row["milliseconds"])
        form = fastest_of_torch(times)
        targets = row_targets(row) if with_targets else {}
        cells = "".join(
            f"{times[name]:9.1f}" if name in times else f"{'-':>9}"
            for name in ("ours", "plain", "torch")
        )
        ratios = [
            at_most(times["ours"] / times[name], targets.get(name))
            if name in times
            else "-"
            for name in ("plain", "torch")
        ]
        cores = "1" if row["cores"] == "core" else "all"
        line = f"{row['name']:26}{cores:>5}{cells}  {ratios[0]:27}  {ratios[1]}{form}"
        lines.append(line.rstrip() + share_of_floor(report, row))
    lines += rate_line(report)
    if "torch" not in report["versions"]:
        lines.append("PyTorch is not installed, or cannot use this device.")
    return lines


def fastest_of_torch(times: dict[str, float]) -> str:
    """Adds the time "torch" of PyTorch's fastest form; returns that form in brackets.

    Older reports have a single form, which is called "torch".
    """
    forms = [name for name in times if name.startswith("torch ")]
    if not forms:
        return ""
    fastest = min(forms, key=times.__getitem__)
    times["torch"] = times[fastest]
    return f" ({fastest.removeprefix('torch ')})"


# --- Input ------------------------------------------------------------------------


def input_lines(report: Report) -> list[str]:
    """Returns a line per pipeline and cores; then scaling, first batch and memory.

    Targets hold for batches of 128.
    """
    with_targets = report["batch_size"] == TARGET_BATCH_SIZES["input"]
    others = ("plain", "Pillow", "grain")
    lines = [
        f"Photographs: {report['photographs']}",
        "by CPU time on 1 core, by the wall clock on all; plain (tf.data) and Pillow read "
        "the originals, grain the JPEG cache",
        "",
        f"{'':20}{'cores':>5}{'images/s':>10}"
        + "".join(f"  {'ours/' + other:28}" for other in others).rstrip(),
    ]
    for row in report["rows"]:
        ratios = row["ratios"]
        targets = row_targets(row) if with_targets else {}
        cores = "1" if row["cores"] == "core" else "all"
        line = f"{row['name']:20}{cores:>5}{row['images_per_second']:10.0f}"
        for other in others if ratios else ():
            cell = (
                at_least(ratios[other], targets.get(other)) if other in ratios else "-"
            )
            line += f"  {cell:28}"
        lines.append(line.rstrip())
    lines += ["", *core_scaling_lines(report, with_targets)]
    lines += [first_batch_line(report, with_targets), memory_line(report)]
    if "grain" not in report["versions"]:
        lines.append("grain is not installed: pip install grain")
    return lines


def core_scaling_lines(report: Report, with_targets: bool) -> list[str]:
    throughput = {
        (row["name"], row["cores"]): row["images_per_second"] for row in report["rows"]
    }
    num_cores = report["num_cores"]
    target = CORE_SCALING_TARGET if with_targets and num_cores == 2 else None
    return [
        f"{name}: all {num_cores} cores / one: "
        + at_least(throughput[name, "all"] / throughput[name, "core"], target)
        for name, cores in throughput
        if name.startswith("ours") and cores == "all"
    ]


def first_batch_line(report: Report, with_targets: bool) -> str:
    seconds = report["first_batch_seconds"]
    target = FIRST_BATCH_TARGET if with_targets else None
    return (
        "Seconds to the first batch of an epoch of 1,281,167 examples, JPEG cache: "
        f"{seconds['start']:.2f} at its start, in its middle "
        f"{at_most(seconds['middle'], target)}"
    )


def memory_line(report: Report) -> str:
    memory = report["memory_mb"]
    if memory is None:
        return "Memory over ten epochs: not measured, this system does not report it."
    return (
        f"Memory, JPEG cache: {memory['first']:.0f} MB after the first epoch, "
        f"{memory['last']:.0f} MB after the tenth, at most {memory['most']:.0f} MB: "
        f"{memory['last'] - memory['first']:+.0f} MB"
    )


# --- End to end -------------------------------------------------------------------


def end_to_end_lines(report: Report) -> list[str]:
    """Returns a line per source of images, and a sentence on which side waits."""
    lines = [
        f"Photographs: {report['photographs']}",
        "images/s by the wall clock, on all cores",
        "",
        f"{'images from':14}{'input alone':>12}{'step alone':>12}{'together':>10}"
        f"{'waiting':>9}",
    ]
    sentences = []
    for row in report["rows"]:
        together = row["together"] if "together" in row else row["both"]
        lines.append(
            f"{row['name']:14}{row['input']:12.1f}{row['step']:12.1f}{together:10.1f}"
            f"{row['waiting']:9.1%}"
        )
        sentences.append(
            f"{row['name']}: The step waits for the input, {row['waiting']:.0%} of the "
            "time."
            if row["waiting"] >= WAITING_SHARE
            else f"{row['name']}: The input waits for the step."
        )
    return lines + sentences


# --- The training loop ------------------------------------------------------------


def loop_lines(report: Report) -> list[str]:
    """Returns what the loop, a save and a start take. Targets hold for batches of 128."""
    with_targets = report["batch_size"] == TARGET_BATCH_SIZES["loop"]
    targets = LOOP_TARGETS if with_targets else {}
    rows = {row["name"]: row for row in report["rows"]}
    loop, save = rows["loop"], rows["save"]
    times = loop["milliseconds"]
    return [
        "by the wall clock, on all cores",
        "",
        f"A step in the loop: {times['loop']:.1f} ms, bare {times['bare']:.1f} ms, in "
        f"turns of {loop['steps']}",
        f"loop/bare: {at_most(loop['ratio'], targets.get('loop'), '.3f')}, from "
        f"{min(loop['ratios']):.3f} to {max(loop['ratios']):.3f}; "
        f"{loop['waiting']:.1%} of the time waiting for input",
        "",
        f"A save of {save['state_bytes'] / 1e6:.0f} MB, {save['bytes'] / 1e6:.0f} MB on "
        f"disk: blocks for {save['blocked']:.2f} s; written in the background within "
        f"{save['written']:.1f} s, in which steps take {save['extra']:+.2f} s",
        f"Time lost to it: {save['lost']:.2f} s; share of a step's time, at one save per "
        f"epoch of 1,281,167 images: {at_most(save['share'], targets.get('save'), '.3%')}",
        f"A restore: {save['restore']:.2f} s",
        "",
        *start_lines(rows["cold"], rows["warm"], targets.get("start")),
    ]


def start_lines(
    cold: dict[str, Any], warm: dict[str, Any], target: float | None
) -> list[str]:
    lines = [
        f"{'from the start of the process, s':34}{'cold':>7}{'warm':>7}  warm/cold"
    ]
    parts = {"whole": (cold["whole"], warm["whole"])} | {
        f"  {name}": (seconds, warm["seconds"][name])
        for name, seconds in cold["seconds"].items()
    }
    for name, (before, after) in parts.items():
        shown = at_most(after / before, target if name == "whole" else None)
        lines.append(f"{name:34}{before:7.2f}{after:7.2f}  {shown}")
    return lines + [
        f"A {start['name']} start needs {start['compiled']['programs']} compiled programs, "
        f"of which {start['compiled']['from the cache']} came from the cache."
        for start in (cold, warm)
    ]


# --- Populations ------------------------------------------------------------------


def population_lines(report: Report) -> list[str]:
    """Returns a line per network and number of trials."""
    lines = [
        f"an epoch on digits per trial, in batches of {report['batch_size']}; by the wall "
        "clock, on all cores",
        "",
        f"{'':22}{'trials':>7}  {'trials/s: alone':>15}{'population':>11}"
        f"  {'population/alone':24}  first time, with compilation",
    ]
    for row in report["rows"]:
        throughput, first = row["trials_per_second"], row["first_seconds"]
        spread = (
            f"{row['ratio']:.2f} ({min(row['ratios']):.2f} to {max(row['ratios']):.2f})"
        )
        lines.append(
            f"{row['name']:22}{row['trials']:>7}  {throughput['alone']:15.2f}"
            f"{throughput['population']:11.2f}  {spread:24}  {first['alone']:.1f} s and "
            f"{first['population']:.1f} s"
        )
    return lines


# --- The first commands -----------------------------------------------------------


def first_lines(report: Report) -> list[str]:
    """Returns what the first commands take, by parts, with and without compiled programs."""
    lines = ["seconds by the wall clock; cold: nothing is compiled yet", ""]
    for row in report["rows"]:
        target = FIRST_TARGETS.get((row["name"], row["start"]))
        goal = "its figure" if "seconds" in row else "its first step"
        whole = at_most(row["whole"], target, ".1f")
        lines.append(f"{row['name']} to {goal}, {row['start']}: {whole}")
        if "seconds" not in row:
            continue
        parts = ", ".join(f"{name} {s:.1f}" for name, s in row["seconds"].items())
        memory = at_most(row["memory_gb"], FIRST_MEMORY_TARGET)
        lines.append(
            f"  {parts}; {row['trials_per_second']:.2f} trials/s; {row['cpu_seconds']:.1f} s "
            f"of CPU time, {row['cores_busy']:.2f} cores busy; GB of memory: {memory}"
        )
    return lines


# --- Trained networks in use ------------------------------------------------------


def predict_lines(report: Report) -> list[str]:
    """Returns images/s by implementation, then the seconds of commands."""
    with_targets = report["batch_size"] == TARGET_BATCH_SIZES["predict"]
    targets = PREDICT_TARGETS if with_targets else {}
    lines = [
        f"Photographs: {report['photographs']}; by the wall clock, on all cores",
        "",
    ]
    for row in report["rows"]:
        if row["name"] == "from files":
            lines += throughput_lines(row, targets)
        elif row["name"] == "first answer":
            seconds = at_most(row["seconds"], targets.get(row["start"]))
            lines.append(f"predict to its first answer, {row['start']}, s: {seconds}")
        else:
            lines.append(
                f"neighbors: {row['queries']} queries among {row['rows']:,} rows of "
                f"{row['width']:,} numbers, s: "
                + at_most(row["seconds"], targets.get("neighbors"))
            )
    return lines


def throughput_lines(row: dict[str, Any], targets: dict[str, float]) -> list[str]:
    """Returns a line per implementation, and our ratio to PyTorch's fastest."""
    lines = [
        f"from files to answers, {name:20}{images:8.1f} images/s"
        for name, images in row["images_per_second"].items()
    ]
    if row["ratios"]:
        spread = f"from {min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
        ratio = at_least(row["ratio"], targets.get("ratio"))
        lines.append(f"ours/{row['fastest']}: {ratio}, {spread}")
    return [*lines, ""]


def prepare_lines(report: Report) -> list[str]:
    """Returns milliseconds an image, by CPU time and by the wall clock."""
    lines = ["milliseconds an image; Pillow: one thread that writes nothing", ""]
    for row in report["rows"]:
        cpu, wall = row["cpu_milliseconds"], row["milliseconds"]
        ours = at_most(cpu["ours"], PREPARE_TARGETS.get(row["name"]))
        lines.append(
            f"{row['images']:,} x {row['name']}: CPU {ours}, Pillow {cpu['Pillow']:.2f}; "
            f"wall {wall['ours']:.2f}, Pillow {wall['Pillow']:.2f}"
        )
    return lines


TABLES: dict[str, Callable[[Report], list[str]]] = {
    "layers": comparison_lines,
    "step": comparison_lines,
    "input": input_lines,
    "end_to_end": end_to_end_lines,
    "both": end_to_end_lines,  # the name in older reports
    "loop": loop_lines,
    "population": population_lines,
    "first": first_lines,
    "predict": predict_lines,
    "prepare": prepare_lines,
}
