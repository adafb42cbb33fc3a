"""Writes one page about many experiments: the paper's claims beside the measurements.

python -m alexnet_jax.report RUN_FOLDER [RUN_FOLDER ...] [--output=DIR]

Writes report.md and report.html to DIR (default: report); the latter is a single file
that opens without a network. Unfinished runs are included as far as they have come.
"""

from pathlib import Path

from absl import flags

from alexnet_jax import cli
from alexnet_jax.errors import UserError

OUTPUT = flags.DEFINE_string("output", "report", "Folder for the pages.")


def main(folders: list[str]) -> None:
    if not folders:
        found = sorted(str(p.parent) for p in Path("runs").glob("*/experiment.json"))
        hint = f" Run folders here: {' '.join(found)}" if found else ""
        raise UserError(f"Missing run folder. Give one or several.{hint}")
    # SciPy and Matplotlib take seconds to import; bad input is refused before.
    from alexnet_jax.report import overview

    given = [Path(folder).expanduser() for folder in folders]
    print(overview.write(given, Path(OUTPUT.value).expanduser()))


if __name__ == "__main__":
    cli.run(main, with_config=False, takes_arguments=True)
