"""Memory that a CPU keeps between steps, so that no step waits for fresh pages.

Where the C library is glibc, the arrays of a step are mapped anew at each step and zeroed
by the kernel page by page: a sixth of the four-layer network's step at batch 128.
"""

import ctypes
import sys

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Has this process keep the memory that it frees, for what it allocates next.

    Its resident memory then stays at its peak. Returns whether the C library does so;
    others, such as those of macOS and of musl, are left as they are.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(
        mallopt(parameter, value) == 1
        for parameter, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST))
    )
