"""Runs an experiment and answers with a table, a figure and a verdict.

python -m alexnet_jax.main --config=configs/NAME.py[:DATASET] [--workdir=DIR]
                           [--preflight] [--config.SECTION.FIELD=VALUE ...]

DATASET is digits (the default), a TFDS name, tfds=NAME or folder=PATH. Trials that a
run folder already holds are not repeated: the same command goes on where it stopped.
SIGTERM and Ctrl-C save and leave, SIGUSR1 saves and goes on. Several processes, on one
host or many, are one run: docs/scaling.md.
"""

import os
import signal
import sys

from absl import flags

from alexnet_jax import command
from alexnet_jax import config as configuration

WORKDIR = flags.DEFINE_string(
    "workdir", "", "Run folder. Default: runs/<experiment>-<dataset>"
)
PREFLIGHT = flags.DEFINE_bool(
    "preflight", False, "Do everything once, write nothing, and say what a run costs."
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    None,
    "Whether this is one of several processes. Default: as Slurm and Open MPI say; "
    "Kubernetes and TPU slices need it.",
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, where no launcher is known."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many there are, then.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which this is, from 0, then.")


def main(_: list[str]) -> None:
    config = command.finished_config()
    folder = configuration.run_folder(config, WORKDIR.value)
    trials = len(configuration.trials(config))
    ranks = (os.environ.get(name) for name in ("SLURM_PROCID", "OMPI_COMM_WORLD_RANK"))
    rank = next((r for r in (PROCESS_ID.value, *ranks) if r is not None), 0)
    if int(rank) == 0 and not PREFLIGHT.value:
        into = f"{config.experiment} on {config.data.dataset}: {trials} trials, into {folder}"
        print(*command.not_tried(), into, sep="\n", file=sys.stderr, flush=True)
    # A scheduler may ask for a save before there is anything to save.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # JAX and TensorFlow take ten seconds to import.
    from alexnet_jax import experiment, preflight
    from alexnet_jax.training import processes

    processes.join(
        distributed=DISTRIBUTED.value,
        coordinator=COORDINATOR.value,
        num_processes=NUM_PROCESSES.value,
        process_id=PROCESS_ID.value,
    )
    answer = (preflight if PREFLIGHT.value else experiment).run(config, folder)
    if processes.is_first():
        print(answer)


if __name__ == "__main__":
    command.run(main)
