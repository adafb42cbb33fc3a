"""Runs the trials of an experiment as tasks on Ray: many devices, many machines.

python -m alexnet_jax.sweep --config=configs/NAME.py[:DATASET] [--workdir=DIR]
                            [--address=HOST:PORT|auto] [--gpus_per_trial=N]
                            [--cpus_per_trial=N] [--dry_run]
                            [--config.SECTION.FIELD=VALUE ...]

The trials, their folders and the answer are those of alexnet_jax.main, which may go on
where a sweep stopped, and the other way round. Each trial has a GPU of its own where there
are GPUs, else a CPU core. One that fails is run once more, from its last checkpoint. Several
machines need the run folder on a disk that all of them see: docs/scaling.md.
"""

import contextlib
import dataclasses
import itertools
import logging
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from alexnet_jax import command
from alexnet_jax import config as configuration
from alexnet_jax.config import Trial
from alexnet_jax.errors import Stopped, UserError
from alexnet_jax.report import page
from alexnet_jax.report.records import Outcome, read_outcome
from alexnet_jax.report.verdict import check_claim

WORKDIR = flags.DEFINE_string(
    "workdir", "", "Run folder. Default: runs/<experiment>-<dataset>"
)
ADDRESS = flags.DEFINE_string(
    "address", None, "HOST:PORT of a Ray cluster, or auto. Default: this machine alone."
)
GPUS = flags.DEFINE_float(
    "gpus_per_trial", None, "GPUs a trial. Default: 1 where there are any, else 0."
)
CPUS = flags.DEFINE_float(
    "cpus_per_trial", None, "CPU cores a trial. Default: 1 without a GPU, 0 with one."
)
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "List the trials, measure a step of each arm, and say the cost."
)

STOP = "stopping"  # a file in the run folder, while a sweep is
TRIES = 2
POLL_SECONDS = 0.2  # between two looks at the tasks, and for a signal
TABLE_SECONDS = 2.0  # between two looks at the records, for the table
LINE_SECONDS = 30.0  # between two lines where there is no terminal
LEAVE_SECONDS = 120.0  # for trials under way to save when the sweep is stopped


@dataclasses.dataclass(frozen=True)
class Resources:
    """What each task takes, how many tasks that leaves room for, and of what."""

    gpus: float
    cpus: float
    at_once: int
    there: dict[str, float]  # "GPU" and "CPU" of the whole cluster

    @staticmethod
    def of(
        cluster: dict[str, float], gpus: float | None, cpus: float | None
    ) -> "Resources":
        """Those asked for, of what the cluster has.

        Raises:
          UserError: if no machine could ever give a trial as much.
        """
        there = {"GPU": cluster.get("GPU", 0.0), "CPU": cluster.get("CPU", 0.0)}
        gpus = (1.0 if there["GPU"] else 0.0) if gpus is None else gpus
        cpus = (0.0 if gpus else 1.0) if cpus is None else cpus
        if gpus < 0 or cpus < 0 or (gpus > 1 and gpus != int(gpus)):
            raise UserError(
                f"--gpus_per_trial={gpus:g} --cpus_per_trial={cpus:g}: give a whole number "
                "of GPUs, or a part of one, and no fewer than 0 of either."
            )
        if gpus == cpus == 0:
            raise UserError(
                "A trial of 0 GPUs and 0 CPU cores: all would run at once. Give "
                "--cpus_per_trial=1 or more."
            )
        for flag, name, wanted in (
            ("gpus_per_trial", "GPU", gpus),
            ("cpus_per_trial", "CPU", cpus),
        ):
            if wanted > there[name]:
                raise UserError(
                    f"--{flag}={wanted:g}: the cluster has {there[name]:g} {name}s."
                )
        # A GPU is not shared by 0.4, 0.4 and the half of 0.4 that is left on each of two.
        of_gpus = (
            there["GPU"] * int(1 / gpus)
            if 0 < gpus < 1
            else there["GPU"] // (gpus or 1)
        )
        rooms = [of_gpus] if gpus else []
        rooms += [there["CPU"] // cpus] if cpus else []
        return Resources(gpus, cpus, int(min(rooms)), there)

    def cores(self, trials: int) -> int:
        """CPU cores for each where so many trials are left: Ray counts, and keeps none."""
        return max(1, int(self.there["CPU"] / max(1, min(self.at_once, trials))))

    def options(self) -> dict[str, Any]:
        """What Ray is told of each task."""
        variables = {}
        if 0 < self.gpus < 1:
            share = f"{0.9 * self.gpus:.3f}"
            variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = share
        if self.gpus == 0 and self.there["GPU"]:
            variables["JAX_PLATFORMS"] = "cpu"  # Ray hides no GPU from it
        return {
            "num_gpus": self.gpus,
            "num_cpus": self.cpus,
            "max_retries": 0,  # `Sweep.run` tries again, and says so
            # JAX stays on the GPU that a process has opened first, whichever one Ray
            # gives the next task. On CPUs a process trains one trial after the other:
            # imported once.
            "max_calls": 1 if self.gpus else 0,
            "runtime_env": {"env_vars": variables},
        }

    def __str__(self) -> str:
        parts = [f"{self.gpus:g} GPU"] if self.gpus else []
        parts += [f"{self.cpus:g} CPU core"] if self.cpus else []
        return " and ".join(parts)


@dataclasses.dataclass
class Task:
    """A trial on its way: "there already", waiting, running, failed, or how it ended."""

    trial: Trial
    num_epochs: float
    state: str = "waiting"
    tries: int = 0
    reason: str = ""  # why it failed
    epoch: float = 0.0
    start: float = 0.0  # the epoch from which this sweep goes on
    error: float | None = None  # the last training error
    first: tuple[float, float] | None = None  # when it was first seen, and its epoch
    before: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def queue(self, outcome: Outcome) -> None:
        """Remembers what an earlier process wrote, when it is handed to Ray."""
        self.before = outcome.rows
        self.look(outcome)
        if self.tries <= 1:
            self.start = self.epoch

    def look(self, outcome: Outcome) -> list[str]:
        """Takes its position from its records; returns the warnings that are new.

        All trials are handed to Ray at once: one is under way when its records are no
        longer those of before. They grow, or lose first what lies behind a checkpoint.
        """
        rows = [row for row in outcome.rows if row.get("epoch") is not None]
        if not rows:
            return []
        self.epoch = min(rows[-1]["epoch"], self.num_epochs)
        self.start = min(self.start, self.epoch)
        curve = outcome.curve("train", "top1_error")
        self.error = curve[-1][1] if curve else None
        if self.state == "waiting" and outcome.rows != self.before:
            self.state = "running"
        if self.state == "running" and self.first is None:
            self.first = (time.monotonic(), self.epoch)
        warnings = [row["warning"] for row in outcome.rows if row.get("warning")]
        new = [warning for warning in warnings if warning not in self.warnings]
        self.warnings += new
        return new

    def seconds_left(self) -> float | None:
        """By its speed since it was first seen; None before that is known."""
        if self.state != "running" or self.first is None:
            return None
        since, epoch = self.first
        if self.epoch <= epoch:
            return None
        speed = (self.epoch - epoch) / (time.monotonic() - since)
        return (self.num_epochs - self.epoch) / speed


class Sweep:
    """The trials of an experiment, and what has become of each."""

    def __init__(self, config: ConfigDict, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.tasks = [
            Task(trial, configuration.trial_config(config, trial).training.num_epochs)
            for trial in configuration.trials(config)
        ]
        for task in self.tasks:
            if self._ended(task):
                task.state = "there already"
        self.asked = 0  # number of a signal to leave

    @property
    def kind(self) -> str:
        """What each task of Ray is, in the plural."""
        return "populations" if self.config.population else "trials"

    @property
    def left(self) -> list[Task]:
        return [task for task in self.tasks if task.state == "waiting"]

    @property
    def failed(self) -> list[Task]:
        return [task for task in self.tasks if task.state == "failed"]

    def groups(self, resources: Resources) -> list[list[Task]]:
        """What is left, in the groups that are a task of Ray each: of one, or populations.

        No larger than leaves something to do for all that there is.
        """
        if not self.config.population:
            return [[task] for task in self.left]
        most = configuration.MOST_TOGETHER
        if resources.gpus == 0:
            most = configuration.MOST_ON_CPU
        share = -(-len(self.left) // resources.at_once)
        by_name = {task.trial.name: task for task in self.left}
        trials = [task.trial for task in self.left]
        return [
            [by_name[trial.name] for trial in group]
            for group in configuration.populations(
                self.config, trials, max(1, min(most, share))
            )
        ]

    def run(self, submit: Callable[[list[Trial]], Any], say: "Screen") -> None:
        """Until every trial is done, or has failed twice.

        The trials of a population that fails are tried again one by one.

        Args:
          submit: starts trials as a task of Ray, and returns its reference.

        Raises:
          Stopped: after a signal, when the trials under way are saved.
        """
        import ray

        under_way: dict[Any, list[Task]] = {}
        for group in self.groups(say.resources):
            under_way[self._submit(group, submit)] = group
        looked = 0.0
        while under_way and not self.asked:
            done, _ = ray.wait(list(under_way), timeout=POLL_SECONDS)
            for reference in done:
                group = under_way.pop(reference)
                error = _error_of(reference)
                if error is not None and len(group) > 1:
                    say.line(
                        f"{len(group)} trials together: failed, tried again one by one: "
                        f"{_in_a_line(error)}"
                    )
                for task in group:
                    if error is None or self._ended(task):
                        task.state = self._look(task, say).status
                        say.line(f"{task.trial.name}: {task.state}")
                    elif len(group) > 1 or self._again(task, error, say):
                        task.tries -= len(group) > 1  # it may be another's fault
                        under_way[self._submit([task], submit)] = [task]
            if time.monotonic() - looked > TABLE_SECONDS:
                for task in itertools.chain(*under_way.values()):
                    # A line half seen, or a disk away for a moment: the next look tells.
                    with contextlib.suppress(OSError, UserError):
                        self._look(task, say)
                looked = time.monotonic()
                say.table(self.tasks)
        say.table(self.tasks)
        if self.asked:
            self._leave(under_way, say)

    def _submit(self, group: list[Task], submit: Callable[[list[Trial]], Any]) -> Any:
        for task in group:
            task.tries, task.state, task.first = task.tries + 1, "waiting", None
            with contextlib.suppress(OSError, UserError):
                task.queue(read_outcome(self.folder, task.trial))
        return submit([task.trial for task in group])

    def _ended(self, task: Task) -> bool:
        return (self.folder / task.trial.folder / "trial.json").exists()

    def _again(self, task: Task, error: Exception, say: "Screen") -> bool:
        """Whether a trial whose task has failed is to be tried once more."""
        with contextlib.suppress(OSError, UserError):
            self._look(task, say)
        task.reason = _in_a_line(error)
        if task.tries < TRIES:
            say.line(f"{task.trial.name}: failed, tried once more: {task.reason}")
            return True
        task.state = "failed"
        say.line(f"{task.trial.name}: failed twice: {task.reason}")
        return False

    def _look(self, task: Task, say: "Screen") -> Outcome:
        outcome = read_outcome(self.folder, task.trial)
        for warning in task.look(outcome):
            say.line(f"Warning, {task.trial.name}: {warning}")
        return outcome

    def warned(self) -> list[str]:
        """Names of the trials with warnings in their records, be they of today or not."""
        return [
            task.trial.name
            for task in self.tasks
            if any(
                row.get("warning") for row in read_outcome(self.folder, task.trial).rows
            )
        ]

    def _leave(self, under_way: dict[Any, list[Task]], say: "Screen") -> None:
        """Has the trials under way saved, and raises Stopped."""
        import ray

        say.line("Stopping: the trials under way finish their step and save.")
        stop = self.folder / STOP
        with contextlib.suppress(OSError):
            stop.touch()  # for a worker that is still importing, and hears no signal
        for reference in under_way:
            ray.cancel(reference)  # Ctrl-C to it: the loop saves
        ray.wait(list(under_way), num_returns=len(under_way), timeout=LEAVE_SECONDS)
        stop.unlink(missing_ok=True)
        done = sum(self._ended(task) for task in self.tasks)
        raise Stopped(self.asked, f"{done} of {len(self.tasks)} trials done")


class Screen:
    """A live table on a terminal; elsewhere a line for each change, and now and then one."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.started = self.printed = time.monotonic()
        self.live: Any = None

    def __enter__(self) -> "Screen":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(stderr=True), auto_refresh=False)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def line(self, text: str) -> None:
        if self.live is not None:
            self.live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def table(self, tasks: list[Task]) -> None:
        """Shows where all of them stand."""
        if self.live is not None:
            self.live.update(drawn(tasks, self.summary(tasks)), refresh=True)
        elif time.monotonic() - self.printed >= LINE_SECONDS:
            self.printed = time.monotonic()
            self.line(self.summary(tasks))

    def summary(self, tasks: list[Task]) -> str:
        """Done, running, waiting; the time left of all, by the epochs done since."""
        ended = [t for t in tasks if t.state not in ("waiting", "running")]
        running = [t for t in tasks if t.state == "running"]
        own = [t for t in tasks if t.state != "there already"]
        done = sum(t.epoch - t.start for t in own)
        ahead = sum(
            t.num_epochs - t.epoch for t in own if t.state in ("waiting", "running")
        )
        seconds = time.monotonic() - self.started
        left = f", about {shown(seconds * ahead / done)} left" if done else ""
        return (
            f"{len(ended)} of {len(tasks)} trials done, {len(running)} under way, "
            f"{self.resources} each{left}"
        )


def drawn(tasks: list[Task], title: str) -> Any:
    """The table of a terminal: the trials under way first, then the others."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in ("arm", "setting", "seed", "", "epoch", "training error", "left"):
        table.add_column(
            name, justify="left" if name in ("arm", "setting", "") else "right"
        )
    order = ("running", "failed", "diverged", "finished", "there already", "waiting")
    for task in sorted(tasks, key=lambda task: order.index(task.state)):
        seconds = task.seconds_left()
        table.add_row(
            task.trial.arm,
            task.trial.tuned_name,
            str(task.trial.seed),
            task.state,
            f"{task.epoch:.2f} of {task.num_epochs:g}" if task.epoch else "",
            "" if task.error is None else f"{task.error:.1%}",
            "" if seconds is None else shown(seconds),
        )
    return table


def shown(seconds: float) -> str:
    """ "2:05" or "1:02:05"."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    )


def _error_of(reference: Any) -> Exception | None:
    """What a task has raised, its own exception and not Ray's around it."""
    import ray

    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else error
    except ray.exceptions.RayError as error:
        return error
    return None


def _in_a_line(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"


def _get(reference: Any) -> Any:
    """The result of a task; raises what it raised."""
    import ray

    error = _error_of(reference)
    if error is not None:
        raise error
    return ray.get(reference)


def dry_run(
    sweep: Sweep,
    resources: Resources,
    table: str,
    cost: dict[str, float],
    measured_on: int,
) -> str:
    """The trials, and what those that are left cost, measured on so many CPU cores."""
    lines = [
        f"  {task.trial.name}" + ("" if task.state == "waiting" else f": {task.state}")
        for task in sweep.tasks
    ]
    groups = sweep.groups(resources)
    seconds = sum(cost[task.trial.arm] for task in sweep.left)
    of_groups = [sum(cost[task.trial.arm] for task in group) for group in groups]
    wall = max(*of_groups, seconds / resources.at_once) if groups else 0.0
    share = resources.cores(len(groups))
    slower = (
        f" Beside others a trial has {share} of them, and may take longer, up to "
        f"{measured_on / share:.1f} times."
        if measured_on > share
        else ""
    )
    averages = [
        arm
        for arm in sweep.config.arms
        if configuration.networks_of(sweep.config, arm) > 1
    ]
    besides = f", the evaluation of {' and '.join(averages)}" if averages else ""
    return "\n".join(
        [
            f"{len(sweep.tasks)} trials, {len(sweep.left)} left:",
            *lines,
            "",
            f"Measured, a few steps of each arm on CPU cores: {measured_on}.{slower}",
            table,
            "",
            f"Estimate: {shown(seconds)} of {resources} in all; "
            f"{min(resources.at_once, len(groups))} {sweep.kind} at once: about "
            f"{shown(wall)} of wall time, if none slows another"
            + (
                ", and a population takes as long as its trials alone."
                if sweep.config.population
                else "."
            ),
            f"Not counted: starting the processes, opening the data{besides}.",
            "Nothing was run, and nothing written.",
        ]
    )


def start_ray(address: str | None) -> None:
    """Ray on this machine alone, or a cluster that is there.

    Raises:
      UserError: if Ray is not installed, or there is no such cluster.
    """
    if address is not None and address != "auto":
        _check_answers(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no network unasked
    given = os.environ.get("RAY_AUTH_TOKEN") or Path.home() / ".ray" / "auth_token"
    if (
        isinstance(given, str) or given.is_file()
    ):  # else Ray sends none; it looks when imported
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "A sweep needs an extra: pip install -c constraints.txt -e '.[sweep]'"
        ) from error
    # Trials pass each other nothing: no third of the memory for a store of objects.
    alone: dict[str, Any] = {
        "include_dashboard": False,
        "object_store_memory": 100 * 2**20,
    }
    passed = (
        "JAX_COMPILATION_CACHE_DIR",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    )
    try:
        ray.init(
            address=address or "local",  # by itself Ray joins whatever runs here
            logging_level=logging.ERROR,
            log_to_driver=False,
            runtime_env={"env_vars": {name: os.environ[name] for name in passed}},
            **({} if address else alone),
        )
    except (ConnectionError, ValueError, TimeoutError, RuntimeError) as error:
        raise UserError(f"No Ray cluster at --address={address}: {error}") from error


def _check_answers(address: str) -> None:
    """Raises UserError if nothing does: Ray tries for minutes, and ends the process."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=10):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"No Ray cluster at --address={address}: {error}. Give HOST:PORT of its head "
            "(ray start --head), or auto."
        ) from error


def in_worker(what: str, *arguments: Any) -> Any:
    """A task of Ray: a function of sweep_tasks, imported where it runs and not here."""
    from alexnet_jax import sweep_tasks

    return getattr(sweep_tasks, what)(*arguments)


def main(_: list[str]) -> None:
    config = command.finished_config()
    check_claim(config)
    folder = configuration.run_folder(config, WORKDIR.value)
    sweep = Sweep(config, folder)
    if DRY_RUN.value and not sweep.left:
        print(f"All {len(sweep.tasks)} trials are in {folder} already: none is left.")
        return
    print("Starting Ray ...", file=sys.stderr, flush=True)
    start_ray(ADDRESS.value)
    import ray

    resources = Resources.of(ray.cluster_resources(), GPUS.value, CPUS.value)
    task = ray.remote(**resources.options())(in_worker)

    if DRY_RUN.value:
        cores = resources.cores(len(sweep.groups(resources)))
        measured = _get(task.remote("estimate", config, folder, cores))
        print(dry_run(sweep, resources, *measured))
        return
    groups = len(sweep.groups(resources))
    print(
        *(f"{line}\n" for line in command.not_tried()),
        f"{config.experiment} on {config.data.dataset}: {len(sweep.left)} trials left of "
        f"{len(sweep.tasks)}, {min(resources.at_once, groups)} {sweep.kind} at once, into "
        f"{folder}",
        sep="",
        file=sys.stderr,
        flush=True,
    )
    typed = f"python -m alexnet_jax.sweep {shlex.join(sys.argv[1:])}"
    _get(task.remote("open_run", config, folder, typed))
    (folder / STOP).unlink(missing_ok=True)  # of one that was killed

    def note(number: int, frame: Any) -> None:
        if sweep.asked:  # a second one: at once
            os._exit(128 + number)
        sweep.asked = number

    for number in (signal.SIGTERM, signal.SIGINT):  # Ray has set its own
        signal.signal(number, note)
    with Screen(resources) as screen:
        sweep.run(
            lambda trials: task.remote("run_trials", config, folder, trials, STOP),
            screen,
        )
    if not sweep.failed:
        _get(task.remote("run_ensembles", config, folder))
    print(page.write(folder))
    if warned := sweep.warned():
        print(
            f"{len(warned)} of {len(sweep.tasks)} trials warned, {folder / 'report.md'} "
            f"says of what: {', '.join(warned)}",
            file=sys.stderr,
        )
    if sweep.failed:
        failures = [f"  {task.trial.name}: {task.reason}" for task in sweep.failed]
        raise UserError(
            f"{len(sweep.failed)} of {len(sweep.tasks)} trials failed twice; the same "
            "command tries them again:\n" + "\n".join(failures)
        )


if __name__ == "__main__":
    command.run(main)
