"""A sweep from its configuration to its report; the driver process of Ray.

The driver imports neither JAX nor TensorFlow: JAX would take a GPU, and most of its
memory, from the trials. Whatever needs them runs in Ray's workers (`worker.py`).
"""

import dataclasses
import os
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from alexnet_jax.config.trials import ExperimentPlan
from alexnet_jax.errors import Stopped, UserError
from alexnet_jax.experiment import tuning_stage
from alexnet_jax.experiment.cluster import dry_run, ray_session
from alexnet_jax.experiment.cluster.resources import Resources
from alexnet_jax.experiment.cluster.scheduler import (
    STOP_FILE,
    Display,
    Scheduler,
    Sweep,
)
from alexnet_jax.report import page
from alexnet_jax.report.claims import check_claim


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags of the command.

    Attributes:
      address: of a Ray cluster: HOST:PORT or "auto"; None: Ray on this machine alone.
      gpus_per_trial, cpus_per_trial: None: chosen by what the cluster has.
      dry_run: print the trials and the cost, and train nothing.
      notices: lines to print before the first trial.
    """

    address: str | None
    gpus_per_trial: float | None
    cpus_per_trial: float | None
    dry_run: bool
    notices: list[str]


def run(plan: ExperimentPlan, folder: Path, options: Options) -> None:
    """Trains what remains of an experiment on Ray, and prints its report.

    After a tuning stage, the measured trials are those at the values it has chosen. If one
    of its trials fails in every attempt, nothing is chosen and nothing measured.

    Args:
      plan: the experiment's, as `resolve` returns it.
      folder: the run folder, on a disk that all machines of the cluster share.

    Raises:
      UserError: if the configuration, the data, the folder or the cluster is unusable, or
        if trials failed in every attempt.
      Stopped: after a signal, once the running trials have been saved.
    """
    check_claim(
        plan.claim,
        experiment=plan.name,
        networks={arm: plan.networks(arm) for arm in plan.arms},
    )
    plan = _next_stage(plan, folder)
    sweep = Sweep(plan, folder)
    if options.dry_run and not sweep.remaining:
        print(
            f"All {len(sweep.tasks)} trials in {folder} are done: none is left to run."
        )
        return
    limit = f" (at most {ray_session.START_SECONDS} s, twice if need be)"
    _print_notice(f"Starting Ray{'' if options.address else limit} ...")
    ray_session.connect(options.address)
    import ray  # It comes with the extra "sweep"; `connect` has checked for it.

    resources = Resources.choose(
        ray.cluster_resources(),
        gpus=options.gpus_per_trial,
        cpus=options.cpus_per_trial,
    )
    worker = ray.remote(**resources.ray_options())(ray_session.run_in_worker)
    if options.dry_run:
        cores = resources.cores_per_task(len(sweep.groups(resources)))
        cost = ray_session.result_of(worker.remote("estimate", plan, folder, cores))
        print(dry_run.report(sweep, resources, dry_run.MeasuredCost(*cost)))
        return
    for notice in options.notices:
        _print_notice(notice)
    _open(sweep, worker)
    _train(sweep, resources, worker)
    if sweep.plan.tuning_trials and not sweep.failed:
        sweep = Sweep(_next_stage(plan, folder), folder)
        _train(sweep, resources, worker)
    print(page.write(folder))
    _report_problems(sweep)


def _next_stage(plan: ExperimentPlan, folder: Path) -> ExperimentPlan:
    """The plan itself, or that of the measured trials once the tuning stage has ended."""
    if not plan.tuning_trials or Sweep(plan, folder).remaining:
        return plan
    chosen = tuning_stage.chosen(folder)
    _print_notice(tuning_stage.describe(chosen))
    return plan.measured_at(chosen)


def _open(sweep: Sweep, worker: Any) -> None:
    """Opens the run folder."""
    plan, folder = sweep.plan, sweep.folder
    command = f"python -m alexnet_jax.sweep {shlex.join(sys.argv[1:])}"
    notice = ray_session.result_of(worker.remote("open_run", plan, folder, command))
    if notice:
        _print_notice(notice)
    (folder / STOP_FILE).unlink(missing_ok=True)  # A sweep that was killed left it.


def _train(sweep: Sweep, resources: Resources, worker: Any) -> None:
    """Trains the remaining trials; then evaluates the ensembles, unless it was tuning."""
    plan, folder = sweep.plan, sweep.folder
    at_once = min(resources.concurrent, len(sweep.groups(resources)))
    _print_notice(
        f"{plan.name} on {plan.dataset}: {len(sweep.remaining)} of "
        f"{len(sweep.tasks)} {sweep.what} to run, {at_once} {sweep.unit} at once, into {folder}",
    )
    with Display(resources) as display:
        scheduler = Scheduler(
            sweep,
            lambda trials: worker.remote("run_trials", plan, folder, trials, STOP_FILE),
            display,
        )
        _stop_on_signals(scheduler)
        scheduler.run()
    if scheduler.stop_signal:  # while the last trial ended
        raise Stopped(scheduler.stop_signal, f"all {sweep.what} are done")
    if not sweep.failed and not plan.tuning_trials:
        ray_session.result_of(worker.remote("run_ensembles", plan, folder))


def _stop_on_signals(scheduler: Scheduler) -> None:
    """SIGTERM and SIGINT stop the sweep; a second one ends this process at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if scheduler.stop_signal:
            os._exit(128 + number)
        scheduler.stop_signal = number

    for number in (signal.SIGTERM, signal.SIGINT):  # Replaces Ray's own handlers.
        signal.signal(number, handle)


def _report_problems(sweep: Sweep) -> None:
    """Prints which trials have warnings; raises UserError if any have failed."""
    total = len(sweep.tasks)
    if names := sweep.names_with_warnings():
        _print_notice(
            f"{len(names)} of {total} trials have warnings, listed in "
            f"{sweep.folder / 'report.md'}: {', '.join(names)}"
        )
    if sweep.failed:
        failures = [f"  {task.trial.name}: {task.failure}" for task in sweep.failed]
        raise UserError(
            f"{len(sweep.failed)} of {total} trials failed twice; the same command "
            "retries them:\n" + "\n".join(failures)
        )


def _print_notice(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)
