"""Trials from their first weights to their last records: one, or several side by side."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np
from jax import lax
from ml_collections import ConfigDict, FrozenConfigDict

from alexnet_jax.data.pipeline import (
    Augmentation,
    Data,
    TrainBatch,
    evaluation_batches,
    train_batches,
)
from alexnet_jax.errors import Stopped, UserError
from alexnet_jax.model.network import Network, Params, build
from alexnet_jax.training import diagnosis, failures, signals
from alexnet_jax.training import step as steps
from alexnet_jax.training.checkpoint import Position, try_out, weights
from alexnet_jax.training.inputs import InputForm
from alexnet_jax.training.member import MEANS, Member, NotFinite, Plan, UnderWay
from alexnet_jax.training.parallel import AHEAD, Ahead, Devices
from alexnet_jax.training.record import Progress
from alexnet_jax.training.signals import Signals

# Images a step of evaluation, about: no result depends on it.
EVALUATION_BATCH = 128


def train(
    members: Sequence[Member],
    *,
    data: Data,
    devices: Devices,
    progress: Progress,
    asked: Signals,
    try_checkpoint: bool = False,
    beside: tuple[str, ...] = (),
) -> None:
    """Trains each member's network as its configuration says; goes on from checkpoints.

    Several members are a population: their configurations differ in nothing but seeds and
    what `steps.Numbers` holds, and one step trains all of them. Members that stand
    elsewhere than the first, after a kill between two saves, are trained after it.

    With `try_checkpoint` one is saved and read back first: a folder that will not do
    fails in the first seconds, and not after an epoch. `beside` names other views by
    which each evaluation measures the networks too.

    Each member's `status`, and trial.json in its folder, say then how it ended, "finished"
    or, where a loss or a gradient was no longer finite, "diverged".

    Raises:
      Stopped: after a signal, when the members' positions are saved.
      UserError: if a checkpoint cannot be written or read.
    """
    left = list(members)
    while left:
        run = Run(left, data, devices, progress, asked, beside)
        with run.explaining():
            if try_checkpoint:
                try_out(run.state_of(0), left[0].checkpoints.trial, devices)
            left = run.resume()
            run.train()
        try_checkpoint = False


class Run:
    """Trials under way: what they share, and the state of all of them.

    One member's state, batch and numbers are as a step takes them. Those of a population
    lie along one more axis: the first of `state`, one place a member; the second of a
    batch, one place a seed, as members of the same seed see the same images.
    """

    def __init__(
        self,
        members: Sequence[Member],
        data: Data,
        devices: Devices,
        progress: Progress,
        asked: Signals,
        beside: tuple[str, ...] = (),
    ) -> None:
        self.data, self.devices = data, devices
        self.progress, self.asked, self.beside = progress, asked, beside
        self.step = 0
        self.due = True  # the row and the evaluation that `step` completes
        self.batch_like: Any = None  # of a batch, from the first on
        self.take(members)
        self.place([first_state(m.config, m.seed, self.trainer) for m in members])

    def take(self, members: Sequence[Member]) -> None:
        """These are the run's."""
        self.members = list(members)
        self.config, self.plan = members[0].config, members[0].plan
        self.seeds = list(dict.fromkeys(member.seed for member in members))
        streams = tuple(self.seeds.index(member.seed) for member in members)
        self.streams = streams if len(members) > 1 else ()
        self.trainer = Trainer.of(self.config, self.data, self.devices, self.streams)
        self.mean = self.trainer.place_mean(self.data, self.devices)
        self.evaluator = Evaluator(
            self.trainer,
            self.data,
            self.mean,
            self.devices,
            self.plan,
            # Where a step fits in parts only, an evaluation may not as a whole either;
            # and many networks make as many times the activations.
            max(
                1,
                EVALUATION_BATCH
                // self.config.training.accumulation
                // len(self.members),
            ),
            {views: self.trainer_by(views) for views in self.beside},
        )

    def trainer_by(self, views: str) -> "Trainer":
        """With an evaluation by other views."""
        config = self.config.copy_and_resolve_references()
        with config.unlocked():
            config.data.views = views
        return Trainer.of(config, self.data, self.devices, self.streams)

    @property
    def alive(self) -> list[Member]:
        """Members that have not ended."""
        return [member for member in self.members if not member.status]

    # --- One member of all ------------------------------------------------------------

    def place(self, states: Sequence[steps.TrainState]) -> None:
        """The states of all members, from host memory onto the devices."""
        together = _stacked(states) if self.streams else states[0]
        self.state_like = jax.tree.map(  # a step that fails has taken the state
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=self.devices.replicated
            ),
            together,
        )
        with self.explaining():
            self.state = self.devices.place_state(together)

    def state_of(self, number: int) -> steps.TrainState:
        """One member's own: the state itself if there is no other."""
        if not self.streams:
            return self.state
        return _part(self.devices)(self.state, number)

    def batches(self) -> Generator[TrainBatch, None, None]:
        """Of the steps behind `step`; a population's hold those of all its seeds."""
        with contextlib.ExitStack() as stack:
            of_seeds = [
                stack.enter_context(
                    contextlib.closing(
                        augmented_batches(
                            self.config,
                            self.data,
                            seed,
                            self.plan,
                            self.step,
                            self.devices,
                        )
                    )
                )
                for seed in self.seeds
            ]
            if not self.streams:
                yield from of_seeds[0]
                return
            for batches in zip(*of_seeds, strict=True):
                yield _side_by_side(batches)

    def numbers(self) -> steps.Numbers:
        """What is traced of the step `step`."""
        of_each = [member.numbers() for member in self.members]
        return _stacked(of_each) if self.streams else of_each[0]

    # --- The loop ---------------------------------------------------------------------

    def resume(self) -> list[Member]:
        """To the last whole checkpoints, if there are any.

        Returns the members that stand elsewhere than the first, and are not of this run.
        """
        like = _like(self.state_of(0)) if self.streams else self.state
        found = []
        for member in self.members:
            state, position, damaged = member.checkpoints.restore(like) or (
                None,
                Position(),
                [],
            )
            if self.streams:  # one on the devices at a time
                state = jax.device_get(state)
            found.append((member, state, position))
            for message in damaged:
                warning = f"{message}. The one before it is used."
                self.progress.warn(warning, member.label)
        _, first, position = found[0]
        self.step, self.due = position.step, position.due
        if not self.streams:
            self.state = self.state if first is None else first
        elif any(state is not None for _, state, _ in found):
            found = [
                (member, jax.device_get(self.state_of(n)) if s is None else s, position)
                for n, (member, s, position) in enumerate(found)
            ]
        here = [
            each
            for each in found
            if (each[2].step, each[2].due) == (self.step, self.due)
        ]
        members, states, positions = zip(*here, strict=True)
        elsewhere = [member for member in self.members if member not in members]
        if self.streams and states[0] is not None:
            self.state = None  # before it is there twice
            self.take(members)
            self.place(states)
        for member, position in zip(members, positions, strict=True):
            member.go_on_from(position)
            self.progress.skip(self.step * self.plan.batch_size)
        return elsewhere

    def train(self) -> None:
        """From where it stands to the last step, or to where all members have ended."""
        if self.due:
            self.complete_step()
        with self.devices.ahead(self.batches()) as ahead, self.profiler():
            while self.alive and self.step < self.plan.num_steps:
                self.take_step(ahead)
                self.complete_step()
        self.settle()
        for member in self.alive:
            self.end(member, "finished")

    def take_step(self, ahead: Ahead) -> None:
        """Starts the next step; waits for the one `AHEAD` before it."""
        waited = ahead.waited
        batch = ahead.next(until_idle=self.settle)
        window = self.config.training.profile
        if window and self.step + 1 == window[0]:
            self.settle()  # steps before it are none of the profiler's
        if not self.alive:
            return
        assert batch is not None
        self.batch_like = _like(batch)
        self.step += 1
        for member in self.alive:
            member.meter.waited += ahead.waited - waited
            member.step = self.step
        if self.step == 1:
            self.diagnose(batch)
        with self.profiled():
            self.state, counts = self.trainer.train_step(
                self.state, batch, self.numbers(), self.mean
            )
        for number, member in enumerate(self.members):
            if member.status:
                continue
            own = ((number,), (self.streams[number],)) if self.streams else ((), ())
            with self.ending(member):
                member.meter.add(
                    UnderWay(self.step, counts, batch["epoch"], batch["example"], *own)
                )
            self.progress.advance(self.plan.batch_size)

    def diagnose(self, batch: Mapping[str, jax.Array]) -> None:
        """What each network makes of its first images: see `diagnosis.py`."""
        whole = {name: self.devices.gathered(part) for name, part in batch.items()}
        for number, member in enumerate(self.members):
            if member.status:  # of first weights that overflow
                continue
            own = whole
            if self.streams:
                own = {n: part[:, self.streams[number]] for n, part in whole.items()}
            params = self.state_of(number).params
            found = self.trainer.diagnose(params, own, self.mean)
            member.write(diagnosis.row(found, self.config))
            self.progress.warn(member.row["warning"], member.label)

    def complete_step(self) -> None:
        """The rows, the evaluation and the checkpoints that the last step completes.

        Raises:
          Stopped: if a signal has asked for it; the members are saved then as they were
            before the rows, which come again when they go on.
        """
        step, wanted = self.step, self.config.training
        row_due = step > 0 and self.plan.due(step, wanted.record_every_epochs)
        evaluation_due = step == 0 or self.plan.due(step, wanted.evaluate_every_epochs)
        before = self.positions(due=True) if row_due or evaluation_due else None
        if not self.alive:
            return

        self.leave_if_asked(before)
        if row_due:
            for member in self.alive:
                member.checkpoints.check()
                row = member.with_rate(member.meter.row(step))
                member.write(member.start.checked(row))
                self.progress.warn(member.row.get("warning"), member.label)
        if evaluation_due and self.alive:
            self.evaluate(lambda: self.leave_if_asked(before))
        every = wanted.checkpoint_every_epochs
        if every > 0 and step > 0 and self.plan.due(step, every):
            self.want_save()
        # All or none: so that they go on together. One that is the best so far wants it.
        if any(member.save_wanted for member in self.alive):
            self.save(self.positions(due=False))

    def evaluate(self, between: Callable[[], None]) -> None:
        rows = self.evaluator.rows(self.state.params, self.step, between)
        for member, row in zip(self.members, rows, strict=True):
            if not member.status and not member.evaluated(row, self.progress):
                self.end(member, "diverged")

    def settle(self) -> None:
        """Until all steps are done; ends members of which one is not finite."""
        for member in self.alive:
            with self.ending(member):
                member.meter.wait()

    @contextlib.contextmanager
    def ending(self, member: Member) -> Iterator[None]:
        """A step that is not finite ends the member, with a row that says so."""
        try:
            yield
        except NotFinite as found:
            member.write_not_finite(found, self.devices)
            self.end(member, "diverged")

    def end(self, member: Member, status: str) -> None:
        """Its folder says from now on that the trial is over, and how.

        One that has diverged stays in the state, where it is computed and not looked at:
        without it all would be compiled anew.
        """
        member.checkpoints.wait()  # the last one is on the disk
        member.status = status
        member.record.close_trial(status, **member.end())
        if status == "diverged":
            self.progress.say(member.diverged())
            left = self.plan.num_steps - self.step
            self.progress.total_is(self.progress.total - left * self.plan.batch_size)

    # --- Saves ------------------------------------------------------------------------

    def positions(self, *, due: bool) -> list[tuple[int, Member, Position]]:
        """Where each member stands that has not ended, all its steps done."""
        self.settle()
        return [
            (number, member, member.position(due=due))
            for number, member in enumerate(self.members)
            if not member.status
        ]

    def want_save(self) -> None:
        for member in self.alive:
            member.save_wanted = True

    def save(self, positions: Sequence[tuple[int, Member, Position]]) -> None:
        for number, member, position in positions:
            member.checkpoints.save(self.state_of(number), position)
            member.save_wanted = False

    def leave_if_asked(
        self, positions: Sequence[tuple[int, Member, Position]] | None
    ) -> None:
        """Does what a signal to any process has asked for."""
        wish = self.devices.agreed(self.asked.take())
        if wish == signals.SAVE:
            self.want_save()
            self.progress.say(f"Saving at step {self.step}, as asked.")
        elif wish != signals.NOTHING:
            positions = self.positions(due=True) if positions is None else positions
            if not positions:  # all have ended: the next trial hears of it
                return
            self.save(positions)
            for member in self.members:
                member.checkpoints.wait()
            raise Stopped(wish, f"saved at step {self.step}")

    # --- What goes wrong on the devices ------------------------------------------------

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """In place of an error of JAX one for the user, where its cause is known."""
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            wanted = self.config.training
            found = failures.explained(
                error,
                devices=self.devices,
                batch_size=wanted.batch_size,
                accumulation=wanted.accumulation,
                needed=self.step_bytes,
            )
            if self.streams and isinstance(found, UserError):
                found = UserError(
                    f"{found} These are {len(self.members)} trials at once: without "
                    "--config.population they are trained one after the other."
                )
            raise found from error

    def step_bytes(self, accumulation: int) -> int:
        """What a step in so many parts needs on each device."""
        if self.batch_like is None:  # no step yet: an evaluation has failed
            with self.devices.ahead(self.batches()) as ahead:
                self.batch_like = _like(ahead.next())
        config = self.config.copy_and_resolve_references()
        with config.unlocked():
            config.training.accumulation = accumulation
        trainer = Trainer.of(config, self.data, self.devices, self.streams)
        like = (self.state_like, self.batch_like, self.numbers(), self.mean)
        return failures.step_bytes(trainer.train_step, *like, devices=self.devices)

    # --- The profiler ------------------------------------------------------------------

    @contextlib.contextmanager
    def profiler(self) -> Iterator[None]:
        """Ends a window of the profiler that the run's end or a signal cuts short."""
        self.profiling = False
        try:
            yield
        finally:
            if self.profiling:
                jax.profiler.stop_trace()

    @contextlib.contextmanager
    def profiled(self) -> Iterator[None]:
        """Step `step`, in the window if it is one of `config.training.profile`."""
        window, folder = self.config.training.profile, self.members[0].record.folder
        if not window or not folder:
            yield
            return
        first, last = window
        if self.step == first:
            jax.profiler.start_trace(str(folder / "profile"))
            self.profiling = True
        with jax.profiler.StepTraceAnnotation("train", step_num=self.step):
            yield
        if self.step == last and self.profiling:
            jax.block_until_ready(self.state.step)
            jax.profiler.stop_trace()
            self.profiling = False
            self.progress.say(f"Profile: {folder / 'profile'}")


def _like(tree: Any) -> Any:
    """Shapes, types and places in the place of arrays."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=leaf.sharding
        ),
        tree,
    )


def _side_by_side(batches: Sequence[TrainBatch]) -> TrainBatch:
    """Along a second axis, behind that of the examples, which devices share out."""
    columns: list[dict[str, Any]] = [dict(batch) for batch in batches]
    together = {
        name: np.stack([one[name] for one in columns], axis=1) for name in columns[0]
    }
    return cast(TrainBatch, together)


def _stacked(trees: Sequence[Any]) -> Any:
    """Along a new first axis, in host memory."""
    return jax.tree.map(
        lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees
    )


@functools.cache
def _part(devices: Devices) -> Callable[[Any, int], Any]:
    """(tree, number) -> that place of the first axis: one program for all numbers."""
    return jax.jit(
        lambda tree, number: jax.tree.map(
            lambda leaf: lax.dynamic_index_in_dim(leaf, number, keepdims=False), tree
        ),
        out_shardings=devices.replicated,
    )


def first_state(config: ConfigDict, seed: int, trainer: "Trainer") -> steps.TrainState:
    """First weights, at rest; those of `config.training.init_from` if it is given."""
    state = steps.initial_state(trainer.network, seed, trainer.rule)
    if config.training.init_from:
        params = fine_tuned(state.params, config.training.init_from)
        state = dataclasses.replace(state, params=params)
    return state


def fine_tuned(first: Params, given: str) -> Params:
    """`first` with a checkpoint's weights in all layers but the last.

    Raises:
      UserError: if the checkpoint cannot be read, or its layers are others.
    """
    held, folder = weights(given)
    *kept, last = first
    differing = [
        f"  {layer}: {_shapes(held.get(layer))} there, {_shapes(first[layer])} here"
        for layer in kept
        if _shapes(held.get(layer)) != _shapes(first[layer])
    ]
    if differing:
        raise UserError(
            f"config.training.init_from: the layers of {folder} are others:\n"
            + "\n".join(differing)
        )
    return {**{layer: held[layer] for layer in kept}, last: first[last]}


def _shapes(layer: Any) -> str:
    if layer is None:
        return "none"
    shapes = {name: array.shape for name, array in sorted(layer.items())}
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def augmented_batches(
    config: ConfigDict,
    data: Data,
    seed: int,
    plan: "Plan",
    start_step: int,
    devices: Devices,
) -> Generator[TrainBatch, None, None]:
    """This process's share of a trial's batches, from behind `start_step` to the last."""
    wanted = config.data
    augmentation = Augmentation(
        crop_size=wanted.crop_size,
        random_crop=wanted.random_crop,
        random_flip=wanted.random_flip,
        crop_sharing=wanted.crop_sharing,
        lighting_deviation=wanted.lighting_deviation,
        lighting_shrink=wanted.lighting_shrink,
        lighting_off_epoch=wanted.lighting_off_epoch,
        components=data.statistics.components(wanted.lighting_scale),
    )
    return train_batches(
        data.train,
        augmentation,
        seed=seed,
        start_step=start_step,
        num_steps=plan.num_steps,
        batch_size=config.training.batch_size,
        host=devices.host,
        num_hosts=devices.num_hosts,
    )


@dataclasses.dataclass(frozen=True)
class Trainer:
    """A network with its steps, compiled at their first call."""

    network: Network
    form: InputForm
    rule: steps.Rule
    train_step: steps.TrainStep
    eval_step: steps.EvalStep
    diagnose: diagnosis.Diagnose

    @staticmethod
    def of(
        config: ConfigDict,
        data: Data,
        devices: Devices,
        streams: tuple[int, ...] = (),
    ) -> "Trainer":
        """One for all trials whose networks agree: they share its compilation.

        With `streams` its steps are those of a population: `steps.train_population`.
        """
        return _trainer(
            FrozenConfigDict(config.model),
            InputForm.of(config.data),
            steps.Rule(config.optimizer.rate_in_velocity, config.optimizer.bias_decay),
            len(data.source.class_names),
            config.training.accumulation,
            config.training.ensemble,
            devices,
            streams,
        )

    def place_mean(self, data: Data, devices: Devices) -> jax.Array:
        """What the steps subtract from each image, on every device."""
        means = data.statistics
        return devices.place_state(
            self.form.mean_of(means.mean_image, means.channel_mean)
        )


@functools.cache
def _trainer(
    model: FrozenConfigDict,
    form: InputForm,
    rule: steps.Rule,
    num_classes: int,
    accumulation: int,
    ensemble: int,
    devices: Devices,
    streams: tuple[int, ...],
) -> Trainer:
    network = build(model, image_size=form.crop_size, num_classes=num_classes)
    train_step = steps.make_train_step(network, form, rule, accumulation)
    eval_step = steps.make_eval_step(network, form, ensemble)
    if streams:
        train_step = steps.train_population(train_step, streams)
        eval_step = steps.evaluate_population(eval_step)
    return Trainer(
        network,
        form,
        rule,
        devices.spread_train(train_step),
        devices.spread_eval(eval_step),
        diagnosis.make_diagnose(network, form),
    )


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Measures networks' errors on the validation split, each example once."""

    trainer: Trainer
    data: Data
    mean: jax.Array
    devices: Devices
    plan: Plan
    batch_size: int = EVALUATION_BATCH
    beside: Mapping[str, Trainer] = dataclasses.field(default_factory=dict)

    def rows(
        self, params: Params, step: int, between: Callable[[], None] = lambda: None
    ) -> list[dict[str, Any]]:
        """The eval row of the parameters after `step` steps; of a population, of each.

        `between` is called after each batch; it may raise, to end the evaluation.
        """
        started = time.perf_counter()
        batches = evaluation_batches(
            self.data.validation,
            batch_size=self.devices.rounded_up(self.batch_size),
            host=self.devices.host,
            num_hosts=self.devices.num_hosts,
        )
        trainers = (self.trainer, *self.beside.values())
        counts: list[tuple[steps.Counts, ...]] = []
        with self.devices.ahead(batches) as ahead:
            while (batch := ahead.next()) is not None:
                counts.append(
                    tuple(each.eval_step(params, batch, self.mean) for each in trainers)
                )
                if len(counts) > AHEAD:  # no more of them under way, nor their images
                    jax.block_until_ready(counts[-1 - AHEAD])
                between()
        total, *others = (
            steps.Counts(*(sum(column) for column in zip(*of_batches, strict=True)))
            for of_batches in zip(*jax.device_get(counts), strict=True)
        )
        assert (total.examples == self.data.validation.num_examples).all()
        rate = self.data.validation.num_examples / (time.perf_counter() - started)
        rows = []
        for number in range(total.examples.size):
            row = self.plan.row("eval", step, _of_member(total, number), rate)
            row |= {"split": self.data.validation.split.name}
            beside = {}
            for views, other in zip(self.beside, others, strict=True):
                held = self.plan.row("eval", step, _of_member(other, number), rate)
                beside[views] = {name: held[name] for name in MEANS}
            rows.append(row | ({"beside": beside} if beside else {}))
        return rows


def _of_member(counts: steps.Counts, number: int) -> steps.Counts:
    return steps.Counts(*(np.ravel(field)[number] for field in counts))
