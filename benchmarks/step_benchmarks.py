"""Times the whole train step, and its parameter update, against plain JAX and PyTorch.

`run.py` runs this module as a process of its own. The network is the paper's recipe with
the 2012 code's padding of conv1, (0, 3), and normalization by tower; the batch is noise.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.model.network import Network, build
from alexnet_jax.training import step as steps
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.optimizer import (
    Hyperparameters,
    OptimizerSpec,
    make_optimizer,
)
from alexnet_jax.training.preprocess import InputForm
from alexnet_jax.training.schedule import LearningRates
from alexnet_jax.training.stacking import stack, stack_batches, stack_train_step
from benchmarks import library_baselines, torch_baselines
from benchmarks.timing import (
    BenchmarkSettings,
    Comparison,
    Implementation,
    print_report,
    set_precision,
)

HYPERPARAMETERS = Hyperparameters(
    LearningRates(*[np.float32(0.001)] * 4),
    np.float32(0.9),
    np.float32(0.0005),
    np.uint32(0),
)
OPTIMIZER_SPEC = OptimizerSpec(lr_inside_momentum=True, bias_decay=False)


def step_comparisons(settings: BenchmarkSettings) -> Iterator[Comparison]:
    """Yields the comparisons of the train step with two towers, with one, and its update.

    Raises:
      ValueError: if the losses of our step and of plain JAX disagree.
    """
    yield compare_steps(
        "two-tower step",
        2,
        {"core": {"plain": 0.25, "torch": 0.80}, "all": {"plain": 0.25, "torch": 1.0}},
        settings,
    )
    yield compare_steps(
        "one-tower step", 1, {"core": {"plain": 0.70, "torch": 0.95}}, settings
    )
    yield compare_updates()


def compare_steps(
    name: str,
    towers: int,
    targets: dict[str, dict[str, float]],
    settings: BenchmarkSettings,
) -> Comparison:
    ours = build_network(towers, settings)
    plain = dataclasses.replace(ours, apply=plain_apply(towers, settings))
    implementations: dict[str, Implementation] = {
        "ours": train_step(ours, settings),
        "plain": train_step(plain, settings),
    }
    loss, expected = (float(implementations[one]()) for one in ("ours", "plain"))
    tolerance = 0.02 if settings.dtype == "bfloat16" else 1e-4
    if abs(loss - expected) > tolerance * expected:
        raise ValueError(f"{name}: our loss is {loss}, that of plain JAX {expected}.")
    if torch_baselines.pytorch():
        implementations["torch"] = torch_baselines.train_step(
            towers, noise_batch(settings.batch_size), settings.dtype
        )
    return Comparison(name, implementations, targets)


def network_settings(towers: int, settings: BenchmarkSettings) -> dict[str, Any]:
    """Returns the model section of the config: the paper's recipe, as the docs say."""
    config = base()
    config.recipe = "paper"
    return resolve(config, {}).settings.model.as_configdict().to_dict() | {
        "towers": towers,
        "conv1_padding": "after",
        "norm_across_towers": False,
        "dtype": settings.array_dtype.__name__,
    }


def build_network(towers: int, settings: BenchmarkSettings) -> Network:
    model = ConfigDict(network_settings(towers, settings))
    return build(model, image_size=224, num_classes=1000)


def plain_apply(towers: int, settings: BenchmarkSettings) -> Callable:
    """Returns the network's function in plain JAX."""

    def apply(params, images, keys):
        images = images.astype(settings.array_dtype)
        logits = library_baselines.alexnet_logits(params, images, keys, towers=towers)
        return logits.astype(jnp.float32)

    return apply


def noise_batch(batch_size: int) -> dict[str, np.ndarray]:
    """Returns a training batch of random pixels, labels and color offsets."""
    draws = np.random.default_rng(0)
    return {
        "image": draws.integers(0, 256, (batch_size, 224, 224, 3)).astype(np.uint8),
        "label": draws.integers(0, 1000, batch_size).astype(np.int32),
        "offset": np.zeros((batch_size, 2), np.int32),
        "mirrored": np.zeros(batch_size, np.int32),
        "lighting": draws.standard_normal((batch_size, 3)).astype(np.float32),
        "gain": np.ones(batch_size, np.float32),
        "example": np.arange(batch_size, dtype=np.int32),
        "epoch": np.zeros(batch_size, np.int32),
    }


def train_step(network: Network, settings: BenchmarkSettings) -> Implementation:
    """Returns a run's own step with this network, which returns the loss.

    It is the step of a group of one trial on all devices, with its state donated.
    """
    devices = Devices()
    devices.check_batch_size(settings.batch_size)
    form = InputForm.of(resolve(base(), {}).settings.data)
    gradient_step = steps.make_gradient_step(network, form, microbatches=1)
    update = steps.make_update(OPTIMIZER_SPEC)
    step = devices.spread_train(stack_train_step(gradient_step, update, (0,)))
    state = stack([steps.initial_state(network, 0, OPTIMIZER_SPEC)])
    states = [devices.place_state(state)]
    batch = devices.place_batch(stack_batches([noise_batch(settings.batch_size)]))
    hyperparameters = stack([HYPERPARAMETERS])
    mean_image = devices.place_state(np.full((224, 224, 3), 127.5, np.float32))

    def run() -> jax.Array:
        state, counts = step(states.pop(), batch, hyperparameters, mean_image)
        states.append(state)
        return jax.block_until_ready((counts.loss, state))[0][0]

    return run


def compare_updates() -> Comparison:
    """Compares the update of all parameters in their own memory and into new arrays."""
    network = build_network(2, BenchmarkSettings(1, "float32"))
    state = steps.initial_state(network, 0, OPTIMIZER_SPEC)

    def update(params, opt_state, gradients):
        optimizer = make_optimizer(OPTIMIZER_SPEC, HYPERPARAMETERS)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    gradients = jax.tree.map(jnp.ones_like, state.params)
    into_new_arrays = jax.jit(update)
    in_place = jax.jit(update, donate_argnums=(0, 1))
    states = [jax.tree.map(jnp.copy, (state.params, state.opt_state))]

    def donated() -> None:
        states.append(in_place(*states.pop(), gradients))
        jax.block_until_ready(states)

    def undonated() -> None:
        jax.block_until_ready(into_new_arrays(state.params, state.opt_state, gradients))

    implementations: dict[str, Implementation] = {"ours": donated, "plain": undonated}
    targets = {"core": {"plain": 0.5}}
    return Comparison("update, donated or not", implementations, targets)


def main() -> None:
    _, batch_size, repeats, dtype, cores = sys.argv[1:]
    set_precision(dtype)
    torch_baselines.set_up(dtype)
    print_report(
        step_comparisons(BenchmarkSettings(int(batch_size), dtype)),
        repeats=int(repeats),
        cores=cores,
        packages=("jax", "jaxlib", "flax", "optax", *torch_baselines.packages()),
    )


if __name__ == "__main__":
    main()
