"""Freed memory is kept by the process."""

import subprocess
import sys

import pytest

from alexnet_jax.training import cpu_memory

# Resident pages after 64 MB were written and freed; by default glibc gives them back.
PROGRAM = """
import sys
from alexnet_jax.training import cpu_memory
if sys.argv[1] == "keep" and not cpu_memory.keep_freed_memory():
    print("unknown"); sys.exit()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before = resident()
block = bytearray(b"x") * 2**26
del block
print((resident() - before) // 2**20)
"""


def megabytes_kept(how):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="the C library is glibc on Linux")
def test_freed_memory_stays_with_the_process():
    kept = megabytes_kept("keep")
    if kept == "unknown":
        pytest.skip("the C library is not glibc")
    assert int(kept) >= 60
    assert int(megabytes_kept("give back")) < 30


def test_another_c_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(cpu_memory.ctypes, "CDLL", lambda _: object())
    assert not cpu_memory.keep_freed_memory()
    monkeypatch.setattr(cpu_memory.sys, "platform", "darwin")
    assert not cpu_memory.keep_freed_memory()
