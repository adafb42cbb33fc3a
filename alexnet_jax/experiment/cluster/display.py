"""Progress of a sweep on standard error: a live table on a terminal, otherwise lines."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from alexnet_jax.experiment.cluster.resources import Resources
from alexnet_jax.experiment.cluster.tasks import ALREADY_DONE, RUNNING, TrialTask

LINE_SECONDS = 30.0  # Between two summaries where there is no terminal.
# The order of the table's rows, by the trials' states.
ROW_ORDER = (
    "running",
    "failed",
    "diverged",
    "finished",
    "reached",
    "behind",
    ALREADY_DONE,
    "waiting",
)


class Display:
    """A live table on a terminal; elsewhere a line per event and a periodic summary."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._last_summary = time.monotonic()
        self._live: Any = None

    def __enter__(self) -> "Display":
        if sys.stderr.isatty():
            # Rich comes with the extra "sweep" and is needed on a terminal only.
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def print_line(self, text: str) -> None:
        """Prints one line, above the table if there is one."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def update(self, tasks: Sequence[TrialTask]) -> None:
        """Redraws the table, or prints a summary if the last one is old enough."""
        if self._live is not None:
            self._live.update(table(tasks, title=self.summary(tasks)), refresh=True)
        elif time.monotonic() - self._last_summary >= LINE_SECONDS:
            self._last_summary = time.monotonic()
            self.print_line(self.summary(tasks))

    def summary(self, tasks: Sequence[TrialTask]) -> str:
        """Returns one line: trials done and running, and the time left for all.

        The time left follows from the speeds of the trials whose step is compiled, as if
        all that run were as fast on average.
        """
        num_done = sum(task.has_ended for task in tasks)
        num_running = sum(task.state == RUNNING for task in tasks)
        speeds = [task.speed for task in tasks if task.speed is not None]
        remaining = sum(t.num_epochs - t.epoch for t in tasks if not t.has_ended)
        line = (
            f"{num_done} of {len(tasks)} trials done, {num_running} running, "
            f"{self.resources} each"
        )
        if speeds and num_running:
            together = num_running * sum(speeds) / len(speeds)
            line += f", about {clock(remaining / together)} left"
        return line


def table(tasks: Sequence[TrialTask], *, title: str) -> Any:
    """Returns a Rich table of all trials, those running first."""
    from rich.table import Table  # Rich comes with the extra "sweep".

    result = Table(title=title, title_justify="left")
    for name in ("arm", "setting", "seed", "state", "epoch", "training error", "left"):
        words = name in ("arm", "setting", "state")
        result.add_column(name, justify="left" if words else "right")
    for task in sorted(tasks, key=lambda task: ROW_ORDER.index(task.state)):
        seconds = task.seconds_left()
        result.add_row(
            task.trial.arm,
            task.trial.tuned_name,
            str(task.trial.seed),
            task.state,
            f"{task.epoch:.2f} of {task.num_epochs:g}" if task.epoch else "",
            "" if task.train_error is None else f"{task.train_error:.1%}",
            "" if seconds is None else clock(seconds),
        )
    return result


def clock(seconds: float) -> str:
    """Returns a duration as "2:05" (minutes and seconds) or "1:02:05" (with hours)."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{seconds:02d}"
    return f"{minutes}:{seconds:02d}"
