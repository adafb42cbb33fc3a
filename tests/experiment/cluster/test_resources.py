"""What each Ray task receives, and how many run at once."""

import pytest

from alexnet_jax.errors import UserError
from alexnet_jax.experiment.cluster.resources import Resources

CPUS = {"CPU": 8.0}
GPUS = {"CPU": 64.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("cluster", "gpus", "cpus", "expected"),
    [
        # One GPU each if there are any, otherwise one core.
        (CPUS, None, None, (0.0, 1.0, 8)),
        (GPUS, None, None, (1.0, 0.0, 2)),
        (CPUS, None, 3.0, (0.0, 3.0, 2)),
        ({"CPU": 4.0, "GPU": 8.0}, None, 1.0, (1.0, 1.0, 4)),
        ({"CPU": 64.0, "GPU": 8.0}, 3.0, None, (3.0, 0.0, 2)),
        (GPUS, 0.4, None, (0.4, 0.0, 4)),  # No task uses fractions of two GPUs.
        (GPUS, 0.0, None, (0.0, 1.0, 64)),
    ],
)
def test_resources_and_concurrency(cluster, gpus, cpus, expected):
    found = Resources.choose(cluster, gpus=gpus, cpus=cpus)
    assert (found.gpus, found.cpus, found.concurrent) == expected


@pytest.mark.parametrize(
    ("gpus", "cpus", "words"),
    [
        (4.0, None, "--gpus_per_trial=4: the cluster has 2 GPUs"),
        (None, 128.0, "--cpus_per_trial=128: the cluster has 64 CPUs"),
        (1.5, None, "whole number"),
        (-1.0, None, "negative"),
        (0.0, 0.0, "--cpus_per_trial=1 or more"),
    ],
)
def test_impossible_requests_are_refused(gpus, cpus, words):
    with pytest.raises(UserError, match=words):
        Resources.choose(GPUS, gpus=gpus, cpus=cpus)


@pytest.mark.parametrize(
    ("cluster", "gpus", "max_calls", "variables"),
    [
        # One process per task: JAX would keep the GPU that it opened first.
        (GPUS, None, 1, {}),
        (GPUS, 0.5, 1, {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.450"}),
        # Ray does not hide the GPUs from a task that requests none.
        (GPUS, 0.0, 0, {"JAX_PLATFORMS": "cpu"}),
        (CPUS, None, 0, {}),
    ],
)
def test_ray_options(cluster, gpus, max_calls, variables):
    resources = Resources.choose(cluster, gpus=gpus, cpus=None)
    assert resources.ray_options() == {
        "num_gpus": resources.gpus,
        "num_cpus": resources.cpus,
        "max_retries": 0,
        "max_calls": max_calls,
        "runtime_env": {"env_vars": variables},
    }


@pytest.mark.parametrize(
    ("cluster", "cpus", "num_tasks", "cores"),
    [
        (CPUS, None, 30, 1),
        (CPUS, None, 3, 2),  # The other trials have ended.
        (CPUS, 3.0, 30, 4),
        ({"CPU": 64.0, "GPU": 8.0}, None, 30, 8),
        ({"CPU": 2.0, "GPU": 8.0}, None, 30, 1),
    ],
)
def test_concurrent_tasks_share_the_cores(cluster, cpus, num_tasks, cores):
    resources = Resources.choose(cluster, gpus=None, cpus=cpus)
    assert resources.cores_per_task(num_tasks) == cores
