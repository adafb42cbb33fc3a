"""Functions of a trained network's weights on all devices, each compiled once."""

from collections.abc import Callable, Hashable

import jax
import numpy as np
from jax.sharding import PartitionSpec

from alexnet_jax.training.devices import Devices
from alexnet_jax.training.step import AXIS, Params


class Forward:
    """The weights and the mean on every device, and what was compiled for them.

    Args:
      params: the weights, by layer.
      mean: (h, w, 3), what the preprocessing subtracts.
    """

    def __init__(self, params: Params, mean: np.ndarray) -> None:
        self._devices = Devices("shard_map")
        self._params, self._mean = self._devices.place_copies((params, mean))
        self._compiled: dict[Hashable, Callable[..., jax.Array]] = {}

    def of(
        self, name: Hashable, make: Callable[[], Callable[..., jax.Array]]
    ) -> Callable[[np.ndarray], np.ndarray]:
        """A function of batches of images; their rows are shared out among the devices.

        Args:
          name: of the function; one of the same name is not made again.
          make: makes it: (params, images, mean) -> array with a row an image.
        """
        if name not in self._compiled:
            self._compiled[name] = jax.jit(
                jax.shard_map(
                    make(),
                    mesh=self._devices.mesh,
                    in_specs=(PartitionSpec(), PartitionSpec(AXIS), PartitionSpec()),
                    out_specs=PartitionSpec(AXIS),
                )
            )
        spread = self._compiled[name]

        def forward(batch: np.ndarray) -> np.ndarray:
            size = _padded_size(len(batch), self._devices)
            padded = np.zeros((size, *batch.shape[1:]), "u1")
            padded[: len(batch)] = batch
            return np.asarray(spread(self._params, padded, self._mean))[: len(batch)]

        return forward


def _padded_size(count: int, devices: Devices) -> int:
    """The batch's size with its padding: few sizes, each of which is compiled once.

    XLA on CPU cannot compile ten crops of a single image on a device.
    """
    size = 2 * devices.batch_parts
    while size < count:
        size *= 2
    return size
