"""What a result was made with: the code's commit, versions and processor cores."""

import contextlib
import importlib.metadata
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def git_state() -> dict[str, Any]:
    """Returns the commit and dirty flag of this code's checkout.

    Both are None if the code is not in a checkout.
    """
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        commit = git("rev-parse", "HEAD").strip()
        # An untracked config changes a result just as an edited one does.
        dirty = bool(git("status", "--porcelain", ".", "../configs").strip())
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": dirty}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns the versions of those packages that are installed."""
    found = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def num_cores() -> int:
    """Returns the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
