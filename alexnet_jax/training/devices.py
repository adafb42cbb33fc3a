"""Spreads a step over the devices, by `jax.pmap` or by `jax.jit(jax.shard_map)`.

In 2012 each of two GPUs held half of the network (section 3.2). Here each device holds
all of it and takes its share of the batch: data parallelism. In one process both ways
give the same bits, and pmap is used; several processes need shard_map.
"""

import functools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alexnet_jax.errors import UserError
from alexnet_jax.training.step import AXIS

# Calls of `Devices.all_reduced` whose reductions are in flight at the same time.
REDUCTIONS_IN_FLIGHT = 2


class Devices:
    """The devices of all processes, and how a step is spread over them.

    Args:
      how: "pmap", "shard_map", or "auto": pmap in one process, shard_map in several.
      devices: the devices to use; all of them by default.

    Raises:
      UserError: for pmap in several processes.
    """

    def __init__(
        self, how: str = "auto", devices: Sequence[jax.Device] | None = None
    ) -> None:
        self.num_hosts, self.host = jax.process_count(), jax.process_index()
        if how == "pmap" and self.num_hosts > 1:
            raise UserError(
                "config.parallel=pmap works within one process, and there are "
                f"{self.num_hosts}: use shard_map, or remove --config.parallel."
            )
        self.how = how
        if how == "auto":
            self.how = "pmap" if self.num_hosts == 1 else "shard_map"
        self.devices = sorted(
            devices or jax.devices(), key=lambda each: (each.process_index, each.id)
        )
        self.mesh = Mesh(np.array(self.devices), (AXIS,))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.sharded = NamedSharding(self.mesh, PartitionSpec(AXIS))
        self._reductions: deque[jax.Array] = deque()

    @property
    def is_primary(self) -> bool:
        """Whether this process writes the records and prints the messages."""
        return self.host == 0

    def check_single_process(self) -> None:
        """Raises UserError if a population would be spread over several processes."""
        if self.num_hosts > 1:
            raise UserError(
                "config.population trains small networks together in a single process, "
                f"and there are {self.num_hosts} processes. Remove it, or start one "
                "process."
            )

    def check_batch_size(self, batch_size: int, microbatches: int = 1) -> None:
        """Raises UserError unless devices and their microbatches divide the batch."""
        count = len(self.devices)
        whole = count * microbatches
        if batch_size % whole:
            below = batch_size // whole * whole
            nearest = [str(n) for n in (below, below + whole) if n > 0]
            parts = f" x {microbatches} microbatches" if microbatches > 1 else ""
            raise UserError(
                f"config.training.batch_size={batch_size} cannot be divided among "
                f"{count} devices{parts}: use {' or '.join(nearest)}."
            )

    def rounded_up(self, batch_size: int) -> int:
        """The smallest multiple of the number of devices that is at least `batch_size`."""
        return -(-batch_size // len(self.devices)) * len(self.devices)

    def place_state(self, tree: Any) -> Any:
        """A copy of the tree on every device.

        The copy is made from host memory: device_put of a jax.Array shares its buffer,
        and a step that donates the copy would delete the original.
        """
        here = jax.tree.map(np.asarray, tree)
        if self.num_hosts == 1:
            return jax.device_put(here, self.replicated)
        place = functools.partial(
            jax.make_array_from_process_local_data, self.replicated
        )
        return jax.tree.map(place, here)

    def place_batch(self, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Copies this process's share of a batch to its devices, to each its own part.

        Arrays (n, ...) keep their shape for shard_map; for pmap they become
        (devices, n / devices, ...).
        """
        if self.how == "pmap":
            batch = {
                name: values.reshape(self._spread_shape(values.shape))
                for name, values in batch.items()
            }
        if self.num_hosts == 1:
            return jax.device_put(dict(batch), self.sharded)
        return {
            name: jax.make_array_from_process_local_data(self.sharded, values)
            for name, values in batch.items()
        }

    def replicated_shapes(self, tree: Any) -> Any:
        """The shapes of a tree's arrays, or of shapes, when `place_state` places them."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=self.replicated
            ),
            tree,
        )

    def batch_shapes(self, batch: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes that `place_batch` gives this process's share of a batch."""

        def placed(
            values: np.ndarray | jax.ShapeDtypeStruct,
        ) -> jax.ShapeDtypeStruct:
            of_all = (len(values) * self.num_hosts, *values.shape[1:])
            return jax.ShapeDtypeStruct(
                self._spread_shape(of_all), values.dtype, sharding=self.sharded
            )

        return {name: placed(values) for name, values in batch.items()}

    def _spread_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.how != "pmap":
            return shape
        count = len(self.devices)
        return (count, shape[0] // count, *shape[1:])

    def spread_train(self, train_step: Callable) -> Callable:
        """(state, batch, hyperparameters, mean) -> (state, counts); donates the state."""
        if self.how == "pmap":
            return jax.pmap(
                train_step,
                axis_name=AXIS,
                in_axes=(None, 0, None, None),
                out_axes=(None, None),
                devices=self.devices,
                donate_argnums=0,
            )
        return jax.jit(self._shard_map(train_step, num_arguments=4), donate_argnums=0)

    def spread_eval(self, eval_step: Callable) -> Callable:
        """(params, batch, mean) -> counts."""
        if self.how == "pmap":
            return jax.pmap(
                eval_step,
                axis_name=AXIS,
                in_axes=(None, 0, None),
                out_axes=None,
                devices=self.devices,
            )
        return jax.jit(self._shard_map(eval_step, num_arguments=3))

    def _shard_map(self, step: Callable, *, num_arguments: int) -> Callable:
        """The step with its second argument shared out among the devices.

        check_vma stays on: it notices gradients that were not summed over the devices.
        """
        same, shared = PartitionSpec(), PartitionSpec(AXIS)
        specs = (same, shared, *[same] * (num_arguments - 2))
        return jax.shard_map(step, mesh=self.mesh, in_specs=specs, out_specs=same)

    # --- Between processes ------------------------------------------------------------

    def all_reduced(self, action: int) -> int:
        """The largest requested action of all processes: each gets it at the same call.

        With one process it is `action`. With several it comes two calls late, so that no
        process waits: each call only starts a reduction. All processes must make the
        same calls.
        """
        if self.num_hosts == 1:
            return action
        local = np.full(len(self.mesh.local_devices), action, np.int32)
        placed = jax.make_array_from_process_local_data(self.sharded, local)
        self._reductions.append(_largest(placed))
        if len(self._reductions) <= REDUCTIONS_IN_FLIGHT:
            return 0
        return int(self._reductions.popleft().addressable_data(0))

    def any_process(self, condition: bool) -> bool:
        """Whether `condition` holds in any process; waits for all of them."""
        if self.num_hosts == 1:
            return condition
        return bool(multihost_utils.process_allgather(np.asarray(condition)).any())

    def barrier(self, name: str) -> None:
        """Waits until all processes have reached the barrier `name`."""
        if self.num_hosts > 1:
            multihost_utils.sync_global_devices(name)

    def gathered(self, values: jax.Array) -> np.ndarray:
        """The whole of a batch's array, (n, ...), in host memory of every process."""
        if self.num_hosts == 1:
            whole = np.asarray(values)
        else:
            whole = np.asarray(multihost_utils.process_allgather(values, tiled=True))
        return whole.reshape(-1, *whole.shape[2:]) if self.how == "pmap" else whole


@jax.jit
def _largest(values: jax.Array) -> jax.Array:
    return values.max()
