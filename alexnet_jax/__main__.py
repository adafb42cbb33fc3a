"""Uses trained networks: python -m alexnet_jax COMMAND RUN ...

evaluate    measures the errors of a network, or of an average of several, on a dataset
predict     names what is in images
neighbors   finds the training images nearest to others (Figure 4)
kernels     draws the kernels of the first layer (Figure 3)
explore     makes a page: kernels, activations, mistakes, similar images
weights     imports networks of torchvision and Caffe, and exports to other formats

RUN is the folder of a run, of one of its trials or of a checkpoint, or an exported file,
NET.safetensors; after a folder may stand which checkpoint: "@best", the default, "@last", or
a step, as "@1200". Help for one of them: python -m alexnet_jax COMMAND --help. A network is
trained by python -m alexnet_jax.main --config=configs/alexnet.py.
"""

import importlib
import sys

from alexnet_jax import cli
from alexnet_jax.errors import UserError, nearest

# The arguments of each command, and how many there must be at least and at most.
COMMANDS = {
    "evaluate": ("RUN [RUN ...]", 1, None),
    "predict": ("RUN IMAGE [IMAGE ...]", 2, None),
    "neighbors": ("RUN QUERY [QUERY ...]", 2, None),
    "kernels": ("RUN", 1, 1),
    "explore": ("RUN", 1, 1),
    "weights": ("import FILE | export RUN", 0, None),
}
ELSEWHERE = {
    "train": "python -m alexnet_jax.main --config=configs/alexnet.py",
    "main": "python -m alexnet_jax.main --config=configs/alexnet.py",
    "prepare": "python -m alexnet_jax.prepare --config=configs/alexnet.py",
    "sweep": "python -m alexnet_jax.sweep --config=configs/alexnet.py",
    "report": "python -m alexnet_jax.report RUN_FOLDER",
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "--helpfull", "help"):
        print(__doc__)
        sys.exit(0)
    if name not in COMMANDS:
        hint = (
            f" That is {ELSEWHERE[name]}."
            if name in ELSEWHERE
            else nearest(name, COMMANDS)
        )
        print(
            f"Error: No such command: {name}. There are {', '.join(COMMANDS)}.{hint}",
            file=sys.stderr,
        )
        sys.exit(cli.BAD_INPUT)
    command = importlib.import_module(f"alexnet_jax.commands.{name}")
    sys.argv = [f"python -m alexnet_jax {name}", *sys.argv[2:]]
    sys.modules["__main__"].__doc__ = command.__doc__  # what absl shows for --help

    needed, fewest, most = COMMANDS[name]

    def run(arguments: list[str]) -> None:
        if not fewest <= len(arguments) <= (most or len(arguments)):
            given = " ".join(arguments) or "nothing"
            raise UserError(
                f"{name} takes {needed}, and was given {given}: python -m alexnet_jax "
                f"{name} --help."
            )
        # JAX takes seconds to import; a misspelled flag is refused before.
        from alexnet_jax.training import cpu_devices

        cpu_devices.use_all_cores()
        command.main(arguments)

    cli.run(run, with_config=False, takes_arguments=True)


if __name__ == "__main__":
    main()
