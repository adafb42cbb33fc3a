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
from jaxtyping import Array, Float, Int, Key, UInt32

from alexnet_jax.model.network import Network, Params
from alexnet_jax.training.inputs import (
    Batch,
    InputForm,
    train_input,
    view_input,
    views,
)
from alexnet_jax.training.optimizer import Rates, Scalar, update_rule

AXIS = "batch"


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

    rates: Rates
    momentum: Scalar
    weight_decay: Scalar
    seed: UInt32[Array, ""] | np.uint32


@dataclasses.dataclass(frozen=True)
class Rule:
    """What of the update rule a compiled step is made for: see `optimizer.py`."""

    rate_in_velocity: bool
    bias_decay: bool


class Counts(NamedTuple):
    """Sums over the examples of a step, over all devices."""

    examples: Int[Array, ""]
    loss: Float[Array, ""]
    top1_errors: Int[Array, ""]
    top5_errors: Int[Array, ""]


class TrainCounts(NamedTuple):
    """The same of a step of training, and the norm of the gradient of the mean loss."""

    examples: Int[Array, ""] | np.int32
    loss: Float[Array, ""] | np.float32
    top1_errors: Int[Array, ""] | np.int32
    top5_errors: Int[Array, ""] | np.int32
    gradient_norm: Float[Array, ""] | np.float32


TrainStep = Callable[
    [TrainState, Batch, Numbers, jax.Array], tuple[TrainState, TrainCounts]
]
EvalStep = Callable[[Params, Batch, jax.Array], Counts]


def initial_state(network: Network, seed: int, rule: Rule) -> TrainState:
    """First weights drawn with `seed`, at rest."""
    params = network.initialize(jax.random.key(seed))
    no_rates = Rates(0.0, 0.0, 0.0, 0.0)
    update = update_rule(
        rates=no_rates, momentum=0.0, weight_decay=0.0, **dataclasses.asdict(rule)
    )
    velocity = jax.tree.map(  # zeros by numpy: by JAX they are a program a shape
        lambda leaf: np.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(update.init, params),
    )
    return TrainState(np.zeros((), np.int32), params, velocity)


def make_train_step(
    network: Network, form: InputForm, rule: Rule, accumulation: int = 1
) -> TrainStep:
    """Returns train_step(state, batch, numbers, mean) -> state, counts.

    `mean` is `form.mean_of(...)`. The counts are of the batch before the update, with
    dropout on. With `accumulation`, each device takes its share in so many parts, one
    after the other, in the memory that one needs, and updates once: to rounding the same.
    """

    def train_step(
        state: TrainState,
        batch: Batch,
        numbers: Numbers,
        mean: Float[Array, "h w 3"],
    ) -> tuple[TrainState, TrainCounts]:
        # Under shard_map's check_vma, gradients with respect to parameters that count
        # as equal on all devices come out summed over the devices. Marked as varying,
        # they come out as each device's own, there and under pmap alike.
        varying = lax.pcast(state.params, AXIS, to="varying")

        def gradients_of(part: Batch) -> tuple[Params, Counts]:
            keys = dropout_keys(numbers.seed, part["epoch"], part["example"])
            images = train_input(part, mean, form)

            def mean_loss(params: Params) -> tuple[jax.Array, Counts]:
                logits = network.apply(params, images, keys)
                counts = count(logits, part["label"], jnp.ones(len(images)))
                return counts.loss / len(images), counts

            return jax.grad(mean_loss, has_aux=True)(varying)

        gradients, counts = _in_parts(gradients_of, batch, accumulation)
        gradients = lax.pmean(gradients, AXIS)
        counts = lax.psum(counts, AXIS)

        update = update_rule(
            rates=numbers.rates,
            momentum=numbers.momentum,
            weight_decay=numbers.weight_decay,
            **dataclasses.asdict(rule),
        )
        updates, velocity = update.update(gradients, state.velocity, state.params)
        params = optax.apply_updates(state.params, updates)
        after = TrainState(state.step + 1, params, velocity)
        norm = optax.tree.norm(gradients)
        return after, TrainCounts(**counts._asdict(), gradient_norm=norm)

    return train_step


def _in_parts(
    gradients_of: Callable[[Batch], tuple[Params, Counts]], batch: Batch, count: int
) -> tuple[Params, Counts]:
    """The mean of the parts' gradients and the sum of their counts."""
    if count == 1:
        return gradients_of(batch)
    parts = {
        name: values.reshape(count, -1, *values.shape[1:])
        for name, values in batch.items()
    }
    shapes = jax.eval_shape(gradients_of, {name: p[0] for name, p in parts.items()})
    nothing = jax.tree.map(
        lambda leaf: lax.pcast(jnp.zeros(leaf.shape, leaf.dtype), AXIS, to="varying"),
        shapes,
    )

    def add(
        total: tuple[Params, Counts], part: Batch
    ) -> tuple[tuple[Params, Counts], None]:
        return jax.tree.map(jnp.add, total, gradients_of(part)), None

    (gradients, counts), _ = lax.scan(add, nothing, parts)
    return jax.tree.map(lambda leaf: leaf / count, gradients), counts


def make_eval_step(network: Network, form: InputForm, ensemble: int = 1) -> EvalStep:
    """Returns eval_step(params, batch, mean) -> counts, without dropout.

    Of several views the probabilities are averaged, not the logits (section 4.1); so are
    those of the networks of an ensemble, whose parameters lie along a first axis.
    """

    def eval_step(params: Params, batch: Batch, mean: Float[Array, "h w 3"]) -> Counts:
        images = batch["image"]
        places = views(images.shape[1], form)

        def of_view(one: Params, place: jax.Array) -> Float[Array, "n classes"]:
            x = view_input(images, place, mean, form)
            return jax.nn.log_softmax(network.apply(one, x, None))

        def of_network(one: Params) -> Float[Array, "n classes"]:
            if len(places) == 1:
                return of_view(one, jnp.asarray(places[0]))
            return averaged(lambda place: of_view(one, place), jnp.asarray(places))

        found = of_network(params) if ensemble == 1 else averaged(of_network, params)
        return lax.psum(count(found, batch["label"], batch["weight"]), AXIS)

    return eval_step


def train_population(train_step: TrainStep, streams: tuple[int, ...]) -> TrainStep:
    """`train_step` of several trials at once, by `jax.vmap`.

    State, numbers and counts have a first axis, a place a trial. Batches have a second
    one, a place a stream: trial i reads the stream `streams[i]`.
    """

    def population_step(
        state: TrainState, batch: Batch, numbers: Numbers, mean: jax.Array
    ) -> tuple[TrainState, TrainCounts]:
        own = {name: values[:, np.array(streams)] for name, values in batch.items()}
        step = jax.vmap(train_step, in_axes=(0, 1, 0, None))
        return step(state, own, numbers, mean)

    return population_step


def evaluate_population(eval_step: EvalStep) -> EvalStep:
    """`eval_step` of several networks: parameters and counts have a first axis."""
    return jax.vmap(eval_step, in_axes=(0, None, None))


def averaged(
    log_probabilities: Callable[[Any], Float[Array, "n classes"]], each: Any
) -> Float[Array, "n classes"]:
    """The logarithm of the mean probability over the first axis of `each`.

    One after the other: memory for one.
    """
    of_each = lax.map(log_probabilities, each)
    return jax.nn.logsumexp(of_each, axis=0) - jnp.log(len(of_each))


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
