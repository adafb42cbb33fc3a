"""What the benchmark of populations times: trials one after the other, and together.

`run.py` runs this module as a process of its own,

    python -m benchmarks.population_cost population BATCH_SIZE REPEATS DTYPE all

and reads one JSON object from its standard output. The trials are whole ones on digits, as
an experiment runs them: input, steps, records, evaluations and checkpoints.
"""

import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from alexnet_jax.config import base, small_data
from alexnet_jax.config.resolve import resolve
from alexnet_jax.config.trials import ExperimentPlan
from alexnet_jax.experiment import runner
from alexnet_jax.experiment.datasets import Datasets
from alexnet_jax.provenance import versions
from alexnet_jax.training.cpu_devices import use_all_cores
from alexnet_jax.training.cpu_memory import keep_freed_memory, only_cpus
from alexnet_jax.training.devices import Devices
from benchmarks.timing import set_precision

# The number of seeds, and of learning rates: an experiment has the square of it in trials.
SEEDS_AND_RATES = (2, 4)
EPOCHS = 1.0  # of each trial
RATES = (0.001, 0.002, 0.003, 0.004)
PACKAGES = ("jax", "jaxlib", "flax", "tensorflow-cpu", "tensorflow")


def four_layer() -> ConfigDict:
    """The network of Figure 1 as configs/relu_vs_tanh.py has it on digits."""
    config = base("digits", network="four_layer")
    config.data.rescale_size = config.data.crop_size = 16
    config.model.width = 0.5
    return config


def alexnet() -> ConfigDict:
    """AlexNet as the other configs have it on digits."""
    return small_data(base("digits"))


def experiment(
    config: ConfigDict, batch_size: int, dtype: str, side: int, *, population: bool
) -> ExperimentPlan:
    """An experiment of side x side trials, of an epoch each."""
    config.model.dtype = "bfloat16" if dtype == "bfloat16" else "float32"
    config.training.batch_size = batch_size
    config.training.num_epochs = EPOCHS
    config.tuned = {"optimizer.learning_rate": RATES[:side]}
    config.seeds = side
    config.population = population
    return resolve(config, {})


def measure(
    alone: ExperimentPlan, together: ExperimentPlan, repeats: int
) -> dict[str, Any]:
    """Seconds of all trials, alone and together: at first, and once compiled."""
    devices = Devices()
    datasets = Datasets(alone)
    trials = list(alone.trials)

    def seconds(plan: ExperimentPlan) -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            runner.run_trials(trials, Path(folder), plan, datasets, devices)
            return time.perf_counter() - start

    forms = {"alone": alone, "population": together}
    first = {name: seconds(plan) for name, plan in forms.items()}
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(repeats):
        for name in list(forms)[:: 1 if turn % 2 else -1]:
            times[name].append(seconds(forms[name]))
    ratios = [
        one_by_one / at_once
        for one_by_one, at_once in zip(times["alone"], times["population"], strict=True)
    ]
    return {
        "trials": len(trials),
        "first_seconds": first,
        "seconds": {name: statistics.median(of) for name, of in times.items()},
        "trials_per_second": {
            name: len(trials) / statistics.median(of) for name, of in times.items()
        },
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def main() -> None:
    batch_size, repeats = map(int, sys.argv[2:4])
    dtype = sys.argv[4]
    use_all_cores()
    if only_cpus():
        keep_freed_memory()  # As in a run.
    set_precision(dtype)
    jax.config.update("jax_enable_compilation_cache", False)  # what a first run costs
    rows = []
    for name, network in (("four-layer", four_layer), ("small-data AlexNet", alexnet)):
        for side in SEEDS_AND_RATES:
            alone, together = (
                experiment(network(), batch_size, dtype, side, population=population)
                for population in (False, True)
            )
            print(f"Timing {name}, {side**2} trials ...", file=sys.stderr, flush=True)
            with contextlib.redirect_stderr(io.StringIO()):  # progress
                rows.append({"name": name, **measure(alone, together, repeats)})
    report: dict[str, Any] = {
        "platform": jax.default_backend(),
        "devices": [device.device_kind for device in jax.local_devices()],
        "versions": versions(PACKAGES),
        "rows": rows,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
