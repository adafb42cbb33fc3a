"""Does everything that a trial does once, and measures what it costs.

Its first steps are timed, a batch is evaluated, a checkpoint is saved and read back, and
a record is written.
"""

import dataclasses
import math
import time

import jax

from alexnet_jax.training import failures, loop
from alexnet_jax.training.group import TrialGroup

# Steps timed after the first one; fewer where they take longer than this.
TIMED_STEPS, TIMED_SECONDS = 10, 10.0


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a trial costs, or a group trained side by side, in seconds and bytes.

    Attributes:
      num_trials: of the group.
      spread: how the devices share it out: `Devices.spread`.
      num_steps, batch_size: of each trial.
      evaluation_batches: batches that all evaluations of a trial have together.
      first_step: seconds of the first step, which compiles.
      step: seconds of a later step.
      input_wait: the share of that in which the devices wait for input.
      evaluation_batch: seconds to evaluate a batch.
      checkpoint_seconds: to save a checkpoint and to read it back.
      checkpoint_bytes: of a trial's checkpoint, on the disk.
      step_bytes: of each device for a step, by the compiler's figures.
    """

    num_trials: int
    spread: str
    num_steps: int
    batch_size: int
    evaluation_batches: int
    first_step: float
    step: float
    input_wait: float
    evaluation_batch: float
    checkpoint_seconds: float
    checkpoint_bytes: int
    step_bytes: int

    @property
    def group_seconds(self) -> float:
        """From the first step to the last; saves in the background take next to nothing."""
        training = self.first_step + self.step * (self.num_steps - 1)
        return training + self.evaluation_batches * self.evaluation_batch


def rehearse(group: TrialGroup) -> Cost:
    """Measures a group by its first steps, which are recorded.

    Raises:
      UserError: for whatever would stop the trials, such as a lack of device memory.
      Stopped: after a signal to leave.
    """
    with failures.explaining(group.memory):
        return _measured(group)


def _measured(group: TrialGroup) -> Cost:
    devices = group.context.devices
    group.place()
    start = time.perf_counter()
    checkpoint_bytes = group.trials[0].checkpoints.rehearse(group.state_of(0))
    checkpoint_seconds = time.perf_counter() - start
    loop.follow_signals(group)
    with group.batches() as batches, loop.profiler_of(group) as profiler:
        start = time.perf_counter()
        loop.take_step(group, batches, profiler)
        group.drain()
        first = time.perf_counter() - start
        loop.follow_signals(group)
        start, waited, count = time.perf_counter(), batches.waited, 0
        while count < min(TIMED_STEPS, group.schedule.num_steps - 1):
            loop.take_step(group, batches, profiler)
            count += 1
            if devices.any_process(time.perf_counter() - start > TIMED_SECONDS):
                break
        group.drain()
        step = (time.perf_counter() - start) / count if count else first
        share = (batches.waited - waited) / (step * count) if count else 0.0
    for trial in group.active:
        trial.write_train_row()
    loop.follow_signals(group)
    return Cost(
        num_trials=len(group.trials),
        spread=group.devices.spread,
        num_steps=group.schedule.num_steps,
        batch_size=group.schedule.batch_size,
        evaluation_batches=_num_evaluations(group) * group.evaluator.num_batches,
        first_step=first,
        step=step,
        input_wait=share,
        evaluation_batch=_evaluation_seconds(group),
        checkpoint_seconds=checkpoint_seconds,
        checkpoint_bytes=checkpoint_bytes,
        step_bytes=group.memory.step_bytes(group.spec.steps.microbatches),
    )


def _num_evaluations(group: TrialGroup) -> int:
    """The evaluations of the whole trial."""
    num_epochs = group.schedule.epoch(group.schedule.num_steps)
    every = group.spec.periods.evaluate_every_epochs
    return group.spec.periods.evaluate_at_start + math.ceil(num_epochs / every)


def _evaluation_seconds(group: TrialGroup) -> float:
    """Seconds to evaluate one batch, once that is compiled."""
    with group.evaluator.prefetcher() as batches:
        batch = batches.next()
        assert batch is not None
        seconds = 0.0
        for _ in range(2):
            start = time.perf_counter()
            for params in (group.state.params, group.state.raw):
                if params is not None:
                    counts = group.trainer.eval_step(params, batch, group.mean)
                    jax.block_until_ready(counts)
            seconds = time.perf_counter() - start
    return seconds
