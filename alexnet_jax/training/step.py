"""One step of training and one of evaluation, for one device: pure functions.

Each sees its device's share of the batch; collectives over the axis 'batch' make the
whole. `parallel.py` spreads them over the devices.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt8, UInt32

from alexnet_jax.model.network import Network, Params
from alexnet_jax.training.optimizer import Scalar, update_rule

AXIS = "batch"

Batch = dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a step changes: the same on every device."""

    step: (
        Any  # int32, no axes; as a pytree it may hold shapes or shardings in its place
    )
    params: Params
    velocity: Any


class Numbers(NamedTuple):
    """What trials vary: traced, so that one compilation serves them all."""

    learning_rate: Scalar
    momentum: Scalar
    weight_decay: Scalar
    seed: UInt32[Array, ""] | np.uint32


class Counts(NamedTuple):
    """Sums over the examples of a step, over all devices."""

    examples: Int[Array, ""]
    loss: Float[Array, ""]
    top1_errors: Int[Array, ""]
    top5_errors: Int[Array, ""]


TrainStep = Callable[[TrainState, Batch, Numbers, jax.Array], tuple[TrainState, Counts]]
EvalStep = Callable[[Params, Batch, jax.Array], Counts]


def initial_state(network: Network, seed: int) -> TrainState:
    """First weights drawn with `seed`, at rest."""
    params = network.initialize(jax.random.key(seed))
    rule = update_rule(learning_rate=0.0, momentum=0.0, weight_decay=0.0)
    return TrainState(jnp.zeros((), jnp.int32), params, rule.init(params))


def make_train_step(network: Network) -> TrainStep:
    """Returns train_step(state, batch, numbers, mean_image) -> state, counts.

    The counts are of the batch before the update, with dropout on.
    """

    def train_step(
        state: TrainState,
        batch: Batch,
        numbers: Numbers,
        mean_image: Float[Array, "h w 3"],
    ) -> tuple[TrainState, Counts]:
        keys = dropout_keys(numbers.seed, batch["epoch"], batch["example"])
        images = network_input(batch["image"], mean_image, batch["lighting"])

        def mean_loss(params: Params) -> tuple[jax.Array, Counts]:
            logits = network.apply(params, images, keys)
            counts = count(logits, batch["label"], batch["weight"])
            return counts.loss / len(batch["label"]), counts

        # Under shard_map's check_vma, gradients with respect to parameters that count
        # as equal on all devices come out summed over the devices. Marked as varying,
        # they come out as each device's own, there and under pmap alike.
        params = lax.pcast(state.params, AXIS, to="varying")
        gradients, counts = jax.grad(mean_loss, has_aux=True)(params)
        gradients = lax.pmean(gradients, AXIS)

        rule = update_rule(
            learning_rate=numbers.learning_rate,
            momentum=numbers.momentum,
            weight_decay=numbers.weight_decay,
        )
        updates, velocity = rule.update(gradients, state.velocity, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, velocity), lax.psum(counts, AXIS)

    return train_step


def make_eval_step(network: Network) -> EvalStep:
    """Returns eval_step(params, batch, mean_image) -> counts, without dropout."""

    def eval_step(
        params: Params, batch: Batch, mean_image: Float[Array, "h w 3"]
    ) -> Counts:
        images = network_input(batch["image"], mean_image, batch["lighting"])
        logits = network.apply(params, images, None)
        return lax.psum(count(logits, batch["label"], batch["weight"]), AXIS)

    return eval_step


def network_input(
    images: UInt8[Array, "n h w 3"],
    mean_image: Float[Array, "h w 3"],
    lighting: Float[Array, "n 3"],
) -> Float[Array, "n h w 3"]:
    """Grey levels of 0..255, minus the mean image, plus each image's colour shift."""
    return images.astype(jnp.float32) - mean_image[None] + lighting[:, None, None, :]


def dropout_keys(
    seed: UInt32[Array, ""] | np.uint32,
    epochs: Int[Array, " n"],
    examples: Int[Array, " n"],
) -> Key[Array, " n"]:
    """One key an example, of (seed, epoch, example): whatever the number of devices."""
    root = jax.random.key(seed)

    def key(epoch: jax.Array, example: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(root, epoch), example)

    return jax.vmap(key)(epochs, examples)


def count(
    logits: Float[Array, "n classes"],
    labels: Int[Array, " n"],
    weights: Float[Array, " n"],
) -> Counts:
    """Cross-entropy (nats) and errors, summed over the examples of weight 1.

    An example is a top-5 error if its label is not among the five largest logits; of
    equal logits the lower class counts as the larger.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    _, best = lax.top_k(logits, min(5, logits.shape[-1]))
    hits = best == labels[:, None]
    real = weights > 0
    return Counts(
        examples=real.sum(dtype=jnp.int32),
        loss=jnp.where(real, losses, 0.0).sum(),
        top1_errors=(real & ~hits[:, 0]).sum(dtype=jnp.int32),
        top5_errors=(real & ~hits.any(axis=-1)).sum(dtype=jnp.int32),
    )
