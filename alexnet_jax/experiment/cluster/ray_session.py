"""Ray itself: connecting to a cluster, running functions in its workers, their results."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from alexnet_jax.errors import UserError

# Environment variables that the workers share with the driver.
FORWARDED = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")

# Ray starts some ten processes, one after another; on a busy machine each takes its time.
START_SECONDS = 240
START_ATTEMPTS = 2
# Ray's own limits while it starts, 30 or 60 s otherwise; in seconds and in milliseconds.
START_LIMITS = {
    "RAY_gcs_server_port_wait_time_s": START_SECONDS,
    "RAY_gcs_server_request_timeout_seconds": START_SECONDS,
    "RAY_gcs_rpc_server_connect_timeout_s": START_SECONDS,
    "RAY_raylet_start_wait_time_s": START_SECONDS,
    "RAY_worker_register_timeout_seconds": START_SECONDS,
    "RAY_agent_register_timeout_ms": START_SECONDS * 1000,
}


def connect(address: str | None) -> None:
    """Starts Ray on this machine, or connects to a running cluster.

    Ray on this machine is given `START_SECONDS` to start, and a second attempt.

    Args:
      address: HOST:PORT of the cluster's head node, "auto", or None for this machine.

    Raises:
      UserError: if Ray is not installed or does not start, or no cluster answers at
        `address`.
    """
    if address is not None and address != "auto":
        _check_reachable(address)
    # Older releases set an empty CUDA_VISIBLE_DEVICES for tasks without a GPU, newer ones
    # leave it alone. One behavior for all: `Resources.ray_options` sets JAX_PLATFORMS.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # No network without consent.
    if address is None:
        for name, limit in START_LIMITS.items():
            os.environ.setdefault(name, str(limit))
    # Without this mode Ray sends no token. It reads the variable when it is imported.
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token or Path(os.path.expanduser("~/.ray/auth_token")).is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray  # It comes with the extra "sweep".
    except ImportError as error:
        raise UserError(
            "A sweep needs Ray: pip install -c constraints.txt -e '.[sweep]' in a "
            "checkout, otherwise pip install 'ray>=2.50' rich."
        ) from error
    variables = {name: os.environ[name] for name in FORWARDED}
    options: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "runtime_env": {"env_vars": variables},
    }
    if address is None:
        _start(ray, options)
        return
    try:
        ray.init(address=address, **options)
    except Exception as error:  # Ray raises many types, and Exception itself.
        raise UserError(f"No Ray cluster at --address={address}: {error}") from error


def _start(ray: Any, options: dict[str, Any]) -> None:
    """Starts Ray on this machine; once more if that fails.

    Raises:
      UserError: if both attempts fail.
    """
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            with _time_limit(START_SECONDS):
                ray.init(
                    # Without an address Ray would join any cluster that runs here.
                    address="local",
                    # Trials exchange no objects: Ray need not reserve 30% of the memory.
                    object_store_memory=100 * 2**20,
                    include_dashboard=False,
                    **options,
                )
            return
        except Exception as error:  # Ray raises many types, and Exception itself.
            reason = one_line(error).rstrip(".")
            ray.shutdown()
            if attempt == START_ATTEMPTS:
                raise UserError(
                    f"Ray did not start in {START_ATTEMPTS} attempts of at most "
                    f"{START_SECONDS} s ({reason}): run the same trials one after another "
                    "by python -m alexnet_jax.main with the same flags, or try "
                    "again when this machine is less busy."
                ) from error
            print(
                f"Ray did not start: {reason}. Trying once more ...",
                file=sys.stderr,
                flush=True,
            )


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the main thread when the time is up; elsewhere, never."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expired(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not ready after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
    """Waits for a task and returns its result; raises what the task raised.

    Raises:
      UserError: if Ray has lost the task, as when its process was killed.
    """
    import ray  # It comes with the extra "sweep".

    error = error_of(reference)
    if isinstance(error, ray.exceptions.RayError):
        raise UserError(
            f"Ray has lost a process: {one_line(error)} The same command continues; "
            "python -m alexnet_jax.main with the same flags does so without Ray."
        ) from error
    if error is not None:
        raise error
    return ray.get(reference)


def one_line(error: Exception) -> str:
    """Returns an exception as one line; the whole message of a UserError."""
    if isinstance(error, UserError):
        return str(error)
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"
