"""Times whole train steps, and a parameter update, against plain JAX and PyTorch.

`run.py` runs this module as a process of its own. AlexNet is the paper's recipe with the
2012 code's padding of conv1, (0, 3), and normalization by tower; the four-layer network is
that of Figure 1. The batches are noise.
"""

import dataclasses
import functools
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
from alexnet_jax.training.cpu_devices import use_all_cores
from alexnet_jax.training.cpu_memory import keep_freed_memory
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
from benchmarks.matrix_products import matrix_product, step_gflop
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
ADAMW_SPEC = dataclasses.replace(OPTIMIZER_SPEC, name="adamw")

# Batches of the four-layer network, whatever that of AlexNet: Figure 1's, and that of
# configs/relu_vs_tanh.py on digits.
FOUR_LAYER_BATCHES = (128, 16)


@dataclasses.dataclass(frozen=True)
class Workload:
    """A network and the shape of its batches.

    Attributes:
      model: section `model` of the network's settings.
      image_size: the side of its input, in pixels.
      num_classes: its outputs.
      batch_size: images a step.
      plain_logits: logits(params, images, dropout keys) by the operations of JAX and Flax;
        None: the step is compared with PyTorch's alone.
      torch_network: makes the same network in PyTorch.
      optimizer: the update rule, that of section 5 or AdamW.
    """

    model: ConfigDict
    image_size: int
    num_classes: int
    batch_size: int
    plain_logits: Callable | None
    torch_network: Callable[[], Any]
    optimizer: OptimizerSpec = OPTIMIZER_SPEC

    def network(self) -> Network:
        return build(
            self.model, image_size=self.image_size, num_classes=self.num_classes
        )


def step_comparisons(settings: BenchmarkSettings) -> Iterator[Comparison]:
    """Yields the comparisons of AlexNet's step, of the four-layer network's, and an update.

    Raises:
      ValueError: if the losses of our step and of plain JAX disagree.
    """
    for name, towers, targets in (
        (
            "two-tower step",
            2,
            {"core": {"plain": 0.25, "torch": 0.56}, "all": {"torch": 0.56}},
        ),
        (
            "one-tower step",
            1,
            {"core": {"plain": 0.70, "torch": 0.63}, "all": {"torch": 0.67}},
        ),
    ):
        yield compare_steps(name, alexnet(towers, settings), targets, settings)
    later = with_later_ideas(settings)
    yield compare_steps("one tower, BN, AdamW", later, {}, settings)
    for batch_size in FOUR_LAYER_BATCHES:
        targets = {"core": {"torch": 1.0}, "all": {"torch": 0.87}}
        for activation in ("relu", "tanh"):
            yield compare_steps(
                f"four-layer {activation}, batch {batch_size}",
                four_layer(activation, batch_size, settings),
                targets if batch_size == 128 else {},
                settings,
            )
    yield compare_updates()
    yield matrix_product(settings)


def compare_steps(
    name: str,
    workload: Workload,
    targets: dict[str, dict[str, float]],
    settings: BenchmarkSettings,
) -> Comparison:
    """Compares our step with plain JAX and with the forms that PyTorch has for it."""
    ours, batch = workload.network(), noise_batch(workload)
    implementations = {"ours": train_step(ours, workload, batch)}
    if workload.plain_logits is not None:
        plain = plain_network(ours, workload, settings)
        implementations["plain"] = train_step(plain, workload, batch)
        loss, expected = (float(implementations[one]()) for one in ("ours", "plain"))
        tolerance = 0.02 if settings.dtype == "bfloat16" else 1e-4
        if abs(loss - expected) > tolerance * expected:
            raise ValueError(
                f"{name}: our loss is {loss}, that of plain JAX {expected}."
            )
    implementations |= torch_baselines.train_steps(
        workload.torch_network, batch, settings.dtype, workload.optimizer.name
    )
    return Comparison(name, implementations, targets, gflop_of(ours, workload))


def gflop_of(network: Network, workload: Workload) -> float:
    """The operations of a step in plain JAX, in 10^9; 0 without such a network."""
    if workload.plain_logits is None:
        return 0.0
    keys = jax.random.split(steps.root_key(0), workload.batch_size)
    shape = (workload.batch_size, workload.image_size, workload.image_size, 3)
    params = jax.eval_shape(network.initialize, steps.root_key(0))
    return step_gflop(
        workload.plain_logits, params, jax.ShapeDtypeStruct(shape, jnp.float32), keys
    )


def alexnet(towers: int, settings: BenchmarkSettings) -> Workload:
    """AlexNet at full size: the paper's recipe, with conv1 padded by (0, 3)."""
    config = base()
    config.recipe = "paper"
    model = resolve(config, {}).settings.model.as_configdict().to_dict() | {
        "towers": towers,
        "conv1_padding": "after",
        "norm_across_towers": False,
        "dtype": settings.array_dtype.__name__,
    }
    return Workload(
        ConfigDict(model),
        224,
        1000,
        settings.batch_size,
        functools.partial(library_baselines.alexnet_logits, towers=towers),
        functools.partial(torch_baselines.alexnet, towers),
    )


def with_later_ideas(settings: BenchmarkSettings) -> Workload:
    """AlexNet of one tower with batch normalization in every layer but the last, and AdamW."""
    workload = alexnet(1, settings)
    model = workload.model.to_dict() | {"normalization": "batch"}
    return dataclasses.replace(
        workload,
        model=ConfigDict(model),
        plain_logits=None,
        torch_network=functools.partial(torch_baselines.alexnet, 1, batch_norm=True),
        optimizer=ADAMW_SPEC,
    )


def four_layer(
    activation: str, batch_size: int, settings: BenchmarkSettings
) -> Workload:
    """The network of Figure 1 on images of 32 x 32 pixels in ten classes."""
    config = base(network="four_layer")
    model = resolve(config, {}).settings.model.as_configdict().to_dict() | {
        "activation": activation,
        "dtype": settings.array_dtype.__name__,
    }
    return Workload(
        ConfigDict(model),
        32,
        10,
        batch_size,
        functools.partial(library_baselines.four_layer_logits, activation=activation),
        functools.partial(torch_baselines.four_layer, activation),
    )


def plain_network(
    ours: Network, workload: Workload, settings: BenchmarkSettings
) -> Network:
    """Returns our network with its function in plain JAX."""

    assert workload.plain_logits is not None
    logits_of: Callable = workload.plain_logits

    class Plain(Network):
        def train(self, params, images, dropout_keys, frozen=()):
            images = images.astype(settings.array_dtype)
            logits = logits_of(params, images, dropout_keys)
            return logits.astype(jnp.float32), {}

    return Plain(ours.module, ours.graph)


def noise_batch(workload: Workload) -> dict[str, np.ndarray]:
    """Returns a training batch of random pixels, labels and color offsets."""
    count, size = workload.batch_size, workload.image_size
    draws = np.random.default_rng(0)
    return {
        "image": draws.integers(0, 256, (count, size, size, 3)).astype(np.uint8),
        "label": draws.integers(0, workload.num_classes, count).astype(np.int32),
        "offset": np.zeros((count, 2), np.int32),
        "mirrored": np.zeros(count, np.int32),
        "lighting": draws.standard_normal((count, 3)).astype(np.float32),
        "gain": np.ones(count, np.float32),
        "example": np.arange(count, dtype=np.int32),
        "epoch": np.zeros(count, np.int32),
    }


def train_step(
    network: Network, workload: Workload, batch: dict[str, np.ndarray]
) -> Implementation:
    """Returns a run's own step with this network, which returns the loss.

    It is the step of a group of one trial on all devices, with its state donated.
    """
    devices = Devices()
    devices.check_batch_size(workload.batch_size)
    of_network = jax.tree.leaves(jax.eval_shape(network.initialize, steps.root_key(0)))
    devices = devices.arranged(
        1,
        batch_size=workload.batch_size,
        num_parameters=sum(leaf.size for leaf in of_network),
    )
    size = workload.image_size
    data = resolve(base(), {}).settings.data
    form = dataclasses.replace(InputForm.of(data), crop_size=size)
    gradient_step = steps.make_gradient_step(network, form, microbatches=1)
    update = steps.make_update(workload.optimizer)
    step = devices.spread_train(stack_train_step(gradient_step, update, (0,)))
    state = stack([steps.initial_state(network, 0, workload.optimizer)])
    states = [devices.place_trials(state)]
    placed = devices.place_batch(stack_batches([batch]), of_trials=True)
    hyperparameters = stack([HYPERPARAMETERS])
    mean_image = devices.place_copies(np.full((size, size, 3), 127.5, np.float32))

    def run() -> jax.Array:
        state, counts = step(states.pop(), placed, hyperparameters, mean_image)
        states.append(state)
        return jax.block_until_ready((counts.loss, state))[0][0]

    return run


def compare_updates() -> Comparison:
    """Compares the update of all parameters in their own memory and into new arrays."""
    network = alexnet(2, BenchmarkSettings(1, "float32")).network()
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
    _, batch_size, repeats, dtype, cores = sys.argv[1:6]
    use_all_cores()
    keep_freed_memory()  # As in a run; PyTorch, in the same process, gains from it too.
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
