"""AlexNet of recipe torchvision with random weights, in memory and as a checkpoint."""

from pathlib import Path

import numpy as np

from alexnet_jax.config import base
from alexnet_jax.config.checkpoint_fields import fields_of
from alexnet_jax.config.resolve import resolve
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.model.network import build, root_key
from alexnet_jax.trained.trained_network import TrainedNetwork
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.checkpoint_files import Position
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.optimizer import OptimizerSpec
from alexnet_jax.training.step import initial_state
from alexnet_jax.training.trained_on import TrainedOn

CLASSES = 1000


def random_network(num_classes: int = CLASSES, width: float = 1.0) -> TrainedNetwork:
    """The network, as it is opened after training.

    Args:
      num_classes: its outputs.
      width: a factor on the numbers of its kernels and units.
    """
    config = base()
    config.recipe = "torchvision"
    config.model.width = width
    settings = resolve(config, {}).settings
    side = settings.data.crop_size
    network = build(settings.model, image_size=side, num_classes=num_classes)
    size = settings.data.rescale_size
    trained_on = TrainedOn(
        dataset="noise",
        fingerprint="noise",
        class_names=tuple(f"class {number}" for number in range(num_classes)),
        num_examples=1,
        validation="validation",
        num_validation=1,
        statistics=Statistics(
            np.full((size, size, 3), 127.5), np.array([3.0, 2.0, 1.0]), np.eye(3)
        ),
    )
    params = network.initialize(root_key(0))
    return TrainedNetwork("random weights", settings, params, trained_on)


def save(network: TrainedNetwork, folder: Path) -> None:
    """Writes a checkpoint of the network into a trial's folder."""
    spec = OptimizerSpec.of(network.settings.optimizer, network.settings.model)
    devices = Devices()
    state = initial_state(network.network, 0, spec)
    placed = devices.place_copies(state)
    fields = fields_of(network.settings)
    with Checkpoints(folder, fields, devices, network.trained_on) as checkpoints:
        checkpoints.save(placed, Position())
        checkpoints.wait()
