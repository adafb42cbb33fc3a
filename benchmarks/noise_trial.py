"""A trial of the default recipe on noise, for benchmarks of what a run costs.

The network has 1000 classes. Its images are noise in memory, as many as ImageNet has.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ml_collections import FrozenConfigDict

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.data import pipeline
from alexnet_jax.data.pipeline import Data
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.data.types import Source, Split
from alexnet_jax.training.context import open_session
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.group import TrialGroup, resume
from alexnet_jax.training.trial import TrialSpec, open_trial

IMAGENET = 1_281_167  # training examples of an epoch
IMAGES, CLASSES = 256, 1000  # different images; labels
LEARNING_RATE = 1e-6  # small, so that long training on noise stays finite
LOG_EVERY = 0.01  # epochs between train rows, at most: the default


def trial(
    batch_size: int, dtype: str, width: float = 1.0, *, log_every: float = LOG_EVERY
) -> FrozenConfigDict:
    """The settings: no evaluation, and no checkpoint but those requested."""
    config = base()
    config.model.dtype = "bfloat16" if dtype == "bfloat16" else "float32"
    config.model.width = width
    config.optimizer.learning_rate = LEARNING_RATE
    config.training.batch_size = batch_size
    config.training.num_epochs = config.training.evaluate_every_epochs = 1e6
    config.training.log_every_epochs = log_every
    config.training.checkpoint_every_epochs = 0.0
    config.training.warn_below_spread = 0.0  # noise is no photograph
    config.training.warn_after_steps = 10**9
    return resolve(config, {}).settings


def noise(settings: FrozenConfigDict) -> Data:
    """Data with as many examples as ImageNet has: a few images of noise, repeated."""
    size = settings.data.rescale_size
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (IMAGES, size * size * 3), np.uint8)
    labels = draws.integers(0, CLASSES, IMAGES).tolist()

    def read_part(index: int, first: int, count: int) -> tuple[bytes, int]:
        here = index % IMAGES
        return images[here, first : first + count].tobytes(), labels[here]

    def split(name: str, count: int) -> Split:
        def read(index: int) -> tuple[bytes, int]:
            return read_part(index, 0, images.shape[1])

        return Split(name, count, read, encoding="raw", read_part=read_part)

    source = Source(
        "noise",
        tuple(map(str, range(CLASSES))),
        split("train", IMAGENET),
        split("validation", IMAGES),
        fingerprint="noise",
        statistics=Statistics(
            np.full((size, size, 3), 127.5), np.array([3.0, 2.0, 1.0]), np.eye(3)
        ),
    )
    return pipeline.load_data(source, rescale=settings.data.rescale, rescale_size=size)


@contextlib.contextmanager
def started_trial(
    settings: FrozenConfigDict,
    data: Data,
    devices: Devices,
    folder: Path,
    *,
    shown: bool,
) -> Iterator[TrialGroup]:
    """A trial before its first step, on the devices, with all that a run gives to it."""
    label, total = "the loop and saves", settings.training.batch_size
    with open_session(devices, total_images=total, silent=not shown) as session:
        context, spec = session.context(data), TrialSpec.of(settings, data)
        with open_trial(
            spec, seed=0, devices=devices, folder=folder, label=label
        ) as trial:
            session.progress.begin(label)
            (group,) = resume([trial], context)
            group.place()
            yield group
