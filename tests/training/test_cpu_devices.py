"""On a CPU each core that may be kept busy is a device, unless the user says otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_jax.training import cpu_devices


def reader(files):
    def read(path):
        name = path.as_posix().removeprefix("/groups/")
        if name not in files:
            raise FileNotFoundError(path)
        return files[name]

    return read


OWN = "/proc/self/cgroup"  # of a job in a system's slices
IN_JOB = {OWN: "0::/slurm/job1/step0\n"}
IN_JOB_V1 = {OWN: "5:memory:/\n4:cpu,cpuacct:/docker/abc\n0::/\n"}
V1_QUOTA, V1_PERIOD = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 4),
        ({"cpu.max": "max 100000\n"}, 4),
        ({"cpu.max": "150000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "300000 100000\n"}, 3),
        ({"cpu.max": "800000 100000\n"}, 4),
        ({V1_QUOTA: "-1\n", V1_PERIOD: "100000\n"}, 4),
        ({V1_QUOTA: "250000\n", V1_PERIOD: "100000\n"}, 2),
        ({**IN_JOB, "slurm/job1/step0/cpu.max": "200000 100000\n"}, 2),
        (
            {
                **IN_JOB,
                "slurm/job1/cpu.max": "150000 100000\n",
                "cpu.max": "max 100000",
            },
            1,
        ),
        (
            {**IN_JOB, "cpu.max": "300000 100000\n"},
            3,
        ),  # the container's own, at its root
        (
            {
                **IN_JOB_V1,
                "cpu/docker/abc/cpu.cfs_quota_us": "200000\n",
                "cpu/docker/abc/cpu.cfs_period_us": "100000\n",
                V1_QUOTA: "-1\n",
                V1_PERIOD: "100000\n",
            },
            2,
        ),
    ],
)
def test_a_core_is_usable_if_affinity_and_quota_allow_it(monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert cpu_devices.usable_cores(reader(files), Path("/groups")) == cores


PROGRAM = """
import os
os.sched_getaffinity = lambda _: {0, 1, 2}
from alexnet_jax.training import cpu_devices
cpu_devices.use_all_cores()
import jax
print(cpu_devices.usable_cores(), len(jax.devices()))
cpu_devices.use_all_cores()  # in use already: nothing happens
print(len(jax.devices()))
"""


@pytest.mark.parametrize(
    ("variables", "count"),
    [({}, None), ({"JAX_NUM_CPU_DEVICES": "5"}, 5)],
)
def test_each_usable_core_is_a_device_unless_the_user_says_how_many(variables, count):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment | {"JAX_PLATFORMS": "cpu"} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    usable, first, second = map(int, done.stdout.split())
    assert first == second == (count or usable)
