"""Memory that a CPU keeps between steps, so that no step waits for fresh pages.

Where the C library is glibc, the arrays of a step are mapped anew at each step and zeroed
by the kernel page by page. On EPYC cores that was a sixth of the four-layer network's step
at batch 128, and a fifth of AlexNet's at batch 32.
"""

import ctypes
import importlib.metadata
import importlib.util
import sys

import jax

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = -1


def only_cpus() -> bool:
    """Whether CPUs are all that JAX will find, as far as is known before its first use."""
    if platforms := jax.config.jax_platforms:  # type: ignore[attr-defined]
        return set(platforms.split(",")) == {"cpu"}
    # An accelerator's plugin may be there without the accelerator: `open_session`, which
    # knows the devices, has the memory kept then, as far as it still can.
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    modules = map(importlib.util.find_spec, ("jax_plugins", "libtpu"))
    return not plugins and not any(modules)


def keep_freed_memory() -> bool:
    """Has this process keep the memory that it frees, for what it allocates next.

    The process's resident memory then stays at its peak. Threads that allocate already,
    such as JAX's after its first use, go on giving back what is larger than 64 MB. Returns
    whether the C library does so; others, such as those of macOS and of musl, are left as
    they are.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # One arena: those of further threads hold 64 MB at most, and map what is larger.
    wanted = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER))
    return all(mallopt(parameter, value) == 1 for parameter, value in wanted)
