"""Draws the kernels of a network's first layer, tower by tower, as in Figure 3.

python -m alexnet_jax kernels RUN [--arm=ARM] [--output=kernels.png]

Above each tower stand the means over its kernels of the share of color in their energy and
of their spatial frequency: in the paper one tower learned color, the other orientation and
frequency. Kernels with hardly any weight are crossed out.
"""

from pathlib import Path

from absl import flags

from alexnet_jax.errors import UserError

ARM = flags.DEFINE_string("arm", "", "Which arm of a run with several.")
OUTPUT = flags.DEFINE_string("output", "kernels.png", "PNG or SVG file to write.")


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise UserError("Give one network: python -m alexnet_jax kernels RUN.")
    path = Path(OUTPUT.value).expanduser()
    if path.suffix.lower() not in (".png", ".svg"):
        raise UserError(f"--output={path}: give a name that ends in .png or .svg.")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--output={path}: there is no such folder.")
    if path.is_dir():
        raise UserError(f"--output={path} is a folder: give the name of a file.")
    # JAX and Matplotlib take seconds to import; a misspelled flag is refused before.
    from alexnet_jax.trained import kernel_figure
    from alexnet_jax.trained.locate import load

    network = load(arguments[0], arm=ARM.value)
    kernel_figure.write_figure(network, path)
    towers = kernel_figure.towers_of(network)
    for number, tower in enumerate(towers, start=1):
        print(f"{kernel_figure.title(tower, number, len(towers))}.")
    print(path)
