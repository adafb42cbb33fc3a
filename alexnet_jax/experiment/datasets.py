"""The data of an experiment: each source opened once, each size prepared once."""

import contextlib
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import FrozenConfigDict

from alexnet_jax.config.folders import prepared_folder
from alexnet_jax.config.trials import ExperimentPlan
from alexnet_jax.data import duplicates, pipeline
from alexnet_jax.data.open import open_source
from alexnet_jax.data.prepared import reader
from alexnet_jax.experiment import contact_sheet

# The small preset is offered for crops of this size or more, pixels, and images whose shorter
# side is at most `SMALL_SIDE` pixels, or of which there are fewer than `FEW_IMAGES`.
FULL_CROP, SMALL_SIDE, FEW_IMAGES = 200, 128, 10_000


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
            layer = plan.layer_of(trial.arm, "training.batch_size")
            data.train.check_batch_size(
                trial.settings.training.batch_size,
                f"{layer}: {trial.name}" if layer in ("arm", "tuned") else "",
            )

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


def preset_notice(plan: ExperimentPlan, datasets: Datasets) -> str | None:
    """One line that offers the small preset to full-size AlexNets on small or few images.

    None where the preset was chosen, or nothing is that large.
    """
    if plan.layers.get("preset") in ("file", "command line"):
        return None
    full = [
        trial.settings
        for trial in plan.one_per_setting()
        if trial.settings.model.name != "four_layer"
        and trial.settings.model.width >= 1
        and trial.settings.data.crop_size >= FULL_CROP
    ]
    if not full:
        return None
    train = datasets.of(full[0].data).train
    side = train.original_side()
    small = side is not None and side <= SMALL_SIDE
    few = train.num_examples < FEW_IMAGES
    if not small and not few:
        return None
    what = f"{train.num_examples:,} training images"
    if small:
        what += f", typically {side} pixels high or wide,"
    return (
        f"Note: {what} for AlexNet at full size, {full[0].data.crop_size}x"
        f"{full[0].data.crop_size} pixels. --config.preset=small trains a quarter of its "
        "width on 64x64 pixels, many times as fast; --config.preset=full drops this note."
    )


def open_datasets(plan: ExperimentPlan, *, silent: bool) -> Datasets:
    """Opens the data of an experiment; if `silent`, without a line about each source."""
    if not silent:
        return Datasets(plan)
    with contextlib.redirect_stderr(io.StringIO()):
        return Datasets(plan)


def write_contact_sheet(
    folder: Path, plan: ExperimentPlan, data_of: Callable[..., pipeline.Data | None]
) -> None:
    """Writes the contact sheet of what a plan's networks see, unless `folder` has it.

    Args:
      folder: an existing folder.
      data_of: from a trial's settings of the section data to its data; None leaves
        the trial out.

    Raises:
      UserError: if an image cannot be read.
    """
    contact_sheet.write(
        folder,
        f"{plan.name} on {plan.dataset}",
        [(trial.arm, trial.settings) for trial in plan.one_per_setting()],
        data_of,
    )


def of_prepared(
    folder: Path, rescale: str, rescale_size: int
) -> Callable[[FrozenConfigDict], pipeline.Data | None]:
    """The data of a prepared set, by a trial's settings of the section data.

    None for a trial that needs its images otherwise. Nothing is read into memory: this is
    for a few images.

    Raises:
      UserError: if the folder holds no prepared set, or a damaged one.
    """
    data = pipeline.of_statistics(
        reader.open_prepared(folder), rescale=rescale, rescale_size=rescale_size
    )

    def of(wanted: FrozenConfigDict) -> pipeline.Data | None:
        fits = (wanted.rescale, wanted.rescale_size) == (rescale, rescale_size)
        return data if fits else None

    return of


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
