"""An experiment from its configuration to its report: every trial, each once."""

import contextlib
import datetime
import functools
import io
import json
import os
import platform
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import config as configuration
from alexnet_jax import ensemble
from alexnet_jax.config import Trial, trial_config, trials
from alexnet_jax.data import pipeline, prepared, source
from alexnet_jax.errors import Stopped, UserError
from alexnet_jax.fields import RUNNING
from alexnet_jax.files import only_one, write_json
from alexnet_jax.model.network import build
from alexnet_jax.provenance import git_state, versions
from alexnet_jax.report import verdict
from alexnet_jax.report.records import read_experiment
from alexnet_jax.training import loop
from alexnet_jax.training.checkpoint import Checkpoints, fields_of
from alexnet_jax.training.member import Member, Plan
from alexnet_jax.training.parallel import Devices
from alexnet_jax.training.record import Progress, Record, tensorboard_writer
from alexnet_jax.training.signals import Signals

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


def run(config: ConfigDict, folder: Path) -> str:
    """Runs what is left to run of an experiment; returns its answer, to be printed.

    Args:
      config: as `config.finish` returns it.
      folder: the run folder; made where it is not there.

    Raises:
      UserError: if the configuration, the data or the folder will not do. Nothing has
        been written then.
    """
    devices = check(config, folder)
    datasets = open_datasets(config, devices)

    devices.meet("checked")  # before one of them writes what the others look at
    open_folder(folder, config, datasets, devices)
    devices.meet("opened")
    everything = trials(config)
    left = [trial for trial in everything if not finished(folder, trial)]
    if len(left) < len(everything) and devices.writes:
        done = len(everything) - len(left)
        print(f"{done} trials are there already.", file=sys.stderr, flush=True)
    run_trials(left, folder, config, datasets, devices)
    run_ensembles(folder, config, datasets, devices)
    if not devices.writes:  # of several processes, one
        return ""
    from alexnet_jax.report import page  # draws: not what a start should wait for

    return page.write(folder)


def check(config: ConfigDict, folder: Path) -> Devices:
    """The devices; raises UserError if configuration or folder will not do."""
    verdict.check_claim(config)
    devices = Devices(config.parallel)
    if config.population and devices.num_hosts > 1:
        raise UserError(
            "config.population is for small networks, in one process, and there are "
            f"{devices.num_hosts}: leave it away, or start one."
        )
    for trial in trials({**config, "seeds": 1}):
        wanted = trial_config(config, trial).training
        devices.check_batch_size(wanted.batch_size, wanted.accumulation)
    if config.training.tensorboard:
        tensorboard_writer()  # refuses where it is not installed
    check_writable(folder)
    check_folder(folder, config)
    for trial in trials({**config, "seeds": 1}):
        of_trial = trial_config(config, trial)
        # Refuses what leaves a layer no pixels, before the data is read.
        build(of_trial.model, image_size=of_trial.data.crop_size, num_classes=1)
    return devices


def open_datasets(config: ConfigDict, devices: Devices) -> "Datasets":
    """All of them; of several processes, one tells what it has opened."""
    if devices.writes:
        return Datasets(config)
    with contextlib.redirect_stderr(io.StringIO()):
        return Datasets(config)


class Datasets:
    """The data of every trial, each source opened and each size prepared once."""

    def __init__(self, config: ConfigDict) -> None:
        self._open = functools.cache(source.open_source)
        self._prepared: dict[tuple[str, str, str, int], pipeline.Data] = {}
        for trial in trials({**config, "seeds": 1}):
            self.of(trial_config(config, trial))

    def of(self, config: ConfigDict) -> pipeline.Data:
        """The data of a trial's configuration."""
        wanted = config.data
        key = (wanted.dataset, wanted.tfds_dir, wanted.rescale, wanted.rescale_size)
        if key not in self._prepared:
            opened = prepared.choose(
                self._open(wanted.dataset, tfds_dir=wanted.tfds_dir),
                folder=configuration.prepared_folder(config),
                by_hand=bool(wanted.prepared_dir),
                rescale=wanted.rescale,
                rescale_size=wanted.rescale_size,
            )
            self._prepared[key] = pipeline.prepare(
                opened, rescale=wanted.rescale, rescale_size=wanted.rescale_size
            )
        return self._prepared[key]

    def all(self) -> list[pipeline.Data]:
        return list(self._prepared.values())


def run_trials(
    left: list[Trial],
    folder: Path,
    config: ConfigDict,
    datasets: Datasets,
    devices: Devices,
) -> None:
    """Trains the trials one after the other, recording each in its own folder.

    With `config.population`, those that one step can train are trained together.
    """
    groups = [[trial] for trial in left]
    if config.population:
        on_cpu = devices.devices[0].platform == "cpu"
        most = configuration.MOST_ON_CPU if on_cpu else configuration.MOST_TOGETHER
        groups = configuration.populations(config, left, most)
    plans = [
        Plan.of(of_trial, datasets.of(of_trial).train.num_examples)
        for of_trial in (trial_config(config, trial) for trial in left)
    ]
    total = sum(plan.num_images for plan in plans)
    with Progress(total, shown=devices.writes) as progress, Signals() as asked:
        begun = 0
        for group in groups:
            numbers = f"{begun + 1}/{len(left)} {group[0].name}"
            if len(group) > 1:
                numbers = f"{begun + 1} to {begun + len(group)} of {len(left)}"
            label = f"trial{'s' if len(group) > 1 else ''} {numbers}"
            progress.begin(label)
            labels = [trial.name for trial in group] if len(group) > 1 else [label]
            with contextlib.ExitStack() as locks:
                for trial in group:
                    locks.enter_context(alone_in(folder / trial.folder, devices))
                ended = run_together(
                    dict(zip(labels, group, strict=True)),
                    folder,
                    config,
                    datasets,
                    devices,
                    progress,
                    asked,
                    try_checkpoint=begun == 0,
                )
            begun += len(group)
            for trial, one in zip(group, ended, strict=True):
                if one.status == "diverged":
                    progress.say(diverged(trial, one.row))


def run_together(
    group: dict[str, Trial],
    folder: Path,
    config: ConfigDict,
    datasets: Datasets,
    devices: Devices,
    progress: Progress,
    asked: Signals,
    *,
    try_checkpoint: bool,
) -> list[Member]:
    """Trains trials, by their labels, at the same time; returns how they ended."""
    configs = [trial_config(config, trial) for trial in group.values()]
    data = datasets.of(configs[0])
    members = []
    with contextlib.ExitStack() as opened:
        for (label, trial), own in zip(group.items(), configs, strict=True):
            place = folder / trial.folder
            record = Record(
                place if devices.writes else None,
                tensorboard=config.training.tensorboard,
            )
            opened.enter_context(record)
            checkpoints = Checkpoints(place, fields_of(own), devices)
            opened.enter_context(checkpoints)
            members.append(
                Member(
                    own,
                    seed=trial.seed,
                    data=data,
                    record=record,
                    checkpoints=checkpoints,
                    label=label,
                )
            )
        first, *_ = group.values()
        try:
            loop.train(
                members,
                data=data,
                devices=devices,
                progress=progress,
                asked=asked,
                try_checkpoint=try_checkpoint,
                beside=configuration.views_beside(config, first.arm),
            )
        except Stopped:
            for one in members:
                if one.status == "diverged":  # has nothing to go on with
                    one.record.close_trial(one.status, **one.end())
            raise
    for one in members:  # only now: the last checkpoints are on the disk
        one.record.close_trial(one.status, **one.end())
    return members


def diverged(trial: Trial, row: dict[str, Any]) -> str:
    """What is said of a trial that ended so, of its last row."""
    return (
        f"{trial.name} diverged: its {row.get('not_finite', 'loss')} is not "
        f"finite at step {row['step']}. Its records say so"
        + (", and which images the batch held" if "examples" in row else "")
        + "; a checkpoint, if there is one, is of before. The others go on."
    )


def alone_in(trial: Path, devices: Devices) -> contextlib.AbstractContextManager[None]:
    """A trial's folder for this process alone: a job may be started twice."""
    if not devices.writes:  # of several processes, one holds it
        return contextlib.nullcontext()
    trial.mkdir(parents=True, exist_ok=True)
    return only_one(trial, "Another run", "choose another folder by --workdir=DIR")


def run_ensembles(
    folder: Path, config: ConfigDict, datasets: Datasets, devices: Devices
) -> None:
    """Evaluates the averages of networks that are not evaluated yet."""
    devices.meet("trained")  # one has written what all now look at
    for one in ensemble.ensembles(config):
        if not finished(folder, one):
            data = datasets.of(trial_config(config, one))
            with alone_in(folder / one.folder, devices):
                ensemble.evaluate(config, one, folder, data, devices)
            devices.meet(f"evaluated {one.folder}")


def finished(folder: Path, trial: Trial) -> bool:
    """Whether the trial has run to its end, be it a diverged one."""
    return (folder / trial.folder / "trial.json").exists()


# --- The run folder ---------------------------------------------------------------


def check_writable(folder: Path) -> None:
    """Raises UserError unless `folder` can be made and written to; leaves no trace."""
    try:
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is a file")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(
            f"Cannot write the run folder {folder}: {error.strerror or error}. "
            "Choose another by --workdir=DIR."
        ) from error


def check_folder(folder: Path, config: ConfigDict) -> None:
    """Raises UserError if `folder` holds another experiment, or something else."""
    if not (folder / "experiment.json").exists():
        if folder.exists() and any(folder.iterdir()):
            raise UserError(
                f"{folder} holds something else than a run: no experiment.json. Choose "
                "another folder by --workdir=DIR."
            )
        return
    old = configuration.flatten(read_experiment(folder)["config"])
    new = configuration.flatten(as_json(config.to_dict()))
    # Where the prepared images lie is one of RUNNING: `open_folder` compares them.
    differing = [
        f"  {name}: {old.get(name, 'absent')} there, {new.get(name, 'absent')} now"
        for name in sorted((old.keys() | new.keys()) - set(RUNNING))
        if old.get(name) != new.get(name)
    ]
    if differing:
        raise UserError(
            f"{folder} holds another experiment; these differ:\n"
            + "\n".join(differing)
            + "\nChoose another folder by --workdir=DIR, or remove this one."
        )


def open_folder(
    folder: Path,
    config: ConfigDict,
    datasets: Datasets,
    devices: Devices,
    command: str = "",
) -> None:
    """Makes the run folder, or checks that it was made with the same data.

    Args:
      command: what the user typed; by default, alexnet_jax.main with this process's flags.

    Raises:
      UserError: if the data has changed since.
    """
    if not devices.writes:
        return
    here = as_json(provenance(devices))
    data = [describe(one) for one in datasets.all()]
    if not (folder / "experiment.json").exists():
        held = {
            "command": command
            or f"python -m alexnet_jax.main {shlex.join(sys.argv[1:])}",
            "config": config.to_dict(),
            "recipes": configuration.departures(config),
            "data": data,
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "experiment.json", held | here | {"continued": []})
        return
    held = read_experiment(folder)
    if fingerprints(held["data"]) != fingerprints(data):
        raise UserError(
            f"{folder} was made with other data: the data fingerprint is "
            f"{fingerprints(held['data'])} there, {fingerprints(data)} now. Choose another "
            "folder by --workdir=DIR, or by --config.data.prepared_dir=DIR (none: the "
            "original images) the same images as there."
        )
    if any(held[name] != here[name] for name in ("git", "versions", "devices")):
        held["continued"].append(here)
        write_json(folder / "experiment.json", held)


def fingerprints(data: list[dict[str, Any]]) -> str:
    """Of the sources, and of the prepared sets where such were used."""
    return ", ".join(
        one["fingerprint"]
        + (f" prepared {one['prepared']['fingerprint']}" if one.get("prepared") else "")
        for one in data
    )


def describe(data: pipeline.Data) -> dict[str, Any]:
    """What experiment.json says of a data set."""
    return {
        "name": data.source.name,
        "fingerprint": data.source.fingerprint,
        "num_classes": len(data.source.class_names),
        "train_examples": data.train.num_examples,
        "validation_split": data.validation.split.name,
        "validation_examples": data.validation.num_examples,
        "rescale": data.train.how,
        "rescale_size": data.train.size,
        "prepared": data.source.prepared,
    }


def provenance(devices: Devices) -> dict[str, Any]:
    """What else a result depends on: code, versions, machine."""
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "versions": {"python": platform.python_version()} | versions(PACKAGES),
        "devices": [device.device_kind for device in devices.devices],
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
    }


def as_json(value: Any) -> Any:
    """`value` as it will be read back: tuples become lists."""
    return json.loads(json.dumps(value))
