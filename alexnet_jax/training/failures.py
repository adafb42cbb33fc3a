"""What goes wrong on the devices, said to the user."""

from collections.abc import Callable
from typing import Any

import jax

from alexnet_jax.errors import UserError
from alexnet_jax.training.parallel import AHEAD, Devices


def explained(
    error: Exception,
    *,
    devices: Devices,
    batch_size: int,
    accumulation: int,
    needed: Callable[[int], int],
) -> Exception:
    """The error to raise in place of JAX's: one for the user, if its cause is known.

    Args:
      error: JaxRuntimeError, of a step or a copy between host and devices.
      devices: on which it came up.
      batch_size: images a step, over all devices.
      accumulation: parts in which each device takes its share.
      needed: from such a number of parts to the bytes that a step needs on each device.
    """
    text = str(error)
    if "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower():
        share = batch_size // len(devices.devices)
        limit = device_bytes(devices)
        return UserError(_out_of_memory(batch_size, share, accumulation, needed, limit))
    if devices.num_hosts > 1 and any(word in text.lower() for word in OF_ANOTHER):
        return UserError(
            f"Process {devices.host} of {devices.num_hosts} has lost another one: "
            f"{text.strip().splitlines()[0]}\nStart all of them again with the same "
            "command: they go on from the last checkpoint."
        )
    return error


# What errors say, of Gloo, NCCL, gRPC and JAX's coordination, if a process is lost.
OF_ANOTHER = (
    "gloo",
    "nccl",
    "connection",
    "socket",
    "peer",
    "heartbeat",
    "unavailable",
    "deadline_exceeded",
    "aborted",
    "coordination",
    "task died",
    "timed out",
)


def _out_of_memory(
    batch_size: int,
    share: int,
    accumulation: int,
    needed: Callable[[int], int],
    limit: int | None,
) -> str:
    has = "" if limit is None else f" of the {in_words(limit)} it has"
    message = (
        f"Out of device memory: a step of {batch_size} images, {share} a device in "
        f"{accumulation} {'part' if accumulation == 1 else 'parts'}, needs "
        f"{in_words(needed(accumulation))} of each device{has}, by the "
        "compiler's figures, beside what else is on it."
    )
    finer = [
        n for n in range(accumulation + 1, share + 1) if share % n == 0
    ]  # in ascending order: the fewest parts are the fastest
    for parts in finer:
        bytes_then = needed(parts)
        if limit is None or bytes_then <= limit:
            return (
                f"{message} --config.training.accumulation={parts} needs "
                f"{in_words(bytes_then)} and gives the same updates to rounding."
            )
    return (
        f"{message} No config.training.accumulation helps: take more devices, or a "
        "smaller config.training.batch_size or config.model.width."
    )


def device_bytes(devices: Devices) -> int | None:
    """The memory of the smallest of this process's devices; None where it cannot tell."""
    here = [d for d in devices.devices if d.process_index == devices.host]
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in here]
    return min((limit for limit in limits if limit is not None), default=None)


def step_bytes(train_step: Any, *like: Any, devices: Devices) -> int:
    """What a step needs on each device, by the compiler's figures, and batches ahead.

    Args:
      train_step: spread and not yet lowered.
      like: its arguments, or ShapeDtypeStructs of them: state, batch, numbers, mean.
      devices: over which the batch is shared out.
    """
    found = train_step.lower(*like).compile().memory_analysis()
    batch = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(like[1]))
    return int(
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
        + found.temp_size_in_bytes
        + AHEAD * batch // len(devices.devices)
    )


def in_words(size: float) -> str:
    """Bytes as MB or GB, of 10^6 and 10^9."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"
