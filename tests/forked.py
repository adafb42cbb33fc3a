"""Processes of the command that forking.py forks: they start in a moment."""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Server:
    """A running forking.py."""

    def __init__(self):
        # One OpenBLAS thread: it would start others before the fork.
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "forking.py"],
            cwd=ROOT,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def asked(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Forked:
    """A process of `alexnet_jax.main`, or of another program of the tests.

    Its standard output and error go to the files `out` and `err` in the folder `output`.
    """

    def __init__(
        self,
        server,
        output,
        arguments,
        devices,
        *,
        cache=None,
        environment=(),
        folder=ROOT,
        **how,
    ):
        self.server, self.output = server, output
        self.returncode = None
        self.pid = server.asked(
            arguments=list(map(str, arguments)),
            output=[str(output / "out"), str(output / "err")],
            devices=devices,
            cache=str(cache or os.environ["JAX_COMPILATION_CACHE_DIR"]),
            environment=dict(environment),
            folder=str(folder),
            **how,
        )

    def poll(self):
        if self.returncode is None:
            self.returncode = self.server.asked(pid=self.pid)
        return self.returncode

    @property
    def said(self):
        return (self.output / "err").read_text()

    @property
    def printed(self):
        return (self.output / "out").read_text()


class Done(NamedTuple):
    """What a process has left, as `subprocess.CompletedProcess` has it."""

    returncode: int
    stdout: str
    stderr: str


@functools.cache
def shared_server():
    """One for all tests of this process."""
    server = Server()
    atexit.register(server.close)
    return server


def command(
    program, *arguments, folder=ROOT, environment=(), devices=None, seconds=120
):
    """Runs `python -m program`, in the working directory `folder`, to its end."""
    with tempfile.TemporaryDirectory() as output:
        started = Forked(
            shared_server(),
            Path(output),
            arguments,
            devices or int(os.environ["JAX_NUM_CPU_DEVICES"]),
            environment=environment,
            folder=folder,
            program=program,
        )
        give_up = time.monotonic() + seconds
        while started.poll() is None:
            assert time.monotonic() < give_up, started.said
            time.sleep(0.02)
        return Done(started.returncode, started.printed, started.said)
