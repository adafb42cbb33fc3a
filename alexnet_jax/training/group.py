"""Trials that are trained together by one stacked step: one trial, or a population.

Trials of a group differ in their seeds and hyperparameters only. Those that diverge stay
in the stacked state, where they are computed and ignored: without them the step would
have to be compiled anew.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence

import jax

from alexnet_jax.training import failures
from alexnet_jax.training.batches import stacked_batches
from alexnet_jax.training.checkpoint_files import Phase, Position
from alexnet_jax.training.context import RunContext
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.initial_weights import starting_state
from alexnet_jax.training.memory import StepMemory
from alexnet_jax.training.metrics import NotFinite, PendingStep, StepCounts
from alexnet_jax.training.prefetch import Prefetcher
from alexnet_jax.training.stacking import (
    SeedSlots,
    stack,
    unstack,
)
from alexnet_jax.training.step import (
    Hyperparameters,
    TrainCounts,
    TrainState,
    state_shapes,
)
from alexnet_jax.training.trainer import Evaluator, Trainer, num_parameters
from alexnet_jax.training.trial import RunningTrial


class TrialGroup:
    """The trials of a group, their stacked state, and their common step.

    Args:
      trials: at least one, all at `step` and `phase`.
      states: the state of each trial, in host memory.
      context: what they share.

    Attributes:
      state: the stacked state on the devices, once it is `place`d.
      step: steps begun.
      phase: how far the last of them has come.
      spec: that of the first trial; the others differ from it in hyperparameters only.
    """

    state: TrainState
    _placed_hyperparameters: Hyperparameters

    def __init__(
        self,
        trials: Sequence[RunningTrial],
        states: Sequence[TrainState],
        context: RunContext,
        *,
        step: int,
        phase: Phase,
    ) -> None:
        self.trials, self.context = list(trials), context
        self.step, self.phase = step, phase
        self.spec, self.schedule = trials[0].spec, trials[0].spec.schedule
        self.devices = devices_for(trials, context)
        self.slots = slots_of(trials, self.devices)
        self.trainer = Trainer.of(self.spec.steps, self.devices, self.slots.index)
        self._unplaced: TrainState | None = stack(states)
        self._before_bookkeeping: dict[int, Position] | None = None
        self._of_placed: tuple[Hyperparameters, ...] = ()

    # --- On the devices ---------------------------------------------------------------

    def place(self) -> None:
        """Copies the stacked state to the devices, and makes the evaluator."""
        self.state = self.devices.place_trials(self._unplaced)
        self._unplaced = None
        self.evaluator = Evaluator.of(
            self.spec.steps,
            self.context.data,
            self.devices,
            self.slots.index,
            self.context.further_crops,
        )
        self.mean = self.evaluator.mean

    @property
    def memory(self) -> StepMemory:
        """What the memory of the group's step depends on."""
        return step_memory(self.trials, self.context)

    def state_of(self, number: int) -> TrainState:
        """A copy of the state of trial `number`."""
        return unstack(self.state, number, self.devices.replicated)

    def batches(self) -> Prefetcher:
        """The batches of the steps after `step`, on the devices."""
        devices = self.devices
        batches = stacked_batches(
            self.spec.augmentation,
            self.context.data,
            self.slots.seeds,
            range(self.step, self.schedule.num_steps),
            batch_size=self.schedule.batch_size,
            host=devices.host,
            num_hosts=devices.num_hosts,
        )
        place = functools.partial(devices.place_batch, of_trials=True)
        return Prefetcher(batches, place)

    def hyperparameters(self) -> Hyperparameters:
        """The numbers traced in the current step, stacked, on the devices.

        They are placed anew when one of them changes: a small step is done in less time.
        """
        found = tuple(trial.hyperparameters() for trial in self.trials)
        if found != self._of_placed:
            self._placed_hyperparameters = self.devices.place_trials(stack(found))
            self._of_placed = found
        return self._placed_hyperparameters

    # --- Its trials -------------------------------------------------------------------

    @property
    def active(self) -> list[RunningTrial]:
        """The trials that have not ended."""
        return [trial for trial in self.trials if not trial.status]

    def begin_step(self, waited: float) -> None:
        """Counts a step, before which the devices have `waited` seconds for input."""
        self.step += 1
        for trial in self.active:
            trial.step = self.step
            trial.metrics.waited += waited

    def end_step(self, counts: TrainCounts, batch: Mapping[str, jax.Array]) -> None:
        """Hands each trial its part of a dispatched step's counts."""
        images, of_all = 0, StepCounts(counts)
        for number, trial in enumerate(self.trials):
            if trial.status:
                continue
            images += self.schedule.batch_size
            pending = PendingStep(
                step=self.step,
                counts=of_all,
                epochs=batch["epoch"],
                examples=batch["example"],
                trial=number,
                slot=self.slots.slot_of(number),
            )
            with self._ending(trial):
                trial.metrics.add(pending)
        self.context.progress.advance(images)
        self.phase = Phase.STEP_DONE

    def drain(self) -> None:
        """Waits until all steps are done; ends the trials of which one is not finite."""
        for trial in self.active:
            with self._ending(trial):
                trial.metrics.drain()

    @contextlib.contextmanager
    def _ending(self, trial: RunningTrial) -> Iterator[None]:
        try:
            yield
        except NotFinite as found:
            facts = found.facts(self.devices.gathered)
            trial.write_not_finite(found.step, facts)
            self.end(trial, "diverged")

    def end(self, trial: RunningTrial, status: str) -> None:
        """Ends a trial as "finished", "reached", "behind" or "diverged"."""
        trial.end(status, spread=self.devices.spread)
        progress = self.context.progress
        if status == "diverged":
            progress.print(trial.divergence_message())
        left = self.schedule.num_steps - self.step
        if left:
            progress.set_total(progress.total - left * self.schedule.batch_size)

    def end_early(self) -> None:
        """Ends the trials that have reached their error, or are given up.

        One that has reached it is saved first, so that it can go on if it is asked to.
        """
        for number, trial in enumerate(self.trials):
            if trial.status:
                continue
            if trial.is_behind:
                self.end(trial, "behind")
            elif trial.reached:
                if self.spec.periods.checkpoint_every_epochs > 0:
                    self.save({number: trial.position(self.phase)})
                self.end(trial, "reached")

    # --- The bookkeeping of a step ----------------------------------------------------

    @property
    def needs_bookkeeping(self) -> bool:
        """Whether that of the last step is still to come."""
        return self.phase is Phase.STEP_DONE

    def keep_positions(self) -> None:
        """Keeps the positions of the trials before bookkeeping changes them."""
        self._before_bookkeeping = self.positions()

    def resumable_positions(self) -> dict[int, Position]:
        """Where the trials are resumed if they stop now; empty if all have ended.

        During the bookkeeping of a step, these are the positions before it.
        """
        kept = self._before_bookkeeping
        return self.positions() if kept is None else kept

    def end_bookkeeping(self) -> None:
        """Marks it as done, and saves the trials if any of them is to be saved.

        All trials are saved or none, so that they are resumed together.
        """
        self.phase = Phase.BOOKKEEPING_DONE
        self._before_bookkeeping = None
        if any(trial.save_requested for trial in self.active):
            self.save(self.positions())

    # --- Checkpoints ------------------------------------------------------------------

    def positions(self) -> dict[int, Position]:
        """The position of each active trial, by its number, once all steps are done."""
        self.drain()
        return {
            number: trial.position(self.phase)
            for number, trial in enumerate(self.trials)
            if not trial.status
        }

    def request_save(self) -> None:
        """Has all active trials saved when the bookkeeping of this step is done."""
        for trial in self.active:
            trial.save_requested = True

    def save(self, positions: Mapping[int, Position]) -> None:
        """Starts to save the trials at these positions, with the current state."""
        for number, position in positions.items():
            trial = self.trials[number]
            trial.checkpoints.save(self.state_of(number), position)
            trial.save_requested = False

    def wait_for_saves(self) -> None:
        """Waits until everything that was saved is written."""
        for trial in self.trials:
            trial.checkpoints.wait()


def devices_for(trials: Sequence[RunningTrial], context: RunContext) -> Devices:
    """The devices for these trials together, in the mesh that suits them."""
    spec = trials[0].spec
    return context.devices.arranged(
        len(trials),
        batch_size=spec.schedule.batch_size,
        microbatches=spec.steps.microbatches,
        images_together=spec.images_together,
        num_parameters=num_parameters(spec.steps),
        spread_trials=spec.spread_trials,
    )


def slots_of(trials: Sequence[RunningTrial], devices: Devices) -> SeedSlots:
    """Where these trials find their images in the batches of a step."""
    return SeedSlots.of([trial.seed for trial in trials], devices.trial_parts)


def step_memory(trials: Sequence[RunningTrial], context: RunContext) -> StepMemory:
    """What the memory of one step of all these trials depends on."""
    spec, devices = trials[0].spec, devices_for(trials, context)
    return StepMemory(
        spec.steps,
        devices,
        slots_of(trials, devices),
        batch_size=spec.schedule.batch_size,
        image_size=context.data.train.size,
    )


# --- Resumed from checkpoints, or started -----------------------------------------


def resume(trials: Sequence[RunningTrial], context: RunContext) -> list[TrialGroup]:
    """The trials in groups, each at one step and phase, from their checkpoints or new.

    There is one group as long as all trials were saved together. After a kill between
    two saves of the same step there may be more, to be trained one after another.

    Raises:
      UserError: if a checkpoint or a record does not fit the trial.
    """
    together: dict[tuple[int, Phase], list[tuple[RunningTrial, TrainState]]] = {}
    with failures.explaining(step_memory(trials, context)):
        for trial in trials:
            state, position = _restored(trial, context)
            trial.resume(position)
            context.progress.skip(position.step * trial.schedule.batch_size)
            here = together.setdefault((position.step, position.phase), [])
            here.append((trial, state))
    return [
        TrialGroup(
            [trial for trial, _ in here],
            [state for _, state in here],
            context,
            step=step,
            phase=phase,
        )
        for (step, phase), here in together.items()
    ]


def _restored(trial: RunningTrial, context: RunContext) -> tuple[TrainState, Position]:
    """A trial's state, in host memory, and its position."""
    trainer = Trainer.of(trial.spec.steps, context.devices)
    shapes = state_shapes(trainer.network, trainer.spec)
    like = context.devices.copies_shapes(shapes)
    found = trial.checkpoints.restore(like)
    if found is None:
        return starting_state(trial.spec.init_from, trial.seed, trainer), Position()
    state, position, damaged = found
    for message in damaged:
        warning = f"{message}. The one before it is used."
        context.progress.warn(warning, trial.label)
    return jax.device_get(state), position
