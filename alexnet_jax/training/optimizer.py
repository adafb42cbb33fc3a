"""The update rule: that of section 5, gradient descent with momentum and decay, or another.

This is the only module that knows the optimizer. A training step, a checkpoint and a
group of trials carry its state as a pytree whose structure they do not look into.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree, UInt32
from ml_collections import ConfigDict

from alexnet_jax.config.layer_rates import of_layers
from alexnet_jax.model.network import layer_of
from alexnet_jax.training.schedule import LearningRates, Scalar


@dataclasses.dataclass(frozen=True)
class OptimizerSpec:
    """What a training step is compiled for: the form of the update rule.

    Attributes:
      name: the rule, by its name in `RULES`.
      lr_inside_momentum: of SGD, whether the learning rate multiplies the gradient inside the
        velocity, as in the paper, or the velocity, as in PyTorch.
      bias_decay: whether biases decay like kernels.
      lr_multipliers: layers with what multiplies their learning rates, where that is not
        1. A layer with 0 is frozen.
      beta1, beta2, epsilon: of AdamW and LAMB, the decays of the mean gradient and of the
        mean of its square, and what is added to the root of that mean.
      trust_coefficient: of LARS.
      decoupled_decay: of SGD, whether the decay is no part of the velocity.
      clip_norm: the largest norm of the gradient of the whole network; 0: any.
      ema_decay: of the average of the parameters; 0: there is none.
    """

    lr_inside_momentum: bool
    bias_decay: bool
    lr_multipliers: tuple[tuple[str, float], ...] = ()
    name: str = "sgd"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    trust_coefficient: float = 0.001
    decoupled_decay: bool = False
    clip_norm: float = 0.0
    ema_decay: float = 0.0

    @staticmethod
    def of(optimizer: ConfigDict, model: ConfigDict) -> "OptimizerSpec":
        """The form that a section `optimizer` asks for, for the network of `model`."""
        factors = of_layers(
            optimizer.layer_lr_multipliers, optimizer.frozen_layers, model
        )
        return OptimizerSpec(
            optimizer.lr_inside_momentum,
            optimizer.bias_decay,
            tuple((layer, factor) for layer, factor in factors.items() if factor != 1),
            optimizer.name,
            optimizer.beta1,
            optimizer.beta2,
            optimizer.epsilon,
            optimizer.trust_coefficient,
            optimizer.decoupled_decay,
            optimizer.clip_norm,
            optimizer.ema_decay,
        )

    @property
    def frozen(self) -> tuple[str, ...]:
        """The layers whose parameters never change."""
        return tuple(layer for layer, factor in self.lr_multipliers if factor == 0)


class Hyperparameters(NamedTuple):
    """The numbers in which trials may differ: traced, so one compilation serves all."""

    learning_rates: LearningRates
    momentum: Scalar
    weight_decay: Scalar
    seed: UInt32[Array, ""] | np.uint32

    @staticmethod
    def of(
        learning_rates: LearningRates,
        *,
        momentum: float,
        weight_decay: float,
        seed: int,
    ) -> "Hyperparameters":
        """The hyperparameters of one step, as NumPy scalars."""
        return Hyperparameters(
            LearningRates(*map(np.float32, learning_rates)),
            np.float32(momentum),
            np.float32(weight_decay),
            np.uint32(seed),
        )

    @staticmethod
    def zero() -> "Hyperparameters":
        """Hyperparameters for which only their shapes and types matter."""
        no_rates = LearningRates(0.0, 0.0, 0.0, 0.0)
        return Hyperparameters.of(no_rates, momentum=0.0, weight_decay=0.0, seed=0)


def make_optimizer(
    spec: OptimizerSpec, hyperparameters: Hyperparameters
) -> optax.GradientTransformation:
    """The update rule of one step, which `spec.name` names.

    A learning rate of 0 leaves its parameters unchanged, bit by bit. The hyperparameters
    may be traced: the structure of the state does not depend on them.

    Each layer's learning rates are multiplied by its factor in `spec.lr_multipliers`,
    after all else that they depend on. Frozen layers do not decay.
    """
    factors = dict(spec.lr_multipliers)

    def rate_of(path: tuple[Any, ...]) -> Scalar:
        rate = hyperparameters.learning_rates.of(path)
        factor = factors.get(layer_of(path[0].key))
        return rate if factor is None else factor * rate

    decay = optax.add_decayed_weights(
        hyperparameters.weight_decay, mask=_decaying(spec)
    )
    descend = optax.stateless(lambda updates, _: _each(_descend, updates, rate_of))
    freeze = optax.stateless(lambda updates, _: _each(_freeze, updates, rate_of))
    rule = RULES[spec.name](Pieces(spec, hyperparameters, decay, descend))
    if spec.clip_norm:  # Pascanu et al. (2013)
        rule = optax.clip_by_global_norm(spec.clip_norm), *rule
    return optax.chain(*rule, freeze)


class Pieces(NamedTuple):
    """What an update rule is made of.

    Attributes:
      spec: its form.
      hyperparameters: its numbers.
      decay: adds weight decay to the parameters that decay.
      descend: scales by minus the learning rate of each parameter.
    """

    spec: OptimizerSpec
    hyperparameters: Hyperparameters
    decay: optax.GradientTransformation
    descend: optax.GradientTransformation


Rule = Callable[[Pieces], tuple[optax.GradientTransformation, ...]]


def _sgd(pieces: Pieces) -> tuple[optax.GradientTransformation, ...]:
    """Section 5. With `lr_inside_momentum`, as in the paper:

        v <- momentum v - learning_rate (weight_decay w + gradient)
        w <- w + v

    so that after a drop the old velocity dies out at the old learning rate. Without it,
    as in `optax.sgd` and PyTorch:

        v <- momentum v + (weight_decay w + gradient)
        w <- w - learning_rate v

    which differs from the first drop on. With `decoupled_decay` the decay enters no
    velocity, but the update of this step alone, at its learning rate (SGDW of Loshchilov
    and Hutter, "Decoupled Weight Decay Regularization").
    """
    decay, descend = pieces.decay, pieces.descend
    momentum = optax.trace(decay=pieces.hyperparameters.momentum)
    inside = pieces.spec.lr_inside_momentum
    moves = (descend, momentum) if inside else (momentum, descend)
    if pieces.spec.decoupled_decay:
        return *moves, _added(optax.chain(decay, descend))
    return decay, *moves


def _added(to_nothing: optax.GradientTransformation) -> optax.GradientTransformation:
    """Adds to the updates what a transformation without a state makes of zeros."""

    def update(updates: Any, params: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, updates)
        found, _ = to_nothing.update(zeros, to_nothing.init(params), params)
        return jax.tree.map(jnp.add, updates, found)

    return optax.stateless(update)


def _adamw(pieces: Pieces) -> tuple[optax.GradientTransformation, ...]:
    """Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019).

    Adam's step and the decay, which no mean enters, both at the learning rate:

        w <- w - learning_rate (mean / (sqrt(mean square) + epsilon) + weight_decay w)
    """
    spec = pieces.spec
    adam = optax.scale_by_adam(spec.beta1, spec.beta2, spec.epsilon)
    return adam, pieces.decay, pieces.descend


def _lamb(pieces: Pieces) -> tuple[optax.GradientTransformation, ...]:
    """You et al., "Large Batch Optimization for Deep Learning" (2020).

    AdamW's update of each kernel and bias, brought to the norm of what it updates before
    the learning rate multiplies it.
    """
    adam, decay, descend = _adamw(pieces)
    return adam, decay, optax.scale_by_trust_ratio(), descend


def _lars(pieces: Pieces) -> tuple[optax.GradientTransformation, ...]:
    """You et al., "Large Batch Training of Convolutional Networks" (2017).

    A kernel's gradient with its decay is brought to `trust_coefficient` times the norm of
    the kernel; biases move as under SGD. The velocity holds the learning rate. As in
    `optax.lars`, the norm is that of the sum of gradient and decay; in the paper it is the
    sum of their norms, which is larger and makes steps shorter.
    """
    ratio = optax.scale_by_trust_ratio(trust_coefficient=pieces.spec.trust_coefficient)
    of_kernels = optax.masked(ratio, _kernels)
    momentum = optax.trace(decay=pieces.hyperparameters.momentum)
    return pieces.decay, of_kernels, pieces.descend, momentum


def _kernels(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key == "kernel", params
    )


# By field optimizer.name: from gradients to updates, one transformation after the other.
RULES: dict[str, Rule] = {
    "sgd": _sgd,
    "adamw": _adamw,
    "lamb": _lamb,
    "lars": _lars,
}


def initial_opt_state(spec: OptimizerSpec, params: PyTree) -> Any:
    """The optimizer's state before the first step, in host memory: zero momentum.

    `params` may hold shapes in place of arrays.
    """
    optimizer = make_optimizer(spec, Hyperparameters.zero())
    return jax.tree.map(  # zeros by NumPy: JAX would compile a program for each shape
        lambda leaf: np.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(optimizer.init, params),
    )


def _each(function: Any, updates: Any, rate_of: Callable[..., Scalar]) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, update: function(update, rate_of(path)), updates
    )


def _descend(update: jax.Array, learning_rate: Scalar) -> jax.Array:
    return -learning_rate * update


def _freeze(update: jax.Array, learning_rate: Scalar) -> jax.Array:
    return jnp.where(learning_rate > 0, update, 0.0)


def _decaying(spec: OptimizerSpec) -> Callable[[Any], Any] | None:
    """From parameters to which of them decay; None: all of them do."""
    if spec.bias_decay and not spec.frozen:
        return None

    def decays(path: tuple[Any, ...]) -> bool:
        name, kind = (part.key for part in path)
        return layer_of(name) not in spec.frozen and (
            spec.bias_decay or kind == "kernel"
        )

    return lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: decays(path), params
    )
