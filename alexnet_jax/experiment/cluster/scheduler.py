"""Runs the trials of an experiment as tasks on Ray, and retries those that fail."""

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.config.grouping import (
    LARGEST_GROUP,
    LARGEST_GROUP_ON_CPU,
    group_trials,
)
from alexnet_jax.config.trials import ExperimentPlan, Trial
from alexnet_jax.errors import Stopped, UserError
from alexnet_jax.experiment.cluster.ray_session import error_of, one_line
from alexnet_jax.experiment.cluster.resources import Resources
from alexnet_jax.experiment.cluster.tasks import (
    ALREADY_DONE,
    FAILED,
    RUNNING,
    WAITING,
    TrialTask,
)
from alexnet_jax.experiment.run_folder import has_ended
from alexnet_jax.report.run_reader import Outcome, read_outcome

# In the run folder while a sweep is being stopped; no arm has such a name.
STOP_FILE = ".stopping"
MAX_ATTEMPTS = 2
POLL_SECONDS = 0.2  # Between two checks for finished tasks and for a signal.
UPDATE_SECONDS = 2.0  # Between two readings of the records, for the display.
STOP_SECONDS = 120.0  # For running trials to save after a signal.

# Starts a group of trials as one Ray task, and returns its reference.
Submit = Callable[[list[Trial]], Any]


class Sweep:
    """The trials of an experiment, or of its tuning stage, and the state of each."""

    def __init__(self, plan: ExperimentPlan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.tasks = [
            TrialTask(trial, trial.settings.training.num_epochs)
            for trial in plan.tuning_trials or plan.trials
        ]
        for task in self.tasks:
            if self.has_ended(task):
                task.state = ALREADY_DONE

    @property
    def remaining(self) -> list[TrialTask]:
        return [task for task in self.tasks if task.state == WAITING]

    @property
    def failed(self) -> list[TrialTask]:
        return [task for task in self.tasks if task.state == FAILED]

    @property
    def ensemble_arms(self) -> list[str]:
        """The arms that average several networks; evaluated after all trials."""
        return [arm for arm in self.plan.arms if self.plan.networks(arm) > 1]

    @property
    def what(self) -> str:
        """What its tasks are, in the plural."""
        return "tuning trials" if self.plan.tuning_trials else "trials"

    @property
    def unit(self) -> str:
        """What one Ray task trains, in the plural."""
        return "populations" if self.plan.settings.population else "trials"

    def groups(self, resources: Resources) -> list[list[TrialTask]]:
        """Returns the remaining trials in groups, each of which is one Ray task.

        A group is a single trial, or with `config.population` several that one step can
        train; no larger than leaves a group for every task that may run at once.
        """
        maximum = LARGEST_GROUP if resources.gpus else LARGEST_GROUP_ON_CPU
        share = -(-len(self.remaining) // resources.concurrent)
        by_name = {task.trial.name: task for task in self.remaining}
        groups = group_trials(
            [task.trial for task in self.remaining],
            population=self.plan.settings.population,
            largest=max(1, min(maximum, share)),
            num_devices=1,
        )
        return [[by_name[trial.name] for trial in group] for group in groups]

    def has_ended(self, task: TrialTask) -> bool:
        """Whether the run folder says that the trial has run to its end."""
        return has_ended(self.folder, task.trial)

    def share_of_measured(self, task: TrialTask) -> float:
        """How long a trial is at most, by the epochs of its arm's measured trials."""
        own = [trial for trial in self.plan.trials if trial.arm == task.trial.arm]
        return task.num_epochs / own[0].settings.training.num_epochs

    def outcome(self, task: TrialTask) -> Outcome:
        return read_outcome(self.folder, task.trial)

    def names_with_warnings(self) -> list[str]:
        """Returns the trials whose records hold warnings, earlier sweeps included."""
        return [
            task.trial.name
            for task in self.tasks
            if any(row.get("warning") for row in self.outcome(task).rows)
        ]


class Scheduler:
    """Hands the trials of a sweep to Ray and follows them to their ends.

    Args:
      submit: starts a group of trials as one Ray task.
      display: shows the progress.
    """

    def __init__(self, sweep: Sweep, submit: Submit, display: "Display") -> None:
        self.sweep, self.display = sweep, display
        self.stop_signal = 0  # Set by a signal handler: the signal's number.
        self._submit = submit
        self._active: dict[Any, list[TrialTask]] = {}  # By reference of the Ray task.

    def run(self) -> None:
        """Runs until every trial has ended or has failed in every attempt.

        Raises:
          Stopped: after a signal, once the running trials have been saved.
        """
        import ray  # It comes with the extra "sweep".

        for group in self.sweep.groups(self.display.resources):
            self._start(group)
        last_update = 0.0
        while self._active and not self.stop_signal:
            done, _ = ray.wait(list(self._active), timeout=POLL_SECONDS)
            for reference in done:
                self._finish(reference)
            if time.monotonic() - last_update > UPDATE_SECONDS:
                for task in itertools.chain(*self._active.values()):
                    self._try_update(task)
                last_update = time.monotonic()
                self.display.update(self.sweep.tasks)
        self.display.update(self.sweep.tasks)
        if self.stop_signal:
            self._stop()

    def _start(self, group: Sequence[TrialTask]) -> None:
        """Hands a group to Ray as one task."""
        for task in group:
            task.start_attempt()
            with contextlib.suppress(OSError, UserError):
                task.set_baseline(self.sweep.outcome(task))
        self._active[self._submit([task.trial for task in group])] = list(group)

    def _finish(self, reference: Any) -> None:
        """Takes the result of a Ray task: its trials have ended, or are retried.

        The trials of a failed population are retried one by one. That failure does not
        count as an attempt, since another trial of the population may have caused it.
        """
        group = self._active.pop(reference)
        error = error_of(reference)
        if error is not None and len(group) > 1:
            self.display.print_line(
                f"A population of {len(group)} trials failed; retrying its trials one by "
                f"one: {one_line(error)}"
            )
        for task in group:
            if error is None or self.sweep.has_ended(task):
                task.state = self._update(task).status
                self.display.print_line(f"{task.trial.name}: {task.state}")
            elif len(group) > 1:
                task.attempts -= 1
                self._start([task])
            elif self._may_retry(task, error):
                self._start([task])

    def _may_retry(self, task: TrialTask, error: Exception) -> bool:
        """Whether a failed trial has attempts left; reports the failure."""
        self._try_update(task)
        task.failure = one_line(error)
        if task.attempts < MAX_ATTEMPTS:
            self.display.print_line(
                f"{task.trial.name}: failed, retrying once: {task.failure}"
            )
            return True
        task.state = FAILED
        self.display.print_line(f"{task.trial.name}: failed twice: {task.failure}")
        return False

    def _update(self, task: TrialTask) -> Outcome:
        """Reads a trial's records and prints warnings that are new."""
        outcome = self.sweep.outcome(task)
        for warning in task.update(outcome):
            self.display.print_line(f"Warning, {task.trial.name}: {warning}")
        return outcome

    def _try_update(self, task: TrialTask) -> None:
        """Reads the records of a running trial; a half-written line is read next time."""
        with contextlib.suppress(OSError, UserError):
            self._update(task)

    def _stop(self) -> None:
        """Makes the running trials save, and raises Stopped."""
        import ray  # It comes with the extra "sweep".

        self.display.print_line("Stopping: running trials finish their step and save.")
        stop_file = self.sweep.folder / STOP_FILE
        with contextlib.suppress(OSError):
            stop_file.touch()  # For workers that are still importing and get no signal.
        for reference in self._active:
            ray.cancel(reference)  # Sends SIGINT, on which the training loop saves.
        active = list(self._active)
        ray.wait(active, num_returns=len(active), timeout=STOP_SECONDS)
        stop_file.unlink(missing_ok=True)
        num_done = sum(self.sweep.has_ended(task) for task in self.sweep.tasks)
        raise Stopped(
            self.stop_signal, f"{num_done} of {len(self.sweep.tasks)} trials done"
        )


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
