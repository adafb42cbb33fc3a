"""One page over many experiments: the paper's claims beside what was measured.

python -m alexnet_jax.report RUN_FOLDER [RUN_FOLDER ...] [--output=DIR]

Leaves report.md and report.html in DIR (default: report); the latter is one file that
opens without a network. Runs that are still at work are shown as far as they are.
"""

from pathlib import Path

from absl import flags

from alexnet_jax import command
from alexnet_jax.errors import UserError

OUTPUT = flags.DEFINE_string("output", "report", "Folder of the pages.")


def main(folders: list[str]) -> None:
    if not folders:
        found = sorted(str(p.parent) for p in Path("runs").glob("*/experiment.json"))
        hint = f" Here are: {' '.join(found)}" if found else ""
        raise UserError(f"Of which runs? Give one run folder, or several.{hint}")
    from alexnet_jax.report import overview  # scipy and matplotlib take seconds

    given = [Path(folder).expanduser() for folder in folders]
    print(overview.write(given, Path(OUTPUT.value).expanduser()))


if __name__ == "__main__":
    command.run(main, with_config=False, takes_arguments=True)
