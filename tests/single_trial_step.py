"""The training step of a run for a single trial, without the axis of trials around it."""

import jax
import jax.numpy as jnp

from alexnet_jax.training import step as steps
from alexnet_jax.training.stacking import stack_train_step


def single_trial_step(network, form, rule, microbatches=1):
    """train_step(state, batch, hyperparameters, mean), by that of a group of one trial."""
    gradient_step = steps.make_gradient_step(network, form, microbatches, rule.frozen)
    of_group = stack_train_step(gradient_step, steps.make_update(rule), (0,))

    def train_step(state, batch, hyperparameters, mean):
        state, hyperparameters = jax.tree.map(
            lambda leaf: jnp.asarray(leaf)[None], (state, hyperparameters)
        )
        batch = {name: values[:, None] for name, values in batch.items()}
        after = of_group(state, batch, hyperparameters, mean)
        return jax.tree.map(lambda leaf: leaf[0], after)

    return train_step
