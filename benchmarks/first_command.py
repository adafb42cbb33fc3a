"""Times the README's first commands as a user sees them: new processes, to their answer.

`run.py` runs this module as a process of its own. `configs/relu_vs_tanh.py` on digits is
timed from its start to its figure, by the times at which its files were written;
`configs/alexnet.py` to the end of its first step. Each is run with an empty cache of
compiled programs, and again with what the first run left there.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from alexnet_jax.provenance import versions

ROOT = Path(__file__).parent.parent
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")
POLL_SECONDS = 0.02

# The first step of a trial writes a row: an epoch of digits has 45 of its steps.
TO_FIRST_STEP = {
    "alexnet.py, small": ("--config.training.log_every_epochs=0.001",),
    "alexnet.py, full size": (
        "--config.training.log_every_epochs=0.001",
        "--config.preset=full",
    ),
}


def command(config: str, *flags: str) -> list[str]:
    """The command line of a run of one of the configs."""
    path = ROOT / "configs" / config
    return [sys.executable, "-m", "alexnet_jax.main", f"--config={path}", *flags]


def to_figure(folder: Path, cache: Path) -> dict[str, Any]:
    """Runs Figure 1 on digits to its end: seconds by parts, memory, and cores kept busy."""
    started = time.time()
    arguments = command("relu_vs_tanh.py", f"--workdir={folder}")
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            arguments,
            env=environment(cache),
            stdout=subprocess.DEVNULL,
            stderr=messages,
        )
        # wait4 alone reports what this process has used, and not all children so far.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            messages.seek(0)
            raise RuntimeError(messages.read().decode(errors="replace"))
    whole = time.time() - started
    ended = [path.stat().st_mtime for path in folder.rglob("trial.json")]
    opened = (folder / "contact_sheet.png").stat().st_mtime
    cpu = used.ru_utime + used.ru_stime
    return {
        "whole": whole,
        "seconds": {
            "imports and data": opened - started,
            "trials": max(ended) - opened,
            "figure and report": started + whole - max(ended),
        },
        "trials_per_second": len(ended) / (max(ended) - opened),
        "cpu_seconds": cpu,
        "cores_busy": cpu / whole,
        "memory_gb": used.ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6),
    }


def to_first_step(flags: tuple[str, ...], folder: Path, cache: Path) -> float:
    """Seconds from the start of configs/alexnet.py to its first train row; then ends it."""
    started = time.time()
    process = subprocess.Popen(
        command("alexnet.py", f"--workdir={folder}", *flags),
        env=environment(cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            for record in folder.glob("*/*/metrics.jsonl"):
                if '"kind": "train"' in record.read_text():
                    return time.time() - started
            time.sleep(POLL_SECONDS)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    raise RuntimeError("The command ended before its first step.")


def environment(cache: Path) -> dict[str, str]:
    """This process's environment, with a cache of compiled programs of its own."""
    return {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}


def rows(repeats: int) -> list[dict[str, Any]]:
    """The medians of all runs, cold and warm."""
    of_figure: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": []}
    of_step: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as made:
        for repeat in range(repeats):
            for start, found in of_figure.items():
                print(f"Timing the first command, {start} ...", file=sys.stderr)
                folder = Path(made) / f"figure-{repeat}-{start}"
                found.append(to_figure(folder, Path(made) / f"cache-{repeat}"))
            for name, flags in TO_FIRST_STEP.items():
                for start in of_figure:
                    print(f"Timing {name}, {start} ...", file=sys.stderr)
                    folder = Path(made) / f"{name}-{repeat}-{start}"
                    cache = Path(made) / f"cache-{name}-{repeat}"
                    seconds = to_first_step(flags, folder, cache)
                    of_step.setdefault((name, start), []).append(seconds)
    figures = [
        {"name": "relu_vs_tanh.py", "start": start, **medians(found)}
        for start, found in of_figure.items()
    ]
    steps = [
        {"name": name, "start": start, "whole": statistics.median(found)}
        for (name, start), found in of_step.items()
    ]
    return figures + steps


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each number of several runs."""
    return {
        name: {
            part: statistics.median(run[name][part] for run in runs) for part in value
        }
        if isinstance(value, dict)
        else statistics.median(run[name] for run in runs)
        for name, value in runs[0].items()
    }


def main() -> None:
    repeats = int(sys.argv[3])
    found = rows(repeats)
    report = {
        "platform": os.environ.get("JAX_PLATFORMS", "default"),
        "devices": ["as the command finds them"],
        "versions": versions(PACKAGES),
        "rows": found,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
