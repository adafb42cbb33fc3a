"""A trial of ten steps on digits."""

from alexnet_jax.config import base

TRAIN, HELD_OUT = 1438, 359
BATCH = 16
STEP = BATCH / TRAIN  # epochs


def tiny(**changes):
    """A four-layer net of a few kernels on 16 x 16 digits, for a few steps."""
    config = base("digits", network="four_layer")
    config.data.rescale_size = config.data.crop_size = 16
    config.model.width = 0.25
    config.model.weight_deviations = (0.01, 0.03, 0.03, 0.03)
    config.training.batch_size = BATCH
    # Ten steps, a row every four, an evaluation every five: completed a tenth of a step
    # before its end, whichever way a fraction is rounded.
    config.training.num_epochs = 9.9 * STEP
    config.training.record_every_epochs = 3.9 * STEP
    config.training.evaluate_every_epochs = 4.9 * STEP
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
