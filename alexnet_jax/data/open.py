"""Opens a dataset by its name: handwritten digits, a folder, arrays or a TFDS set."""

from collections.abc import Collection
from pathlib import Path

from alexnet_jax.data import arrays, digits, folder, tfds
from alexnet_jax.data.types import Source


def open_source(
    dataset: str, *, tfds_dir: str, trained_on: Collection[str] | None = None
) -> Source:
    """Opens "digits", a TFDS name, "tfds=NAME[/CONFIG][:VERSION]", "folder=PATH" or "npz=FILE".

    Args:
      dataset: The name, as it follows the colon of --config.
      tfds_dir: The data_dir of TFDS; if empty, the default of TFDS.
      trained_on: None to train on it. To measure trained networks, the fingerprints of
        the datasets that they were trained on: held-out images then need no training
        images beside them, and where none are held out, all images are measured, unless
        the dataset's fingerprint is among these.

    Raises:
      UserError: If the dataset is not there, cannot be downloaded, or holds no labeled
        images.
    """
    kind, equals, name = dataset.partition("=")
    if not equals and kind == "digits":
        return digits.open_digits()
    if equals and kind == "folder":
        return folder.open_folder(Path(name).expanduser(), trained_on=trained_on)
    if equals and kind == "npz":
        path = Path(name).expanduser()
        return arrays.open_arrays(path, needs_training=trained_on is None)
    return tfds.open_tfds(
        name if equals else kind, tfds_dir=tfds_dir, trained_on=trained_on
    )
