"""Runs an experiment and answers with a table, a figure and a verdict.

python -m alexnet_jax.main --config=configs/NAME.py[:DATASET] [--workdir=DIR]
                           [--config.SECTION.FIELD=VALUE ...]

DATASET is digits (the default), a TFDS name, tfds=NAME or folder=PATH. Trials that a
run folder already holds are not repeated: the same command goes on where it stopped.
"""

from absl import flags

from alexnet_jax import command

WORKDIR = flags.DEFINE_string(
    "workdir", "", "Run folder. Default: runs/<experiment>-<dataset>"
)


def main(_: list[str]) -> None:
    from alexnet_jax import experiment  # takes seconds: not before the flags are right

    config, overrides = command.config_and_overrides()
    print(experiment.run(config, overrides, WORKDIR.value))


if __name__ == "__main__":
    command.run(main)
