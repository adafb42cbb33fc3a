"""Trials of ten steps on digits."""

import contextlib
import json

from alexnet_jax.config import base
from alexnet_jax.training import loop
from alexnet_jax.training.context import open_session
from alexnet_jax.training.step import initial_state
from alexnet_jax.training.trainer import StepSpec, Trainer
from alexnet_jax.training.trial import TrialSpec, open_trial

TRAIN, HELD_OUT = 1438, 359
BATCH = 16
STEP = BATCH / TRAIN  # epochs


def tiny(**changes):
    """A four-layer net of a few kernels on 16 x 16 digits, for a few steps."""
    config = base("digits", network="four_layer")
    config.data.rescale_size = config.data.crop_size = 16
    config.model.width = 0.25
    config.model.weight_stds = (0.01, 0.03, 0.03, 0.03)
    config.training.batch_size = BATCH
    # Ten steps, a row every four, an evaluation every five: completed a tenth of a step
    # before its end, whichever way a fraction is rounded.
    config.training.num_epochs = 9.9 * STEP
    config.training.log_every_epochs = 3.9 * STEP
    config.training.evaluate_every_epochs = 4.9 * STEP
    config.training.evaluate_at_start = True
    for name, value in changes.items():
        section, _, field = name.partition("__")
        config[section][field] = value
    return config


# Of rows: speed and memory, which no two runs share.
MEASURED = ("images_per_second", "input_wait", "peak_host_bytes", "peak_device_bytes")


def learned(rows):
    """The rows but for what is measured of the machine."""
    return [
        {name: value for name, value in row.items() if name not in MEASURED}
        for row in rows
    ]


def rows_of(folder):
    """All rows of a trial's record."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@contextlib.contextmanager
def opened(configs, data, devices, folders, *, seeds, further_crops=(), stops_at=None):
    """Trials in folders of their own, and the context in which they run together."""
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(open_session(devices, total_images=10**6))
        context = session.context(data, further_crops)
        trials = [
            stack.enter_context(
                open_trial(
                    TrialSpec.of(config, data),
                    seed=seed,
                    devices=devices,
                    folder=folder,
                    label=f"trial {number}",
                    stops_at=stops_at,
                )
            )
            for number, (config, folder, seed) in enumerate(
                zip(configs, folders, seeds, strict=True)
            )
        ]
        yield trials, context


def train_one(config, data, devices, folder, seed=0, stops_at=None):
    """Trains a single trial; returns it and the images that the progress counted."""
    with opened([config], data, devices, [folder], seeds=[seed], stops_at=stops_at) as (
        trials,
        context,
    ):
        loop.train(trials, context)
        return trials[0], context.progress.done


def trainer_of(config, data, devices):
    """The trainer of a single trial."""
    return Trainer.of(StepSpec.of(config, data), devices)


def placed_initial_state(config, data, devices):
    """A single trial's initial state on the devices, of seed 0."""
    trainer = trainer_of(config, data, devices)
    return devices.place_copies(initial_state(trainer.network, 0, trainer.spec))
