"""The command itself, before anything is trained."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_help_says_what_the_command_does_and_its_flags():
    shown = python("-m", "alexnet_jax.main", "--help").stdout
    assert "answers with a table, a" in shown
    assert "--workdir" in shown
    assert "--config" in shown


def test_flags_are_read_before_the_slow_imports():
    """So that a misspelt flag is answered at once."""
    code = (
        "import sys, alexnet_jax.main; "
        "print({'jax', 'tensorflow', 'flax', 'matplotlib'} & set(sys.modules))"
    )
    assert python("-c", code).stdout.strip() == "set()"


def test_a_tuned_field_that_is_given_is_said_to_take_the_others_place(tmp_path):
    (tmp_path / "run").write_text("a file: nothing is trained")
    given = ("--config=configs/relu_vs_tanh.py", f"--workdir={tmp_path / 'run'}")
    rate = "--config.optimizer.learning_rate=0.05"
    said = python("-m", "alexnet_jax.main", *given, rate).stderr.splitlines()
    assert said[0] == (
        "--config.optimizer.learning_rate takes the place of the values that the config "
        "file tries: 0.002, 0.004, 0.006, 0.01, 0.2."
    )
    assert said[1].startswith("relu_vs_tanh on digits: 6 trials, into ")
    plain = python("-m", "alexnet_jax.main", *given).stderr.splitlines()
    assert plain[0].startswith("relu_vs_tanh on digits: 36 trials, into ")
