"""Sweeps on Ray: the trials of main, through crashes, stops and failures."""

import contextlib
import io
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
from small_trial import learned

pytest.importorskip("ray", reason="needs the extra: pip install -e '.[sweep]'")

from alexnet_jax import sweep
from alexnet_jax.config import Trial, all_trials, finish
from alexnet_jax.errors import Stopped, UserError
from alexnet_jax.report.records import Outcome

ROOT = Path(__file__).parent.parent
NO_TOKEN = {"RAY_AUTH_MODE": "disabled"}  # whether or not this machine's user has one
CONFIG = """
import sys
sys.path.insert(0, {tests!r})
from small_trial import tiny

def get_config(dataset="digits"):
    config = tiny(training__num_epochs={epochs}, training__record_every_epochs=0.5,
                  training__evaluate_every_epochs=4.0)
    config.experiment = "tiny"
    config.arms = {{
        "ReLU": {{}},
        # Warned of, whatever its first weights.
        "tanh": {{"model.activation": "tanh", "training.warn_below_spread": 1e9}},
    }}
    config.seeds = {seeds}
    config.claim = dict(section="3.1", text="fewer errors", metric="top1_error",
                        compare=("tanh", "ReLU"), paper="higher", dataset="cifar10")
    return config
"""


# --- What needs no Ray ------------------------------------------------------------


@pytest.mark.parametrize(
    ("cluster", "asked", "expected"),
    [
        ({"CPU": 2.0}, (None, None), (0.0, 1.0, 2)),
        ({"CPU": 8.0}, (None, 3.0), (0.0, 3.0, 2)),
        ({"CPU": 4.0, "GPU": 8.0}, (None, None), (1.0, 0.0, 8)),
        ({"CPU": 4.0, "GPU": 8.0}, (None, 1.0), (1.0, 1.0, 4)),
        ({"CPU": 64.0, "GPU": 8.0}, (3.0, None), (3.0, 0.0, 2)),
        ({"CPU": 64.0, "GPU": 2.0}, (0.4, None), (0.4, 0.0, 4)),
        ({"CPU": 64.0, "GPU": 2.0}, (0.0, None), (0.0, 1.0, 64)),
    ],
)
def test_each_trial_has_a_gpu_where_there_are_any_else_a_core(cluster, asked, expected):
    found = sweep.Resources.of(cluster, *asked)
    assert (found.gpus, found.cpus, found.at_once) == expected


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ((4.0, None), "has 2 GPUs"),
        ((None, 128.0), "has 64 CPUs"),
        ((1.5, None), "a whole number of GPUs"),
        ((-1.0, None), "no fewer than 0"),
        ((0.0, 0.0), "all would run at once"),
    ],
)
def test_more_than_there_is_is_refused(asked, words):
    with pytest.raises(UserError, match=words):
        sweep.Resources.of({"CPU": 64.0, "GPU": 2.0}, *asked)


@pytest.mark.parametrize(
    ("cluster", "gpus", "max_calls", "variables"),
    [
        # On a GPU a process of its own: JAX would stay on the one it opened first.
        ({"CPU": 4.0, "GPU": 8.0}, None, 1, {}),
        (
            {"CPU": 4.0, "GPU": 8.0},
            0.5,
            1,
            {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.450"},
        ),
        # Ray hides no GPU from a task that takes none.
        ({"CPU": 4.0, "GPU": 8.0}, 0.0, 0, {"JAX_PLATFORMS": "cpu"}),
        ({"CPU": 4.0}, None, 0, {}),
    ],
)
def test_a_task_has_a_process_and_devices_of_its_own(
    cluster, gpus, max_calls, variables
):
    resources = sweep.Resources.of(cluster, gpus, None)
    options = resources.options()
    assert options["max_calls"] == max_calls
    assert options["runtime_env"] == {"env_vars": variables}
    assert options["num_gpus"] == resources.gpus
    assert options["num_cpus"] == resources.cpus
    assert options["max_retries"] == 0


def task(state, arm="ReLU", epoch=0.0, error=None):
    one = sweep.Task(Trial(arm, {"optimizer.learning_rate": 0.1}, 0), 10.0, state)
    one.epoch, one.error = epoch, error
    return one


def records(one, *epochs, **more):
    """Of a trial under way, with rows at these epochs."""
    rows = [{"kind": "train", "epoch": e, "top1_error": 0.5} | more for e in epochs]
    return Outcome(one.trial, "unfinished", rows)


def test_a_trial_tells_its_position_and_the_time_left(monkeypatch):
    clock = iter([100.0, 130.0])
    monkeypatch.setattr(sweep.time, "monotonic", lambda: next(clock))
    one = task("waiting")
    one.look(records(one))
    assert one.state == "waiting"
    one.look(records(one, 1.0, 2.0))
    assert (one.state, one.epoch, one.error) == ("running", 2.0, 0.5)
    one.look(records(one, 1.0, 2.0, 4.0))
    # Two epochs in thirty seconds, and six to go.
    assert one.seconds_left() == pytest.approx(90.0)


@pytest.mark.parametrize("then", [(1.0, 2.0, 3.0), (1.0,), (0.1,), (1.0, 1.5)])
def test_a_queued_trial_is_under_way_once_its_old_records_change(then):
    """All are handed to Ray at once: those of an earlier sweep have records by then."""
    one = task("waiting")
    one.tries = 1
    one.queue(records(one, 1.0, 2.0))
    one.look(records(one, 1.0, 2.0))
    assert (one.state, one.epoch, one.start) == ("waiting", 2.0, 2.0)
    assert one.seconds_left() is None
    # It grows, or is cut off behind a checkpoint, or is begun anew.
    one.look(records(one, *then))
    assert (one.state, one.epoch) == ("running", then[-1])
    assert one.start == min(2.0, then[-1])


def screen(monkeypatch, started, now):
    clock = [started]
    monkeypatch.setattr(sweep.time, "monotonic", lambda: clock[0])
    found = sweep.Screen(sweep.Resources.of({"CPU": 2.0}, None, None))
    clock[0] = now
    return found


def test_the_time_left_is_by_what_this_sweep_has_done(monkeypatch):
    """Ten seconds for a tenth of an epoch, of ten that an earlier sweep has left."""
    one = task("waiting")
    one.num_epochs, one.tries = 40.0, 1
    say = screen(monkeypatch, 100.0, 110.0)
    one.queue(records(one, 30.0))
    assert say.summary([one]) == "0 of 1 trials done, 0 under way, 1 CPU core each"
    one.look(records(one, 30.0, 30.1))
    # 9.9 epochs ahead, each of 100 seconds; the one there already took this one no time.
    text = say.summary([one, task("there already", epoch=10.0)])
    assert text.startswith("1 of 2 trials done, 1 under way")
    assert re.search(r"about 16:(30|29) left", text)


def test_an_ended_trial_has_no_epochs_left_but_took_what_it_did(monkeypatch):
    """One that diverged at once is not ten epochs done in no time."""
    say = screen(monkeypatch, 100.0, 160.0)
    tasks = [
        task("diverged", epoch=1.0),
        task("failed", epoch=2.0),
        task("running", epoch=3.0),
        task("waiting"),
    ]
    # Six epochs in a minute; seven and ten ahead.
    assert say.summary(tasks) == (
        "2 of 4 trials done, 1 under way, 1 CPU core each, about 2:50 left"
    )


def test_the_table_says_how_long_each_has_left(monkeypatch):
    from rich.console import Console

    monkeypatch.setattr(sweep.time, "monotonic", lambda: 200.0)
    one, queued = task("running", epoch=4.0), task("waiting", epoch=4.0)
    one.first = queued.first = (100.0, 2.0)  # 50 seconds an epoch, and six to go
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(sweep.drawn([queued, one], "title"))
    first, second = [s for s in console.export_text().splitlines() if "ReLU" in s]
    assert "running" in first
    assert "5:00" in first
    assert "waiting" in second
    assert "5:00" not in second


class NoRay:
    """In Ray's place: a trial is a function, run when the sweep waits for it."""

    def __init__(self, monkeypatch, trial):
        import ray

        self.trial, self.tries, self.groups = trial, {}, []
        monkeypatch.setattr(ray, "wait", lambda waiting, **_: (waiting[:1], []))
        monkeypatch.setattr(ray, "get", lambda reference: reference())

    def submit(self, trials):
        self.groups.append([trial.name for trial in trials])
        for trial in trials:
            self.tries[trial.name] = self.tries.get(trial.name, 0) + 1
        tries = [self.tries[trial.name] for trial in trials]
        return lambda: list(map(self.trial, trials, tries))


def test_the_warnings_of_trials_are_said_once_and_at_the_end(
    tmp_path, monkeypatch, capsys
):
    from ray import exceptions

    run, config = tmp_path / "run", settings(tmp_path)

    def trained(trial, tries):
        of_trial = run / trial.folder
        of_trial.mkdir(parents=True, exist_ok=True)
        warning = "it may never start" if trial.arm == "tanh" else None
        row = {"kind": "diagnosis", "epoch": 0.0, "warning": warning}
        (of_trial / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        if trial.name == "tanh seed1" and tries == 1:
            raise exceptions.RayError("lost")
        (of_trial / "trial.json").write_text('{"status": "finished"}')

    found = sweep.Sweep(config, run)
    tasks = NoRay(monkeypatch, trained)
    found.run(tasks.submit, sweep.Screen(sweep.Resources.of({"CPU": 2.0}, None, None)))
    assert capsys.readouterr().err.splitlines() == [
        "ReLU seed0: finished",
        "ReLU seed1: finished",
        "Warning, tanh seed0: it may never start",
        "tanh seed0: finished",
        "Warning, tanh seed1: it may never start",
        "tanh seed1: failed, tried once more: RayError: lost",
        "tanh seed1: finished",
    ]
    assert found.warned() == ["tanh seed0", "tanh seed1"]
    # Also of those that an earlier sweep has trained.
    assert sweep.Sweep(config, run).warned() == ["tanh seed0", "tanh seed1"]


def test_a_population_is_one_task_and_its_trials_are_tried_again_one_by_one(
    tmp_path, monkeypatch, capsys
):
    from ray import exceptions

    run, config = tmp_path / "run", settings(tmp_path)
    with config.unlocked():
        config.population, config.seeds = True, 3
    done = run / "ReLU/seed0"
    done.mkdir(parents=True)
    (done / "trial.json").write_text('{"status": "finished"}')

    def trained(trial, tries):
        of_trial = run / trial.folder
        of_trial.mkdir(parents=True, exist_ok=True)
        if trial.name == "tanh seed1":
            raise exceptions.RayError("lost")
        (of_trial / "trial.json").write_text('{"status": "finished"}')

    found = sweep.Sweep(config, run)
    tasks = NoRay(monkeypatch, trained)
    found.run(tasks.submit, sweep.Screen(sweep.Resources.of({"CPU": 2.0}, None, None)))
    # The first of the three had ended; of the others each has its two tries.
    assert tasks.groups == [
        ["ReLU seed1", "ReLU seed2"],
        ["tanh seed0", "tanh seed1", "tanh seed2"],
        ["tanh seed1"],
        ["tanh seed2"],
        ["tanh seed1"],
    ]
    assert [task.trial.name for task in found.failed] == ["tanh seed1"]
    said = capsys.readouterr().err.splitlines()
    assert said[2:] == [
        "3 trials together: failed, tried again one by one: RayError: lost",
        "tanh seed0: finished",
        "tanh seed1: failed, tried once more: RayError: lost",
        "tanh seed2: finished",
        "tanh seed1: failed twice: RayError: lost",
    ]


def test_a_worker_that_starts_while_the_sweep_is_stopped_begins_nothing(
    tmp_path, monkeypatch
):
    """It was importing when the signal came, and has not heard it."""
    import ray

    from alexnet_jax import sweep_tasks

    run, config = tmp_path / "run", settings(tmp_path)
    run.mkdir()
    begun = []
    monkeypatch.setattr(
        sweep_tasks.experiment, "run_trials", lambda *_: begun.append(1)
    )
    monkeypatch.setattr(sweep_tasks, "_datasets", lambda config: None)
    found = sweep.Sweep(config, run)
    trials = [task.trial for task in found.left]

    def waited(references, **_):
        sweep_tasks.run_trials(config, run, trials[:1], sweep.STOP)
        (run / trials[1].folder).mkdir(parents=True)  # another has ended meanwhile
        (run / trials[1].folder / "trial.json").write_text('{"status": "finished"}')

    monkeypatch.setattr(ray, "wait", waited)
    monkeypatch.setattr(ray, "cancel", lambda reference: None)
    found.asked = 2
    resources = sweep.Resources.of({"CPU": 2.0}, None, None)
    with pytest.raises(Stopped, match="1 of 4 trials done"):
        found.run(lambda trials: object(), sweep.Screen(resources))
    assert not begun
    assert not (run / sweep.STOP).exists()
    sweep_tasks.run_trials(config, run, trials[:1], sweep.STOP)
    assert begun


@pytest.mark.parametrize(
    ("cluster", "sizes"),
    [
        ({"CPU": 2.0}, [4, 4, 4, 4, 2, 2]),  # of more there is no gain on a CPU
        ({"CPU": 4.0, "GPU": 1.0}, [10, 10]),
        ({"CPU": 4.0, "GPU": 4.0}, [5, 5, 5, 5]),  # something to do for each
        ({"CPU": 64.0, "GPU": 64.0}, [1] * 20),
    ],
)
def test_populations_leave_something_to_do_for_all_that_there_is(
    tmp_path, cluster, sizes
):
    config = settings(tmp_path)
    with config.unlocked():
        config.population, config.seeds = True, 10
    found = sweep.Sweep(config, tmp_path / "run")
    resources = sweep.Resources.of(cluster, None, None)
    groups = found.groups(resources)
    assert sorted(map(len, groups), reverse=True) == sizes
    text = sweep.dry_run(found, resources, "TABLE", {"ReLU": 10.0, "tanh": 10.0}, 1)
    assert "3:20 of" in text
    assert "as long as its trials alone" in text


def test_the_table_has_every_trial_those_under_way_first():
    from rich.console import Console

    tasks = [
        task("waiting", "a"),
        task("finished", "b", 10.0, 0.021),
        task("running", "c", 2.5, 0.5),
        task("failed", "d"),
    ]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(sweep.drawn(tasks, "title"))
    text = console.export_text()
    lines = [line for line in text.splitlines() if "learning_rate=0.1" in line]
    assert [re.search(r"\b[abcd]\b", line)[0] for line in lines] == list("cdba")
    assert "2.50 of 10" in lines[0]
    assert "50.0%" in lines[0]
    assert "2.1%" in lines[2]


@pytest.mark.parametrize(
    ("cluster", "asked", "trials", "cores"),
    [
        ({"CPU": 8.0}, (None, None), 30, 1),
        ({"CPU": 8.0}, (None, None), 3, 2),  # the others have ended
        ({"CPU": 8.0}, (None, 3.0), 30, 4),
        ({"CPU": 64.0, "GPU": 8.0}, (None, None), 30, 8),
        ({"CPU": 2.0, "GPU": 8.0}, (None, None), 30, 1),
    ],
)
def test_trials_at_once_share_the_cores(cluster, asked, trials, cores):
    assert sweep.Resources.of(cluster, *asked).cores(trials) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="macOS has none")
def test_the_cost_is_measured_on_the_cores_of_one_trial(tmp_path, monkeypatch):
    """All of them would be quicker than a trial that shares them with others."""
    from alexnet_jax import sweep_tasks

    here = os.sched_getaffinity(0)
    monkeypatch.setattr(
        sweep_tasks.preflight,
        "estimate",
        lambda *_: (f"{len(os.sched_getaffinity(0))} cores", {}),
    )
    config = settings(tmp_path)
    try:
        assert sweep_tasks.estimate(config, tmp_path, 1) == ("1 cores", {}, 1)
    finally:
        os.sched_setaffinity(0, here)
    monkeypatch.delattr(os, "sched_setaffinity")  # macOS
    assert sweep_tasks.estimate(config, tmp_path, 1)[2] == os.cpu_count()


def test_the_cost_of_what_is_left(tmp_path):
    config = settings(tmp_path)
    done = tmp_path / "run" / "ReLU/seed0"
    done.mkdir(parents=True)
    (done / "trial.json").write_text('{"status": "finished"}')
    found = sweep.Sweep(config, tmp_path / "run")
    resources = sweep.Resources.of({"CPU": 2.0}, None, None)
    cost = {"ReLU": 100.0, "tanh": 50.0}
    text = sweep.dry_run(found, resources, "TABLE", cost, 1)
    assert "4 trials, 3 left" in text
    assert "ReLU seed0: there already" in text
    assert "on CPU cores: 1.\nTABLE" in text
    assert "3:20 of 1 CPU core in all" in text  # 100 + 50 + 50 seconds
    assert "about 1:40 of wall time" in text
    assert "Not counted: starting the processes, opening the data.\n" in text
    # Where no process can be kept to some of the cores.
    text = sweep.dry_run(found, resources, "TABLE", cost, 2)
    assert (
        "cores: 2. Beside others a trial has 1 of them, and may take longer, up to"
        in (text)
    )
    assert "2.0 times" in text


def test_the_cost_leaves_out_averages_and_says_so(tmp_path):
    config = settings(tmp_path)
    config.arms = {"one": {}, "two averaged": {"training.ensemble": 2}}
    found = sweep.Sweep(config, tmp_path / "run")
    resources = sweep.Resources.of({"CPU": 2.0}, None, None)
    text = sweep.dry_run(found, resources, "TABLE", {"one": 100.0}, 1)
    assert "2 trials, 2 left" in text
    assert "opening the data, the evaluation of two averaged.\n" in text


# --- On Ray -----------------------------------------------------------------------


def settings(folder, seeds=2, epochs=12.0):
    path = folder / "tiny.py"
    tests = str(ROOT / "tests")
    path.write_text(CONFIG.format(tests=tests, seeds=seeds, epochs=epochs))
    names = {}
    exec(path.read_text(), names)
    return finish(names["get_config"](), {})


class Started:
    """A sweep under way, with what it prints on standard error."""

    def __init__(self, folder, *flags, command="alexnet_jax.sweep", env=NO_TOKEN):
        self.log = folder / "log"
        self.mark = f"SWEEP_TEST={folder}"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    command,
                    f"--config={folder / 'tiny.py'}",
                    f"--workdir={folder / 'run'}",
                    *flags,
                ],
                cwd=folder,
                env=os.environ
                | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
                | {"SWEEP_TEST": str(folder)}
                | env,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def end(self):
        out, _ = self.process.communicate(timeout=300)
        return self.process.returncode, out, self.log.read_text()

    def until(self, found, seconds=240):
        limit = time.monotonic() + seconds
        while not (value := found()):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < limit, self.log.read_text()
            time.sleep(0.05)
        return value

    def workers(self):
        """Processes of this test that run a task of Ray."""
        found = []
        for one in Path("/proc").glob("[0-9]*"):
            try:
                if b"ray::in_worker" not in (one / "cmdline").read_bytes():
                    continue
                if self.mark.encode() in (one / "environ").read_bytes():
                    found.append(int(one.name))
            except OSError:  # it has ended
                continue
        return found


def listening(port):
    """Waits until there is a cluster; Ray takes a minute to give up on one too early."""
    for _ in range(600):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port)),
        ):
            time.sleep(5)  # its parts find each other
            return
        time.sleep(0.1)


def of_slurm_job():
    """What the job does before it starts Ray on its nodes: the token."""
    text = (ROOT / "docs/scaling.md").read_text()
    return re.search(r"^export RAY_AUTH_MODE.*?(?=^head=)", text, re.M | re.S)[0]


@contextlib.contextmanager
def cluster(folder):
    """Two GPUs that are none, started as the Slurm job of docs/scaling.md has it.

    For a user without a token. Gives the flags and variables by which a sweep finds it.
    """
    port = 20000 + os.getpid() % 20000
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    home = {"HOME": str(folder), "RAY_AUTH_MODE": "token"}
    ray = subprocess.Popen(
        [
            "bash",
            "-euc",
            f"{of_slurm_job()}\nexec ray start --head --block --port={port} "
            "--num-gpus=2 --num-cpus=2 --include-dashboard=false "
            "--object-store-memory=100000000",
        ],
        env=os.environ
        | {"PATH": path, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
        | {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": ""}  # not those of these tests
        | {"SWEEP_TEST": str(folder)}
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
    """Step of its last whole checkpoint."""
    steps = [int(p.name) for p in trial.glob("checkpoints/*") if p.name.isdigit()]
    return max(steps, default=0)


class UnderWay(NamedTuple):
    """Where a trial stands: the step of its checkpoint, and the record before that."""

    step: int
    record: str


def under_way(trial):
    """Of a trial that has not ended.

    One that goes on from there leaves that record as it is, to the byte; one that begins
    anew measures other speeds.
    """
    assert not (trial / "trial.json").exists()
    step = newest(trial)
    lines = (trial / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines = [s for s in lines if s.endswith("\n") and json.loads(s)["step"] < step]
    assert any(json.loads(line)["kind"] == "train" for line in lines)
    return UnderWay(step, "".join(lines))


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds workers in /proc")
def test_a_sweep_through_a_crash_a_stop_and_a_kill_is_mains(tmp_path):
    """A worker killed, the sweep stopped, then killed, then at its end: to the last bit."""
    # Long enough not to end between a look and what is done then.
    config = settings(tmp_path, seeds=1, epochs=160.0)
    started = Started(tmp_path, "--cpus_per_trial=1")
    first = tmp_path / "run/ReLU/seed0"
    started.until(lambda: newest(first))
    crashed = under_way(first)
    for worker in started.workers():
        os.kill(worker, signal.SIGKILL)
    started.until(lambda: "tried once more" in started.log.read_text())
    started.until(lambda: newest(first) > crashed.step)
    started.process.send_signal(signal.SIGTERM)
    status, _, log = started.end()
    assert status == 143, log
    assert "Stopped by SIGTERM" in log
    assert "WorkerCrashedError" in log
    assert not started.workers()

    # One that cannot be run, the last: it will fail twice, and the others be answered.
    broken = tmp_path / "run/tanh/seed0"
    shutil.rmtree(broken, ignore_errors=True)
    broken.mkdir(parents=True)
    (broken / "checkpoints").write_text("a file, where a folder should be")
    stopped = under_way(first)
    with cluster(tmp_path) as (address, home):
        flags = (f"--address={address}", "--gpus_per_trial=0", "--cpus_per_trial=2")
        started = Started(tmp_path, *flags, env=home)
        started.until(lambda: newest(first) > stopped.step)
        orphans = started.workers()
        started.process.kill()
        started.process.communicate()
        assert orphans

        # The same command at once. Ray ends the orphans before it has begun.
        started = Started(tmp_path, *flags, env=home)
        started.until(lambda: not set(orphans) & set(started.workers()), seconds=30)
        killed = under_way(first)
        status, out, log = started.end()
    assert status == 2, log
    assert "is at work in" not in log  # no orphan held a trial's folder any more
    assert "tanh seed0: failed twice" in log
    assert "1 of 2 trials failed twice" in log
    assert "ReLU seed0: finished" in log
    assert "1 trials have not run to their end" in out
    assert "1 of 2 trials warned" in log
    whole = (first / "metrics.jsonl").read_text()
    for before in (crashed, stopped, killed):
        assert whole.startswith(before.record)
    held = json.loads((tmp_path / "run/experiment.json").read_text())
    assert held["command"].startswith("python -m alexnet_jax.sweep --config=")

    # main goes on where the sweep stopped, and alone it does the same.
    shutil.rmtree(broken)
    status, out, log = Started(tmp_path, command="alexnet_jax.main").end()
    assert status == 0, log
    assert "1 trials are there already" in log
    assert "Verdict:" in out
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(tmp_path / "tiny.py", alone)
    status, _, log = Started(alone, command="alexnet_jax.main").end()
    assert status == 0, log
    for trial in all_trials(config):
        assert rows(tmp_path / "run", trial) == rows(alone / "run", trial)


ON_CLUSTER = """
import os, sys, time
sys.argv = ["sweep"]
from alexnet_jax import command, sweep
command._use_compilation_cache()
sweep.start_ray("{address}")
import ray

def held():
    start = time.time()
    time.sleep(1.0)
    shown = [os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS")]
    return os.getpid(), *shown, start, time.time()

def submitted(gpus, tasks):
    resources = sweep.Resources.of(ray.cluster_resources(), gpus, None)
    task = ray.remote(**resources.options())(held)
    return [task.remote() for _ in range(tasks)]

*seen, without = ray.get(submitted(None, 4) + submitted(0.0, 1))
print(seen, without)
assert len({{pid for pid, *_ in seen}}) == 4  # none is used again, as JAX stays on a GPU
for number, (_, device, platforms, start, end) in enumerate(seen):
    assert device in ("0", "1")
    assert not platforms
    for _, other, _, other_start, other_end in seen[number + 1:]:
        assert device != other or end <= other_start or other_end <= start
assert without[2] == "cpu"
"""


def test_on_a_cluster_no_two_trials_have_the_same_gpu(tmp_path):
    settings(tmp_path)
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
        assert "4 trials, 4 left" in out
        assert "a few steps of each arm on CPU cores: 1.\n" in out
        assert "of 1 GPU in all; 2 trials at once" in out
        assert not (tmp_path / "run").exists()


def test_without_a_cluster_there_is_a_message(tmp_path):
    settings(tmp_path)
    status, _, log = Started(tmp_path, "--address=127.0.0.1:9").end()
    assert status == 2, log
    assert "No Ray cluster at --address=127.0.0.1:9" in log
    assert "Traceback" not in log
