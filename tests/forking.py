"""The command in processes that start in a moment: each is forked from this one.

The tests use it through forked.py.

Most of what the command takes to start is importing JAX and TensorFlow. This process has
imported them, and has used neither: no backend, and but one thread, so that it may fork.
Its children run `alexnet_jax.main`, or another program of the tests, as `python -m` does,
and die as any process does.

It reads a request a line, as JSON, and answers in a line. When its input ends, so do its
children.
"""

import gc
import json
import os
import runpy
import signal
import sys
import warnings
from pathlib import Path

import jax
import sklearn.datasets  # noqa: F401  (the command imports it later)

import alexnet_jax.experiment.runner
import alexnet_jax.report.page  # noqa: F401  (the command imports it last)


def main():
    warnings.filterwarnings("ignore", message=r"os.fork\(\) was called")
    threads = len(os.listdir("/proc/self/task"))
    assert threads == 1, f"{threads} threads cannot be forked"
    running = set()
    gc.collect()
    gc.freeze()  # Its children need not look through what is imported.
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "arguments" in request:
            answer = os.fork()
            if answer == 0:
                return become(request)
            running.add(answer)
        else:
            pid, status = os.waitpid(request["pid"], os.WNOHANG)
            running.discard(pid)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def become(request):
    """The command. It leaves as it does by itself, through this process's end."""
    with open(os.devnull) as empty:
        os.dup2(empty.fileno(), 0)
    for number in (1, 2):
        with Path(request["output"][number - 1]).open("w") as file:
            os.dup2(file.fileno(), number)
    # JAX read these from the environment when it was imported.
    jax.config.update("jax_num_cpu_devices", request["devices"])
    jax.config.update("jax_compilation_cache_dir", request["cache"])
    os.environ["JAX_COMPILATION_CACHE_DIR"] = request["cache"]
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in os.environ
    program = request.get("program", "alexnet_jax.main")
    sys.argv = [program, *request["arguments"]]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


main()
