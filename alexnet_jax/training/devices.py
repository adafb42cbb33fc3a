"""Spreads a step over the devices, by `jax.pmap` or by `jax.jit(jax.shard_map)`.

In 2012 each of two GPUs held half of the network (section 3.2). Here the devices form a
mesh of two axes. Along the axis of trials each device holds whole trials of a group; along
the axis of the batch each has a copy of the same trials and takes its share of their
batch, which is data parallelism. For a mesh of the batch alone both functions give the
same bits, and pmap is used in one process; the others need shard_map.
"""

import functools
import math
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alexnet_jax.errors import UserError
from alexnet_jax.training.step import AXIS

TRIALS = "trials"  # the mesh's axis beside `AXIS`, that of the batch

# Images of a batch that a CPU device takes at least: with fewer, its cores work less well.
# Of a large network each device also sums and updates all parameters, which costs more than
# few images gain; a single device keeps several cores busy with it.
LEAST_IMAGES_ON_CPU, LEAST_IMAGES_OF_LARGE = 8, 64
LARGE_NETWORK = 10_000_000  # parameters

# Calls of `Devices.all_reduced` whose reductions are in flight at the same time.
REDUCTIONS_IN_FLIGHT = 2


class Devices:
    """The devices of all processes, and how a step is spread over them.

    Args:
      how: "pmap", "shard_map", or "auto": pmap in one process, shard_map in several and
        where trials are spread.
      devices: the devices to use; all of them by default.
      trial_parts: the length of the mesh's axis of trials, a divisor of the number of
        devices.

    Raises:
      UserError: for pmap in several processes.
    """

    def __init__(
        self,
        how: str = "auto",
        devices: Sequence[jax.Device] | None = None,
        *,
        trial_parts: int = 1,
    ) -> None:
        found = devices or _found_devices()
        self.num_hosts, self.host = jax.process_count(), jax.process_index()
        if how == "pmap" and self.num_hosts > 1:
            raise UserError(
                "config.parallel=pmap works within one process, and there are "
                f"{self.num_hosts}: use shard_map, or remove --config.parallel."
            )
        self.asked, self.how = how, how
        if how == "auto":
            one = self.num_hosts == 1 and trial_parts == 1
            self.how = "pmap" if one else "shard_map"
        self.devices = sorted(found, key=lambda each: (each.process_index, each.id))
        self.trial_parts = trial_parts
        self.batch_parts = len(self.devices) // trial_parts
        grid = np.array(self.devices).reshape(trial_parts, self.batch_parts)
        # pmap's own mesh has one axis. In another one the arguments of the second step
        # would differ from those of the first, and it would be compiled again.
        one_axis = self.how == "pmap"
        self.mesh = Mesh(grid[0], (AXIS,)) if one_axis else Mesh(grid, (TRIALS, AXIS))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.sharded = NamedSharding(self.mesh, PartitionSpec(AXIS))
        self._arranged = {(self.trial_parts, self.batch_parts): self}
        self._reductions: deque[jax.Array] = deque()

    def arranged(
        self,
        num_trials: int,
        *,
        batch_size: int,
        microbatches: int = 1,
        images_together: int = 1,
        num_parameters: int = 0,
        spread_trials: bool = True,
    ) -> "Devices":
        """These devices, or some of them, in the mesh for a group of trials.

        The trials are spread as far as their number allows, and each trial's batch over
        the devices that remain. CPU devices that would not divide a batch, or would have
        too little of it, are left out; other devices have to divide it.

        Args:
          num_trials: the number of trials in the group.
          batch_size: images in a batch of one trial.
          microbatches: the parts in which a device takes its share.
          images_together: what divides each of these parts, if it can: the images of a pair.
          num_parameters: of the network of one trial.
          spread_trials: whether trials are spread; where not, their batch alone is.
        """
        count = len(self.devices)
        most = self.num_for_trials if spread_trials else 1
        trial_parts = math.gcd(num_trials, most)
        batch_parts = count // trial_parts
        whole = microbatches * images_together
        if self.may_leave_out:
            large = num_parameters >= LARGE_NETWORK
            least = LEAST_IMAGES_OF_LARGE if large else LEAST_IMAGES_ON_CPU
            most = max(1, batch_size // microbatches // least)
            batch_parts = next(
                parts
                for parts in range(min(batch_parts, most), 0, -1)
                if batch_size % (parts * whole) == 0 or parts == 1
            )
        shape = trial_parts, batch_parts
        if shape not in self._arranged:
            self._arranged[shape] = Devices(
                self.asked,
                self.devices[: trial_parts * batch_parts],
                trial_parts=trial_parts,
            )
        return self._arranged[shape]

    @property
    def is_primary(self) -> bool:
        """Whether this process writes the records and prints the messages."""
        return self.host == 0

    @property
    def may_leave_out(self) -> bool:
        """Whether a step may leave some devices out: cores that other work can use."""
        return self.devices[0].platform == "cpu" and self.num_hosts == 1

    @property
    def num_for_trials(self) -> int:
        """The number of devices among which whole trials can be shared out."""
        spread = self.asked != "pmap" and self.num_hosts == 1
        return len(self.devices) if spread else 1

    @property
    def spread(self) -> str:
        """How a step is shared out, in words."""
        count = len(self.devices)
        if count == 1:
            return "on one device"
        if self.trial_parts == 1:
            return f"each batch shared out among {count} devices"
        if self.batch_parts == 1:
            return f"whole trials side by side on {count} devices"
        return (
            f"whole trials side by side on {self.trial_parts} x {self.batch_parts} "
            f"devices, each batch shared out among {self.batch_parts}"
        )

    def check_single_process(self) -> None:
        """Raises UserError if a population would be spread over several processes."""
        if self.num_hosts > 1:
            raise UserError(
                "config.population trains small networks together in a single process, "
                f"and there are {self.num_hosts} processes. Remove it, or start one "
                "process."
            )

    def check_batch_size(self, batch_size: int, microbatches: int = 1) -> None:
        """Raises UserError unless devices and their microbatches divide the batch.

        CPU devices of one process need not: `arranged` leaves some out.
        """
        count = 1 if self.may_leave_out else self.batch_parts
        whole = count * microbatches
        if batch_size % whole:
            below = batch_size // whole * whole
            nearest = [str(n) for n in (below, below + whole) if n > 0]
            parts = f" x {microbatches} microbatches" if microbatches > 1 else ""
            raise UserError(
                f"config.training.batch_size={batch_size} cannot be divided among "
                f"{count} device{'' if count == 1 else 's'}{parts}: use {' or '.join(nearest)}."
            )

    def rounded_up(self, batch_size: int) -> int:
        """The smallest multiple of the batch's parts that is at least `batch_size`."""
        return -(-batch_size // self.batch_parts) * self.batch_parts

    @property
    def of_trials(self) -> NamedSharding:
        """Where arrays with a leading axis of trials are: on the devices of each trial."""
        return NamedSharding(self.mesh, self._trials_spec)

    @property
    def _trials_spec(self) -> PartitionSpec:
        """Sharding of arrays with a leading axis of trials; in one part, of any arrays."""
        return PartitionSpec(TRIALS) if self.trial_parts > 1 else PartitionSpec()

    @property
    def _slots_spec(self) -> PartitionSpec:
        """Sharding of the arrays of a training batch, by examples and by trials."""
        both = PartitionSpec(AXIS, TRIALS)
        return both if self.trial_parts > 1 else PartitionSpec(AXIS)

    def place_trials(self, tree: Any) -> Any:
        """Copies arrays with a leading axis of trials to the devices of each trial."""
        return self._placed(tree, self.of_trials)

    def place_copies(self, tree: Any) -> Any:
        """A copy of the tree on every device."""
        return self._placed(tree, self.replicated)

    def _placed(self, tree: Any, sharding: NamedSharding) -> Any:
        """The tree on the devices.

        It is copied from host memory: device_put of a jax.Array shares its buffer, and a
        step that donates the copy would delete the original.
        """
        here = jax.tree.map(np.asarray, tree)
        if self.num_hosts == 1:
            return jax.device_put(here, sharding)
        place = functools.partial(jax.make_array_from_process_local_data, sharding)
        return jax.tree.map(place, here)

    def place_batch(
        self, batch: Mapping[str, Any], *, of_trials: bool = False
    ) -> dict[str, jax.Array]:
        """Copies this process's share of a batch to its devices, to each its own part.

        Arrays (n, ...) keep their shape for shard_map; for pmap they become
        (devices, n / devices, ...).

        Args:
          batch: of all trials of a group; or `of_trials`, with a second axis, of slots,
            which is shared out among the parts of the trials.
        """
        spec = self._slots_spec if of_trials else PartitionSpec(AXIS)
        sharding = NamedSharding(self.mesh, spec)
        if self.how == "pmap":
            batch = {
                name: values.reshape(self._spread_shape(values.shape))
                for name, values in batch.items()
            }
        if self.num_hosts == 1:
            return jax.device_put(dict(batch), sharding)
        return {
            name: jax.make_array_from_process_local_data(sharding, values)
            for name, values in batch.items()
        }

    def trials_shapes(self, tree: Any) -> Any:
        """The shapes of a tree's arrays, or of shapes, when `place_trials` places them."""
        return _shapes(tree, self.of_trials)

    def copies_shapes(self, tree: Any) -> Any:
        """The shapes of a tree's arrays, or of shapes, when `place_copies` places them."""
        return _shapes(tree, self.replicated)

    def batch_shapes(self, batch: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes that `place_batch` gives this process's share of a training batch."""
        sharding = NamedSharding(self.mesh, self._slots_spec)

        def placed(
            values: np.ndarray | jax.ShapeDtypeStruct,
        ) -> jax.ShapeDtypeStruct:
            of_all = (len(values) * self.num_hosts, *values.shape[1:])
            return jax.ShapeDtypeStruct(
                self._spread_shape(of_all), values.dtype, sharding=sharding
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
        specs = (self._slots_spec, self._trials_spec, PartitionSpec())
        return jax.jit(self._shard_map(train_step, *specs), donate_argnums=0)

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
        specs = (PartitionSpec(AXIS), PartitionSpec())
        return jax.jit(self._shard_map(eval_step, *specs))

    def _shard_map(self, step: Callable, *specs: PartitionSpec) -> Callable:
        """The step with its first argument and its results shared out by trials.

        check_vma stays on: it notices gradients that were not summed over the devices.

        Args:
          step: the function of one device.
          specs: how the arguments after the first one are shared out.
        """
        trials = self._trials_spec
        return jax.shard_map(
            step, mesh=self.mesh, in_specs=(trials, *specs), out_specs=trials
        )

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

    def of_primary(self, number: int) -> int:
        """The number that the primary process gives, in all processes."""
        if self.num_hosts == 1:
            return number
        return int(multihost_utils.broadcast_one_to_all(np.int32(number)))

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


def _shapes(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
    )


@jax.jit
def _largest(values: jax.Array) -> jax.Array:
    return values.max()


def _found_devices() -> list[jax.Device]:
    """All devices; a UserError if JAX_PLATFORMS asks for some that are not there."""
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter has no message
        wanted = os.environ.get("JAX_PLATFORMS", "")
        raise UserError(
            f"JAX finds no device (JAX_PLATFORMS={wanted}). {error or ''}".rstrip()
            + " Remove or change that variable, or install JAX for your device."
        ) from error
