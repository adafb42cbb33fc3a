"""Runs an experiment and prints its report: a table, a figure and a verdict.

python -m alexnet_jax.main --config=configs/NAME.py[:DATASET] [--workdir=DIR]
                           [--preflight] [--config.SECTION.FIELD=VALUE ...]

DATASET is digits (the default), a TFDS name, tfds=NAME, folder=PATH or npz=FILE. The same
command continues an interrupted run: finished trials are not repeated. SIGTERM and Ctrl-C
save and exit, SIGUSR1 saves and continues. Several processes, on one host or many, form
one run: docs/scaling.md.
"""

import signal
import sys

from absl import flags

from alexnet_jax import cli

WORKDIR = flags.DEFINE_string("workdir", "", "Default: runs/<experiment>-<dataset>")
PREFLIGHT = flags.DEFINE_bool(
    "preflight", False, "Do every step of a run once, keep nothing, and print the cost."
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    None,
    "Whether this is one of several processes. Default: as Slurm or Open MPI says; "
    "required on Kubernetes and TPU slices.",
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --coordinator.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "With --coordinator, from 0.")


def main(_: list[str]) -> None:
    plan = cli.resolved_plan()
    folder = plan.run_folder(WORKDIR.value)
    if cli.launches_as_primary(PROCESS_ID.value) and not PREFLIGHT.value:
        total = plan.num_measured
        trials = f"{total} trial{'' if total == 1 else 's'}"
        if plan.tuning_trials:
            trials = f"{len(plan.tuning_trials)} tuning trials, then {trials}"
        line = f"{plan.name} on {plan.dataset}: {trials}, into {folder}"
        print(*cli.pinned_fields(), line, sep="\n", file=sys.stderr, flush=True)
    # A scheduler may ask for a checkpoint before there is anything to save.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # JAX takes seconds to import; a misspelled flag is refused before.
    from alexnet_jax.experiment import preflight, runner
    from alexnet_jax.training import cpu_devices, cpu_memory, distributed

    distributed.join(
        distributed=DISTRIBUTED.value,
        coordinator=COORDINATOR.value,
        num_processes=NUM_PROCESSES.value,
        process_id=PROCESS_ID.value,
    )
    cpu_devices.use_all_cores()
    if cpu_memory.only_cpus():
        cpu_memory.keep_freed_memory()  # JAX starts its threads at its first use.
    report = (preflight if PREFLIGHT.value else runner).run(plan, folder)
    if report:
        print(report)


def kept() -> str:
    """What is kept when the command is interrupted."""
    return cli.kept_by_run(WORKDIR.value, rehearsed=PREFLIGHT.value)


if __name__ == "__main__":
    cli.run(main, kept=kept)
