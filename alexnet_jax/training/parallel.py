"""Spreads a per-device step over this machine's devices by `jax.pmap`.

In 2012 two GPUs held half of the network each (section 3.2). Here each device holds
all of it and takes its share of the batch: data parallelism.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alexnet_jax.errors import UserError
from alexnet_jax.training.step import AXIS


class Devices:
    """The devices of this process, side by side."""

    def __init__(self) -> None:
        self.devices = jax.local_devices()
        self.mesh = Mesh(np.array(self.devices), (AXIS,))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.sharded = NamedSharding(self.mesh, PartitionSpec(AXIS))

    def check_batch_size(self, batch_size: int) -> None:
        """Raises UserError unless the devices divide the batch."""
        count = len(self.devices)
        if batch_size % count:
            below = batch_size // count * count
            nearest = [str(n) for n in (below, below + count) if n > 0]
            raise UserError(
                f"config.training.batch_size={batch_size} cannot be divided among "
                f"{count} devices: take {' or '.join(nearest)}."
            )

    def rounded_up(self, batch_size: int) -> int:
        """The smallest multiple of the number of devices that is not below."""
        return -(-batch_size // len(self.devices)) * len(self.devices)

    def place_state(self, tree: Any) -> Any:
        """A copy of the tree on every device.

        From host memory: device_put of a jax.Array shares its buffer, and a step that
        donates the copy would delete the original.
        """
        return jax.device_put(jax.tree.map(np.asarray, tree), self.replicated)

    def place_batch(self, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Arrays (n, ...) as (devices, n / devices, ...), each device its share."""
        count = len(self.devices)
        shares = {
            name: values.reshape(count, -1, *values.shape[1:])
            for name, values in batch.items()
        }
        return jax.device_put(shares, self.sharded)

    def placed(
        self, batches: Iterable[Mapping[str, Any]]
    ) -> Iterator[dict[str, jax.Array]]:
        """The batches on the devices, two under way ahead of the one in use."""
        ahead: deque[dict[str, jax.Array]] = deque()
        for batch in batches:
            ahead.append(self.place_batch(batch))
            if len(ahead) > 2:
                yield ahead.popleft()
        yield from ahead

    def spread_train(self, train_step: Callable) -> Callable:
        """(state, batch, numbers, mean_image) -> state, counts; donates the state."""
        return jax.pmap(
            train_step,
            axis_name=AXIS,
            in_axes=(None, 0, None, None),
            out_axes=(None, None),
            devices=self.devices,
            donate_argnums=0,
        )

    def spread_eval(self, eval_step: Callable) -> Callable:
        """(params, batch, mean_image) -> counts."""
        return jax.pmap(
            eval_step,
            axis_name=AXIS,
            in_axes=(None, 0, None),
            out_axes=None,
            devices=self.devices,
        )
