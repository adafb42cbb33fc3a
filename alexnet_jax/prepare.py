"""Reads a data set once and keeps it as training wants it: small, square, with its mean.

python -m alexnet_jax.prepare --config=configs/NAME.py[:DATASET] [--output=DIR]
                              [--encoding=jpeg|raw] [--skip_bad]

Leaves in DIR (default: where main looks for it, prepared/<dataset>-<size>) each image
rescaled as the configuration says, the mean image and the principal components of
colour of the training split, and a manifest. Stopped, the same command goes on. Images
that cannot be read are listed in DIR/bad_files.tsv; only with --skip_bad is a set
complete without them.
"""

from pathlib import Path

from absl import flags

from alexnet_jax import command
from alexnet_jax import config as configuration
from alexnet_jax.config import trial_config, trials
from alexnet_jax.errors import UserError

ENCODINGS = ("jpeg", "raw")

OUTPUT = flags.DEFINE_string(
    "output", "", "Folder of the prepared set. Default: prepared/<dataset>-<size>"
)
ENCODING = flags.DEFINE_enum(
    "encoding", "jpeg", ENCODINGS, "Of the images: JPEG of quality 95, or raw bytes."
)
SKIP_BAD = flags.DEFINE_bool(
    "skip_bad", False, "Leave out images that cannot be read, and count them."
)

KEPT = "What was prepared so far is kept. The same command goes on."


def main(_: list[str]) -> None:
    config = command.finished_config()
    of_trials = [trial_config(config, t) for t in trials({**config, "seeds": 1})]
    wanted = {(c.data.rescale, c.data.rescale_size): c for c in of_trials}
    if OUTPUT.value and len(wanted) > 1:
        forms = ", ".join(f"{how} to {size}" for how, size in wanted)
        raise UserError(
            f"The arms of {config.experiment} need images of several forms: {forms}. "
            "Leave --output away: each then gets its own folder, where main looks for it."
        )
    from alexnet_jax import preparation  # TensorFlow takes seconds to import
    from alexnet_jax.data.shards import Job
    from alexnet_jax.data.source import open_source

    source = open_source(config.data.dataset, tfds_dir=config.data.tfds_dir)
    for (rescale, size), of_trial in wanted.items():
        folder = (
            Path(OUTPUT.value).expanduser().absolute()
            if OUTPUT.value
            else configuration.prepared_folder(of_trial)
        )
        if folder is None:
            raise UserError(
                "config.data.prepared_dir=none: that names no folder to prepare into. "
                "Leave it away, or give --output=DIR."
            )
        job = Job(source, folder, rescale, size, ENCODING.value)
        print(preparation.prepare(job, skip_bad=SKIP_BAD.value))


if __name__ == "__main__":
    command.run(main, kept=KEPT)
