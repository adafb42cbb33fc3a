"""An experiment from its configuration to its report: every trial is trained once.

Check everything, open the data, open the run folder, train the trials in groups (first
those of a tuning stage, then the measured ones at the values chosen), evaluate the
ensembles, write the report. What the run folder already holds is not repeated.
"""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from alexnet_jax.config.grouping import (
    LARGEST_GROUP,
    LARGEST_GROUP_ON_CPU,
    group_trials,
    images_together,
    spreads_trials,
)
from alexnet_jax.config.trials import ExperimentPlan, Trial
from alexnet_jax.experiment import ensemble, run_folder
from alexnet_jax.experiment.datasets import (
    Datasets,
    open_datasets,
    preset_notice,
    write_contact_sheet,
)
from alexnet_jax.model.network import build
from alexnet_jax.report import claims
from alexnet_jax.training import loop
from alexnet_jax.training.context import Session, open_session
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.initial_weights import check_origins
from alexnet_jax.training.records import tensorboard_writer
from alexnet_jax.training.trial import TrialSpec, open_trial


def run(plan: ExperimentPlan, folder: Path) -> str:
    """Runs what remains of an experiment; returns its report, to be printed.

    Args:
      plan: the experiment's, as `resolve` returns it.
      folder: the run folder; created if it does not exist.

    Raises:
      UserError: if the configuration, the data or the folder is unusable. In that case
        nothing has been written.
      Stopped: after a signal, once the current trials have been saved.
    """
    devices = check(plan, folder)
    first_stage = plan.stages[0]
    remaining = [t for t in first_stage if not run_folder.has_ended(folder, t)]
    datasets = open_data(plan, devices, offer_preset=bool(remaining))

    devices.barrier("checked")  # Every process has seen the folder as it was.
    open_folder(folder, plan, datasets, devices)
    devices.barrier("opened")

    if plan.tuning_trials:
        run_remaining(plan.tuning_trials, folder, plan, datasets, devices)
        plan = measured_plan(plan, folder, devices)
    run_remaining(plan.trials, folder, plan, datasets, devices)
    run_ensembles(folder, plan, datasets, devices)
    if not devices.is_primary:
        return ""
    from alexnet_jax.report import page  # Matplotlib would delay the first step.

    return page.write(folder)


def measured_plan(
    plan: ExperimentPlan, folder: Path, devices: Devices
) -> ExperimentPlan:
    """The plan's second stage, at the values that its tuning trials have chosen."""
    from alexnet_jax.experiment import tuning_stage  # SciPy would delay the first step.

    names = list(dict.fromkeys(one.tuned_name for one in plan.all_trials))
    chosen = tuning_stage.chosen(folder) if devices.is_primary else {}
    # The other processes may not see on a shared disk yet what the primary has written.
    chosen = {
        arm: names[devices.of_primary(names.index(chosen[arm]) if chosen else 0)]
        for arm in dict.fromkeys(one.arm for one in plan.tuning_trials)
    }
    if devices.is_primary:
        print(tuning_stage.describe(chosen), file=sys.stderr, flush=True)
    return plan.measured_at(chosen)


def run_remaining(
    trials: Sequence[Trial],
    folder: Path,
    plan: ExperimentPlan,
    datasets: Datasets,
    devices: Devices,
) -> None:
    """Trains those of the trials that have not ended."""
    remaining = [t for t in trials if not run_folder.has_ended(folder, t)]
    if len(remaining) < len(trials) and devices.is_primary:
        stage = "tuning trials" if trials[0].for_tuning else "trials"
        num_done = len(trials) - len(remaining)
        print(
            f"{num_done} of {len(trials)} {stage} are already done.",
            file=sys.stderr,
            flush=True,
        )
    run_trials(remaining, folder, plan, datasets, devices)


def check(plan: ExperimentPlan, folder: Path) -> Devices:
    """Returns the devices, after every check that needs no data.

    Raises:
      UserError: if the configuration or the folder is unusable.
    """
    claims.check_claim(
        plan.claim,
        experiment=plan.name,
        networks={arm: plan.networks(arm) for arm in plan.arms},
    )
    devices = Devices(plan.settings.parallel)
    if plan.settings.population:
        devices.check_single_process()
    for stage in plan.stages:
        for group in groups_of(list(stage), plan, devices):
            check_batch_size(group, devices)
    if plan.settings.training.tensorboard:
        tensorboard_writer()  # Refused here if it is not installed.
    run_folder.check_writable(folder)
    run_folder.check_same_experiment(folder, plan)
    for trial in plan.one_per_setting():
        # Refuses an image size that leaves a layer without pixels.
        crop_size = trial.settings.data.crop_size
        build(trial.settings.model, image_size=crop_size, num_classes=1)
    origins = check_origins((one.arm, one.settings) for one in plan.one_per_setting())
    if origins and devices.is_primary:
        print(*origins, sep="\n", file=sys.stderr, flush=True)
    return devices


def check_batch_size(group: list[Trial], devices: Devices) -> None:
    """Raises UserError unless the devices for a group can divide its trials' batches."""
    settings = group[0].settings
    training = settings.training
    arranged = devices.arranged(
        len(group),
        batch_size=training.batch_size,
        microbatches=training.gradient_accumulation,
        images_together=images_together(settings),
        spread_trials=spreads_trials(settings),
    )
    arranged.check_batch_size(training.batch_size, training.gradient_accumulation)


def open_data(
    plan: ExperimentPlan, devices: Devices, *, offer_preset: bool = True
) -> Datasets:
    """Opens the data of an experiment; of several processes, the primary says which.

    Raises:
      UserError: if the data are unusable.
    """
    datasets = open_datasets(plan, silent=not devices.is_primary)
    notice = preset_notice(plan, datasets) if offer_preset else None
    if notice and devices.is_primary:
        print(notice, file=sys.stderr, flush=True)
    return datasets


def open_folder(
    folder: Path,
    plan: ExperimentPlan,
    datasets: Datasets,
    devices: Devices,
    *,
    command: str = "",
) -> None:
    """Creates the run folder or checks its data; of several processes, the primary does.

    It gets contact_sheet.png, some training images, unless it has one.

    Raises:
      UserError: if the folder was created with other data.
    """
    if devices.is_primary:
        run_folder.open_or_create(
            folder,
            plan,
            data=datasets.describe(),
            device_kinds=[device.device_kind for device in devices.devices],
            command=command,
        )
        write_contact_sheet(folder, plan, datasets.of)


def run_trials(
    trials: list[Trial],
    folder: Path,
    plan: ExperimentPlan,
    datasets: Datasets,
    devices: Devices,
) -> None:
    """Trains the trials group after group, recording each in its own folder.

    A group is a single trial, or several that one step can train side by side.
    """
    groups = groups_of(trials, plan, devices)
    total = sum(
        TrialSpec.of(own, datasets.of(own.data)).schedule.num_images
        for own in (trial.settings for trial in trials)
    )
    with open_session(devices, total_images=total) as session:
        done = 0
        for group in groups:
            first, last = done + 1, done + len(group)
            label = f"trials {first} to {last} of {len(trials)}"
            if len(group) == 1:
                label = f"trial {first}/{len(trials)} {group[0].name}"
            session.progress.begin(label)
            run_together(group, folder, datasets, session, try_checkpoint=done == 0)
            session.follow_signals()
            done = last


def groups_of(
    trials: list[Trial], plan: ExperimentPlan, devices: Devices
) -> list[list[Trial]]:
    """The trials in the groups in which these devices train them."""
    on_cpu = devices.devices[0].platform == "cpu"
    return group_trials(
        trials,
        population=plan.settings.population,
        largest=LARGEST_GROUP_ON_CPU if on_cpu else LARGEST_GROUP,
        num_devices=devices.num_for_trials,
    )


def run_together(
    group: list[Trial],
    folder: Path,
    datasets: Datasets,
    session: Session,
    *,
    try_checkpoint: bool,
) -> None:
    """Trains the trials of a group at the same time."""
    data = datasets.of(group[0].settings.data)
    context = session.context(data, group[0].further_crops)
    running = []
    with contextlib.ExitStack() as opened:
        for trial in group:
            place = folder / trial.folder
            opened.enter_context(lock(place, context.devices))
            running.append(
                opened.enter_context(
                    open_trial(
                        TrialSpec.of(trial.settings, data),
                        seed=trial.seed,
                        devices=context.devices,
                        folder=place,
                        label=trial.name,
                        stops_at=trial.stops_at,
                        gives_up_at=gives_up_at(trial, folder, context.devices),
                    )
                )
            )
        loop.train(running, context, try_checkpoint=try_checkpoint)


def gives_up_at(trial: Trial, folder: Path, devices: Devices) -> float | None:
    """The epoch at which a tuning trial is given up, by what the others have shown."""
    # Several processes must agree, and may not see the same records on a shared disk.
    if not trial.for_tuning or devices.num_hosts > 1:
        return None
    from alexnet_jax.experiment import tuning_stage  # SciPy would delay the first step.

    return tuning_stage.give_up_epoch(
        folder, arm=trial.arm, tuned_name=trial.tuned_name, seed=trial.seed
    )


def run_ensembles(
    folder: Path, plan: ExperimentPlan, datasets: Datasets, devices: Devices
) -> None:
    """Evaluates the ensembles that have no result yet."""
    devices.barrier("trained")  # The primary has written what all processes read now.
    for one in plan.ensembles:
        if not run_folder.has_ended(folder, one):
            data = datasets.of(one.settings.data)
            with lock(folder / one.folder, devices):
                ensemble.evaluate(
                    one, plan.ensemble_members(one), folder, data, devices
                )
            devices.barrier(f"evaluated {one.folder}")


def lock(
    trial_folder: Path, devices: Devices
) -> contextlib.AbstractContextManager[None]:
    """Holds a trial's folder for this run alone; of several processes, the primary does."""
    if not devices.is_primary:
        return contextlib.nullcontext()
    return run_folder.lock_trial(trial_folder)
