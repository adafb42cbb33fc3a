"""A rule that counts its steps makes those of a run, at every learning rate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alexnet_jax.config import base
from alexnet_jax.training.optimizer import (
    Hyperparameters,
    OptimizerSpec,
    make_optimizer,
)
from alexnet_jax.training.schedule import Schedule, ScheduleSpec
from alexnet_jax.training.scheduled_rule import scheduled

STEPS = 12
PARAMS = {
    layer: {"kernel": jnp.linspace(-1, 1, 6), "bias": jnp.ones(2)}
    for layer in ("conv1", "fc8")
}
SOURCE2012 = dataclasses.replace(
    ScheduleSpec.of(base().optimizer),
    drop_epochs=(0.3, 0.6),
    conv1_drop_epochs=(0.45,),
    conv1_stop_epoch=0.8,
)


def gradients(step):
    return jax.tree.map(lambda leaf: jnp.sin(leaf * (step + 1)), PARAMS)


def by_hand(spec, schedule, steps):
    """As a run does: each step with the numbers that the host has found for it."""
    params = PARAMS
    state = make_optimizer(spec, Hyperparameters.zero()).init(params)
    for step in range(steps):
        rates = schedule.learning_rates(min(step + 1, schedule.num_steps))
        numbers = Hyperparameters.of(rates, momentum=0.9, weight_decay=0.01, seed=0)
        rule = make_optimizer(spec, numbers)
        updates, state = rule.update(gradients(step), state, params)
        params = optax.apply_updates(params, updates)
        yield params


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bias_drops": True, "bias_lr_multiplier": 2.0},
        {"schedule": "constant"},
        {"schedule": "cosine"},
        {"schedule": "cosine", "warmup_epochs": 0.4},
        {"warmup_epochs": 0.4},
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_each_step_is_that_of_a_run(changes, inside):
    spec = OptimizerSpec(lr_inside_momentum=inside, bias_decay=False)
    numbers = dataclasses.replace(SOURCE2012, **changes)
    schedule = Schedule(STEPS * 10, 10, STEPS, numbers)
    rule = scheduled(spec, schedule, momentum=0.9, weight_decay=0.01)
    params, state = PARAMS, rule.init(PARAMS)
    # Further steps keep the last rates.
    for step, expected in enumerate(by_hand(spec, schedule, STEPS + 3)):
        updates, state = rule.update(gradients(step), state, params)
        params = optax.apply_updates(params, updates)
        for one, other in zip(
            jax.tree.leaves(params), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    assert int(state.step) == STEPS + 3


def test_a_schedule_of_many_steps_is_a_few_numbers():
    """They are constants of the compiled step."""
    optimizer, training = base().optimizer, base().training
    schedule = Schedule.of(training, optimizer, 1_281_167)
    schedule = dataclasses.replace(schedule, batch_size=64_000, num_steps=1800)
    rule = scheduled(
        OptimizerSpec(True, False), schedule, momentum=0.9, weight_decay=0.0
    )
    program = jax.jit(rule.update).lower(PARAMS, rule.init(PARAMS), PARAMS).as_text()
    assert len(program) < 20_000
