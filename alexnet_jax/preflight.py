"""Everything that a run does, once, and what the run will cost.

For each arm: the data opened, the step compiled and done, a batch evaluated, a checkpoint
saved and read back, a record written; below the place of the run folder, and removed.
"""

import contextlib
import dataclasses
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from alexnet_jax import experiment
from alexnet_jax.config import Trial, trial_config, trials
from alexnet_jax.data.pipeline import Data, evaluation_batches
from alexnet_jax.errors import UserError
from alexnet_jax.training import checkpoint, failures, loop
from alexnet_jax.training.checkpoint import Checkpoints, fields_of
from alexnet_jax.training.failures import in_words
from alexnet_jax.training.member import Member, Plan, peak_host_bytes
from alexnet_jax.training.parallel import Devices
from alexnet_jax.training.record import Progress, Record
from alexnet_jax.training.signals import Signals

# Steps timed behind the first one, fewer where they take longer than this.
TIMED_STEPS, TIMED_SECONDS = 10, 10.0


@dataclasses.dataclass(frozen=True)
class Cost:
    """What was measured of one trial: seconds, and bytes."""

    first_step: float
    step: float
    input_wait: float
    evaluation_batch: float
    checkpoint_tried: float
    checkpoint_bytes: int
    step_bytes: int


def run(config: ConfigDict, folder: Path) -> str:
    """Does everything once; returns a table of what the run will cost."""
    return estimate(config, folder)[0]


def estimate(config: ConfigDict, folder: Path) -> tuple[str, dict[str, float]]:
    """The table, and the seconds that a trial of each arm takes.

    Raises:
      UserError: for whatever would stop the run, a disk too small for it among them.
    """
    started = time.perf_counter()
    devices = experiment.check(config, folder)
    datasets = experiment.open_datasets(config, devices)
    data_seconds = time.perf_counter() - started

    lines, needed = [], 0
    each: dict[str, float] = {}
    for arm in config.arms:
        own = [trial for trial in trials(config) if trial.arm == arm]
        if not own:
            continue  # it shares another's training
        of_first = trial_config(config, own[0])
        data = datasets.of(of_first)
        with _scratch(folder, devices) as scratch:
            cost = measure(of_first, own[0], data, devices, scratch)
        plan = Plan.of(of_first, data.train.num_examples)
        trial_seconds = seconds_of(of_first, plan, data, cost, devices)
        each[arm] = trial_seconds
        needed += cost.checkpoint_bytes * len(own) * (checkpoint.KEPT + 2)
        lines += [
            f"{arm}: {len(own)} x {plan.num_steps:,} steps of {plan.batch_size} images",
            f"  first step {cost.first_step:.1f} s, then {cost.step:.3f} s a step "
            f"({plan.batch_size / cost.step:,.0f} images/s), waiting for input "
            f"{cost.input_wait:.0%} of it",
            f"  {cost.evaluation_batch:.2f} s to evaluate a batch; {duration(trial_seconds)} "
            "a trial",
            f"  {in_words(cost.step_bytes)} of each device by the compiler's "
            f"figures{_of_limit(devices)}; {in_words(cost.checkpoint_bytes)} a "
            f"checkpoint, saved and read in {cost.checkpoint_tried:.1f} s",
        ]
    if config.population:
        lines.append(
            "Measured one trial at a time; config.population trains them together."
        )
    seconds = sum(each[trial.arm] for trial in trials(config))
    free = shutil.disk_usage(_existing(folder)).free
    lines += [
        f"All trials: about {duration(seconds)} on {len(devices.devices)} x "
        f"{devices.devices[0].device_kind}; {data_seconds:.1f} s for the data at each start",
        f"Disk: at most {in_words(needed)} of checkpoints; "
        f"{in_words(free)} are free at {_existing(folder)}",
        f"Memory: {in_words(peak_host_bytes())} of this process so far",
        f"Preflight done in {time.perf_counter() - started:.0f} s; nothing was written.",
    ]
    if needed > free:
        raise UserError("\n".join([*lines, "The disk is too small for this run."]))
    return "\n".join(lines), each


def measure(
    config: ConfigDict, trial: Trial, data: Data, devices: Devices, folder: Path
) -> Cost:
    """The first steps of a trial, timed."""
    with (
        Record(
            folder if devices.writes else None, tensorboard=config.training.tensorboard
        ) as record,
        Checkpoints(folder, fields_of(config), devices) as checkpoints,
        Progress(1, shown=False) as progress,
        Signals() as asked,
    ):
        member = Member(
            config,
            seed=trial.seed,
            data=data,
            record=record,
            checkpoints=checkpoints,
            label=trial.name,
        )
        run = loop.Run([member], data, devices, progress, asked)
        with run.explaining():
            return _measured(run, member, folder)


def _measured(run: loop.Run, member: Member, folder: Path) -> Cost:
    config, devices = run.config, run.devices
    run.resume()
    start = time.perf_counter()
    size = checkpoint.try_out(run.state, folder, devices)
    tried = time.perf_counter() - start

    with devices.ahead(run.batches()) as ahead:
        start = time.perf_counter()
        run.take_step(ahead)
        member.meter.wait()
        first = time.perf_counter() - start
        start, waited, count = time.perf_counter(), ahead.waited, 0
        while count < min(TIMED_STEPS, run.plan.num_steps - 1):
            run.take_step(ahead)
            count += 1
            if devices.agreed(time.perf_counter() - start > TIMED_SECONDS):
                break
        member.meter.wait()
        step = (time.perf_counter() - start) / count if count else first
        share = (ahead.waited - waited) / (step * count) if count else 0.0
    if run.alive:
        member.write(member.with_rate(member.meter.row(run.step)))
    run.leave_if_asked(None)
    return Cost(
        first_step=first,
        step=step,
        input_wait=share,
        evaluation_batch=_evaluation_seconds(run),
        checkpoint_tried=tried,
        checkpoint_bytes=size,
        step_bytes=run.step_bytes(config.training.accumulation),
    )


def _evaluation_seconds(run: loop.Run) -> float:
    """Of one batch, compiled before."""
    evaluator, devices = run.evaluator, run.devices
    batches = evaluation_batches(
        run.data.validation,
        batch_size=devices.rounded_up(evaluator.batch_size),
        host=devices.host,
        num_hosts=devices.num_hosts,
    )
    with devices.ahead(batches) as ahead:
        batch = ahead.next()
        assert batch is not None
        seconds = 0.0
        for _ in range(2):
            start = time.perf_counter()
            jax.block_until_ready(
                run.trainer.eval_step(run.state.params, batch, run.mean)
            )
            seconds = time.perf_counter() - start
    return seconds


def seconds_of(
    config: ConfigDict, plan: Plan, data: Data, cost: Cost, devices: Devices
) -> float:
    """A trial's, from its first step to its last; saves block it for next to nothing."""
    every = config.training.evaluate_every_epochs
    evaluations = 1 + math.ceil(plan.epoch(plan.num_steps) / every)
    a_batch = devices.rounded_up(
        max(1, loop.EVALUATION_BATCH // config.training.accumulation)
    )
    batches = math.ceil(data.validation.num_examples / a_batch)
    training = cost.first_step + cost.step * (plan.num_steps - 1)
    return training + evaluations * batches * cost.evaluation_batch


def duration(seconds: float) -> str:
    """As a person says it: to two units at most."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
    )


def _of_limit(devices: Devices) -> str:
    limit = failures.device_bytes(devices)
    return "" if limit is None else f", of {in_words(limit)}"


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


@contextlib.contextmanager
def _scratch(folder: Path, devices: Devices) -> Iterator[Path]:
    """A folder on the disk of the run folder, the same for all processes."""
    scratch = _existing(folder.parent) / f".preflight-{folder.name}"
    devices.meet("preflight")
    if devices.writes:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
    devices.meet("preflight folder")
    try:
        yield scratch
    finally:
        if devices.writes:
            shutil.rmtree(scratch, ignore_errors=True)
