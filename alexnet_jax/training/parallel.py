"""Spreads a per-device step over the devices, by `jax.pmap` or by `jax.jit(jax.shard_map)`.

In 2012 two GPUs held half of the network each (section 3.2). Here each device holds
all of it and takes its share of the batch: data parallelism. In one process both ways
give the same bits, and pmap is taken; several processes need shard_map.
"""

import functools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alexnet_jax.errors import UserError
from alexnet_jax.training.step import AXIS

# Batches read and placed while another is in use. Each holds its share of device memory.
AHEAD = 2


class Devices:
    """The devices of all processes, side by side.

    Args:
      how: "pmap", "shard_map", or "auto": pmap in one process, shard_map in several.
      devices: those to use; all, if none are given.

    Raises:
      UserError: for pmap in several processes.
    """

    def __init__(
        self, how: str = "auto", devices: Sequence[jax.Device] | None = None
    ) -> None:
        self.num_hosts, self.host = jax.process_count(), jax.process_index()
        if how == "pmap" and self.num_hosts > 1:
            raise UserError(
                f"config.parallel=pmap spreads over one process, and there are "
                f"{self.num_hosts}: take shard_map, or leave it away."
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
        self._wishes: deque[jax.Array] = deque()

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes records and speaks to the user."""
        return self.host == 0

    def check_batch_size(self, batch_size: int, accumulation: int = 1) -> None:
        """Raises UserError unless devices, and each one's parts, divide the batch."""
        count = len(self.devices)
        whole = count * accumulation
        if batch_size % whole:
            below = batch_size // whole * whole
            nearest = [str(n) for n in (below, below + whole) if n > 0]
            parts = f" x {accumulation} parts" if accumulation > 1 else ""
            raise UserError(
                f"config.training.batch_size={batch_size} cannot be divided among "
                f"{count} devices{parts}: take {' or '.join(nearest)}."
            )

    def rounded_up(self, batch_size: int) -> int:
        """The smallest multiple of the number of devices that is not below."""
        return -(-batch_size // len(self.devices)) * len(self.devices)

    def place_state(self, tree: Any) -> Any:
        """A copy of the tree on every device.

        From host memory: device_put of a jax.Array shares its buffer, and a step that
        donates the copy would delete the original.
        """
        here = jax.tree.map(np.asarray, tree)
        if self.num_hosts == 1:
            return jax.device_put(here, self.replicated)
        place = functools.partial(
            jax.make_array_from_process_local_data, self.replicated
        )
        return jax.tree.map(place, here)

    def place_batch(self, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        """This process's share of a batch onto its devices, each device its own.

        Arrays (n, ...) stay so for shard_map; for pmap, (devices, n / devices, ...).
        """
        if self.how == "pmap":
            count = len(self.devices)
            batch = {
                name: values.reshape(count, -1, *values.shape[1:])
                for name, values in batch.items()
            }
        if self.num_hosts == 1:
            return jax.device_put(dict(batch), self.sharded)
        return {
            name: jax.make_array_from_process_local_data(self.sharded, values)
            for name, values in batch.items()
        }

    def ahead(self, batches: Generator[Mapping[str, Any], None, None]) -> "Ahead":
        """The batches on the devices, read and placed by a thread: see `Ahead`."""
        return Ahead(batches, self.place_batch)

    def spread_train(self, train_step: Callable) -> Callable:
        """(state, batch, numbers, mean_image) -> state, counts; donates the state."""
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
        """(params, batch, mean_image) -> counts."""
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
        """Its second argument shared out; check_vma stays on: it sees a forgotten pmean."""
        same, shared = PartitionSpec(), PartitionSpec(AXIS)
        specs = (same, shared, *[same] * (num_arguments - 2))
        return jax.shard_map(step, mesh=self.mesh, in_specs=specs, out_specs=same)

    # --- Between processes ------------------------------------------------------------

    def agreed(self, wish: int) -> int:
        """The largest wish of any process, the same in all of them at the same call.

        In one process, `wish`. Between several it comes two calls late, so that none
        waits: each call only starts a reduction. All processes must call it alike.
        """
        if self.num_hosts == 1:
            return wish
        local = np.full(len(self.mesh.local_devices), wish, np.int32)
        placed = jax.make_array_from_process_local_data(self.sharded, local)
        self._wishes.append(_largest(placed))
        if len(self._wishes) <= AHEAD:
            return 0
        return int(self._wishes.popleft().addressable_data(0))

    def meet(self, name: str) -> None:
        """Waits until all processes are here."""
        if self.num_hosts > 1:
            multihost_utils.sync_global_devices(name)

    def gathered(self, values: jax.Array) -> np.ndarray:
        """A batch's array as a whole, (n, ...), in every process."""
        if self.num_hosts == 1:
            whole = np.asarray(values)
        else:
            whole = np.asarray(multihost_utils.process_allgather(values, tiled=True))
        return whole.reshape(-1, *whole.shape[2:]) if self.how == "pmap" else whole


@jax.jit
def _largest(values: jax.Array) -> jax.Array:
    return values.max()


class Ahead:
    """Batches that a thread reads and places while others are in use.

    At most `AHEAD` wait to be taken, and one more is being read. To be left by `with`,
    which ends the thread and closes `batches`.
    """

    def __init__(
        self,
        batches: Generator[Mapping[str, Any], None, None],
        place: Callable[[Mapping[str, Any]], dict[str, jax.Array]],
    ) -> None:
        self.waited = 0.0  # seconds in which nothing was computed for want of input
        self._batches, self._place = batches, place
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=AHEAD)
        self._left = False
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Ahead":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left = True
        while self._thread.is_alive():  # it may be waiting for room
            while not self._queue.empty():
                self._queue.get_nowait()
            self._thread.join(timeout=0.01)
        self._batches.close()

    def _read(self) -> None:
        try:
            for batch in self._batches:
                self._queue.put(self._place(batch))
                if self._left:
                    return
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)

    def next(
        self, until_idle: Callable[[], None] = lambda: None
    ) -> dict[str, jax.Array] | None:
        """The next batch; None behind the last.

        Where none is ready, `until_idle` waits for the devices first: only what is
        waited from then on is the input's fault.
        """
        try:
            found = self._queue.get_nowait()
        except queue.Empty:
            until_idle()
            start = time.perf_counter()
            found = self._queue.get()
            self.waited += time.perf_counter() - start
        if found is None or isinstance(found, BaseException):
            self._queue.put(found)  # and so it stays
        if isinstance(found, BaseException):
            raise found
        return found
