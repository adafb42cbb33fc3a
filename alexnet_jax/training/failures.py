"""Explains errors of the devices: out of memory, another process lost."""

import contextlib
from collections.abc import Iterator

import jax

from alexnet_jax.errors import UserError
from alexnet_jax.training.memory import StepMemory, device_bytes, format_bytes

# Words in the errors of Gloo, NCCL, gRPC and JAX's coordination when a process is lost.
OF_ANOTHER_PROCESS = (
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


@contextlib.contextmanager
def explaining(memory: StepMemory) -> Iterator[None]:
    """Raises a UserError in place of JAX's error where the cause is known."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise explain(error, memory) from error


def explain(error: Exception, memory: StepMemory) -> Exception:
    """The error to raise in place of JAX's: `error` itself if its cause is unknown.

    Args:
      error: a JaxRuntimeError from a step or a copy between host and devices.
      memory: estimates what a step of the trials needs.
    """
    text, devices = str(error), memory.devices
    if "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower():
        return UserError(_out_of_memory(memory))
    if devices.num_hosts > 1 and any(w in text.lower() for w in OF_ANOTHER_PROCESS):
        return UserError(
            f"Process {devices.host} of {devices.num_hosts} has lost another process: "
            f"{text.strip().splitlines()[0]}\nStart all of them again with the same "
            "command: they resume from the last checkpoint."
        )
    return error


def _out_of_memory(memory: StepMemory) -> str:
    batch_size, microbatches = memory.batch_size, memory.spec.microbatches
    share = batch_size // memory.devices.batch_parts
    limit = device_bytes(memory.devices)
    of_limit = "" if limit is None else f" of the {format_bytes(limit)} it has"
    message = (
        f"Out of device memory: a step of {batch_size} images, {share} per device in "
        f"{microbatches} {'microbatch' if microbatches == 1 else 'microbatches'}, needs "
        f"{format_bytes(memory.step_bytes(microbatches))} of each device{of_limit}, by "
        "the compiler's figures, besides whatever else is on it."
    )
    message = f"{message} {_way_out(memory, share, limit)}"
    num_trials = memory.slots.num_trials
    if num_trials > 1:
        message += (
            f" These are {num_trials} trials at once: without "
            "--config.population they are trained one after another."
        )
    return message


def _way_out(memory: StepMemory, share: int, limit: int | None) -> str:
    """The fewest microbatches that fit, as those are the fastest."""
    for microbatches in range(memory.spec.microbatches + 1, share + 1):
        if share % microbatches:
            continue
        needed = memory.step_bytes(microbatches)
        if limit is None or needed <= limit:
            by_itself = memory.spec.model.normalization == "batch"
            return (
                f"--config.training.gradient_accumulation={microbatches} needs "
                f"{format_bytes(needed)} and "
                + (
                    "has batch normalization see each of these parts by itself."
                    if by_itself
                    else "gives the same updates to rounding."
                )
            )
    return (
        "No config.training.gradient_accumulation helps: use more devices, or a smaller "
        "config.training.batch_size or config.model.width."
    )
