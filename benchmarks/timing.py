"""Times implementations of the same work in turns and prints the report of a process."""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from alexnet_jax.provenance import versions

Implementation = Callable[[], Any]  # Does the work once and waits for its result.


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One row of a table: the same work by several implementations.

    Attributes:
      name: the row's name.
      implementations: by name: "ours", "plain" (plain JAX) and "torch" (PyTorch).
      targets: the largest wanted ratio of our time to another implementation's, by
        cores ("core" or "all") and the other's name.
      gflop: the additions and multiplications of its products, in 10^9; 0: not counted.
    """

    name: str
    implementations: dict[str, Implementation]
    targets: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    gflop: float = 0.0


@dataclasses.dataclass(frozen=True)
class BenchmarkSettings:
    """The batch size and the type (float32, tf32 or bfloat16) of all comparisons."""

    batch_size: int
    dtype: str

    @property
    def array_dtype(self) -> Any:
        """The type of the arrays: tf32 is a precision of products of float32 arrays."""
        return jnp.bfloat16 if self.dtype == "bfloat16" else jnp.float32


def median_milliseconds(
    comparison: Comparison, repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Returns the median time of each implementation.

    They take turns, so that noise of the machine reaches all of them. A first call of
    each, which compiles, is not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in comparison.implementations}
    for run in comparison.implementations.values():
        run()
    for _ in range(repeats):
        for name, run in comparison.implementations.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


def set_precision(dtype: str) -> None:
    """Sets the precision of matrix products: XLA's own default on a GPU is tf32."""
    precision = {"tf32": "tensorfloat32", "float32": "float32", "bfloat16": None}[dtype]
    jax.config.update("jax_default_matmul_precision", precision)


def jax_environment(packages: Iterable[str]) -> dict[str, Any]:
    """Returns JAX's platform and devices, and the versions of the installed packages."""
    return {
        "platform": jax.default_backend(),
        "devices": [device.device_kind for device in jax.local_devices()],
        "versions": versions(packages),
    }


def print_report(
    comparisons: Iterable[Comparison],
    *,
    repeats: int,
    cores: str,
    packages: Iterable[str],
) -> None:
    """Times all comparisons and prints their JSON report on standard output.

    Args:
      comparisons: made one after the other, so that only one is in memory.
      repeats: how often each implementation is timed.
      cores: "core", timed by the CPU time of the process, or "all", by the wall clock.
      packages: the distributions whose versions belong to the report.
    """
    clock = time.process_time if cores == "core" else time.perf_counter
    rows = []
    for comparison in comparisons:
        rows.append(
            {
                "name": comparison.name,
                "milliseconds": median_milliseconds(comparison, repeats, clock),
                "targets": comparison.targets.get(cores, {}),
                "gflop": comparison.gflop,
            }
        )
        comparison.implementations.clear()  # Frees its arrays before the next are made.
    print(json.dumps({**jax_environment(packages), "rows": rows}))
