"""Imports trained AlexNets of torchvision and Caffe, with the preprocessing they expect."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.config.old_names import settings_of
from alexnet_jax.errors import UserError, printable
from alexnet_jax.trained.exchange import foreign_weights
from alexnet_jax.trained.exchange.caffe_files import read_binaryproto, read_caffemodel
from alexnet_jax.trained.exchange.foreign_classes import imagenet_classes, read_classes
from alexnet_jax.trained.exchange.pickled_tensors import read_pth
from alexnet_jax.trained.exchange.weight_checks import check_weights
from alexnet_jax.trained.trained_network import TrainedNetwork
from alexnet_jax.training.saved_network import KIND, read_safetensors
from alexnet_jax.training.trained_on import of_imported_network

TORCHVISION, CAFFE = (".pth", ".pt", ".safetensors"), (".caffemodel",)
CROP_SIZE = 227  # Caffe's, as of its recipe
# Which of the images of ILSVRC-2012 a foreign network was trained on is not in its file.
UNKNOWN = "not in the imported file"


def import_network(path: Path, *, mean: str = "", classes: str = "") -> TrainedNetwork:
    """Reads a network that torchvision or Caffe has trained.

    Args:
      path: torchvision's AlexNet as .pth or .safetensors; bvlc_alexnet or CaffeNet as
        .caffemodel.
      mean: for Caffe, the file of the mean image, .binaryproto or .npy.
      classes: a file with the names of the classes, one a line; if empty, a network with
        1,000 outputs has ImageNet's.

    Raises:
      UserError: if a file cannot be read, or is another network's; if the mean image does
        not fit; or if there are not as many names as outputs.
    """
    suffix, origin = path.suffix.lower(), str(path)
    if suffix in TORCHVISION:
        if mean:
            raise UserError(
                "--mean is for Caffe's networks: torchvision's subtracts one number for "
                "each color, which is part of its recipe."
            )
        recipe, params, mean_image = "torchvision", _of_torchvision(path), None
        changes: dict[str, Any] = {}
    elif suffix in CAFFE:
        params, changes = foreign_weights.from_caffe(read_caffemodel(path), origin)
        mean_image, of_mean = _mean_of_caffe(mean)
        changes, recipe = changes | of_mean, "caffe"
    else:
        raise UserError(
            f"{path}: what is imported ends in {', '.join(TORCHVISION)} (torchvision's "
            f"AlexNet) or {CAFFE[0]} (Caffe's)."
        )
    channels = [len(params[layer]["bias"]) for layer in foreign_weights.CAFFE[:-1]]
    changes["model.channels"] = [*channels[:5], 0, *channels[5:]]
    names = _names(classes, len(params["fc8"]["bias"]), origin)
    imagenet = names == imagenet_classes()
    changes["data.dataset"] = "imagenet2012" if imagenet else f"folder={UNKNOWN}"
    network = TrainedNetwork(
        origin=origin,
        settings=settings_of({"recipe": recipe, **changes}),
        params=params,
        trained_on=of_imported_network(
            "imagenet2012" if imagenet else UNKNOWN, names, mean_image
        ),
    )
    check_weights(network, origin)
    return network


def _of_torchvision(path: Path) -> foreign_weights.WeightsByLayer:
    if path.suffix.lower() != ".safetensors":
        return foreign_weights.from_torchvision(read_pth(path), str(path))
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") == KIND:
        raise UserError(
            f"{path} needs no import: it is a network that alexnet_jax has exported."
        )
    return foreign_weights.from_torchvision(tensors, str(path))


def _names(classes: str, outputs: int, origin: str) -> tuple[str, ...]:
    if classes:
        names = read_classes(Path(classes).expanduser())
        if len(names) != outputs:
            raise UserError(
                f"--classes={classes} has {len(names)} names, and {origin} has {outputs} "
                "outputs: they must be as many, in the same order."
            )
        return names
    names = imagenet_classes()
    if len(names) != outputs:
        raise UserError(
            f"{origin} has {outputs} outputs, and so not ImageNet's {len(names):,} "
            "classes: name its own by --classes=FILE, one a line, in the order of the "
            "outputs."
        )
    return names


def _mean_of_caffe(given: str) -> tuple[np.ndarray | None, dict[str, Any]]:
    """The mean image (height, width, RGB), if it is one, and the settings that it implies."""
    if not given:
        raise UserError(
            "Caffe's networks subtract a mean image, which their .caffemodel lacks: give "
            "--mean=FILE, imagenet_mean.binaryproto (of Caffe's get_ilsvrc_aux.sh) or "
            "ilsvrc_2012_mean.npy for those trained on ImageNet."
        )
    path = Path(given).expanduser()
    read = _read_npy if path.suffix.lower() == ".npy" else read_binaryproto
    array = read(path)
    height, width = array.shape[1:] or (CROP_SIZE, CROP_SIZE)
    if height != width or height < CROP_SIZE:
        raise UserError(
            f"--mean={given}: the mean image has {height} x {width} pixels; it is a square "
            f"of at least {CROP_SIZE}, in Caffe of 256."
        )
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 255):
        raise UserError(
            f"--mean={given}: a mean has values from 0 to 255, and this one from "
            f"{array.min():g} to {array.max():g}."
        )
    array = array[::-1].astype(np.float64)  # blue, green, red
    if array.shape == (3,):
        return None, {"data.mean": "channel", "data.channel_mean": array.tolist()}
    return np.ascontiguousarray(array.transpose(1, 2, 0)), {"data.rescale_size": width}


def _read_npy(path: Path) -> np.ndarray:
    try:
        # Mapped: a header that claims terabytes is refused, and nothing is unpickled. NumPy
        # parses the header as Python, which may warn of what a damaged one holds.
        with warnings.catch_warnings(action="ignore"):
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        if found.shape != (3,) and (found.ndim != 3 or len(found) != 3):
            raise UserError(
                f"{path} holds an array of shape {found.shape}; a mean image has "
                "(3, height, width)."
            )
        return np.array(found, np.float32)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}.") from error
    except UserError:
        raise
    except Exception as error:  # NumPy raises many kinds about a damaged header
        reason = printable(str(error).strip() or repr(error), 200)
        raise UserError(f"{path} is no .npy file, or damaged: {reason}.") from error
