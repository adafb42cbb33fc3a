"""Runs the trials of an experiment as tasks on Ray: many devices, many machines.

python -m alexnet_jax.sweep --config=configs/NAME.py[:DATASET] [--workdir=DIR]
                            [--address=HOST:PORT|auto] [--gpus_per_trial=N]
                            [--cpus_per_trial=N] [--dry_run]
                            [--config.SECTION.FIELD=VALUE ...]

The trials, their folders and the report are those of alexnet_jax.main: either command
continues what the other has begun. Each trial gets a GPU of its own if there are GPUs,
and otherwise a CPU core. A trial that fails is run once more, from its last checkpoint.
Several machines need a run folder on a disk that all of them share: docs/scaling.md.
"""

from absl import flags

from alexnet_jax import cli

WORKDIR = flags.DEFINE_string(
    "workdir", "", "Run folder. Default: runs/<experiment>-<dataset>"
)
ADDRESS = flags.DEFINE_string(
    "address", None, "HOST:PORT of a Ray cluster, or auto. Default: this machine alone."
)
GPUS = flags.DEFINE_float(
    "gpus_per_trial", None, "GPUs per trial. Default: 1 if there are any, otherwise 0."
)
CPUS = flags.DEFINE_float(
    "cpus_per_trial", None, "CPU cores per trial. Default: 0 with a GPU, otherwise 1."
)
DRY_RUN = flags.DEFINE_bool(
    "dry_run",
    False,
    "List the trials, time a few steps of each arm, and print the cost; train nothing.",
)


def main(_: list[str]) -> None:
    plan = cli.resolved_plan()
    # SciPy and Matplotlib take seconds to import; a misspelled flag is refused before.
    from alexnet_jax.experiment.cluster import driver

    options = driver.Options(
        address=ADDRESS.value,
        gpus_per_trial=GPUS.value,
        cpus_per_trial=CPUS.value,
        dry_run=DRY_RUN.value,
        notices=cli.pinned_fields(),
    )
    driver.run(plan, plan.run_folder(WORKDIR.value), options)


def kept() -> str:
    """What is kept when the command is interrupted."""
    return cli.kept_by_run(WORKDIR.value, rehearsed=DRY_RUN.value)


if __name__ == "__main__":
    cli.run(main, kept=kept)
