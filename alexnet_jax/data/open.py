"""Opens a dataset by its name: handwritten digits, a folder, arrays or a TFDS set."""

from pathlib import Path

from alexnet_jax.data import arrays, digits, folder, tfds
from alexnet_jax.data.types import Source


def open_source(dataset: str, *, tfds_dir: str) -> Source:
    """Opens "digits", a TFDS name, "tfds=NAME[/CONFIG][:VERSION]", "folder=PATH" or "npz=FILE".

    Args:
      dataset: The name, as it follows the colon of --config.
      tfds_dir: The data_dir of TFDS; if empty, the default of TFDS.

    Raises:
      UserError: If the dataset is not there, cannot be downloaded, or holds no labeled
        images.
    """
    kind, equals, name = dataset.partition("=")
    if not equals and kind == "digits":
        return digits.open_digits()
    if equals and kind == "folder":
        return folder.open_folder(Path(name).expanduser())
    if equals and kind == "npz":
        return arrays.open_arrays(Path(name).expanduser())
    return tfds.open_tfds(name if equals else kind, tfds_dir=tfds_dir)
