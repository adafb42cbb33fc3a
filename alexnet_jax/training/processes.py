"""Several processes, on one host or on many, as one run.

Each has its own devices, reads its own share of every batch, and takes part in saving
the checkpoints, into a folder that all of them see. The first one alone writes records
and speaks.
"""

import faulthandler
import os
import socket
from collections.abc import Mapping

import jax

from alexnet_jax.errors import UserError

# Seconds without a sign of life after which a process counts as gone. JAX then ends the
# others, which wait for it in the midst of a step, with a message and by SIGABRT.
SILENT_SECONDS = 30
# Until all are there: a cluster may start them minutes apart.
JOIN_SECONDS = 300


def launched_by(environment: Mapping[str, str]) -> str | None:
    """The launcher that has started this process as one of several; None if none has.

    Kubernetes and TPU slices set nothing that a single process would not have too: there
    --distributed says it.
    """
    if "SLURM_STEP_NODELIST" in environment and _several(environment, "SLURM_NTASKS"):
        return "Slurm"
    if _several(environment, "OMPI_COMM_WORLD_SIZE"):
        return "Open MPI"
    return None


def _several(environment: Mapping[str, str], name: str) -> bool:
    count = environment.get(name, "1")
    return count.isdigit() and int(count) > 1


def join(
    *,
    distributed: bool | None,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
) -> None:
    """Makes this process one of several, if it is. Before any device is touched.

    Args:
      distributed: whether it is; None: if Slurm, Open MPI or `coordinator` says so.
      coordinator: HOST:PORT of the first process, where no launcher is known.
      num_processes: of all, then.
      process_id: of this one, from 0, then.

    Raises:
      UserError: if only some of the three are given, or the others do not come.
    """
    given = (coordinator, num_processes, process_id)
    if any(each is not None for each in given):
        if any(each is None for each in given):
            raise UserError(
                "--coordinator=HOST:PORT, --num_processes=N and --process_id=K belong "
                "together: give all three, or none where Slurm, Open MPI, Kubernetes or "
                "a TPU slice starts the processes."
            )
        assert num_processes is not None
        assert process_id is not None
        if not 0 <= process_id < num_processes:
            raise UserError(
                f"--process_id={process_id}: of {num_processes} processes it is 0 to "
                f"{num_processes - 1}."
            )
        if distributed is False:
            raise UserError("--nodistributed and --coordinator contradict each other.")
    launcher = launched_by(os.environ)
    wanted = coordinator is not None or launcher is not None
    if not (wanted if distributed is None else distributed):
        return
    faulthandler.disable()  # a process that JAX ends is in no fault: its stacks say nothing
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=SILENT_SECONDS,
        )
    except Exception as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        how = f", started by {launcher}," if launcher else ""
        raise UserError(
            f"This process{how} on {socket.gethostname()} cannot join the others: "
            f"{reason}\nFor one process alone give --nodistributed; else --coordinator="
            "HOST:PORT, --num_processes=N and --process_id=K."
        ) from error


def is_first() -> bool:
    """Whether this is the process that writes records and speaks to the user."""
    return jax.process_index() == 0
