"""How many devices a CPU counts as: one for each core that this process may keep busy.

XLA hardly uses a second core within one device. On two cores, two devices trained the
four-layer network 2.1 times as fast as one.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import jax

CGROUPS = Path("/sys/fs/cgroup")


def use_all_cores() -> None:
    """Makes each usable core a device, before JAX's first use.

    Not where the user has said how many (JAX_NUM_CPU_DEVICES, or an XLA flag), where JAX is
    in use already, or where several processes form one run: these may share the cores.
    """
    said = jax.config.jax_num_cpu_devices != -1  # type: ignore[attr-defined]
    flag = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if said or flag or jax.distributed.is_initialized():
        return
    with contextlib.suppress(RuntimeError):  # JAX is in use already
        jax.config.update("jax_num_cpu_devices", usable_cores())


def usable_cores(
    read: Callable[[Path], str] = Path.read_text, folder: Path = CGROUPS
) -> int:
    """The cores that this process may run on, or keep busy by its quota, whole ones only.

    A container with a limit of 1.5 CPUs has one: a second device would wait for the first
    half of the time.

    Args:
      read: reads a file.
      folder: where the control groups are.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # macOS
        cores = os.cpu_count() or 1
    quota = _quota(read, folder)
    return max(1, cores if quota is None else min(cores, int(quota)))


def _quota(read: Callable[[Path], str], folder: Path) -> float | None:
    """The CPUs that the container's control group allows; None: without a limit."""
    try:
        of_version_2 = read(folder / "cpu.max").split()
    except OSError:
        of_version_2 = []
    if len(of_version_2) == 2:
        limit, period = of_version_2
        return None if limit == "max" else int(limit) / int(period)
    try:
        limit, period = (
            read(folder / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")
        )
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None
