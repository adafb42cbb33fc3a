"""Device memory: what a step of training needs, and what the devices have."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from alexnet_jax.training.devices import Devices
from alexnet_jax.training.prefetch import PREFETCHED


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Estimates the device memory of a group's training step, by the compiler's figures.

    Attributes:
      devices: the devices among which a batch is shared out.
      batch_size: images a step, over all devices.
      microbatches: the parts in which each device takes its share now.
      num_trials: the trials that one step trains.
      train_step_of: from microbatches to a train step that is spread, and not lowered.
      shapes: the shapes of its arguments: state, batch, hyperparameters and mean.
    """

    devices: Devices
    batch_size: int
    microbatches: int
    num_trials: int
    train_step_of: Callable[[int], Any]
    shapes: Callable[[], tuple[Any, Mapping[str, jax.ShapeDtypeStruct], Any, Any]]

    def step_bytes(self, microbatches: int) -> int:
        """Bytes on each device for a step in `microbatches`, and batches prefetched.

        Compiles the step, and allocates nothing on the devices.
        """
        shapes = self.shapes()
        lowered = self.train_step_of(microbatches).lower(*shapes)
        found = lowered.compile().memory_analysis()
        of_batch = sum(
            leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes[1])
        )
        return int(
            found.argument_size_in_bytes
            + found.output_size_in_bytes
            - found.alias_size_in_bytes
            + found.temp_size_in_bytes
            + PREFETCHED * of_batch // len(self.devices.devices)
        )


def device_bytes(devices: Devices) -> int | None:
    """The memory of this process's smallest device; None where it cannot tell."""
    local = [d for d in devices.devices if d.process_index == devices.host]
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in local]
    return min((limit for limit in limits if limit is not None), default=None)


def format_bytes(size: float) -> str:
    """Bytes in MB or GB, of 10^6 and 10^9 bytes."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"
