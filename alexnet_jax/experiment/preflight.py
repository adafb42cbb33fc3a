"""Does everything that a run does once, and estimates what the run will cost.

For each arm the data are opened, steps compiled and timed, a batch evaluated, a checkpoint
saved and read back, and a record written: in a folder beside the run folder, which is
then removed.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from alexnet_jax.config.trials import ExperimentPlan, Trial
from alexnet_jax.errors import UserError
from alexnet_jax.experiment import runner
from alexnet_jax.files import lock_folder
from alexnet_jax.training import checkpoint, memory, rehearsal
from alexnet_jax.training.context import RunContext, open_session
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.group import resume
from alexnet_jax.training.metrics import peak_host_bytes
from alexnet_jax.training.trial import TrialSpec, open_trial


def run(plan: ExperimentPlan, folder: Path) -> str:
    """Does everything once; returns a table of what the run will cost.

    Of several processes the primary one returns it, and the others an empty text.
    """
    table, _ = estimate(plan, folder)
    return table if Devices(plan.settings.parallel).is_primary else ""


def estimate(plan: ExperimentPlan, folder: Path) -> tuple[str, dict[str, float]]:
    """The table of what a run will cost, and the seconds of a trial by arm.

    Raises:
      UserError: for whatever would stop the run, such as a disk that is too small.
    """
    started = time.perf_counter()
    devices = runner.check(plan, folder)
    datasets = runner.open_data(plan, devices)
    data_seconds = time.perf_counter() - started

    lines, needed, total = [], 0, 0.0
    seconds_of_arm: dict[str, float] = {}
    for arm in plan.arms:
        own = [trial for trial in plan.stages[-1] if trial.arm == arm]
        if not own:
            continue  # it shares the training of another arm
        # As many trials as the largest group of either stage, each as long as measured.
        stages = [[t for t in stage if t.arm == arm] for stage in plan.stages]
        size = max(len(runner.groups_of(one, plan, devices)[0]) for one in stages)
        at_all_values = [trial for trial in plan.trials if trial.arm == arm]
        group = runner.groups_of(at_all_values, plan, devices)[0][:size]
        with (
            _scratch(folder, devices) as scratch,
            open_session(devices, total_images=1, silent=True, saves=False) as session,
        ):
            data = datasets.of(group[0].settings.data)
            cost = _cost_of(group, session.context(data), scratch)
        seconds_of_arm[arm] = cost.group_seconds / len(group)
        num_trials = len(own)
        tuning = [trial for trial in plan.tuning_trials if trial.arm == arm]
        of_both = num_trials + len(tuning)
        needed += cost.checkpoint_bytes * of_both * (checkpoint.KEPT + 2)
        lines += _lines_of_arm(f"{arm}: {num_trials}", cost, devices)
        if tuning:
            share = tuning[0].settings.training.num_epochs
            share /= own[0].settings.training.num_epochs
            total += seconds_of_arm[arm] * len(tuning) * share
            lines.append(
                f"  before them {len(tuning)} tuning trials of {share:.0%} of these steps; "
                "fewer where one is given up"
            )
        total += seconds_of_arm[arm] * num_trials
    if devices.is_primary:
        lines += datasets.count_duplicates()
    at_most = "at most " if plan.trials[0].stops_at else ""
    free = shutil.disk_usage(_existing(folder)).free
    lines += [
        f"All trials: {at_most}about {duration(total)} on {len(devices.devices)} x "
        f"{devices.devices[0].device_kind}; {data_seconds:.1f} s for the data at each start",
        f"Disk: at most {memory.format_bytes(needed)} of checkpoints; "
        f"{memory.format_bytes(free)} are free at {_existing(folder)}",
        f"Memory: {memory.format_bytes(peak_host_bytes())} of this process so far",
        f"Preflight done in {time.perf_counter() - started:.0f} s; nothing was written.",
    ]
    if needed > free:
        raise UserError("\n".join([*lines, "The disk is too small for this run."]))
    return "\n".join(lines), seconds_of_arm


def _cost_of(trials: list[Trial], context: RunContext, folder: Path) -> rehearsal.Cost:
    """What a group of trials costs, by its first steps, which are recorded in `folder`."""
    with contextlib.ExitStack() as opened:
        running = [
            opened.enter_context(
                open_trial(
                    TrialSpec.of(trial.settings, context.data),
                    seed=trial.seed,
                    devices=context.devices,
                    folder=folder / trial.folder,
                    label=trial.name,
                )
            )
            for trial in trials
        ]
        (group,) = resume(running, context)
        return rehearsal.rehearse(group)


def _lines_of_arm(name: str, cost: rehearsal.Cost, devices: Devices) -> list[str]:
    batch_size, limit = cost.batch_size, memory.device_bytes(devices)
    of_limit = "" if limit is None else f", of {memory.format_bytes(limit)}"
    later = "which compiles; there is no other"
    if cost.num_steps > 1:
        later = (
            f"then {cost.step:.3f} s a step "
            f"({cost.num_trials * batch_size / cost.step:,.0f} images/s), waiting for "
            f"input {cost.input_wait:.0%} of it"
        )
    plural = "" if cost.num_steps == 1 else "s"
    return [
        f"{name} x {cost.num_steps:,} step{plural} of {batch_size} images",
        f"  first step {cost.first_step:.1f} s, {later}",
        f"  {cost.spread}",
        f"  {cost.evaluation_batch:.2f} s to evaluate a batch; "
        f"{duration(cost.group_seconds / cost.num_trials)} a trial",
        f"  {memory.format_bytes(cost.step_bytes)} of each device by the compiler's "
        f"figures{of_limit}; {memory.format_bytes(cost.checkpoint_bytes)} a checkpoint, saved "
        f"and read in {cost.checkpoint_seconds:.1f} s",
    ]


def duration(seconds: float) -> str:
    """A duration in words, in two units at most."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
    )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


@contextlib.contextmanager
def _scratch(folder: Path, devices: Devices) -> Iterator[Path]:
    """A temporary folder on the disk of the run folder, the same for all processes.

    Raises:
      UserError: if the preflight of another command works in it.
    """
    scratch = _existing(folder.parent) / f".preflight-{folder.name}"
    devices.barrier("preflight")
    with contextlib.ExitStack() as held:
        if devices.is_primary:
            scratch.mkdir(exist_ok=True)
            otherwise = "choose another folder with --workdir=DIR"
            held.enter_context(lock_folder(scratch, "Another preflight", otherwise))
            for left in scratch.iterdir():  # by a preflight that was killed
                shutil.rmtree(left, ignore_errors=True)
        devices.barrier("preflight folder")
        try:
            yield scratch
        finally:
            if devices.is_primary:
                shutil.rmtree(scratch, ignore_errors=True)
