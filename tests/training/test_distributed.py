"""Two real processes of four devices each train one run on one host."""

import json
import os
import re
import runpy
import signal
import socket
import time

import numpy as np
import pytest
from forked import Forked, Server
from small_trial import learned

from alexnet_jax.config.resolve import resolve
from alexnet_jax.errors import UserError
from alexnet_jax.experiment import runner
from alexnet_jax.training import distributed
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.saved_network import read_weights

STEPS = 36

# A low learning rate: at a high one, training amplifies rounding differences.
CONFIG = f"""
from alexnet_jax.config import base

def get_config(dataset="digits"):
    config = base(dataset, network="four_layer")
    config.experiment = "small"
    config.data.rescale_size = config.data.crop_size = 16
    config.model.width = 0.25
    config.model.weight_stds = (0.01, 0.03, 0.03, 0.03)
    config.optimizer.learning_rate = 0.001
    config.training.batch_size = 16
    config.training.num_epochs = {(STEPS - 0.1) * 16 / 1438}
    config.training.log_every_epochs = {3.9 * 16 / 1438}
    config.training.evaluate_every_epochs = {8.9 * 16 / 1438}
    config.training.checkpoint_every_epochs = {8.9 * 16 / 1438}
    config.claim = {{"section": "6", "text": "one network", "metric": "top1_error",
                    "paper": 0.1, "dataset": "imagenet2012"}}
    return config
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.py"
    path.write_text(CONFIG)
    return path


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def by_slurm(number):
    """The variables that srun sets for a task and JAX reads."""
    return [], {
        "SLURM_JOB_ID": str(free_port_of_slurm),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
        "SLURM_STEP_NUM_NODES": "1",
    }


free_port_of_slurm = os.getpid() % 4096  # JAX derives a port from it


def by_flags(port):
    def arguments(number):
        where = f"--coordinator=localhost:{port}"
        return [where, "--num_processes=2", f"--process_id={number}"], {}

    return arguments


def start_two(server, config, folder, launched):
    """Both processes, of four devices each."""
    started = []
    for number in range(2):
        output = folder.parent / f"output{number}"
        output.mkdir(exist_ok=True)
        arguments, environment = launched(number)
        started.append(
            Forked(
                server,
                output,
                [f"--config={config}", f"--workdir={folder}", *arguments],
                devices=4,
                environment=environment,
                program="one_of_several",
            )
        )
    return started


def ended(started):
    """(exit status, stdout, stderr) of each process."""
    give_up = time.monotonic() + 240
    while None in [one.poll() for one in started]:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    return [(one.returncode, one.printed, one.said) for one in started]


def saved(output):
    return re.findall(r"saved \d+ \d+", output)


def rows(folder):
    text = (folder / "small" / "seed0" / "metrics.jsonl").read_text()
    return learned(map(json.loads, text.splitlines()))


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def undisturbed(server, config, tmp_path_factory):
    """Outputs, errors and folder of two uninterrupted processes, as under Slurm."""
    folder = tmp_path_factory.mktemp("two") / "run"
    found = ended(start_two(server, config, folder, by_slurm))
    assert [status for status, *_ in found] == [0, 0], found
    return [output for _, output, _ in found], [error for *_, error in found], folder


@pytest.mark.slow
def test_both_processes_have_equal_parameters_at_every_checkpoint(undisturbed):
    (one, other), _, _ = undisturbed
    assert len(saved(one)) == 4
    assert saved(one) == saved(other)


@pytest.mark.slow
def test_each_process_reads_its_own_half_of_every_batch(undisturbed):
    (one, other), _, _ = undisturbed
    read = [re.findall(r"read (\[.*?\])", text) for text in (one, other)]
    pairs = list(zip(*read, strict=True))
    assert len(pairs) == STEPS
    for first, second in pairs:
        halves = set(json.loads(first)), set(json.loads(second))
        assert [len(half) for half in halves] == [8, 8]
        assert not halves[0] & halves[1]


@pytest.mark.slow
def test_only_the_primary_process_writes_and_prints(undisturbed):
    (one, other), (_, error), folder = undisturbed
    assert "Verdict" in one
    assert "Verdict" not in other
    assert [line for line in error.splitlines() if "Gloo" not in line] == []
    assert [row["step"] for row in rows(folder) if row["kind"] == "train"] == list(
        range(4, STEPS + 1, 4)
    )


@pytest.mark.slow
def test_two_processes_match_one_with_eight_devices(undisturbed, config, tmp_path):
    """Parameters up to rounding, since sums are reordered; error counts exactly."""
    folder = tmp_path / "run"
    runner.run(resolve(runpy.run_path(config)["get_config"](), {}), folder)
    of_two, of_one = (
        read_weights(str(where / "small" / "seed0" / "checkpoints" / str(STEPS)))[0]
        for where in (undisturbed[2], folder)
    )
    for layer, params in of_one.items():
        for name, array in params.items():
            np.testing.assert_allclose(of_two[layer][name], array, atol=1e-6)
    for two, one in zip(rows(undisturbed[2]), rows(folder), strict=True):
        assert two["kind"] == one["kind"]
        assert two["step"] == one["step"]
        assert two.get("top1_error") == one.get("top1_error")


def wait_for(folder, step, started):
    checkpoint = folder / "small" / "seed0" / "checkpoints" / str(step)
    for _ in range(2400):
        if checkpoint.exists():
            return
        assert [one.poll() for one in started] == [None, None]
        time.sleep(0.05)
    raise AssertionError(f"no {checkpoint}")


@pytest.mark.slow
def test_after_one_process_is_killed_the_other_exits_and_both_resume_and_stop(
    undisturbed, server, config, tmp_path
):
    """If one is asked to stop, both save at the same step.

    The rows until then are those of an uninterrupted run.
    """
    folder = tmp_path / "run"
    started = start_two(server, config, folder, by_flags(free_port()))
    wait_for(folder, 9, started)
    os.kill(started[1].pid, signal.SIGKILL)
    (first, _, error), (second, _, _) = ended(started)
    assert second == -signal.SIGKILL
    # JAX aborts a process that waits for a lost one; if an error comes first, the
    # program reports it. On CPUs Gloo may notice the loss first.
    assert first in (2, -signal.SIGABRT)
    print(error.splitlines()[-1])
    words = ("another task died", "has lost another one", "gloo")
    assert any(word in error for word in words)

    started = start_two(server, config, folder, by_flags(free_port()))
    wait_for(folder, 18, started)
    os.kill(started[1].pid, signal.SIGTERM)
    found = ended(started)
    assert [status for status, *_ in found] == [143, 143], found
    (step,) = {re.findall(r"saved at step (\d+)", error)[0] for *_, error in found}
    assert 18 <= int(step) <= STEPS

    (one, other) = (saved(output)[-1] for _, output, _ in found)
    assert one == other
    assert one.startswith(f"saved {step} ")
    found, whole = rows(folder), rows(undisturbed[2])
    assert found == whole[: len(found)]
    assert (
        found[-1]["step"] >= 16
    )  # rows every four steps, the last before a stop at 18


# --- Joining ----------------------------------------------------------------------

NONE = {
    "distributed": None,
    "coordinator": None,
    "num_processes": None,
    "process_id": None,
}


@pytest.fixture
def initialized(monkeypatch):
    calls = []

    def initialize(*arguments, **_):
        calls.append(arguments)

    monkeypatch.setattr(distributed.jax.distributed, "initialize", initialize)
    for name in ("SLURM_STEP_NODELIST", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return calls


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "8"}, None),  # the batch script itself, outside srun
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "n1"}, None),
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NODELIST": "n[1-2]"}, "Slurm"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "Open MPI"),
    ],
)
def test_a_launcher_is_detected_by_its_variables(
    initialized, monkeypatch, environment, launcher
):
    assert distributed.launched_by(environment) == launcher
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    distributed.join(**NONE)
    assert len(initialized) == (launcher is not None)
    distributed.join(**NONE | {"distributed": False})
    assert len(initialized) == (launcher is not None)


def test_the_flag_alone_lets_jax_detect_the_cluster(initialized):
    distributed.join(**NONE | {"distributed": True})
    assert initialized == [(None, None, None)]


def test_flags_replace_a_launcher(initialized):
    three = {"coordinator": "host:1234", "num_processes": 2, "process_id": 1}
    distributed.join(**NONE | three)
    assert initialized == [("host:1234", 2, 1)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"coordinator": "h:1"}, "belong together"),
        ({"process_id": 0}, "belong together"),
        ({"num_processes": 2, "process_id": 0}, "belong together"),
        (
            {"coordinator": "h:1", "num_processes": 2, "process_id": 2},
            "must be 0 to 1",
        ),
        (
            {
                "coordinator": "h:1",
                "num_processes": 2,
                "process_id": 1,
                "distributed": False,
            },
            "contradict",
        ),
    ],
)
def test_inconsistent_flags_are_refused(initialized, given, said):
    with pytest.raises(UserError, match=said):
        distributed.join(**NONE | given)
    assert initialized == []


def test_a_failed_join_message_names_the_cause_and_a_remedy(monkeypatch):
    """JAX refuses because this process has already used its devices."""
    monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
    Devices()
    with pytest.raises(
        UserError, match=r"(?s)cannot join the others: .*--nodistributed"
    ):
        distributed.join(**NONE | {"distributed": True})


def test_pmap_is_refused_with_several_processes(monkeypatch):
    monkeypatch.setattr(distributed.jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="use shard_map"):
        Devices("pmap")
    assert Devices().how == "shard_map"
