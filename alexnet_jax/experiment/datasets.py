"""The data of an experiment: each source opened once, each size prepared once."""

import contextlib
import functools
import io
import math
from typing import Any

from ml_collections import FrozenConfigDict

from alexnet_jax.config.folders import prepared_folder
from alexnet_jax.config.trials import ExperimentPlan, Trial
from alexnet_jax.data import duplicates, images, pipeline
from alexnet_jax.data.open import open_source
from alexnet_jax.data.prepared import reader
from alexnet_jax.errors import UserError

# The small preset is offered for crops of this size or more, pixels, and images whose shorter
# side is at most `SMALL_SIDE` pixels, or of which there are fewer than `FEW_IMAGES`.
FULL_CROP, SMALL_SIDE, FEW_IMAGES = 200, 128, 10_000
SAMPLED_IMAGES = 16


class Datasets:
    """The data of every trial of an experiment."""

    def __init__(self, plan: ExperimentPlan) -> None:
        """Opens the data of every arm and tuned value.

        Raises:
          UserError: if a dataset is missing, unreadable, or prepared in another way, or
            if a batch is larger than the training set.
        """
        self._open_source = functools.cache(open_source)
        self._prepared: dict[tuple[str, str, str, int], pipeline.Data] = {}
        for trial in plan.one_per_setting():
            data = self.of(trial.settings.data)
            check_batch(plan, trial, data.train.num_examples)

    def of(self, wanted: FrozenConfigDict) -> pipeline.Data:
        """Returns the data of a trial, given its settings of the section data."""
        key = (wanted.dataset, wanted.tfds_dir, wanted.rescale, wanted.rescale_size)
        if key not in self._prepared:
            opened = reader.choose(
                self._open_source(wanted.dataset, tfds_dir=wanted.tfds_dir),
                folder=prepared_folder(wanted),
                required=bool(wanted.prepared_dir),
                rescale=wanted.rescale,
                rescale_size=wanted.rescale_size,
            )
            self._prepared[key] = pipeline.load_data(
                opened, rescale=wanted.rescale, rescale_size=wanted.rescale_size
            )
        return self._prepared[key]

    def count_duplicates(self) -> list[str]:
        """Returns a sentence for each source: how many held-out images train it too.

        The original images are compared, also where a prepared set is used.
        """
        named = dict.fromkeys(
            (dataset, folder) for dataset, folder, *_ in self._prepared
        )
        sources = [self._open_source(d, tfds_dir=folder) for d, folder in named]
        return [duplicates.find(source).sentence() for source in sources]

    def describe(self) -> list[dict[str, Any]]:
        """Returns the entries of experiment.json, one per source and size."""
        return [describe(data) for data in self._prepared.values()]


def check_batch(plan: ExperimentPlan, trial: Trial, num_examples: int) -> None:
    """Raises UserError if a batch of the trial is larger than the training set.

    Such a batch would hold some images several times, and a step would be more than an
    epoch.
    """
    name = "training.batch_size"
    batch_size = trial.settings.training.batch_size
    if batch_size <= num_examples:
        return
    layer = plan.layer_of(trial.arm, name)
    whose = f" ({layer}: {trial.name})" if layer in ("arm", "tuned") else ""
    raise UserError(
        f"config.{name}={batch_size}{whose} is larger than the training set of "
        f"{plan.dataset}, which has {num_examples} images: use at most {num_examples}, for "
        f"example --config.{name}={_smaller(num_examples)}."
    )


def _smaller(num_examples: int) -> int:
    """A batch size for a small training set: a power of two, ten steps an epoch or more."""
    return 2 ** max(0, math.floor(math.log2(max(1, min(num_examples / 10, 128)))))


def preset_notice(plan: ExperimentPlan, datasets: Datasets) -> str | None:
    """One line that offers the small preset to full-size AlexNets on small or few images.

    None where the preset was chosen, or nothing is that large.
    """
    if plan.layers.get("preset") in ("file", "command line"):
        return None
    full = [
        trial.settings
        for trial in plan.one_per_setting()
        if trial.settings.model.name == "alexnet"
        and trial.settings.model.width >= 1
        and trial.settings.data.crop_size >= FULL_CROP
    ]
    if not full:
        return None
    data = datasets.of(full[0].data)
    split, side = data.source.train, _typical_side(data)
    small = side is not None and side <= SMALL_SIDE
    few = split.num_examples < FEW_IMAGES
    if not small and not few:
        return None
    what = f"{split.num_examples:,} training images"
    if small:
        what += f", typically {side} pixels high or wide,"
    return (
        f"Note: {what} for AlexNet at full size, {full[0].data.crop_size}x"
        f"{full[0].data.crop_size} pixels. --config.preset=small trains a quarter of its "
        "width on 64x64 pixels, many times as fast; --config.preset=full drops this note."
    )


def _typical_side(data: pipeline.Data) -> int | None:
    """The median shorter side of some images, in pixels; None if they are rescaled."""
    split = data.source.train
    if split.encoding != "original":
        return None
    step = max(1, split.num_examples // SAMPLED_IMAGES)
    sides = []
    for index in range(0, split.num_examples, step):
        with contextlib.suppress(UserError):  # Reported where it is needed.
            sides.append(images.shorter_side(split.read(index)[0]))
    known = sorted(side for side in sides if side is not None)
    return known[len(known) // 2] if known else None


def open_datasets(plan: ExperimentPlan, *, silent: bool) -> Datasets:
    """Opens the data of an experiment; if `silent`, without a line about each source."""
    if not silent:
        return Datasets(plan)
    with contextlib.redirect_stderr(io.StringIO()):
        return Datasets(plan)


def open_originals(wanted: FrozenConfigDict) -> pipeline.Data:
    """The data of a trial from the original images, never from a prepared set.

    Args:
      wanted: the trial's settings of the section data.
    """
    return _load_originals(
        wanted.dataset, wanted.tfds_dir, wanted.rescale, wanted.rescale_size
    )


@functools.cache
def _load_originals(
    dataset: str, tfds_dir: str, rescale: str, rescale_size: int
) -> pipeline.Data:
    source = open_source(dataset, tfds_dir=tfds_dir)
    return pipeline.load_data(source, rescale=rescale, rescale_size=rescale_size)


def describe(data: pipeline.Data) -> dict[str, Any]:
    """Returns the entry of experiment.json for one source at one size."""
    return {
        "name": data.source.name,
        "fingerprint": data.source.fingerprint,
        "num_classes": len(data.source.class_names),
        "train_examples": data.train.num_examples,
        "validation_split": data.validation.split.name,
        "validation_examples": data.validation.num_examples,
        "rescale": data.train.rescale,
        "rescale_size": data.train.size,
        "prepared": data.source.prepared,
    }
