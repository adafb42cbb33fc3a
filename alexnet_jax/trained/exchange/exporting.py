"""Exports a trained network to other programs' formats, and compares what was written.

The exported programs, StableHLO and ONNX, hold the preprocessing but for the rescaling: they
take the center crops as uint8 pixels in RGB, (n, side, side, 3) for any n, and return the
logarithms of the probabilities, (n, classes).
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.special
from jax import export as jax_export
from jaxtyping import UInt8

from alexnet_jax.errors import UserError
from alexnet_jax.files import atomic_file
from alexnet_jax.trained.exchange import foreign_weights, onnx_graph
from alexnet_jax.trained.trained_network import TrainedNetwork
from alexnet_jax.training.preprocess import crop_input, crop_places
from alexnet_jax.training.saved_network import (
    read_network,
    read_safetensors,
    write_safetensors,
)

SUFFIXES = {
    ".safetensors": "a complete network, or with --form=torchvision its state dict",
    ".stablehlo": "a program for jax.export",
    ".onnx": "a graph for ONNX",
}
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")  # that the StableHLO runs on
TOLERANCE = 1e-4  # of the largest logarithm of a probability

# The settings by which torchvision's AlexNet computes.
_OF_TORCHVISION = {
    "name": "alexnet",
    "towers": 1,
    "conv1_padding": "both",
    "activation": "relu",
    "layer1_order": "activation norm pool",
    "layer2_order": "activation norm pool",
    "normalization": "none",
    "within_channel_norm": False,
    "pool_window": 3,
    "pool_stride": 2,
}


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written, and how it compared when it was read again.

    Attributes:
      path: the file.
      what: what it takes and returns, in words.
      compared: what was compared, in words.
    """

    path: Path
    what: str
    compared: str


def export(
    network: TrainedNetwork, path: str | os.PathLike[str], *, form: str = ""
) -> Exported:
    """Writes a network in the format of the file's suffix, reads it again and compares.

    Args:
      path: ends in .safetensors, .stablehlo or .onnx.
      form: "torchvision" for the state dict of torchvision's AlexNet.

    Raises:
      UserError: if the format is unknown, cannot express the network, or lacks its library;
        or if what was read again differs: then there is no file.
      OSError: if it cannot be written.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(
            f"{path}: give a name that ends in "
            + ", ".join(f"{one} ({what})" for one, what in SUFFIXES.items())
            + "."
        )
    if form and (form, suffix) != ("torchvision", ".safetensors"):
        raise UserError(f"--form={form}: only 'torchvision', as .safetensors.")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path}: there is no such folder.")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file.")
    draft = path.with_name(f".{path.stem}.unchecked{path.suffix}")
    try:
        writers = {".stablehlo": _stablehlo, ".onnx": _onnx}
        write = _torchvision if form else writers.get(suffix, _complete)
        what, compared = write(network, draft)
        os.replace(draft, path)
    except OSError as error:
        if error.filename in (None, str(draft)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        draft.unlink(missing_ok=True)
    return Exported(path, what, compared)


# --- The formats ------------------------------------------------------------------------


def _complete(network: TrainedNetwork, path: Path) -> tuple[str, str]:
    network.save(path)
    params, trained_on, description = read_network(path)
    assert trained_on is not None
    held = (trained_on.facts(), description.position.step)
    wanted = (network.trained_on.facts(), network.step)
    if held != wanted:
        raise _differs()
    _check_equal(_flat(params), _flat(network.params))
    _check_equal(trained_on.arrays(), network.trained_on.arrays())
    return "alexnet_jax.load and all commands open it.", "bit-identical"


def _torchvision(network: TrainedNetwork, path: Path) -> tuple[str, str]:
    model, form = network.settings.model, network.form
    if model.name != _OF_TORCHVISION["name"]:
        raise UserError(
            f"torchvision's AlexNet cannot compute what this network, {model.name}, does. "
            "Export it as .onnx or .stablehlo."
        )
    own = {name: model[name] for name in _OF_TORCHVISION}
    differing = [
        f"model.{name}={value} in place of {_OF_TORCHVISION[name]}"
        for name, value in own.items()
        if value != _OF_TORCHVISION[name]
        # Without a normalization, its place does not matter.
        and name not in ("layer1_order", "layer2_order")
    ]
    if model.dropout_form == "mask" and model.dropout_rate:
        differing.append("model.dropout_form=mask in place of inverted")
    if differing:
        raise UserError(
            "torchvision's AlexNet cannot compute what this network does: it has "
            f"{', '.join(differing)}. Export it as .onnx or .stablehlo."
        )
    side = round((len(network.params["fc6"]["kernel"]) / _maps(network)) ** 0.5)
    if side != 6:
        raise UserError(
            f"torchvision's AlexNet pools its last maps to 6 x 6 pixels; this network's "
            f"are {side} x {side}."
        )
    write_safetensors(
        path, foreign_weights.to_torchvision(network.params), {"format": "pt"}
    )
    tensors, _ = read_safetensors(path)
    held = foreign_weights.from_torchvision(tensors, str(path))
    _check_equal(_flat(held), _flat(network.params))
    if form.mean == "channel":
        mean = ", ".join(f"{x / 255:.4g}" for x in network.mean.reshape(-1))
        scale = ", ".join(f"{x / 255:.4g}" for x in form.channel_scale)
        needs = f"Its images are normalized with mean {mean} and std {scale}"
    else:
        needs = "From its images, of gray levels 0 to 255, the mean image is subtracted"
    return (
        f"load_state_dict(safetensors.torch.load_file(FILE)). {needs}; channels are in "
        f"the order {form.channel_order}, classes {len(network.class_names)}.",
        "bit-identical",
    )


def _maps(network: TrainedNetwork) -> int:
    return len(network.params["conv5"]["bias"])


def _stablehlo(network: TrainedNetwork, path: Path) -> tuple[str, str]:
    (count,) = jax_export.symbolic_shape("n")
    shape = (count, network.form.crop_size, network.form.crop_size, 3)
    program = jax_export.export(jax.jit(program_of(network)), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct(shape, np.uint8)
    )
    with atomic_file(path) as file:
        file.write(program.serialize())
    read = jax_export.deserialize(bytearray(path.read_bytes()))
    worst = _compare(network, lambda images: np.asarray(read.call(images)))
    return f"jax.export.deserialize reads it. {_interface(network)}", worst


def _onnx(network: TrainedNetwork, path: Path) -> tuple[str, str]:
    graph = onnx_graph.graph_of(network, center_mean(network))
    with atomic_file(path) as file:
        file.write(graph)
    worst = _compare(network, onnx_graph.session(path))
    return f"Input 'images', output 'log_probabilities'. {_interface(network)}", worst


def _interface(network: TrainedNetwork) -> str:
    side, data = network.form.crop_size, network.settings.data
    rescaled = {
        "shorter_side": f"the shorter side is {data.rescale_size} pixels",
        "warp": f"both sides are {data.rescale_size} pixels",
    }[data.rescale]
    return (
        f"It takes uint8 images (n, {side}, {side}, 3) in RGB, the centers of images "
        f"rescaled so that {rescaled}, and returns the logarithms of the probabilities of "
        f"the {len(network.class_names)} classes."
    )


def program_of(network: TrainedNetwork) -> Callable[[jax.Array], jax.Array]:
    """(n, side, side, 3) uint8 center crops -> (n, classes) log-probabilities."""
    form, mean = network.form, center_mean(network)
    if form.mean == "image":
        form = dataclasses.replace(form, mean="center")
    corner = np.zeros(3, np.int32)

    def program(images: UInt8[jax.Array, "n side side 3"]) -> jax.Array:
        x = crop_input(images, corner, jax.numpy.asarray(mean), form)
        return jax.nn.log_softmax(network.network.apply(network.params, x, None))

    return program


def center_mean(network: TrainedNetwork) -> np.ndarray:
    """What is subtracted from a center crop."""
    if network.form.mean != "image":
        return network.mean
    inside = _center(network)
    return network.mean[inside, inside]


def _center(network: TrainedNetwork) -> slice:
    center = dataclasses.replace(network.form, eval_crops="center")
    ((first, _, _),) = crop_places(network.settings.data.rescale_size, center)
    return slice(int(first), int(first) + network.form.crop_size)


# --- Comparisons ------------------------------------------------------------------------


def _compare(network: TrainedNetwork, run: Callable[[np.ndarray], np.ndarray]) -> str:
    """Compares a program with the network on random images, one and three at once."""
    side, inside = network.settings.data.rescale_size, _center(network)
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    logits = network.features(list(images), network.layers[-1])
    expected = scipy.special.log_softmax(logits, axis=1)
    crops = np.ascontiguousarray(images[:, inside, inside])
    worst = 0.0
    for part in (slice(0, 3), slice(1, 2)):
        found = run(crops[part])
        error = np.abs(found - expected[part]).max() / np.abs(expected).max()
        worst = max(worst, float(error))
    if not worst <= TOLERANCE:
        raise UserError(
            f"What was written computes something else: its results differ by {worst:.1e} "
            "of the largest. It was not kept."
        )
    return f"on 3 random images it differs by {worst:.1e} of the largest result"


def _check_equal(
    found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]
) -> None:
    same = found.keys() == wanted.keys() and all(
        found[name].dtype == wanted[name].dtype
        and np.array_equal(found[name], wanted[name], equal_nan=True)
        for name in wanted
    )
    if not same:
        raise _differs()


def _differs() -> UserError:
    return UserError("What was read again is not what was written. It was not kept.")


def _flat(params: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    return {
        f"{layer}.{name}": np.asarray(array)
        for layer, arrays in params.items()
        for name, array in arrays.items()
    }
