"""Prepares a dataset for training: rescales its images once and computes their mean.

python -m alexnet_jax.prepare --config=configs/NAME.py[:DATASET] [--output=DIR]
                              [--encoding=jpeg|raw] [--skip_bad]

Writes the rescaled images, the mean image and the principal components of color of the
training split into DIR, by default where main looks for them, and a contact sheet of some
training images as the network sees them: DIR/contact_sheet.png. Says first how many held-out
images are training images too, byte for byte. After an interruption the
same command continues. Images that cannot be read are listed in DIR/bad_files.tsv; the
prepared set is complete without them only with --skip_bad.
"""

from pathlib import Path

from absl import flags
from ml_collections import FrozenConfigDict

from alexnet_jax import cli
from alexnet_jax.config.folders import prepared_folder
from alexnet_jax.config.trials import ExperimentPlan
from alexnet_jax.data.prepared import reader
from alexnet_jax.errors import UserError

OUTPUT = flags.DEFINE_string(
    "output", "", "Folder of the prepared set. Default: prepared/<dataset>-<size>"
)
ENCODING = flags.DEFINE_enum(
    "encoding", "jpeg", ("jpeg", "raw"), "JPEG images of quality 95, or raw bytes."
)
SKIP_BAD = flags.DEFINE_bool(
    "skip_bad", False, "Leave out images that cannot be read, and count them."
)


def main(_: list[str]) -> None:
    plan = cli.resolved_plan()
    wanted = _wanted(plan)
    if OUTPUT.value and len(wanted) > 1:
        sizes = ", ".join(f"{rescale} to {size}" for rescale, size in wanted)
        raise UserError(
            f"The arms of {plan.name} need images of several sizes: {sizes}. "
            "Remove --output: each then gets its own folder, where main looks for it."
        )
    # TensorFlow takes seconds to import.
    from alexnet_jax.data import duplicates
    from alexnet_jax.data.open import open_source
    from alexnet_jax.data.prepared import build

    source = open_source(plan.dataset, tfds_dir=plan.settings.data.tfds_dir)
    print(duplicates.find(source).sentence(), flush=True)
    for (rescale, size), data in wanted.items():
        folder = _folder(data)
        if folder is None:
            raise UserError(
                "config.data.prepared_dir=none: remove it, or add --output=DIR."
            )
        done = build.prepare(
            source,
            folder,
            rescale=rescale,
            size=size,
            encoding=ENCODING.value,
            skip_bad=SKIP_BAD.value,
        )
        print(done)
        # JAX takes seconds to import, and only the contact sheet needs it.
        from alexnet_jax.experiment import datasets

        of_prepared = datasets.of_prepared(folder, rescale, size)
        datasets.write_contact_sheet(folder, plan, of_prepared)


def _wanted(plan: ExperimentPlan) -> dict[tuple[str, int], FrozenConfigDict]:
    """The data settings of one arm for each way of rescaling."""
    needed = [trial.settings.data for trial in plan.one_per_setting()]
    return {(data.rescale, data.rescale_size): data for data in needed}


def _folder(data: FrozenConfigDict) -> Path | None:
    """The folder of the prepared set; None if the config wants none and no flag does."""
    given = Path(OUTPUT.value).expanduser().absolute() if OUTPUT.value else None
    return given or prepared_folder(data)


def _kept() -> str:
    """What an interruption leaves."""
    try:
        folders = [_folder(data) for data in _wanted(cli.resolved_plan()).values()]
    except UserError:
        return cli.NOTHING_KEPT
    begun = [folder for folder in folders if folder and (folder / reader.PLAN).exists()]
    if not begun:
        return cli.NOTHING_KEPT
    shards = sum(
        path.name != reader.STATISTICS
        for folder in begun
        for path in folder.glob("*.npz")
    )
    return f"Complete shards kept: {shards}. The same command continues."


if __name__ == "__main__":
    cli.run(main, kept=_kept)
