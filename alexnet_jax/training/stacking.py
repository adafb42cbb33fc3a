"""Turns a step of one trial into a step of a group of trials, and stacks what they need.

A group's state, hyperparameters and counts have a leading axis of trials. Its training
batches have an axis of slots after that of the examples, because trials with the same
seed see the same images (`SeedSlots`). This is the only module that treats a single trial
on a device in its own way: `jax.vmap` over an axis of length 1 would compile the network
differently, so the axis is removed and the gradients are computed as they are.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax.training.step import (
    Batch,
    Counts,
    EvalStep,
    GradientStep,
    Hyperparameters,
    Params,
    TrainCounts,
    TrainState,
    TrainStep,
    Update,
    joined,
)


@dataclasses.dataclass(frozen=True)
class SeedSlots:
    """Where the trials of a group find their images in the batches of the group.

    A batch has an axis of slots, each with the images of one seed. It is shared out among
    the parts in which the devices take the trials; each part has the same number of slots
    and of trials.

    Attributes:
      seeds: the seed of each slot.
      index: for each trial of a part, its slot among those of the part; the same for all
        parts, because they run the same program.
      parts: the number of parts.
    """

    seeds: tuple[int, ...]
    index: tuple[int, ...] = (0,)
    parts: int = 1

    @staticmethod
    def of(seeds: Sequence[int], parts: int = 1) -> "SeedSlots":
        """The slots of trials with these seeds.

        Trials with the same seed share a slot; in several parts only if they can do so in
        each part alike.
        """
        size = len(seeds) // parts
        of_parts = [seeds[start : start + size] for start in range(0, len(seeds), size)]
        indices = {_seed_index(part) for part in of_parts}
        if len(indices) > 1:
            return SeedSlots(tuple(seeds), tuple(range(size)), parts)
        slots = [seed for part in of_parts for seed in dict.fromkeys(part)]
        return SeedSlots(tuple(slots), indices.pop(), parts)

    @property
    def num_trials(self) -> int:
        """The number of trials in the group."""
        return self.parts * len(self.index)

    def slot_of(self, trial: int) -> int:
        """The slot of trial number `trial` of the group."""
        part, number = divmod(trial, len(self.index))
        return part * (len(self.seeds) // self.parts) + self.index[number]


def _seed_index(seeds: Sequence[int]) -> tuple[int, ...]:
    """For each seed, its place among the different ones."""
    different = list(dict.fromkeys(seeds))
    return tuple(different.index(seed) for seed in seeds)


def stack_train_step(
    gradient_step: GradientStep, update: Update, seed_index: tuple[int, ...]
) -> TrainStep:
    """A training step of several trials at once: trial i reads slot `seed_index[i]`."""

    def of_several(
        state: TrainState, batch: Batch, hyperparameters: Hyperparameters, mean: Any
    ) -> tuple[TrainState, TrainCounts]:
        own = {name: values[:, np.array(seed_index)] for name, values in batch.items()}
        step = jax.vmap(joined(gradient_step, update), in_axes=(0, 1, 0, None))
        return step(state, own, hyperparameters, mean)

    def of_one(
        state: TrainState, batch: Batch, hyperparameters: Hyperparameters, mean: Any
    ) -> tuple[TrainState, TrainCounts]:
        own = {name: jnp.squeeze(values, 1) for name, values in batch.items()}

        def first_gradient_step(params: Params, *arguments: Any) -> Any:
            return gradient_step(_first(params), *arguments)

        # The update keeps the axis of length 1. Without it, XLA would copy the whole state,
        # where this updates it in place. The axis comes before the division, as a reshape
        # within the fused update would round it otherwise.
        step = joined(
            first_gradient_step,
            jax.vmap(update, in_axes=(0, 0, None)),
            lambda summed: lax.optimization_barrier(_with_axis(summed)),
        )
        after, totals = step(state, own, _first(hyperparameters), mean)
        return after, _with_axis(totals)

    return of_one if len(seed_index) == 1 else of_several


def stack_eval_step(eval_step: EvalStep, num_trials: int) -> EvalStep:
    """`eval_step` of several networks at once: params and counts have the axis of trials.

    All networks are evaluated on the same batch, which has no further axis.
    """
    if num_trials > 1:
        return jax.vmap(eval_step, in_axes=(0, None, None))

    def single_step(params: Params, batch: Batch, mean: Any) -> Counts:
        return _with_axis(eval_step(_first(params), batch, mean))

    return single_step


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.squeeze(leaf, 0), tree)


def _with_axis(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 0), tree)


def stack(trees: Sequence[Any]) -> Any:
    """Trees of single trials, stacked along a new leading axis in host memory."""
    if len(trees) == 1:  # a view, where np.stack would copy the weights
        return jax.tree.map(lambda leaf: np.asarray(leaf)[None], trees[0])
    return jax.tree.map(
        lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees
    )


def stacked_shapes(of_one: Any, num_trials: int) -> Any:
    """The shapes of `num_trials` stacked trees with the shapes of `of_one`."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((num_trials, *leaf.shape), leaf.dtype), of_one
    )


def stack_batches(batches: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Batches of different seeds, stacked along a second axis in host memory.

    The axis of the examples stays the first one: it is shared out among the devices.
    """
    if len(batches) == 1:  # a view, where np.stack would copy the images
        return {name: values[:, None] for name, values in batches[0].items()}
    return {
        name: np.stack([one[name] for one in batches], axis=1) for name in batches[0]
    }


def unstack(stacked: Any, trial: int, sharding: jax.sharding.Sharding) -> Any:
    """The tree of one trial, copied out of the group's on the devices of `sharding`."""
    return _slicer(sharding)(stacked, trial)


@functools.cache
def _slicer(sharding: jax.sharding.Sharding) -> Callable[[Any, int], Any]:
    """One program for all places of the leading axis."""
    return jax.jit(
        lambda tree, place: jax.tree.map(
            lambda leaf: lax.dynamic_index_in_dim(leaf, place, keepdims=False), tree
        ),
        out_shardings=sharding,
    )
