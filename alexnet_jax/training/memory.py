"""Device memory: what a step of training needs, and what the devices have."""

import dataclasses
from typing import Any

import jax

from alexnet_jax.training.devices import Devices
from alexnet_jax.training.prefetch import PREFETCHED
from alexnet_jax.training.stacking import SeedSlots
from alexnet_jax.training.trainer import StepSpec, Trainer


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """What the device memory of a group's training step depends on.

    Attributes:
      spec: what the step is compiled for, with the microbatches of now.
      devices: the devices that take the step, in its mesh.
      slots: where the trials find their images in a batch.
      batch_size: images a step, over all devices.
      image_size: the side of the images before they are cropped, in pixels.
    """

    spec: StepSpec
    devices: Devices
    slots: SeedSlots
    batch_size: int
    image_size: int

    def step_bytes(self, microbatches: int) -> int:
        """Bytes on each device for a step in `microbatches`, and batches prefetched.

        By the compiler's figures. Compiles the step; reads no data, and allocates nothing
        on the devices.
        """
        spec = self.spec.with_microbatches(microbatches)
        trainer = Trainer.of(spec, self.devices, self.slots.index)
        shapes = trainer.argument_shapes(
            self.devices,
            self.slots,
            batch_size=self.batch_size,
            image_size=self.image_size,
        )
        spread: Any = trainer.train_step  # by `Devices`, which can be lowered
        lowered = spread.lower(*shapes)
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
    """The memory of this process's smallest device; None where it is not known."""
    local = [d for d in devices.devices if d.process_index == devices.host]
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in local]
    return min((limit for limit in limits if limit is not None), default=None)


def format_bytes(size: float) -> str:
    """Bytes in MB or GB, of 10^6 and 10^9 bytes."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"
