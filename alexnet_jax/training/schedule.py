"""Steps, epochs and learning rates of a trial, and their schedules (section 5).

Everything here is arithmetic on the host. An epoch is as many images as the training
set has, not a whole number of steps.
"""

import dataclasses
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.model.network import layer_of

Scalar = float | np.floating | jax.Array


class LearningRates(NamedTuple):
    """The learning rates of kernels and biases; conv1 has its own."""

    kernel: Scalar
    bias: Scalar
    conv1_kernel: Scalar
    conv1_bias: Scalar

    def of(self, path: tuple[Any, ...]) -> Scalar:
        """The learning rate of the parameter at `path`, such as (conv1, bias).

        The scale of a normalization has that of its layer's kernel.
        """
        name, kind = (part.key for part in path)
        prefix = "conv1_" if layer_of(name) == "conv1" else ""
        return getattr(self, prefix + ("bias" if kind == "bias" else "kernel"))


@dataclasses.dataclass(frozen=True)
class ScheduleSpec:
    """The numbers of a learning-rate schedule: fields of the section `optimizer`.

    Attributes:
      learning_rate: the initial learning rate.
      schedule: "steps", "plateau", "constant" or "cosine" (`learning_rates_at`).
      drop_factor: what a drop multiplies the learning rate by.
      drop_epochs: under "steps", the epochs of the drops.
      bias_lr_multiplier: what multiplies the learning rates of biases.
      bias_drops: whether the learning rates of biases drop too.
      conv1_drop_epochs: under "steps", the epochs of further drops of conv1's kernel.
      conv1_stop_epoch: under "steps", the epoch from which conv1 is frozen; 0: never.
      plateau_epochs: epochs without a lower validation error after which "plateau" drops.
      plateau_drops: the largest number of drops of "plateau".
      warmup_epochs: the epochs in which the learning rate grows to its initial value.
    """

    learning_rate: float
    schedule: str
    drop_factor: float
    drop_epochs: tuple[float, ...]
    bias_lr_multiplier: float
    bias_drops: bool
    conv1_drop_epochs: tuple[float, ...]
    conv1_stop_epoch: float
    plateau_epochs: float
    plateau_drops: int
    warmup_epochs: float = 0.0

    @staticmethod
    def of(optimizer: Mapping[str, Any] | ConfigDict) -> "ScheduleSpec":
        """The schedule that a section `optimizer` asks for."""
        names = [field.name for field in dataclasses.fields(ScheduleSpec)]
        return ScheduleSpec(**{name: optimizer[name] for name in names})


def learning_rates_at(
    epoch: float,
    spec: ScheduleSpec,
    *,
    num_epochs: float,
    drops: int = 0,
) -> LearningRates:
    """The learning rates at `epoch` of `num_epochs` under `spec.schedule`.

    steps     multiplied by `drop_factor` at each of `drop_epochs`; conv1 has further
              drops and may stop, as in the 2012 code
    plateau   multiplied by `drop_factor` for each of `drops`, which `Plateau` counts:
              the schedule of section 5
    constant  the initial learning rate throughout
    cosine    half a cosine from the initial learning rate down to 0 at `num_epochs`,
              which begins when the warm-up ends
    """
    initial = float(spec.learning_rate)

    def drops_before(epochs: tuple[float, ...]) -> int:
        return sum(epoch >= drop for drop in epochs)

    match spec.schedule:
        case "steps":
            kernel = initial * spec.drop_factor ** drops_before(spec.drop_epochs)
        case "plateau":
            kernel = initial * spec.drop_factor**drops
        case "cosine":
            left = num_epochs - spec.warmup_epochs
            share = min(max((epoch - spec.warmup_epochs) / (left or 1.0), 0.0), 1.0)
            kernel = initial * (1 + math.cos(math.pi * share)) / 2
        case _:
            kernel = initial
    bias = spec.bias_lr_multiplier * (kernel if spec.bias_drops else initial)
    if spec.schedule != "steps":
        return LearningRates(kernel, bias, kernel, bias)
    if 0 < spec.conv1_stop_epoch <= epoch:
        return LearningRates(kernel, bias, 0.0, 0.0)
    slower = spec.drop_factor ** drops_before(spec.conv1_drop_epochs)
    return LearningRates(kernel, bias, kernel * slower, bias)


@dataclasses.dataclass(frozen=True)
class LoopPeriods:
    """How often the loop does its bookkeeping, in epochs: fields of section `training`.

    Attributes:
      log_every_epochs: between train rows.
      evaluate_every_epochs: between evaluations.
      evaluate_at_start: whether there is one before the first step.
      checkpoint_every_epochs: between checkpoints; 0: only those asked for by a signal.
    """

    log_every_epochs: float
    evaluate_every_epochs: float
    evaluate_at_start: bool
    checkpoint_every_epochs: float

    @staticmethod
    def of(training: ConfigDict, optimizer: ConfigDict) -> "LoopPeriods":
        """The periods that a section `training` asks for.

        A learning rate that drops at plateaus counts from the error before the first step.
        """
        return LoopPeriods(
            training.log_every_epochs,
            training.evaluate_every_epochs,
            training.evaluate_at_start or optimizer.schedule == "plateau",
            training.checkpoint_every_epochs,
        )


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Steps and epochs of a trial, and its learning rates step by step.

    Attributes:
      num_examples: images of the training set.
      batch_size: images a step.
      num_steps: steps of the whole trial.
      spec: the numbers of its learning-rate schedule.
    """

    num_examples: int
    batch_size: int
    num_steps: int
    spec: ScheduleSpec

    @staticmethod
    def of(
        training: ConfigDict, optimizer: ConfigDict, num_examples: int
    ) -> "Schedule":
        """The schedule of a trial: the fewest steps that show its epochs' images.

        `training` and `optimizer` are the sections with these names.
        """
        images = _exact(training.num_epochs) * num_examples
        num_steps = max(1, math.ceil(images / training.batch_size))
        spec = ScheduleSpec.of(optimizer)
        return Schedule(num_examples, training.batch_size, num_steps, spec)

    @property
    def num_images(self) -> int:
        """Images shown by all steps together."""
        return self.num_steps * self.batch_size

    def epoch(self, step: int) -> float:
        """Epochs completed after `step` steps."""
        return step * self.batch_size / self.num_examples

    def is_due(self, step: int, every_epochs: float) -> bool:
        """Whether `step` completes another `every_epochs`, or is the last step."""
        period = _exact(every_epochs) * self.num_examples  # in images
        now, before = (n * self.batch_size // period for n in (step, step - 1))
        return now > before or step == self.num_steps

    def epochs_completed(self, step: int, every_epochs: float) -> float:
        """Whole periods of `every_epochs` after `step` steps, in epochs."""
        period = _exact(every_epochs)
        images = step * self.batch_size
        return float(images // (period * self.num_examples) * period)

    def learning_rates(self, step: int, drops: int = 0) -> LearningRates:
        """The learning rates of step `step`, counted from 1, after `drops` plateaus.

        In the warm-up they are in proportion to the step, so that its last ones are the
        schedule's: Goyal et al., "Accurate, Large Minibatch SGD" (2017), section 2.2.
        """
        rates = learning_rates_at(
            self.epoch(step - 1),
            self.spec,
            num_epochs=self.epoch(self.num_steps),
            drops=drops,
        )
        if self.epoch(step) >= self.spec.warmup_epochs:
            return rates
        share = self.epoch(step) / self.spec.warmup_epochs
        return LearningRates(*(share * rate for rate in rates))


def _exact(decimal: float) -> Fraction:
    """The decimal number as it was written: 0.1 is a tenth, not the nearest float."""
    return Fraction(repr(decimal))


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Progress of a trial under the schedule "plateau" (section 5).

    Its fields are JSON values: `Plateau(**dataclasses.asdict(plateau))` restores it.

    Attributes:
      best: lowest validation top-1 error so far, a fraction; None before the first.
      best_epoch: the epoch of that evaluation.
      since: the epoch of the last improvement or drop.
      drops: how often the learning rate has dropped.
    """

    best: float | None = None
    best_epoch: float = 0.0
    since: float = 0.0
    drops: int = 0

    def after(
        self, epoch: float, top1_error: float | None, spec: ScheduleSpec
    ) -> tuple["Plateau", str | None]:
        """The plateau after an evaluation at `epoch`, and the reason for a drop, if any.

        The learning rate drops at the first evaluation that is at least `plateau_epochs`
        after the last improvement or drop, at most `plateau_drops` times. A `top1_error`
        that is None or not finite is no improvement.
        """
        best = math.inf if self.best is None else self.best
        if top1_error is not None and top1_error < best:  # false for NaN
            return Plateau(top1_error, epoch, epoch, self.drops), None
        waited = epoch - self.since
        if waited < spec.plateau_epochs or self.drops >= spec.plateau_drops:
            return self, None
        dropped = dataclasses.replace(self, since=epoch, drops=self.drops + 1)
        return dropped, dropped._reason(waited, spec)

    def _reason(self, waited: float, spec: ScheduleSpec) -> str:
        factor = spec.drop_factor
        learning_rate = spec.learning_rate * factor**self.drops
        stalled = (
            "no validation top-1 error"
            if self.best is None
            else f"validation top-1 error not below {self.best:.5g} "
            f"(epoch {self.best_epoch:.4g})"
        )
        return (
            f"{stalled} for {waited:.4g} epochs: learning rate divided by "
            f"{1 / factor:.4g}, to {learning_rate:.4g} "
            f"(drop {self.drops} of {spec.plateau_drops})"
        )
