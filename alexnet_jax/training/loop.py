"""The training loop: the table of contents of how trials are trained (section 5).

They are trained in groups, a group by one stacked step. A step has two phases. First it
updates the weights; then comes its bookkeeping: the rows, the evaluation and the
checkpoint that it completes, and what the user has asked for by a signal.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence

import jax

from alexnet_jax.errors import Stopped
from alexnet_jax.training import failures, signals
from alexnet_jax.training.context import RunContext
from alexnet_jax.training.group import TrialGroup, resume
from alexnet_jax.training.prefetch import PREFETCHED, Prefetcher
from alexnet_jax.training.profile import ProfilerWindow
from alexnet_jax.training.trial import RunningTrial


def train(
    trials: Sequence[RunningTrial], context: RunContext, *, try_checkpoint: bool = False
) -> None:
    """Trains each trial's network to its last step, from its last checkpoint on.

    Several trials are a population: they differ in their seeds and hyperparameters only,
    and one step trains all of them. Each trial's `status`, and trial.json in its folder,
    then say how it ended: "finished"; "reached", where it had the training error that was
    asked about before its last step; "behind", where it was given up because another one
    had been faster; or "diverged", where a loss or a gradient was not finite.

    With `try_checkpoint`, a checkpoint is saved and read back first, so that a folder
    that cannot hold one fails in the first seconds and not after an epoch.

    Raises:
      Stopped: after a signal, when the trials are saved.
      UserError: if a checkpoint cannot be written or read, memory is short, or another
        process is lost.
    """
    groups = resume(trials, context)
    while groups:
        group = groups.pop(0)
        with failures.explaining(group.memory):
            group.place()
            if try_checkpoint:
                group.trials[0].checkpoints.rehearse(group.state_of(0))
                try_checkpoint = False
            train_group(group)


def train_group(group: TrialGroup) -> None:
    """Trains a group that is placed on the devices until all its trials have ended."""
    progress = group.context.progress
    # The first step is waited for; then some are in flight before one is waited for.
    progress.compiling(("steps", id(group.trainer)), untimed=1 + PREFETCHED)
    if group.needs_bookkeeping:
        do_bookkeeping(group)
    group.end_early()  # It may have been killed before it could.
    with group.batches() as batches, profiler_of(group) as profiler:
        while group.active and group.step < group.schedule.num_steps:
            take_step(group, batches, profiler)
            do_bookkeeping(group)
    group.drain()
    for trial in group.active:
        group.end(trial, "finished")


def take_step(group: TrialGroup, batches: Prefetcher, profiler: ProfilerWindow) -> None:
    """Dispatches the next step. Waits for an earlier one, so that few are in flight."""
    waited = batches.waited
    if not batches.ready():
        group.drain()  # only waiting with idle devices is the input's fault
    batch = batches.next()
    if profiler.begins_at(group.step + 1):
        group.drain()  # steps before the window do not belong to it
    if not group.active:
        return
    assert batch is not None
    group.begin_step(batches.waited - waited)
    if group.step == 1:
        diagnose(group, batch)
    with profiler.annotate(group.step):
        group.state, counts = group.trainer.train_step(
            group.state, batch, group.hyperparameters(), group.mean
        )
    if profiler.ended_by(group.step, counts):
        group.context.progress.print(f"Profile: {profiler.folder}")
    group.end_step(counts, batch)


def do_bookkeeping(group: TrialGroup) -> None:
    """Writes the rows, evaluates and saves, as the last step asks for.

    Raises:
      Stopped: if a signal asks for it. The trials are then saved as they were before the
        bookkeeping, which is done again when they are resumed.
    """
    step, periods, is_due = group.step, group.spec.periods, group.schedule.is_due
    row_due = step > 0 and is_due(step, periods.log_every_epochs)
    evaluation_due = (
        is_due(step, periods.evaluate_every_epochs)
        if step > 0
        else periods.evaluate_at_start
    )
    if row_due or evaluation_due:
        # These change what is saved, and a signal may arrive between them.
        group.keep_positions()
    if not group.active:
        return
    follow_signals(group)
    if row_due:
        for trial in group.active:
            trial.write_train_row()
            warning = trial.last_row.get("warning")
            group.context.progress.warn(warning, trial.label)
    ending = [trial for trial in group.active if trial.reached]
    if group.active and (evaluation_due or ending):
        evaluate(group, group.active if evaluation_due else ending, evaluation_due)
    every = periods.checkpoint_every_epochs
    if every > 0 and step > 0 and is_due(step, every):
        group.request_save()
    group.end_bookkeeping()
    group.end_early()


def evaluate(
    group: TrialGroup, recorded: Sequence[RunningTrial], scheduled: bool
) -> None:
    """Evaluates all networks, and follows signals between the batches.

    One step evaluates them all; the trials `recorded` get the row. It is `scheduled` if it
    would have come without a trial that ends.
    """
    group.context.progress.compiling(("evaluation", id(group.trainer)))
    start, counts = time.perf_counter(), []
    with contextlib.closing(
        group.evaluator.batch_counts(group.state.params, group.state.raw)
    ) as of_batches:
        for of_batch in of_batches:
            counts.append(of_batch)
            follow_signals(group)
    seconds = time.perf_counter() - start
    rows = group.evaluator.rows(
        counts,
        step=group.step,
        epoch=group.schedule.epoch(group.step),
        seconds=seconds,
    )
    for trial, row in zip(group.trials, rows, strict=True):
        if trial not in recorded:
            continue
        drop = trial.write_evaluation(row, scheduled=scheduled)
        if drop is not None:
            group.context.progress.print(drop)
        if row.get("diverged"):
            group.end(trial, "diverged")


def follow_signals(group: TrialGroup) -> None:
    """Does what a signal to any of the processes has asked for.

    Raises:
      Stopped: if it was to leave, when the trials are saved; in a preflight, at once.
    """
    context = group.context
    action = context.devices.all_reduced(context.signals.take())
    if not context.signals.saves:
        if action not in (signals.NOTHING, signals.SAVE):
            raise Stopped(action, "in the preflight")
        return
    if action == signals.SAVE:
        group.request_save()
        context.progress.print(f"Saving at step {group.step}, as requested.")
    elif action != signals.NOTHING:
        positions = group.resumable_positions()
        if not positions:  # all trials have ended: what comes after them follows it
            return
        group.save(positions)
        group.wait_for_saves()
        raise Stopped(action, f"saved at step {group.step}")


def diagnose(group: TrialGroup, batch: Mapping[str, jax.Array]) -> None:
    """Records how each network responds to its first batch; warns if logits hardly differ."""
    whole = {name: group.devices.gathered(x) for name, x in batch.items()}
    for number, trial in enumerate(group.trials):
        if trial.status:  # its initial weights overflow
            continue
        slot = group.slots.slot_of(number)
        own = {name: values[:, slot] for name, values in whole.items()}
        params = group.state_of(number).params
        measured = group.trainer.diagnose(params, own, group.mean)
        trial.write_diagnosis(measured)
        group.context.progress.warn(trial.last_row["warning"], trial.label)


def profiler_of(group: TrialGroup) -> ProfilerWindow:
    """Traces the window of steps that the user asks for, for the first trial."""
    folder = group.trials[0].record.folder
    return ProfilerWindow(group.spec.profile, folder)
