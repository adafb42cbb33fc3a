"""Devices of a sweep: what each Ray task receives, and how many tasks run at once."""

import dataclasses
from typing import Any

from alexnet_jax.errors import UserError

# Share of its fraction of a GPU's memory that JAX allocates when tasks share the GPU:
# the rest is for the CUDA contexts.
MEMORY_SHARE = 0.9


@dataclasses.dataclass(frozen=True)
class Resources:
    """What each Ray task receives, and how many tasks the cluster runs at once.

    Attributes:
      gpus: GPUs of one task; a fraction below 1 shares a GPU.
      cpus: CPU cores of one task.
      concurrent: the number of tasks that run at once.
      total: "GPU" and "CPU" of the whole cluster.
    """

    gpus: float
    cpus: float
    concurrent: int
    total: dict[str, float]

    @staticmethod
    def choose(
        cluster: dict[str, float], *, gpus: float | None, cpus: float | None
    ) -> "Resources":
        """Returns the resources requested, or the defaults for this cluster.

        Args:
          cluster: as `ray.cluster_resources()` returns it.
          gpus: GPUs per task; None: 1 if there are any.
          cpus: CPU cores per task; None: 0 for a task with a GPU, otherwise 1.

        Raises:
          UserError: if the cluster could never run a single task.
        """
        total = {"GPU": cluster.get("GPU", 0.0), "CPU": cluster.get("CPU", 0.0)}
        gpus = (1.0 if total["GPU"] else 0.0) if gpus is None else gpus
        cpus = (0.0 if gpus else 1.0) if cpus is None else cpus
        _check(gpus, cpus, total)
        # A task cannot use parts of two GPUs: at 0.4 GPUs per task, two GPUs run four
        # tasks and not five.
        slots = []
        if gpus:
            num_gpus = total["GPU"]
            slots.append(num_gpus * int(1 / gpus) if gpus < 1 else num_gpus // gpus)
        if cpus:
            slots.append(total["CPU"] // cpus)
        return Resources(gpus, cpus, int(min(slots)), total)

    def cores_per_task(self, num_tasks: int) -> int:
        """Returns the CPU cores for each task while `num_tasks` remain to be run.

        Ray only counts cores and binds no task to them: tasks that run at once share all.
        """
        sharing = max(1, min(self.concurrent, num_tasks))
        return max(1, int(self.total["CPU"] / sharing))

    def ray_options(self) -> dict[str, Any]:
        """Returns the keyword arguments of `ray.remote` for a task."""
        variables = {}
        if 0 < self.gpus < 1:
            share = f"{MEMORY_SHARE * self.gpus:.3f}"
            variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = share
        if self.gpus == 0 and self.total["GPU"]:
            # Ray does not hide the GPUs from a task that requests none.
            variables["JAX_PLATFORMS"] = "cpu"
        return {
            "num_gpus": self.gpus,
            "num_cpus": self.cpus,
            "max_retries": 0,  # The scheduler retries, and reports it.
            # A process of JAX stays on the GPU that it opened first, whichever GPU Ray
            # assigns to its next task: one task per process. On CPUs a process runs one
            # task after another, and imports JAX and TensorFlow once.
            "max_calls": 1 if self.gpus else 0,
            "runtime_env": {"env_vars": variables},
        }

    def __str__(self) -> str:
        parts = [f"{self.gpus:g} GPU"] if self.gpus else []
        parts += [f"{self.cpus:g} CPU core"] if self.cpus else []
        return " and ".join(parts)


def _check(gpus: float, cpus: float, total: dict[str, float]) -> None:
    """Raises UserError if the cluster has no room for a task of this size."""
    if gpus < 0 or cpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise UserError(
            f"--gpus_per_trial={gpus:g} --cpus_per_trial={cpus:g}: neither may be "
            "negative, and more than one GPU must be a whole number."
        )
    if gpus == cpus == 0:
        raise UserError(
            "--gpus_per_trial=0 --cpus_per_trial=0 would run all trials at once. Give "
            "--cpus_per_trial=1 or more."
        )
    for flag, device, requested in (
        ("gpus_per_trial", "GPU", gpus),
        ("cpus_per_trial", "CPU", cpus),
    ):
        if requested > total[device]:
            raise UserError(
                f"--{flag}={requested:g}: the cluster has {total[device]:g} {device}s. "
                f"Give {total[device]:g} or fewer."
            )
