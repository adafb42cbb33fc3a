"""Runs an experiment and answers with a table, a figure and a verdict.

python -m alexnet_jax.main --config=configs/NAME.py[:DATASET] [--workdir=DIR]
                           [--config.SECTION.FIELD=VALUE ...]

DATASET is digits (the default), a TFDS name, tfds=NAME or folder=PATH. Trials that a
run folder already holds are not repeated: the same command goes on where it stopped.
"""

import sys

from absl import flags

from alexnet_jax import command
from alexnet_jax import config as configuration

WORKDIR = flags.DEFINE_string(
    "workdir", "", "Run folder. Default: runs/<experiment>-<dataset>"
)


def main(_: list[str]) -> None:
    config = configuration.finish(*command.config_and_overrides())
    folder = configuration.run_folder(config, WORKDIR.value)
    trials = len(configuration.trials(config))
    print(
        f"{config.experiment} on {config.data.dataset}: {trials} trials, into {folder}",
        file=sys.stderr,
        flush=True,
    )
    from alexnet_jax import experiment  # JAX and TensorFlow take ten seconds to import

    print(experiment.run(config, folder))


if __name__ == "__main__":
    command.run(main)
