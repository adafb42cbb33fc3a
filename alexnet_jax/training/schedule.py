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

Scalar = float | np.floating | jax.Array


class LearningRates(NamedTuple):
    """The learning rates of kernels and biases; conv1 has its own."""

    kernel: Scalar
    bias: Scalar
    conv1_kernel: Scalar
    conv1_bias: Scalar

    def of(self, path: tuple[Any, ...]) -> Scalar:
        """The learning rate of the parameter at `path`, (layer, "kernel" or "bias")."""
        layer, kind = (part.key for part in path)
        prefix = "conv1_" if layer == "conv1" else ""
        return getattr(self, prefix + kind)


def learning_rates_at(
    epoch: float,
    optimizer: Mapping[str, Any] | ConfigDict,
    *,
    num_epochs: float,
    drops: int = 0,
) -> LearningRates:
    """The learning rates at `epoch` of `num_epochs` under `optimizer["schedule"]`.

    steps     multiplied by `drop_factor` at each of `drop_epochs`; conv1 has further
              drops and may stop, as in the 2012 code
    plateau   multiplied by `drop_factor` for each of `drops`, which `Plateau` counts:
              the schedule of section 5
    constant  the initial learning rate throughout
    cosine    half a cosine from the initial learning rate down to 0 at `num_epochs`
    """
    initial = float(optimizer["learning_rate"])

    def drops_before(name: str) -> int:
        return sum(epoch >= drop for drop in optimizer[name])

    match optimizer["schedule"]:
        case "steps":
            kernel = initial * optimizer["drop_factor"] ** drops_before("drop_epochs")
        case "plateau":
            kernel = initial * optimizer["drop_factor"] ** drops
        case "cosine":
            share = min(max(epoch / num_epochs, 0.0), 1.0)
            kernel = initial * (1 + math.cos(math.pi * share)) / 2
        case _:
            kernel = initial
    bias = optimizer["bias_lr_multiplier"] * (
        kernel if optimizer["bias_drops"] else initial
    )
    if optimizer["schedule"] != "steps":
        return LearningRates(kernel, bias, kernel, bias)
    if 0 < optimizer["conv1_stop_epoch"] <= epoch:
        return LearningRates(kernel, bias, 0.0, 0.0)
    slower = optimizer["drop_factor"] ** drops_before("conv1_drop_epochs")
    return LearningRates(kernel, bias, kernel * slower, bias)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Steps and epochs of a trial, and its learning rates step by step.

    Attributes:
      num_examples: images of the training set.
      batch_size: images a step.
      num_steps: steps of the whole trial.
      optimizer: section `optimizer` of the trial's settings.
    """

    num_examples: int
    batch_size: int
    num_steps: int
    optimizer: ConfigDict

    @staticmethod
    def of(settings: ConfigDict, num_examples: int) -> "Schedule":
        """The schedule of a trial: the fewest steps that show its epochs' images."""
        training = settings.training
        images = _exact(training.num_epochs) * num_examples
        num_steps = max(1, math.ceil(images / training.batch_size))
        return Schedule(
            num_examples, training.batch_size, num_steps, settings.optimizer
        )

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
        """The learning rates of step `step`, counted from 1, after `drops` plateaus."""
        return learning_rates_at(
            self.epoch(step - 1),
            self.optimizer,
            num_epochs=self.epoch(self.num_steps),
            drops=drops,
        )


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
        self,
        epoch: float,
        top1_error: float | None,
        optimizer: Mapping[str, Any] | ConfigDict,
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
        if (
            waited < optimizer["plateau_epochs"]
            or self.drops >= optimizer["plateau_drops"]
        ):
            return self, None
        dropped = dataclasses.replace(self, since=epoch, drops=self.drops + 1)
        return dropped, dropped._reason(waited, optimizer)

    def _reason(self, waited: float, optimizer: Mapping[str, Any] | ConfigDict) -> str:
        factor = optimizer["drop_factor"]
        learning_rate = optimizer["learning_rate"] * factor**self.drops
        stalled = (
            "no validation top-1 error"
            if self.best is None
            else f"validation top-1 error not below {self.best:.5g} "
            f"(epoch {self.best_epoch:.4g})"
        )
        return (
            f"{stalled} for {waited:.4g} epochs: learning rate divided by "
            f"{1 / factor:.4g}, to {learning_rate:.4g} "
            f"(drop {self.drops} of {optimizer['plateau_drops']})"
        )
