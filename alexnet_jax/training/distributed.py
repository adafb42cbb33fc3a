"""Joins several processes, on one host or on many, into one run.

Each process has its own devices, reads its own share of every batch, and takes part in
saving the checkpoints, into a folder that all of them see. Only the first one writes
records and prints messages.
"""

import faulthandler
import os
import socket
from collections.abc import Mapping

import jax

from alexnet_jax.errors import UserError

# Seconds without a heartbeat after which a process counts as lost. JAX then ends the
# others, which are waiting for it within a step, with a message and SIGABRT.
HEARTBEAT_SECONDS = 30
# Seconds until all must have joined: a cluster may start them minutes apart.
JOIN_SECONDS = 300


def launched_by(environment: Mapping[str, str]) -> str | None:
    """The launcher that has started this process as one of several, or None.

    Kubernetes and TPU slices set nothing that a single process would not have too; they
    need the flag --distributed.
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
    """Joins the other processes of the run, if there are any, before devices are used.

    Args:
      distributed: whether there are; None: as Slurm, Open MPI or `coordinator` says.
      coordinator: HOST:PORT of the first process, where no launcher is known.
      num_processes: the number of processes, with `coordinator`.
      process_id: the number of this process, from 0, with `coordinator`.

    Raises:
      UserError: if only some of the last three are given, or the others do not join.
    """
    _check_flags(distributed, coordinator, num_processes, process_id)
    launcher = launched_by(os.environ)
    wanted = coordinator is not None or launcher is not None
    if not (wanted if distributed is None else distributed):
        return
    faulthandler.disable()  # JAX ends processes on purpose: their stacks say nothing
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except Exception as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        how = f", started by {launcher}," if launcher else ""
        raise UserError(
            f"This process{how} on {socket.gethostname()} cannot join the others: "
            f"{reason}\nFor one process alone give --nodistributed; else --coordinator="
            "HOST:PORT, --num_processes=N and --process_id=K."
        ) from error


def _check_flags(
    distributed: bool | None,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
) -> None:
    """Raises UserError unless the flags of `join` agree with each other."""
    given = (coordinator, num_processes, process_id)
    if all(each is None for each in given):
        return
    if num_processes is None or process_id is None or coordinator is None:
        raise UserError(
            "--coordinator=HOST:PORT, --num_processes=N and --process_id=K belong "
            "together: give all three, or none where Slurm, Open MPI, Kubernetes or "
            "a TPU slice starts the processes."
        )
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id={process_id}: with {num_processes} processes it must be 0 "
            f"to {num_processes - 1}."
        )
    if distributed is False:
        raise UserError("--nodistributed and --coordinator contradict each other.")
