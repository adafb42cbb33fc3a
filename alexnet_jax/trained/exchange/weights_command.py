"""The command `weights`: what it imports and exports, and what it says of it."""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import FrozenConfigDict

from alexnet_jax.errors import UserError
from alexnet_jax.trained.exchange.exporting import export
from alexnet_jax.trained.exchange.importing import import_network
from alexnet_jax.trained.locate import load


def imported(source: Path, output: Path, mean: str, classes: str) -> str:
    """Imports a file of torchvision or Caffe, and returns what to print.

    Args:
      source: the file.
      output: the .safetensors file to write.
      mean: for Caffe, the file of the mean image, .binaryproto or .npy; "": none.
      classes: a file with the names of the classes, one a line; "": ImageNet's.

    Raises:
      UserError: if a file cannot be read, is another network's or does not fit; if what
        was written differs when read again; or if `output` is `source`.
    """
    if output.suffix.lower() != ".safetensors":
        raise UserError(f"--output={output}: give a name that ends in .safetensors.")
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output={output}: there is no such folder.")
    if output.exists() and source.exists() and output.samefile(source):
        raise UserError(f"--output={output} is the file to import: give another name.")
    network = import_network(source, mean=mean, classes=classes)
    written = export(network, output)
    return "\n".join(
        [
            f"{output}: {_described(network.settings, network.class_names)}",
            f"Read again, it is {written.compared}. {written.what}",
            f"For example: python -m alexnet_jax predict {output} IMAGE",
        ]
    )


def exported(origin: str, output: Path, form: str, arm: str) -> str:
    """Exports a network, and returns what to print.

    Args:
      origin: a run, a trial, a checkpoint or an exported file.
      output: the file to write; its suffix is the format.
      form: "torchvision" for the state dict of torchvision's AlexNet; otherwise "".
      arm: which arm of a run with several.

    Raises:
      UserError: if there is no such network, the format is unknown or cannot express it, or
        what was read again differs.
      OSError: if the file cannot be written.
    """
    written = export(load(origin, arm=arm), output, form=form)
    return f"{output}: {written.what}\nRead again: {written.compared}."


def _described(settings: FrozenConfigDict, names: Sequence[str]) -> str:
    """The recipe, the preprocessing and the classes of an imported network, in words."""
    data = settings.data
    pooled_first = settings.model.layer1_order == "activation pool norm"
    of = ", CaffeNet: pooling before normalization" if pooled_first else ""
    mean = {
        "channel": f"mean {', '.join(f'{x:g}' for x in data.channel_mean)}",
        "image": "the mean image",
        "center": "the center of the mean image",
    }[data.mean]
    return (
        f"recipe {settings.recipe}{of}; images rescaled to {data.rescale_size} pixels "
        f"({data.rescale}), center crop of {data.crop_size}, {mean} subtracted, channels in "
        f"the order {data.channel_order}; {len(names):,} classes, '{names[0]}' to "
        f"'{names[-1]}'."
    )
