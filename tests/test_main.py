"""The main command, before anything is trained."""

import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_jax import cli

ROOT = Path(__file__).parent.parent


def python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_help_describes_the_command_and_its_flags():
    shown = python("-m", "alexnet_jax.main", "--help").stdout
    assert "Runs an experiment" in shown
    assert "--workdir" in shown
    assert "--config" in shown


def test_flags_are_read_before_the_slow_imports():
    """So that a misspelled flag is refused at once."""
    code = (
        "import sys, alexnet_jax.main; "
        "print({'jax', 'tensorflow', 'flax', 'matplotlib'} & set(sys.modules))"
    )
    assert python("-c", code).stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("environment", "process_id", "expected"),
    [
        ({}, None, True),
        ({"SLURM_PROCID": "0"}, None, True),
        ({"SLURM_PROCID": "1"}, None, False),
        ({"OMPI_COMM_WORLD_RANK": "1"}, None, False),
        ({"SLURM_PROCID": "1"}, 0, True),  # The flag wins.
        ({}, 1, False),
    ],
)
def test_only_the_first_process_announces(
    monkeypatch, environment, process_id, expected
):
    for name in cli.RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli.launches_as_primary(process_id) == expected


@pytest.mark.slow
def test_an_override_of_a_tuned_field_is_announced(tmp_path):
    (tmp_path / "run").write_text("A file: nothing is trained.")
    given = ("--config=configs/relu_vs_tanh.py", f"--workdir={tmp_path / 'run'}")
    override = "--config.optimizer.learning_rate=0.05"
    lines = python("-m", "alexnet_jax.main", *given, override).stderr.splitlines()
    assert "--config.optimizer.learning_rate" in lines[0]
    assert "0.002, 0.004, 0.006, 0.01, 0.2" in lines[0]
    assert lines[1].startswith("relu_vs_tanh on digits: 8 trials, into ")
    plain = python("-m", "alexnet_jax.main", *given).stderr.splitlines()
    expected = "relu_vs_tanh on digits: 12 tuning trials, then 8 trials, into "
    assert plain[0].startswith(expected)
