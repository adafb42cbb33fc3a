"""One step of training and one of evaluation on one device, as pure functions (section 5).

Each function sees its device's share of the batch; collectives over the axis 'batch'
combine the devices. `stacking.py` makes these steps work on several trials, `devices.py`
spreads them over the devices.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt32

from alexnet_jax.model.layers import AXIS
from alexnet_jax.model.network import Network, Params, layer_of, root_key, split, united
from alexnet_jax.training.objective import Objective, Targets
from alexnet_jax.training.optimizer import (
    Hyperparameters,
    OptimizerSpec,
    initial_opt_state,
    make_optimizer,
)
from alexnet_jax.training.preprocess import (
    Batch,
    InputForm,
    crop_input,
    crop_places,
    train_input,
)

CROSS_ENTROPY = Objective()  # of evaluations, whatever was minimized


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a step changes: the same on all devices that share a batch.

    Attributes:
      step: steps done, int32 without axes. As in every pytree, shapes or shardings may
        stand in place of the arrays.
      params: the network's parameters: what is evaluated and saved.
      opt_state: the optimizer's state; only `optimizer.py` knows its structure.
      raw: where `params` are an average, what it is an average of; else None.
    """

    step: Any
    params: Params
    opt_state: Any
    raw: Params | None = None

    @property
    def trained(self) -> Params:
        """The parameters that gradients are taken of, and that an update changes."""
        return self.params if self.raw is None else self.raw

    def starting_from(self, params: Params) -> "TrainState":
        """Returns the state before the first step that has these parameters."""
        raw = None if self.raw is None else jax.tree.map(np.array, params)
        return dataclasses.replace(self, params=params, raw=raw)


class Counts(NamedTuple):
    """Sums over the examples of a step, over all devices; the loss in nats."""

    examples: Int[Array, "*trials"]
    loss: Float[Array, "*trials"]
    top1_errors: Int[Array, "*trials"]
    top5_errors: Int[Array, "*trials"]


class TrainCounts(NamedTuple):
    """`Counts` of a training step, and the norm of the mean loss's gradient.

    Read to the host, those of a single trial are NumPy scalars.
    """

    examples: Int[Array, "*trials"] | np.int32
    loss: Float[Array, "*trials"] | np.float32
    top1_errors: Int[Array, "*trials"] | np.int32
    top5_errors: Int[Array, "*trials"] | np.int32
    gradient_norm: Float[Array, "*trials"] | np.float32


class Changes(NamedTuple):
    """What an update makes new parameters of.

    Attributes:
      gradients: of what is learned.
      statistics: the running statistics after the batch; {} unless the network has some.
    """

    gradients: Params
    statistics: Params


GradientStep = Callable[
    [Params, Batch, UInt32[Array, ""] | np.uint32, jax.Array], tuple[Changes, Counts]
]
Loss = Callable[..., tuple[jax.Array, tuple[Counts, Params]]]
Update = Callable[[TrainState, Changes, Hyperparameters], TrainState]
TrainStep = Callable[
    [TrainState, Batch, Hyperparameters, jax.Array], tuple[TrainState, TrainCounts]
]
EvalStep = Callable[[Params, Batch, jax.Array], Counts]
Prediction = Callable[[Params, jax.Array, jax.Array], jax.Array]


def initial_state(network: Network, seed: int, spec: OptimizerSpec) -> TrainState:
    """Initial weights drawn with `seed`, and zero momentum."""
    state = _before_training(network.initialize(root_key(seed)), spec)
    return state.starting_from(state.params)


def state_shapes(network: Network, spec: OptimizerSpec) -> TrainState:
    """The shapes and types of a trial's state; nothing is compiled or computed."""
    params = jax.eval_shape(network.initialize, root_key(0))
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        _before_training(params, spec),
    )


def _before_training(params: Params, spec: OptimizerSpec) -> TrainState:
    opt_state = initial_opt_state(spec, split(params)[0])
    raw = params if spec.ema_decay else None
    return TrainState(np.zeros((), np.int32), params, opt_state, raw)


def joined(
    gradient_step: GradientStep,
    update: Update,
    before_update: Callable[[Changes], Changes] = lambda summed: summed,
) -> TrainStep:
    """Returns train_step(state, batch, hyperparameters, mean) -> (state, counts).

    The counts are those of the batch before the update.

    Args:
      gradient_step, update: the two parts of a step.
      before_update: applied to the changes, summed over all devices, that are handed to
        `update`.
    """

    def train_step(
        state: TrainState,
        batch: Batch,
        hyperparameters: Hyperparameters,
        mean: Float[Array, "h w 3"],
    ) -> tuple[TrainState, TrainCounts]:
        changes, counts = gradient_step(
            state.trained, batch, hyperparameters.seed, mean
        )
        summed = lax.psum(changes, AXIS)
        totals = _total_counts(counts, _mean_over_devices(summed.gradients))
        mean_changes = _mean_over_devices(before_update(summed))
        return update(state, mean_changes, hyperparameters), totals

    return train_step


def _mean_over_devices(summed: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf / lax.axis_size(AXIS), summed)


def _total_counts(counts: Counts, gradients: Params) -> TrainCounts:
    """The counts of all devices, and the norm of the gradients of the whole batch."""
    counts = lax.psum(counts, AXIS)
    norm = optax.tree.norm(gradients)
    return TrainCounts(**counts._asdict(), gradient_norm=norm)


def make_gradient_step(
    network: Network,
    form: InputForm,
    microbatches: int,
    frozen: Collection[str] = (),
    objective: Objective = CROSS_ENTROPY,
) -> GradientStep:
    """Returns gradient_step(params, batch, seed, mean) -> (changes, counts).

    Both results are of this device's share of the batch. `mean` is `form.mean_of(...)`;
    dropout is on, with masks drawn by `seed`.

    With several `microbatches` (gradient accumulation), each device splits its share into
    that many parts and computes their gradients one after the other, in the memory that
    one part needs: the same to rounding.

    The gradients of the layers `frozen` are zeros. Those below the first other layer cost
    no backward pass.
    """
    gradients_of = jax.grad(make_loss(network, frozen, objective), has_aux=True)

    def gradient_step(
        params: Params,
        batch: Batch,
        seed: UInt32[Array, ""] | np.uint32,
        mean: Float[Array, "h w 3"],
    ) -> tuple[Changes, Counts]:
        # Under shard_map's check_vma, gradients with respect to parameters that count
        # as equal on all devices come out summed over the devices. Marked as varying,
        # they come out as each device's own, there and under pmap alike.
        learned, statistics = split(lax.pcast(params, AXIS, to="varying"))

        def changes_of(part: Batch) -> tuple[Changes, Counts]:
            keys = dropout_keys(seed, part["epoch"], part["example"])
            given = statistics, train_input(part, mean, form), part["label"], keys
            gradients, (counts, after) = gradients_of(learned, *given)
            return Changes(gradients, after), counts

        return _accumulated(changes_of, batch, microbatches)

    return gradient_step


def make_loss(network: Network, frozen: Collection[str], objective: Objective) -> Loss:
    """Returns loss(learned, statistics, inputs, labels, keys) -> (mean, (counts, after)).

    `keys`, one an example, draw dropout and how the inputs are mixed; `after` are the
    running statistics after the batch.
    """

    def loss(
        learned: Params, statistics: Params, inputs: Any, labels: Any, keys: Any
    ) -> tuple[jax.Array, tuple[Counts, Params]]:
        images, targets = objective.mixed(inputs, labels, keys)
        fixed = lax.stop_gradient(_in_layers(frozen, learned))
        params = united(learned | fixed, statistics)
        logits, after = network.train(params, images, keys, frozen)
        losses = objective.losses(logits, targets)
        counts = count(logits, targets.labels, jnp.ones(len(images)), losses)
        return counts.loss / len(images), (counts, after)

    return loss


def make_update(spec: OptimizerSpec) -> Update:
    """Returns update(state, changes, hyperparameters) -> the state after the step."""

    def update(
        state: TrainState, changes: Changes, hyperparameters: Hyperparameters
    ) -> TrainState:
        learned, _ = split(state.trained)
        optimizer = make_optimizer(spec, hyperparameters)
        updates, opt_state = optimizer.update(
            changes.gradients, state.opt_state, learned
        )
        params = united(optax.apply_updates(learned, updates), changes.statistics)
        # Adding an update of zero would change the sign of a weight of -0.0.
        params = params | _in_layers(spec.frozen, state.trained)
        if state.raw is None:
            return TrainState(state.step + 1, params, opt_state)
        average = _averaged(state.params, params, spec.ema_decay, state.step)
        average = average | _in_layers(spec.frozen, state.params)
        return TrainState(state.step + 1, average, opt_state, raw=params)

    return update


def _averaged(average: Params, params: Params, decay: float, step: jax.Array) -> Params:
    """The exponential moving average after a step: Polyak and Juditsky (1992).

    Early ones keep less of themselves, as in TensorFlow, so that the initial weights are
    soon forgotten.
    """
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(
        lambda mean, new: mean + (1 - kept) * (new - mean), average, params
    )


def _in_layers(layers: Collection[str], params: Params) -> Params:
    """The parameters that belong to these layers."""
    return {name: leaves for name, leaves in params.items() if layer_of(name) in layers}


def _accumulated(
    changes_of: Callable[[Batch], tuple[Changes, Counts]], batch: Batch, count: int
) -> tuple[Changes, Counts]:
    """The mean of the changes by `count` microbatches, and the sum of their counts."""
    if count == 1:
        return changes_of(batch)
    parts = {
        name: values.reshape(count, -1, *values.shape[1:])
        for name, values in batch.items()
    }
    shapes = jax.eval_shape(changes_of, {name: p[0] for name, p in parts.items()})
    # For shard_map's check_vma the sums differ between devices wherever their batches do.
    # So does a zero that is made of the batch.
    zero = 0 * batch["label"].reshape(-1)[0]
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype) + zero.astype(leaf.dtype), shapes
    )

    def add(
        total: tuple[Changes, Counts], part: Batch
    ) -> tuple[tuple[Changes, Counts], None]:
        return jax.tree.map(jnp.add, total, changes_of(part)), None

    (changes, counts), _ = lax.scan(add, zeros, parts)
    return jax.tree.map(lambda leaf: leaf / count, changes), counts


def make_eval_step(network: Network, form: InputForm, ensemble: int = 1) -> EvalStep:
    """Returns eval_step(params, batch, mean) -> counts, without dropout.

    Counted are losses and errors of the probabilities, averaged over crops and ensemble.
    """
    prediction = make_prediction(network, form, ensemble)

    def eval_step(params: Params, batch: Batch, mean: Float[Array, "h w 3"]) -> Counts:
        found, labels = prediction(params, batch["image"], mean), batch["label"]
        losses = CROSS_ENTROPY.losses(found, Targets(labels))
        return lax.psum(count(found, labels, batch["weight"], losses), AXIS)

    return eval_step


def make_prediction(network: Network, form: InputForm, ensemble: int = 1) -> Prediction:
    """Returns prediction(params, images, mean) -> log-probabilities, (n, classes).

    The images are uint8, whole: (n, side, side, 3). There is no dropout. Over several
    crops of an image the probabilities are averaged, not the logits (section 4.1). So are
    those of the networks of an ensemble, whose parameters have a leading axis of networks.
    """

    def prediction(
        params: Params, images: jax.Array, mean: Float[Array, "h w 3"]
    ) -> Float[Array, "n classes"]:
        places = crop_places(images.shape[1], form)

        def of_crop(one: Params, place: jax.Array) -> Float[Array, "n classes"]:
            x = crop_input(images, place, mean, form)
            return jax.nn.log_softmax(network.apply(one, x, None))

        def of_network(one: Params) -> Float[Array, "n classes"]:
            if len(places) == 1:
                return of_crop(one, jnp.asarray(places[0]))
            return averaged(lambda place: of_crop(one, place), jnp.asarray(places))

        return of_network(params) if ensemble == 1 else averaged(of_network, params)

    return prediction


def averaged(
    log_probabilities: Callable[[Any], Float[Array, "n classes"]], each: Any
) -> Float[Array, "n classes"]:
    """The logarithm of the mean probability over the leading axis of `each`.

    Computed one after the other, in the memory that one needs.
    """
    of_each = lax.map(log_probabilities, each)
    return jax.nn.logsumexp(of_each, axis=0) - jnp.log(len(of_each))


def dropout_keys(
    seed: UInt32[Array, ""] | np.uint32,
    epochs: Int[Array, " n"],
    examples: Int[Array, " n"],
) -> Key[Array, " n"]:
    """One key an example, a function of (seed, epoch, example) and of no device."""
    root = jax.random.key(seed)

    def key(epoch: jax.Array, example: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(root, epoch), example)

    return jax.vmap(key)(epochs, examples)


def count(
    logits: Float[Array, "n classes"],
    labels: Int[Array, " n"],
    weights: Float[Array, " n"],
    losses: Float[Array, " n"],
) -> Counts:
    """Losses (nats) and errors, summed over the examples of weight 1.

    An example is a top-5 error if its label is not among the five largest logits. Of
    equal logits, that of the lower class counts as the larger.
    """
    _, best = lax.top_k(logits, min(5, logits.shape[-1]))
    hits = best == labels[:, None]
    real = weights > 0
    return Counts(
        examples=real.sum(dtype=jnp.int32),
        loss=jnp.where(real, losses, 0.0).sum(),
        top1_errors=(real & ~hits[:, 0]).sum(dtype=jnp.int32),
        top5_errors=(real & ~hits.any(axis=-1)).sum(dtype=jnp.int32),
    )
