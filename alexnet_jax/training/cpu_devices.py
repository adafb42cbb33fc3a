"""How many devices a CPU counts as: one for each core that this process may keep busy.

XLA hardly uses a second core within one device. On two cores, two devices trained the
four-layer network 2.1 times as fast as one.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def use_all_cores() -> None:
    """Makes each usable core a device, before JAX's first use.

    Not where the user has set their number (JAX_NUM_CPU_DEVICES, or an XLA flag), where JAX is
    in use already, or where several processes form one run: these may share the cores.
    """
    is_set = jax.config.jax_num_cpu_devices != -1  # type: ignore[attr-defined]
    flag = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if is_set or flag or jax.distributed.is_initialized():
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
    """The CPUs that this process's control groups allow; None: without a limit.

    A limit of any group above holds too: of the container's, the job's and the service's.
    """
    limits = [limit for limit in _limits(read, folder) if limit is not None]
    return min(limits, default=None)


def _limits(read: Callable[[Path], str], folder: Path) -> Iterator[float | None]:
    of_version_1, of_version_2 = _groups(read)
    for group in of_version_2:
        yield _limit(read, folder / group / "cpu.max")
    for group in of_version_1:
        inner = folder / "cpu" / group
        yield _limit(read, inner / "cpu.cfs_quota_us", inner / "cpu.cfs_period_us")


def _groups(read: Callable[[Path], str]) -> tuple[list[Path], list[Path]]:
    """This process's groups of CPUs by version 1 and 2, each with those above it.

    Within a container the paths may be those of its host, and not there: the root, which
    always counts, is then the container's own group.
    """
    named = {1: Path(), 2: Path()}
    with contextlib.suppress(OSError):
        for line in read(OWN_GROUPS).splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0" or "cpu" in controllers.split(","):
                named[2 if number == "0" else 1] = Path(path.lstrip("/"))
    return tuple([path, *path.parents] for path in named.values())  # type: ignore[return-value]


def _limit(read: Callable[[Path], str], *files: Path) -> float | None:
    """The quota over its period, in one file or two; None: no limit, or no such file."""
    try:
        quota, period = " ".join(read(file) for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # "max" is no number
        return None
