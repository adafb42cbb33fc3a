"""One trial from its first weights to its last record."""

import contextlib
import dataclasses
import functools
import math
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np
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
from alexnet_jax.training.checkpoint import Checkpoints, Position, try_out, weights
from alexnet_jax.training.inputs import InputForm
from alexnet_jax.training.optimizer import Plateau, Rates, rates_at
from alexnet_jax.training.parallel import AHEAD, Ahead, Devices
from alexnet_jax.training.record import Progress, Record
from alexnet_jax.training.signals import Signals

# Images a step of evaluation, about: no result depends on it.
EVALUATION_BATCH = 128


def train(
    config: ConfigDict,
    *,
    seed: int,
    data: Data,
    devices: Devices,
    record: Record,
    progress: Progress,
    checkpoints: Checkpoints,
    asked: Signals,
    try_checkpoint: bool = False,
    beside: tuple[str, ...] = (),
) -> tuple[str, dict[str, Any]]:
    """Trains one network as `config`, a trial's, says; goes on from a checkpoint.

    With `try_checkpoint` one is saved and read back first: a folder that will not do
    fails in the first seconds, and not after an epoch. `beside` names other views by
    which each evaluation measures the network too.

    Returns how it ended, "finished" or, where a loss or a gradient was no longer finite,
    "diverged"; and its last row.

    Raises:
      Stopped: after a signal, when the trial's position is saved.
      UserError: if a checkpoint cannot be written or read.
    """
    run = Run(config, seed, data, devices, record, progress, checkpoints, asked, beside)
    try:
        if try_checkpoint:
            try_out(run.state, checkpoints.trial, devices)
        run.resume()
        if run.due:
            run.complete_step()
        batches = augmented_batches(config, data, seed, run.plan, run.step, devices)
        with devices.ahead(batches) as ahead, run.profiler():
            while run.step < run.plan.num_steps:
                run.take_step(ahead)
                run.complete_step()
        run.meter.wait()
    except NotFinite as found:
        row = run.plan.row("train", found.step, None, None)
        run.write(run.with_rate(row) | found.facts(devices))
        return "diverged", run.row
    except Diverged:
        return "diverged", run.row
    except jax.errors.JaxRuntimeError as error:
        raise run.explained(error) from error
    return "finished", run.row


class Diverged(Exception):
    """The loss of an evaluation is not finite: its row says so."""


class Run:
    """A trial under way: what is fixed of it, and where it stands."""

    def __init__(
        self,
        config: ConfigDict,
        seed: int,
        data: Data,
        devices: Devices,
        record: Record,
        progress: Progress,
        checkpoints: Checkpoints,
        asked: Signals,
        beside: tuple[str, ...] = (),
    ) -> None:
        self.config, self.seed, self.data, self.devices = config, seed, data, devices
        self.record, self.progress = record, progress
        self.checkpoints, self.asked = checkpoints, asked
        self.trainer = Trainer.of(config, data, devices)
        self.plan = Plan.of(config, data.train.num_examples)
        self.mean = self.trainer.place_mean(data, devices)
        self.evaluator = Evaluator(
            self.trainer,
            data,
            self.mean,
            devices,
            self.plan,
            # Where a step fits in parts only, an evaluation may not as a whole either.
            max(1, EVALUATION_BATCH // config.training.accumulation),
            {views: _seen_by(config, views, data, devices) for views in beside},
        )
        self.meter = Meter(self.plan)
        self.start = diagnosis.Start(config, num_classes=len(data.source.class_names))

        self.state = first_state(config, seed, self.trainer, devices)
        self.state_like = _like(self.state)  # a step that fails has taken the state
        self.batch_like: Any = None  # of a batch, from the first on
        self.step = 0
        self.due = True  # the row and the evaluation that `step` completes
        self.best_step, self.best_error = 0, 1.0
        self.plateau = Plateau()
        self.save_wanted = False
        self.row: dict[str, Any] = {}  # the last

    def resume(self) -> None:
        """To the last whole checkpoint, if there is one."""
        found = self.checkpoints.restore(self.state)
        position = Position()
        if found is not None:
            self.state, position, damaged = found
            for message in damaged:
                self.progress.warn(f"{message}. The one before it is used.")
        self.step, self.due = position.step, position.due
        self.best_step, self.best_error = position.best_step, position.best_error
        self.plateau = Plateau(**position.plateau)
        self.meter.counts = list(position.counts)
        self.start.over = self.start.over or position.fallen
        self.record.go_on_from(position.record_bytes)
        self.progress.skip(position.step * self.plan.batch_size)

    def position(self, *, due: bool) -> Position:
        """Where the trial stands, all steps done and found finite."""
        self.meter.wait()
        return Position(
            step=self.step,
            record_bytes=self.record.size(),
            counts=tuple(self.meter.counts),
            fallen=self.start.over,
            due=due,
            best_step=self.best_step,
            best_error=self.best_error,
            plateau=dataclasses.asdict(self.plateau),
        )

    def rates(self) -> Rates:
        """Of the step `step`; before the first, of that."""
        return self.plan.rates(max(1, self.step), self.plateau.drops)

    def numbers(self) -> steps.Numbers:
        """What is traced of the step `step`."""
        return steps.Numbers(
            Rates(*map(np.float32, self.rates())),
            np.float32(self.config.optimizer.momentum),
            np.float32(self.config.optimizer.weight_decay),
            np.uint32(self.seed),
        )

    def take_step(self, ahead: Ahead) -> None:
        """Starts the next step; waits for the one `AHEAD` before it."""
        waited = ahead.waited
        batch = ahead.next(until_idle=self.meter.wait)
        self.meter.waited += ahead.waited - waited
        assert batch is not None
        self.batch_like = _like(batch)
        self.step += 1
        if self.step == 1:
            whole = {name: self.devices.gathered(part) for name, part in batch.items()}
            found = self.trainer.diagnose(self.state.params, whole, self.mean)
            self.write(diagnosis.row(found, self.config))
            self.progress.warn(self.row["warning"])
        with self.profiled():
            self.state, counts = self.trainer.train_step(
                self.state, batch, self.numbers(), self.mean
            )
        self.meter.add(UnderWay(self.step, counts, batch["epoch"], batch["example"]))
        self.progress.advance(self.plan.batch_size)

    def complete_step(self) -> None:
        """The row, the evaluation and the checkpoint that the last step completes.

        Raises:
          Stopped: if a signal has asked for it; the trial is saved then as it was
            before the row, which comes again when it goes on.
        """
        step, wanted = self.step, self.config.training
        row_due = step > 0 and self.plan.due(step, wanted.record_every_epochs)
        evaluation_due = step == 0 or self.plan.due(step, wanted.evaluate_every_epochs)
        before = self.position(due=True) if row_due or evaluation_due else None

        self.leave_if_asked(before)
        if row_due:
            self.checkpoints.check()
            self.write(self.start.checked(self.with_rate(self.meter.row(step))))
            self.progress.warn(self.row.get("warning"))
        if evaluation_due:
            self.evaluate(lambda: self.leave_if_asked(before))
        if wanted.checkpoint_every_epochs > 0 and step > 0:
            self.save_wanted |= self.plan.due(step, wanted.checkpoint_every_epochs)
        if self.save_wanted:
            self.checkpoints.save(self.state, self.position(due=False))
            self.save_wanted = False

    def evaluate(self, between: Callable[[], None]) -> None:
        row = self.evaluator.row(self.state.params, self.step, between)
        self.write(self.with_rate(row))
        if self.row.get("diverged"):
            raise Diverged
        error = self.row["top1_error"]
        better = self.best_step == 0 or error < self.best_error
        if self.step > 0 and better:
            self.best_step, self.best_error = self.step, error
            if self.config.training.checkpoint_every_epochs > 0:
                self.save_wanted = True
        if self.config.optimizer.schedule == "plateau":
            every = self.config.training.evaluate_every_epochs
            epoch = self.plan.epochs_completed(self.step, every)
            self.plateau, why = self.plateau.after(epoch, error, self.config.optimizer)
            if why is not None:
                position = {"step": self.step, "epoch": self.plan.epoch(self.step)}
                self.record.write({"kind": "schedule", **position, "why": why})
                self.progress.say(f"{self.progress.label}, step {self.step}: {why}")
        self.meter.restart_clock()

    def leave_if_asked(self, position: Position | None) -> None:
        """Does what a signal to any process has asked for."""
        wish = self.devices.agreed(self.asked.take())
        if wish == signals.SAVE:
            self.save_wanted = True
            self.progress.say(f"Saving at step {self.step}, as asked.")
        elif wish != signals.NOTHING:
            self.checkpoints.save(self.state, position or self.position(due=True))
            self.checkpoints.wait()
            raise Stopped(wish, f"saved at step {self.step}")

    def explained(self, error: Exception) -> Exception:
        """In place of an error of JAX: see `failures.py`."""
        wanted = self.config.training
        return failures.explained(
            error,
            devices=self.devices,
            batch_size=wanted.batch_size,
            accumulation=wanted.accumulation,
            needed=self.step_bytes,
        )

    def step_bytes(self, accumulation: int) -> int:
        """What a step in so many parts needs on each device."""
        if self.batch_like is None:  # no step yet: an evaluation has failed
            batches = augmented_batches(
                self.config, self.data, self.seed, self.plan, self.step, self.devices
            )
            with self.devices.ahead(batches) as ahead:
                self.batch_like = _like(ahead.next())
        config = self.config.copy_and_resolve_references()
        with config.unlocked():
            config.training.accumulation = accumulation
        trainer = Trainer.of(config, self.data, self.devices)
        like = (self.state_like, self.batch_like, self.numbers(), self.mean)
        return failures.step_bytes(trainer.train_step, *like, devices=self.devices)

    def with_rate(self, row: dict[str, Any]) -> dict[str, Any]:
        """With the learning rate of its step."""
        return row | {"learning_rate": float(self.rates().kernel)}

    def write(self, row: dict[str, Any]) -> None:
        self.row = row
        self.record.write(row)

    @contextlib.contextmanager
    def profiler(self) -> Iterator[None]:
        """Ends a window of the profiler that the trial's end or a signal cuts short."""
        self.profiling = False
        try:
            yield
        finally:
            if self.profiling:
                jax.profiler.stop_trace()

    @contextlib.contextmanager
    def profiled(self) -> Iterator[None]:
        """Step `step`, in the window if it is one of `config.training.profile`."""
        window = self.config.training.profile
        if not window or not self.record.folder:
            yield
            return
        first, last = window
        if self.step == first:
            self.meter.wait()
            jax.profiler.start_trace(str(self.record.folder / "profile"))
            self.profiling = True
        with jax.profiler.StepTraceAnnotation("train", step_num=self.step):
            yield
        if self.step == last and self.profiling:
            jax.block_until_ready(self.state.step)
            jax.profiler.stop_trace()
            self.profiling = False
            self.progress.say(f"Profile: {self.record.folder / 'profile'}")


def _seen_by(config: ConfigDict, views: str, data: Data, devices: Devices) -> "Trainer":
    """With an evaluation by other views."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.views = views
    return Trainer.of(config, data, devices)


def _like(tree: Any) -> Any:
    """Shapes, types and places in the place of arrays."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=leaf.sharding
        ),
        tree,
    )


def first_state(
    config: ConfigDict, seed: int, trainer: "Trainer", devices: Devices
) -> steps.TrainState:
    """First weights, at rest; those of `config.training.init_from` if it is given."""
    state = steps.initial_state(trainer.network, seed, trainer.rule)
    if config.training.init_from:
        params = fine_tuned(state.params, config.training.init_from)
        state = dataclasses.replace(state, params=params)
    return devices.place_state(state)


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
    def of(config: ConfigDict, data: Data, devices: Devices) -> "Trainer":
        """One for all trials whose networks agree: they share its compilation."""
        return _trainer(
            FrozenConfigDict(config.model),
            InputForm.of(config.data),
            steps.Rule(config.optimizer.rate_in_velocity, config.optimizer.bias_decay),
            len(data.source.class_names),
            config.training.accumulation,
            config.training.ensemble,
            devices,
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
) -> Trainer:
    network = build(model, image_size=form.crop_size, num_classes=num_classes)
    return Trainer(
        network,
        form,
        rule,
        devices.spread_train(steps.make_train_step(network, form, rule, accumulation)),
        devices.spread_eval(steps.make_eval_step(network, form, ensemble)),
        diagnosis.make_diagnose(network, form),
    )


def _exact(decimal: float) -> Fraction:
    """The number that was written: 0.1 as a tenth, not as the float beside it."""
    return Fraction(repr(decimal))


@dataclasses.dataclass(frozen=True)
class Plan:
    """Steps and epochs of a trial: an epoch is num_examples images, not whole steps."""

    num_examples: int
    batch_size: int
    num_steps: int
    optimizer: ConfigDict

    @staticmethod
    def of(config: ConfigDict, num_examples: int) -> "Plan":
        images = _exact(config.training.num_epochs) * num_examples
        num_steps = max(1, math.ceil(images / config.training.batch_size))
        return Plan(
            num_examples, config.training.batch_size, num_steps, config.optimizer
        )

    @property
    def num_images(self) -> int:
        return self.num_steps * self.batch_size

    def epoch(self, step: int) -> float:
        """Epochs after `step` steps."""
        return step * self.batch_size / self.num_examples

    def due(self, step: int, every_epochs: float) -> bool:
        """Whether `step` completes another `every_epochs`, or is the last."""
        period = _exact(every_epochs) * self.num_examples  # in images
        now, before = (n * self.batch_size // period for n in (step, step - 1))
        return now > before or step == self.num_steps

    def epochs_completed(self, step: int, every_epochs: float) -> float:
        """Whole periods of `every_epochs` after `step` steps, in epochs."""
        period = _exact(every_epochs)
        images = step * self.batch_size
        return float(images // (period * self.num_examples) * period)

    def rates(self, step: int, drops: int = 0) -> Rates:
        """Of step number `step`, counted from 1; `drops` are those of a plateau."""
        return rates_at(
            self.epoch(step - 1),
            self.optimizer,
            num_epochs=self.epoch(self.num_steps),
            drops=drops,
        )

    def row(
        self,
        kind: str,
        step: int,
        total: steps.Counts | steps.TrainCounts | None,
        rate: float | None,
    ) -> dict[str, Any]:
        """One line of metrics.jsonl: errors as fractions, loss in nats, both means.

        `step` and `epoch` are how much training had been done. A loss that is not finite
        (or a `total` of None) leaves no means, and marks the row "diverged".
        """
        if total is not None and not np.isfinite(total.loss):
            total = None

        def mean(name: str) -> float | None:
            return (
                None
                if total is None
                else float(getattr(total, name)) / int(total.examples)
            )

        row = {
            "kind": kind,
            "step": step,
            "epoch": self.epoch(step),
            "loss": mean("loss"),
            "top1_error": mean("top1_errors"),
            "top5_error": mean("top5_errors"),
            "images_per_second": rate,
        }
        return row | ({"diverged": True} if total is None else {})


# What a row has as means over its examples.
MEANS = ("loss", "top1_error", "top5_error")


class UnderWay(NamedTuple):
    """A step whose counts are still being computed, and the ids of its batch."""

    step: int
    counts: steps.TrainCounts
    epochs: jax.Array
    examples: jax.Array


class NotFinite(Exception):
    """The loss or the norm of the gradient of a step is not finite."""

    def __init__(self, under_way: UnderWay, what: str) -> None:
        super().__init__(under_way.step)
        self.under_way, self.what = under_way, what
        self.step = under_way.step

    def facts(self, devices: Devices) -> dict[str, Any]:
        """What the record says of it: which images of which epoch the batch held."""
        return {
            "not_finite": self.what,
            "example_epochs": devices.gathered(self.under_way.epochs).tolist(),
            "examples": devices.gathered(self.under_way.examples).tolist(),
        }


class Meter:
    """Means and speed over the steps since the last row.

    Counts are read `AHEAD` steps late, so that steps are dispatched without waiting, and
    yet no more of them are under way. The first step, which compiles, and evaluations
    are not timed.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.counts: list[steps.TrainCounts] = []  # of steps done, in host memory
        self.under_way: deque[UnderWay] = deque()
        self.clock: float | None = None
        self.timed_images = 0
        self.waited = 0.0  # seconds of it, for input

    def add(self, step: UnderWay) -> None:
        """Raises NotFinite if that, or one before it, is."""
        self.under_way.append(step)
        self.timed_images += self.plan.batch_size
        if self.clock is None:
            self.wait()
            self.restart_clock()
        while len(self.under_way) > AHEAD:
            self._settle()

    def wait(self) -> None:
        """Until all steps are done; raises NotFinite if one of them is."""
        while self.under_way:
            self._settle()

    def _settle(self) -> None:
        first = self.under_way.popleft()
        counts = jax.device_get(first.counts)
        for what, number in (
            ("loss", counts.loss),
            ("gradient norm", counts.gradient_norm),
        ):
            if not np.isfinite(number):
                raise NotFinite(first, what)
        self.counts.append(counts)

    def restart_clock(self) -> None:
        self.clock, self.timed_images, self.waited = time.perf_counter(), 0, 0.0

    def row(self, step: int) -> dict[str, Any]:
        """The train row of the steps up to `step`: means over the steps since the last.

        "input_wait": the share of their time in which nothing was computed for want of
        input. Peaks of memory are those since the process began, of this process.
        """
        self.wait()
        rate = share = None
        if self.clock is not None and self.timed_images:
            seconds = time.perf_counter() - self.clock
            rate, share = self.timed_images / seconds, self.waited / seconds
        if self.clock is not None:
            self.restart_clock()
        total = steps.TrainCounts(
            *(sum(column) for column in zip(*self.counts, strict=True))
        )
        mean_norm = float(total.gradient_norm) / len(self.counts)
        self.counts = []
        return self.plan.row("train", step, total, rate) | {
            "gradient_norm": mean_norm,
            "input_wait": share,
            "peak_host_bytes": peak_host_bytes(),
            "peak_device_bytes": peak_device_bytes(),
        }


def peak_host_bytes() -> int:
    """The most memory that this process has had resident."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_device_bytes() -> int | None:
    """The most that one of this process's devices has held; None where it cannot tell."""
    found = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stats.get("peak_bytes_in_use") for stats in found]
    return max((peak for peak in peaks if peak is not None), default=None)


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Measures a network's errors on the validation split, each example once."""

    trainer: Trainer
    data: Data
    mean: jax.Array
    devices: Devices
    plan: Plan
    batch_size: int = EVALUATION_BATCH
    beside: Mapping[str, Trainer] = dataclasses.field(default_factory=dict)

    def row(
        self, params: Params, step: int, between: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """The eval row of the parameters after `step` steps.

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
        assert total.examples == self.data.validation.num_examples
        rate = int(total.examples) / (time.perf_counter() - started)
        row = self.plan.row("eval", step, total, rate)
        row |= {"split": self.data.validation.split.name}
        beside = {}
        for views, other in zip(self.beside, others, strict=True):
            held = self.plan.row("eval", step, other, rate)
            beside[views] = {name: held[name] for name in MEANS}
        return row | ({"beside": beside} if beside else {})
