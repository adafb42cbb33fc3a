"""Where the prepared images of an experiment are, unless the user says so."""

from pathlib import Path

from ml_collections import FrozenConfigDict

from alexnet_jax.config.dataset_names import path_part


def prepared_folder(data: FrozenConfigDict) -> Path | None:
    """Returns the absolute path of the prepared images; None if originals are wanted.

    The default is prepared/<dataset>-<size>, followed by "-warp" if images are warped.

    Args:
      data: a trial's settings of the section data.
    """
    if data.prepared_dir == "none":
        return None
    warp = "" if data.rescale == "shorter_side" else f"-{data.rescale}"
    name = f"{path_part(data.dataset)}-{data.rescale_size}{warp}"
    return Path(data.prepared_dir or f"prepared/{name}").expanduser().absolute()
