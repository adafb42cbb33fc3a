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
