"""Sweeps on Ray, through crashes, stops and kills: the same records as alexnet_jax.main."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from forked import command
from small_sweep import write_config
from small_trial import learned

pytest.importorskip("ray", reason="needs the extra: pip install -e '.[sweep]'")


pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NO_TOKEN = {"RAY_AUTH_MODE": "disabled"}  # Whether or not this machine's user has one.
# By default other processes, like other tests, leave Ray's workers little of a busy core.
EQUAL_PRIORITY = {"RAY_worker_niceness": "0"}


class Started:
    """A sweep that runs, and what it prints on standard error."""

    def __init__(self, folder, *flags, env=NO_TOKEN):
        self.log = folder / "log"
        self.mark = f"SWEEP_TEST={folder}"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "alexnet_jax.sweep",
                    f"--config={folder / 'tiny.py'}",
                    f"--workdir={folder / 'run'}",
                    *flags,
                ],
                cwd=folder,
                env=os.environ
                | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
                | {"SWEEP_TEST": str(folder)}
                | EQUAL_PRIORITY
                | env,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def end(self):
        """Waits for its end; returns exit status, standard output and standard error."""
        out, _ = self.process.communicate(timeout=300)
        return self.process.returncode, out, self.log.read_text()

    def until(self, found, seconds=240):
        """Waits until `found()` is true, and returns it."""
        limit = time.monotonic() + seconds
        while not (value := found()):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < limit, self.log.read_text()
            time.sleep(0.05)
        return value

    def workers(self):
        """Returns the processes of this test that run a Ray task."""
        found = []
        for one in Path("/proc").glob("[0-9]*"):
            try:
                if b"ray::run_in_worker" not in (one / "cmdline").read_bytes():
                    continue
                if self.mark.encode() in (one / "environ").read_bytes():
                    found.append(int(one.name))
            except OSError:  # The process has ended.
                continue
        return found

    @contextlib.contextmanager
    def halted_workers(self):
        """Suspends the workers inside the context; yields their process ids."""
        found = self.workers()
        for worker in found:
            os.kill(worker, signal.SIGSTOP)
        try:
            yield found
        finally:
            for worker in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGCONT)


def listening(port):
    """Waits for a cluster: connecting too early takes Ray a minute to fail."""
    for _ in range(600):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port)),
        ):
            time.sleep(5)  # For the cluster's own processes to find each other.
            return
        time.sleep(0.1)


def token_of_slurm_job():
    """Returns the lines of the Slurm job in docs/scaling.md that create the token."""
    text = (ROOT / "docs/scaling.md").read_text()
    return re.search(r"^export RAY_AUTH_MODE.*?(?=^head=)", text, re.M | re.S)[0]


def of_main(folder):
    """`alexnet_jax.main` with the same flags and a single device, to its end."""
    flags = (f"--config={folder / 'tiny.py'}", f"--workdir={folder / 'run'}")
    return command("alexnet_jax.main", *flags, folder=folder, devices=1, seconds=300)


@contextlib.contextmanager
def cluster(folder):
    """A cluster with two pretended GPUs, started like the Slurm job of docs/scaling.md.

    For a user without a token. Yields the address and the environment for a sweep.
    """
    port = 20000 + os.getpid() % 20000
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    home = {"HOME": str(folder), "RAY_AUTH_MODE": "token"}
    ray = subprocess.Popen(
        [
            "bash",
            "-euc",
            f"{token_of_slurm_job()}\nexec ray start --head --block --port={port} "
            "--num-gpus=2 --num-cpus=2 --include-dashboard=false "
            "--object-store-memory=100000000",
        ],
        env=os.environ
        | {"PATH": path, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
        | {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": ""}  # Not those of the tests.
        | {"SWEEP_TEST": str(folder)}
        | EQUAL_PRIORITY
        | home,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        listening(port)
        yield f"127.0.0.1:{port}", home
    finally:
        os.killpg(ray.pid, signal.SIGKILL)
        ray.wait()


def rows(folder, trial):
    path = folder / trial.folder / "metrics.jsonl"
    return learned(map(json.loads, path.read_text().splitlines()))


def newest(trial):
    """Returns the step of the trial's last complete checkpoint; 0 if there is none."""
    steps = [int(p.name) for p in trial.glob("checkpoints/*") if p.name.isdigit()]
    return max(steps, default=0)


class Progress(NamedTuple):
    """The step of a trial's last checkpoint, and its records before that step."""

    step: int
    records: str


def progress_of(trial):
    """Returns the progress of a trial that has not ended.

    A trial that resumes from there keeps these records byte for byte. One that starts
    again would measure other speeds.
    """
    assert not (trial / "trial.json").exists()
    step = newest(trial)
    lines = (trial / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines = [s for s in lines if s.endswith("\n") and json.loads(s)["step"] < step]
    assert any(json.loads(line)["kind"] == "train" for line in lines)
    return Progress(step, "".join(lines))


@pytest.mark.timeout(1800)  # three minutes, more on a busy machine
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds workers in /proc")
def test_a_sweep_survives_a_crash_a_stop_and_a_kill(tmp_path):
    """A worker is killed, the sweep stopped, then killed: records bit-identical to main's."""
    # The first trial is disturbed three times, and is long enough to be still running.
    plan = write_config(tmp_path, seeds=1, epochs=28.0, epochs_of_tanh=4.0)
    started = Started(tmp_path, "--cpus_per_trial=1")
    first = tmp_path / "run/ReLU/seed0"
    started.until(lambda: newest(first))
    with started.halted_workers() as halted:
        crashed = progress_of(first)
        for worker in halted:
            os.kill(worker, signal.SIGKILL)
    started.until(lambda: "retrying once" in started.log.read_text())
    started.until(lambda: newest(first) > crashed.step)
    with started.halted_workers():
        started.process.send_signal(signal.SIGTERM)
        started.until(lambda: "Stopping:" in started.log.read_text())
    status, _, log = started.end()
    assert status == 143, log
    assert "Stopped by SIGTERM" in log
    assert "WorkerCrashedError" in log
    assert not started.workers()

    # The last trial cannot run: it fails twice, and the report has the others.
    broken = tmp_path / "run/tanh/seed0"
    shutil.rmtree(broken, ignore_errors=True)
    broken.mkdir(parents=True)
    (broken / "checkpoints").write_text("a file, where a folder should be")
    stopped = progress_of(first)
    with cluster(tmp_path) as (address, home):
        flags = (f"--address={address}", "--gpus_per_trial=0", "--cpus_per_trial=2")
        started = Started(tmp_path, *flags, env=home)
        started.until(lambda: newest(first) > stopped.step)
        with started.halted_workers() as orphans:
            started.process.kill()
            started.process.communicate()
        assert orphans

        # The same command, immediately. Ray ends the orphans before it trains.
        started = Started(tmp_path, *flags, env=home)
        started.until(lambda: not set(orphans) & set(started.workers()), seconds=30)
        killed = progress_of(first)
        status, out, log = started.end()
    assert status == 2, log
    assert "is already running" not in log  # No orphan still held a trial's folder.
    assert "tanh seed0: failed twice" in log
    assert "1 of 2 trials failed twice" in log
    assert "ReLU seed0: finished" in log
    assert "1 trial is not finished" in out
    assert "1 of 2 trials have warnings" in log
    whole = (first / "metrics.jsonl").read_text()
    for before in (crashed, stopped, killed):
        assert whole.startswith(before.records)
    held = json.loads((tmp_path / "run/experiment.json").read_text())
    assert held["command"].startswith("python -m alexnet_jax.sweep --config=")

    # main continues where the sweep stopped, and does the same on its own.
    shutil.rmtree(broken)
    done = of_main(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 trials are already done" in done.stderr
    assert "Verdict:" in done.stdout
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(tmp_path / "tiny.py", alone)
    done = of_main(alone)
    assert done.returncode == 0, done.stderr
    for trial in plan.all_trials:
        assert rows(tmp_path / "run", trial) == rows(alone / "run", trial)


def test_a_sweep_tunes_first_and_measures_afterwards(tmp_path):
    plan = write_config(tmp_path, seeds=1, epochs=2.0, tuning_seeds=1)
    status, out, log = Started(tmp_path, "--cpus_per_trial=1").end()
    assert status == 0, log
    assert "4 of 4 tuning trials to run" in log
    assert "2 of 2 trials to run" in log
    assert "Chosen: ReLU learning_rate=" in log
    assert ": chosen" in out
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["unfinished_trials"] == summary["tuning"]["unfinished"] == 0
    trained = sorted(
        str(path.parent.relative_to(tmp_path / "run"))
        for path in (tmp_path / "run").rglob("trial.json")
    )
    chosen = {
        arm: f"learning_rate={facts['tuned']['optimizer.learning_rate']}"
        for arm, facts in summary["arms"].items()
    }
    expected = [trial.folder for trial in plan.tuning_trials]
    expected += [f"{arm}/{chosen[arm]}/seed0" for arm in chosen]
    assert trained == sorted(expected)

    # Once the stage has ended, a sweep goes on with the measured trials.
    shutil.rmtree(tmp_path / "run" / expected[-1])
    status, out, log = Started(tmp_path, "--cpus_per_trial=1", "--dry_run").end()
    assert status == 0, log
    assert "2 trials, 1 to run" in out


ON_CLUSTER = """
import os, sys, time
sys.argv = ["sweep"]
from alexnet_jax import cli
from alexnet_jax.experiment.cluster import ray_session
from alexnet_jax.experiment.cluster.resources import Resources
cli._use_compilation_cache()
ray_session.connect("{address}")
import ray

def held():
    start = time.time()
    time.sleep(1.0)
    shown = [os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS")]
    return os.getpid(), *shown, start, time.time()

def submitted(gpus, tasks):
    resources = Resources.choose(ray.cluster_resources(), gpus=gpus, cpus=None)
    task = ray.remote(**resources.ray_options())(held)
    return [task.remote() for _ in range(tasks)]

*seen, without = ray.get(submitted(None, 4) + submitted(0.0, 1))
print(seen, without)
assert len({{pid for pid, *_ in seen}}) == 4  # JAX stays on the GPU that a process opened first.
for number, (_, device, platforms, start, end) in enumerate(seen):
    assert device in ("0", "1")
    assert not platforms
    for _, other, _, other_start, other_end in seen[number + 1:]:
        assert device != other or end <= other_start or other_end <= start
assert without[2] == "cpu"
"""


def test_on_a_cluster_no_two_trials_have_the_same_gpu(tmp_path):
    write_config(tmp_path)
    with cluster(tmp_path) as (address, home):
        assert (tmp_path / ".ray/auth_token").stat().st_mode & 0o777 == 0o600
        ran = subprocess.run(
            [sys.executable, "-c", ON_CLUSTER.format(address=address)],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | home,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert ran.returncode == 0, ran.stderr
        started = Started(tmp_path, f"--address={address}", "--dry_run", env=home)
        status, out, log = started.end()
        assert status == 0, log
        assert "4 trials, 4 to run" in out
        assert "on CPU cores: 1.\n" in out
        assert "of 1 GPU in total; with 2 trials at once" in out
        assert not (tmp_path / "run").exists()


def test_an_address_without_a_cluster_is_refused(tmp_path):
    write_config(tmp_path)
    status, _, log = Started(tmp_path, "--address=127.0.0.1:9").end()
    assert status == 2, log
    assert "No Ray cluster at --address=127.0.0.1:9" in log
    assert "Traceback" not in log
