"""The run folder: experiment.json, what it was made with, and who may write to it.

A run folder belongs to one configuration. The command that made it continues it, also
with later code: a field that its experiment.json lacks has the field's default, and a
field that was renamed since is read by its old name.
"""

import contextlib
import datetime
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.config.trials import ExperimentPlan, Trial
from alexnet_jax.errors import UserError
from alexnet_jax.files import lock_folder, write_json
from alexnet_jax.provenance import git_state, versions
from alexnet_jax.report.run_reader import read_experiment, read_status

# Packages whose versions a result may depend on.
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorflow-cpu",
    "tensorflow",
    "tensorflow-datasets",
    "ml_collections",
    "numpy",
    "pillow",
    "scikit-learn",
)


def has_ended(folder: Path, trial: Trial) -> bool:
    """Whether the trial has run to its end.

    One that ended at the error which was asked about goes on if it is to be trained to its
    last epoch now. (One that was given up had lost to another, and still has.)

    Raises:
      UserError: if its trial.json cannot be read.
    """
    status, _ = read_status(folder / trial.folder / "trial.json")
    if status == "reached":
        return trial.stops_at is not None
    return status != "unfinished"


def lock_trial(trial_folder: Path) -> contextlib.AbstractContextManager[None]:
    """Creates a trial's folder and holds it for this process alone.

    Raises:
      UserError: on entry, if another process holds it: a job may be started twice.
    """
    trial_folder.mkdir(parents=True, exist_ok=True)
    return lock_folder(
        trial_folder, "Another run", "choose another folder with --workdir=DIR"
    )


def check_writable(folder: Path) -> None:
    """Raises UserError unless `folder` can be created and written to; leaves no trace."""
    try:
        str(folder).encode()  # Checkpoints are written by code that needs UTF-8.
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is a file")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, UnicodeEncodeError):
            reason = "the name is not UTF-8"
        raise UserError(
            f"Cannot write the run folder {str(folder)!r}: {reason}. Choose another folder "
            "with --workdir=DIR."
        ) from error


def check_same_experiment(folder: Path, plan: ExperimentPlan) -> None:
    """Raises UserError if `folder` holds another experiment, or anything else.

    Fields that change how a run is done, and not its result, may differ. There may be more
    seeds now, which `open_or_create` adds: they leave the trials that have run as they are.
    """
    if not (folder / "experiment.json").exists():
        if folder.exists() and any(folder.iterdir()):
            raise UserError(
                f"{folder} is not a run folder: it has files but no experiment.json. "
                "Choose another folder with --workdir=DIR."
            )
        return
    # A field that the folder's version did not have has its default there.
    there = ExperimentPlan.of_json(read_experiment(folder))
    differing = there.differences(plan)
    if not differing or (differing.keys() == {"seeds"} and _added(there, plan)):
        return
    way_out = "Choose another folder with --workdir=DIR, or remove this one."
    if differing.keys() == {"seeds"}:
        way_out = f"Seeds can be added to a run, but not taken away. {way_out}"
    fields = "".join(
        f"\n  {name}: {old} there, {new} now" for name, (old, new) in differing.items()
    )
    raise UserError(
        f"{folder} holds another experiment. These fields differ:{fields}\n{way_out}"
    )


def _added(there: ExperimentPlan, plan: ExperimentPlan) -> range:
    """The seeds of a plan that the plan of its run folder does not have."""
    return range(there.values["seeds"], plan.values["seeds"])


def open_or_create(
    folder: Path,
    plan: ExperimentPlan,
    *,
    data: list[dict[str, Any]],
    device_kinds: Sequence[str],
    command: str = "",
) -> None:
    """Creates the run folder, or checks that it was created with the same data.

    If the folder is continued with other code, package versions or devices, or with more
    seeds, these are appended to experiment.json.

    Args:
      data: as `Datasets.describe` returns it.
      device_kinds: the kind of each device.
      command: as typed by the user; by default, that of alexnet_jax.main with the flags
        of this process.

    Raises:
      UserError: if the folder was created with other data.
    """
    environment = as_json(provenance(device_kinds))
    command = command or f"python -m alexnet_jax.main {shlex.join(sys.argv[1:])}"
    if not (folder / "experiment.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        experiment = {
            "command": command,
            **plan.as_json(),
            "recipes": plan.recipes(),
            "data": data,
            **environment,
            "continued": [],
        }
        write_json(folder / "experiment.json", experiment)
        return
    experiment = read_experiment(folder)
    old, new = fingerprints(experiment["data"]), fingerprints(data)
    if old != new:
        raise UserError(
            f"{folder} was made with other data: the data fingerprint is {old} there, "
            f"{new} now. Choose another folder with --workdir=DIR, or with "
            "--config.data.prepared_dir=DIR the same images as there (none: the original "
            "images)."
        )
    added = _added(ExperimentPlan.of_json(experiment), plan)
    if added:
        experiment["config"]["seeds"] = added.stop
        if "layers" in experiment:
            experiment["layers"]["seeds"] = plan.layers["seeds"]
        environment |= {"command": command, "seeds_before": added.start}
        notice = f"This adds {len(added)} seeds to the {added.start} of {folder}."
        print(notice, file=sys.stderr, flush=True)
    if added or any(
        experiment[name] != environment[name] for name in ("git", "versions", "devices")
    ):
        experiment["continued"].append(environment)
        write_json(folder / "experiment.json", experiment)


def fingerprints(data: list[dict[str, Any]]) -> str:
    """Returns the fingerprints of the sources, and of prepared sets made from them."""
    return ", ".join(
        one["fingerprint"]
        + (f" prepared {one['prepared']['fingerprint']}" if one.get("prepared") else "")
        for one in data
    )


def provenance(device_kinds: Sequence[str]) -> dict[str, Any]:
    """Returns what else a result depends on: code, package versions, machine."""
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "versions": {"python": platform.python_version()} | versions(PACKAGES),
        "devices": list(device_kinds),
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
    }


def as_json(value: Any) -> Any:
    """Returns `value` as it will be read back: tuples become lists."""
    return json.loads(json.dumps(value))
