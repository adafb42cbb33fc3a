"""One trial from its first weights to its last record."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Generator
from fractions import Fraction
from typing import Any

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
from alexnet_jax.model.network import Network, Params, build
from alexnet_jax.training import diagnosis
from alexnet_jax.training import step as steps
from alexnet_jax.training.inputs import InputForm
from alexnet_jax.training.optimizer import Rates, rates_at
from alexnet_jax.training.parallel import Devices
from alexnet_jax.training.record import Progress, Record

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
) -> tuple[str, dict[str, Any]]:
    """Trains one network as `config`, a trial's, says.

    Returns how it ended, "finished" or, where the loss was no longer finite,
    "diverged"; and its last row.
    """

    def write(row: dict[str, Any]) -> bool:
        record.write(row)
        return not row.get("diverged", False)

    trainer = Trainer.of(config, data, devices)
    plan = Plan.of(config, data.train.num_examples)
    state = devices.place_state(
        steps.initial_state(trainer.network, seed, trainer.rule)
    )
    statistics = data.statistics
    mean = devices.place_state(
        trainer.form.mean_of(statistics.mean_image, statistics.channel_mean)
    )
    evaluator = Evaluator(trainer, data, mean, devices, plan)
    meter = Meter(plan)
    start = diagnosis.Start(config, num_classes=len(data.source.class_names))

    row = evaluator.row(state.params, 0)
    if not write(row):
        return "diverged", row
    with contextlib.closing(augmented_batches(config, data, seed, plan)) as batches:
        for step, batch in enumerate(devices.placed(batches), start=1):
            if step == 1:
                row = diagnosis.row(trainer.diagnose(state.params, batch, mean), config)
                record.write(row)
                progress.warn(row["warning"])
            numbers = steps.Numbers(
                Rates(*map(np.float32, plan.rates(step))),
                np.float32(config.optimizer.momentum),
                np.float32(config.optimizer.weight_decay),
                np.uint32(seed),
            )
            state, counts = trainer.train_step(state, batch, numbers, mean)
            meter.add(counts)
            progress.advance(plan.batch_size)

            if plan.due(step, config.training.record_every_epochs):
                row = start.checked(meter.row(step))
                if not write(row):
                    return "diverged", row
                progress.warn(row.get("warning"))
            if plan.due(step, config.training.evaluate_every_epochs):
                row = evaluator.row(state.params, step)
                if not write(row):
                    return "diverged", row
                meter.restart_clock()
    return "finished", row


def augmented_batches(
    config: ConfigDict, data: Data, seed: int, plan: "Plan"
) -> Generator[TrainBatch, None, None]:
    """The training batches of a trial, from its first step to its last."""
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
        start_step=0,
        num_steps=plan.num_steps,
        batch_size=config.training.batch_size,
        host=0,
        num_hosts=1,
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
            devices,
        )


@functools.cache
def _trainer(
    model: FrozenConfigDict,
    form: InputForm,
    rule: steps.Rule,
    num_classes: int,
    devices: Devices,
) -> Trainer:
    network = build(model, image_size=form.crop_size, num_classes=num_classes)
    return Trainer(
        network,
        form,
        rule,
        devices.spread_train(steps.make_train_step(network, form, rule)),
        devices.spread_eval(steps.make_eval_step(network, form)),
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

    def rates(self, step: int) -> Rates:
        """Of step number `step`, counted from 1."""
        return rates_at(self.epoch(step - 1), self.optimizer)

    def row(
        self, kind: str, step: int, total: steps.Counts | None, rate: float | None
    ) -> dict[str, Any]:
        """One line of metrics.jsonl: errors as fractions, loss in nats, both means.

        `step` and `epoch` are how much training had been done; the learning rate is the
        one of that step. A loss that is not finite (or a `total` of None) leaves no
        means, and marks the row "diverged".
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
            "learning_rate": float(self.rates(max(1, step)).kernel),
            "images_per_second": rate,
        }
        return row | ({"diverged": True} if total is None else {})


class Meter:
    """Means and speed over the steps since the last row.

    The counts stay on the devices until a row is due, so that steps are dispatched
    without waiting. The first step, which compiles, and evaluations are not timed.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.counts: list[steps.Counts] = []
        self.clock: float | None = None
        self.timed_images = 0

    def add(self, counts: steps.Counts) -> None:
        self.counts.append(counts)
        self.timed_images += self.plan.batch_size
        if self.clock is None:
            jax.block_until_ready(counts)
            self.restart_clock()

    def restart_clock(self) -> None:
        self.clock, self.timed_images = time.perf_counter(), 0

    def row(self, step: int) -> dict[str, Any]:
        """The train row of the steps up to `step`: means over the steps since the last.

        The first of them whose loss is not finite makes it the trial's last row, marked
        "diverged": true, without means.
        """
        counts = jax.device_get(self.counts)  # waits for the last step
        assert self.clock is not None
        seconds = time.perf_counter() - self.clock
        rate = self.timed_images / seconds if self.timed_images else None
        self.counts = []
        self.restart_clock()

        first = step - len(counts) + 1
        for number, one in enumerate(counts, start=first):
            if not np.isfinite(one.loss):
                return self.plan.row("train", number, None, rate)
        total = steps.Counts(*(sum(column) for column in zip(*counts, strict=True)))
        return self.plan.row("train", step, total, rate)


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Measures a network's errors on the validation split, each example once."""

    trainer: Trainer
    data: Data
    mean: jax.Array
    devices: Devices
    plan: Plan

    def row(self, params: Params, step: int) -> dict[str, Any]:
        """The eval row of the parameters after `step` steps."""
        started = time.perf_counter()
        batches = evaluation_batches(
            self.data.validation,
            batch_size=self.devices.rounded_up(EVALUATION_BATCH),
        )
        counts = [
            self.trainer.eval_step(params, batch, self.mean)
            for batch in self.devices.placed(batches)
        ]
        columns = zip(*jax.device_get(counts), strict=True)
        total = steps.Counts(*(sum(column) for column in columns))
        assert total.examples == self.data.validation.num_examples
        rate = int(total.examples) / (time.perf_counter() - started)
        row = self.plan.row("eval", step, total, rate)
        return row | {"split": self.data.validation.split.name}
