"""Freed memory is kept by the process."""

import signal
import subprocess
import sys
import types

import pytest

from alexnet_jax import main
from alexnet_jax.experiment import runner
from alexnet_jax.training import cpu_devices, cpu_memory, distributed

# Resident megabytes after 128 were written and freed in a thread, where JAX computes; by
# default glibc gives them back.
PROGRAM = """
import sys, threading
from alexnet_jax.training import cpu_memory
if sys.argv[1] == "keep" and not cpu_memory.keep_freed_memory():
    print("unknown"); sys.exit()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before = resident()
thread = threading.Thread(target=lambda: bytearray(b"x") * 2**27)
thread.start()
thread.join()
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
    assert int(kept) >= 120
    assert int(megabytes_kept("give back")) < 30


def test_another_c_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(cpu_memory.ctypes, "CDLL", lambda _: object())
    assert not cpu_memory.keep_freed_memory()
    monkeypatch.setattr(cpu_memory.sys, "platform", "darwin")
    assert not cpu_memory.keep_freed_memory()


@pytest.mark.parametrize(
    ("platforms", "entry_points", "module", "only"),
    [
        ("cpu", ("xla_cuda13",), "jax_plugins", True),
        ("cuda,cpu", (), "", False),
        (None, (), "", True),
        ("", (), "", True),
        (None, ("xla_cuda13",), "", False),
        (None, (), "jax_plugins", False),
        (None, (), "libtpu", False),
    ],
)
def test_cpus_are_expected_unless_jax_has_a_plugin(
    platforms, entry_points, module, only, monkeypatch
):
    config = types.SimpleNamespace(jax_platforms=platforms)
    monkeypatch.setattr(cpu_memory, "jax", types.SimpleNamespace(config=config))
    monkeypatch.setattr(
        cpu_memory.importlib.metadata, "entry_points", lambda group: entry_points
    )
    monkeypatch.setattr(cpu_memory.importlib.util, "find_spec", lambda n: n == module)
    assert cpu_memory.only_cpus() == only


@pytest.mark.parametrize("only", [True, False])
def test_main_has_memory_kept_before_jax_starts_its_threads(only, monkeypatch):
    calls = []
    for module, name, result in (
        (distributed, "join", None),
        (cpu_devices, "use_all_cores", None),
        (cpu_memory, "only_cpus", only),
        (cpu_memory, "keep_freed_memory", True),
        (runner, "run", ""),
    ):
        monkeypatch.setattr(
            module, name, lambda *_, n=name, r=result, **__: (calls.append(n), r)[1]
        )
    plan = types.SimpleNamespace(run_folder=lambda _: "runs/none")
    monkeypatch.setattr(main.cli, "resolved_plan", lambda: plan)
    monkeypatch.setattr(main.cli, "launches_as_primary", lambda _: False)
    for flag in ("WORKDIR", "PREFLIGHT", "DISTRIBUTED", "COORDINATOR"):
        monkeypatch.setattr(main, flag, types.SimpleNamespace(value=None))
    for flag in ("NUM_PROCESSES", "PROCESS_ID"):
        monkeypatch.setattr(main, flag, types.SimpleNamespace(value=None))
    kept = ["keep_freed_memory"] if only else []
    before = signal.getsignal(signal.SIGUSR1)
    try:
        main.main([])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert calls == ["join", "use_all_cores", "only_cpus", *kept, "run"]
