"""Ray itself: connecting to a cluster, running functions in its workers, their results."""

import logging
import os
import socket
from pathlib import Path
from typing import Any

from alexnet_jax.errors import UserError

# Environment variables that the workers share with the driver.
FORWARDED = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")


def connect(address: str | None) -> None:
    """Starts Ray on this machine, or connects to a running cluster.

    Args:
      address: HOST:PORT of the cluster's head node, "auto", or None for this machine.

    Raises:
      UserError: if Ray is not installed, or no cluster answers at `address`.
    """
    if address is not None and address != "auto":
        _check_reachable(address)
    # Older releases set an empty CUDA_VISIBLE_DEVICES for tasks without a GPU, newer ones
    # leave it alone. One behavior for all: `Resources.ray_options` sets JAX_PLATFORMS.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # No network without consent.
    # Without this mode Ray sends no token. It reads the variable when it is imported.
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token or (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray  # It comes with the extra "sweep".
    except ImportError as error:
        raise UserError(
            "A sweep needs Ray: pip install -c constraints.txt -e '.[sweep]'"
        ) from error
    options: dict[str, Any] = {}
    if address is None:
        # Trials exchange no objects: Ray need not reserve 30% of the memory for them.
        options = {"include_dashboard": False, "object_store_memory": 100 * 2**20}
    variables = {name: os.environ[name] for name in FORWARDED}
    try:
        ray.init(
            # Without an address Ray would join any cluster that runs on this machine.
            address=address or "local",
            logging_level=logging.ERROR,
            log_to_driver=False,
            runtime_env={"env_vars": variables},
            **options,
        )
    except (ConnectionError, ValueError, TimeoutError, RuntimeError) as error:
        raise UserError(f"No Ray cluster at --address={address}: {error}") from error


def _check_reachable(address: str) -> None:
    """Raises UserError if nothing listens: Ray would retry for minutes, then abort."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=10):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"No Ray cluster at --address={address}: {error}. Give HOST:PORT of its head "
            "node (ray start --head), or auto."
        ) from error


def run_in_worker(function: str, *arguments: Any) -> Any:
    """Calls a function of the module `worker`, in a worker process of Ray."""
    # Imported in the worker only: it imports JAX and TensorFlow, and the driver does not.
    from alexnet_jax.experiment.cluster import worker

    return getattr(worker, function)(*arguments)


def error_of(reference: Any) -> Exception | None:
    """Returns the exception that a finished task raised, unwrapped from Ray's; or None."""
    import ray  # It comes with the extra "sweep".

    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else error
    except ray.exceptions.RayError as error:
        return error
    return None


def result_of(reference: Any) -> Any:
    """Waits for a task and returns its result; raises what the task raised."""
    import ray  # It comes with the extra "sweep".

    error = error_of(reference)
    if error is not None:
        raise error
    return ray.get(reference)


def one_line(error: Exception) -> str:
    """Returns an exception as one line; the whole message of a UserError."""
    if isinstance(error, UserError):
        return str(error)
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"
