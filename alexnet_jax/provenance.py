"""What a result was made with."""

import contextlib
import importlib.metadata
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def git_state() -> dict[str, Any]:
    """Commit and dirty flag of this code's checkout; nulls where it is in none."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        commit = git("rev-parse", "HEAD").strip()
        # An untracked config changes a result as well as an edited one.
        dirty = bool(git("status", "--porcelain", ".", "../configs").strip())
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": dirty}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def num_cores() -> int:
    """Those this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
