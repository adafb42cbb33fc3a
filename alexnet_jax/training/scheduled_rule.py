"""A run's update rule with its schedule, as one transformation of optax that counts steps.

A run hands the learning rates of each step to `optimizer.make_optimizer`; here they are
found by the number of the step, within the program.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float32, Int, Int32

from alexnet_jax.training.optimizer import (
    Hyperparameters,
    OptimizerSpec,
    make_optimizer,
)
from alexnet_jax.training.schedule import LearningRates, Schedule


class ScheduledState(NamedTuple):
    """The state of a scheduled rule.

    Attributes:
      step: steps done.
      of_rule: the state of the update rule, a pytree such as the velocity.
    """

    step: Int[Array, ""]
    of_rule: Any


def scheduled(
    spec: OptimizerSpec, schedule: Schedule, *, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """The update rule of all steps of a schedule; after the last the learning rates stay.

    Args:
      spec: the form of the rule.
      schedule: not one that follows the validation error.
      momentum, weight_decay: the same at all steps.
    """
    firsts, rates = _by_step(schedule)

    def rule_of(step: jax.Array) -> optax.GradientTransformation:
        row = jnp.searchsorted(firsts, step, side="right") - 1
        now = LearningRates(*jnp.asarray(rates)[row])
        numbers = np.float32(momentum), np.float32(weight_decay), np.uint32(0)
        return make_optimizer(spec, Hyperparameters(now, *numbers))

    def init(params: Any) -> ScheduledState:
        rule = make_optimizer(spec, Hyperparameters.zero())
        return ScheduledState(jnp.zeros((), jnp.int32), rule.init(params))

    def update(
        gradients: Any, state: ScheduledState, params: Any = None
    ) -> tuple[Any, ScheduledState]:
        rule = rule_of(state.step)
        updates, of_rule = rule.update(gradients, state.of_rule, params)
        return updates, ScheduledState(state.step + 1, of_rule)

    return optax.GradientTransformation(init, update)


def _by_step(
    schedule: Schedule,
) -> tuple[Int32[np.ndarray, " changes"], Float32[np.ndarray, "changes 4"]]:
    """The steps, counted from 0, at which learning rates change, and the rates from there."""
    found: list[tuple[int, LearningRates]] = []
    for step in range(schedule.num_steps):
        rates = schedule.learning_rates(step + 1)
        if not found or rates != found[-1][1]:
            found.append((step, rates))
    firsts, rates_from = zip(*found, strict=True)
    return np.array(firsts, np.int32), np.array(rates_from, np.float32)
