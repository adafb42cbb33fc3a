"""AlexNets of torchvision and Caffe as networks of this project, and back to torchvision.

Their arrays differ in the order of the axes. Kernels are (outputs, inputs, height, width)
there and (height, width, inputs, outputs) here; dense weights are (outputs, inputs) there and
(inputs, outputs) here, and fc6 reads the last feature maps by channel, row and column there,
and by row, column and channel here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax.errors import UserError, printable
from alexnet_jax.trained.exchange.caffe_files import CaffeLayer, CaffeNet

# The layers of torchvision's AlexNet, by the names here, and the shapes of their weights.
TORCHVISION = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}
TORCHVISION_SHAPES = {
    "conv1": (64, 3, 11, 11),
    "conv2": (192, 64, 5, 5),
    "conv3": (384, 192, 3, 3),
    "conv4": (256, 384, 3, 3),
    "conv5": (256, 256, 3, 3),
    "fc6": (4096, 9216),
    "fc7": (4096, 4096),
    "fc8": (1000, 4096),
}
CAFFE = tuple(TORCHVISION)
PARTS = ("weight", "bias")

# What Caffe's two AlexNets do, layer after layer, where {} is one of LAYER_ORDERS.
SEQUENCE = (
    "convolution {} convolution {} convolution relu convolution relu convolution relu "
    "pooling dense relu dense relu dense"
)
LAYER_ORDERS = {
    "relu normalization pooling": "activation norm pool",  # bvlc_alexnet
    "relu pooling normalization": "activation pool norm",  # CaffeNet
}
# Fields of ConvolutionParameter: number, Caffe's default, and the values of conv1 to conv5.
CONVOLUTION = {
    "padding": (3, 0, (0, 2, 1, 1, 1)),
    "groups": (5, 1, (1, 2, 1, 2, 2)),
    "stride": (6, 1, (4, 1, 1, 1, 1)),
    "dilation": (18, 1, (1, 1, 1, 1, 1)),
}
# Fields of PoolingParameter: number, Caffe's default, and the value of all three.
POOLING = {
    "method": (1, 0, 0),
    "window": (2, 0, 3),
    "stride": (3, 1, 2),
    "padding": (4, 0, 0),
}

WeightsByLayer = dict[str, dict[str, np.ndarray]]


def from_torchvision(tensors: Mapping[str, np.ndarray], origin: str) -> WeightsByLayer:
    """The weights here of a state dict of torchvision's AlexNet.

    Also of one that was saved from a network spread over GPUs, whose names begin with
    "module.".

    Args:
      tensors: by name.
      origin: the file, for messages.

    Raises:
      UserError: if it is another network's: with the layer, and both shapes.
    """
    held = {printable(_of_one_device(name)): array for name, array in tensors.items()}
    wanted = [f"{there}.{part}" for there in TORCHVISION.values() for part in PARTS]
    for layer, there in TORCHVISION.items():
        shape, expected = TORCHVISION_SHAPES[layer], held.get(f"{there}.weight")
        if expected is None or expected.shape[2:] != shape[2:] or expected.ndim < 2:
            has = "none" if expected is None else f"one of shape {expected.shape}"
            others = ", ".join(f"{n} {x.shape}" for n, x in list(held.items())[:2])
            raise UserError(
                f"{origin} is not torchvision's AlexNet, which has a {there}.weight of "
                f"shape {shape}: it has {has}. It begins with {others}."
            )
    missing = [name for name in wanted if name not in held]
    further = [name for name in held if name not in wanted]
    if missing or further:
        problem = (
            f"it lacks {missing[0]}" if missing else f"it has {further[0]} besides"
        )
        raise UserError(f"{origin} is not torchvision's AlexNet: {problem}.")
    parts = {
        layer: [held[f"{there}.{part}"] for part in PARTS]
        for layer, there in TORCHVISION.items()
    }
    return _turned(parts, origin)


def _of_one_device(name: str) -> str:
    return name.removeprefix("module.").replace("features.module.", "features.")


def from_caffe(net: CaffeNet, origin: str) -> tuple[WeightsByLayer, dict[str, Any]]:
    """The weights here of bvlc_alexnet or CaffeNet, and the settings in which these differ.

    A last layer of another name, as fine-tuned networks have it, is taken for fc8.

    Returns:
      The weights by layer, and values of fields by dotted name.

    Raises:
      UserError: if it is another network: with what differs.
    """
    blobs = {layer.name: layer.blobs for layer in net.layers if layer.blobs}
    last = [name for name in blobs if name not in CAFFE[:-1]]
    if len(blobs) != len(CAFFE) or len(last) != 1:
        raise UserError(
            f"{origin} is not Caffe's AlexNet, which has weights in {', '.join(CAFFE)}: it "
            f"has them in {', '.join(list(blobs)[:12])}."
        )
    parts = dict(zip(CAFFE, [*CAFFE[:-1], *last], strict=True))
    settings = _settings_of(net, origin)
    return _turned(
        {here: blobs[there] for here, there in parts.items()}, origin
    ), settings


def _settings_of(net: CaffeNet, origin: str) -> dict[str, Any]:
    """What the layers of a network say about what they compute."""
    known = [
        layer
        for layer in net.layers
        if layer.kind in ("convolution", "dense", "normalization", "pooling", "relu")
    ]
    kinds = [layer.kind for layer in known]
    orders = [" ".join(kinds[1:4]), " ".join(kinds[5:8])]
    if " ".join(kinds) != SEQUENCE.format(*orders) or not set(orders) <= set(
        LAYER_ORDERS
    ):
        raise UserError(
            f"{origin} is not Caffe's AlexNet: its layers are {', '.join(kinds)[:500]}."
        )
    of_kind = {kind: [each for each in known if each.kind == kind] for kind in kinds}
    for number, layer in enumerate(of_kind["convolution"]):
        for what, (field, default, values) in CONVOLUTION.items():
            _check(layer, what, field, default, values[number], origin)
    for layer in of_kind["pooling"]:
        for what, (field, default, value) in POOLING.items():
            _check(layer, what, field, default, value, origin)
    norms = [_normalization(layer, origin) for layer in of_kind["normalization"]]
    if norms[0] != norms[1]:
        raise UserError(f"{origin}: its two normalizations differ: {norms}.")
    layer1, layer2 = (LAYER_ORDERS[order] for order in orders)
    return {"model.layer1_order": layer1, "model.layer2_order": layer2, **norms[0]}


def _check(
    layer: CaffeLayer, what: str, field: int, default: int, value: int, origin: str
) -> None:
    found = layer.numbers.get(field, default)
    if found != value:
        raise UserError(
            f"{origin} is not Caffe's AlexNet: {layer.name} has {what} {found}, not {value}."
        )


def _normalization(layer: CaffeLayer, origin: str) -> dict[str, Any]:
    """The settings of an LRNParameter, whose alpha is divided by the number of channels."""
    depth, alpha, beta, region, k = (
        layer.numbers.get(field, default)
        for field, default in ((1, 5), (2, 1.0), (3, 0.75), (4, 0), (5, 1.0))
    )
    if region != 0 or not 0 < depth <= 1000:
        raise UserError(
            f"{origin} is not Caffe's AlexNet: {layer.name} normalizes within channels, or "
            f"over {depth} of them."
        )
    # 1e-4 as a float32 is 0.0000999999974738.
    alpha, beta, k = (float(f"{number:.7g}") for number in (alpha, beta, k))
    return {
        "model.norm_depth": int(depth),
        "model.norm_alpha": float(f"{alpha / depth:.7g}"),
        "model.norm_beta": beta,
        "model.norm_k": k,
    }


def _turned(parts: Mapping[str, Sequence[np.ndarray]], origin: str) -> WeightsByLayer:
    """Kernels and biases in the order of axes here."""
    found: WeightsByLayer = {}
    for layer, arrays in parts.items():
        if len(arrays) != 2:
            raise UserError(
                f"{origin}: {layer} has {len(arrays)} arrays; weights and biases are expected."
            )
        with np.errstate(over="ignore"):  # infinite weights are refused later
            kernel, bias = (np.asarray(x).astype(np.float32) for x in arrays)
        # Caffe's older files have (1, 1, outputs, inputs) and (1, 1, 1, outputs).
        bias = bias.reshape(-1)
        if layer.startswith("fc") and set(kernel.shape[:-2]) <= {1}:
            kernel = kernel.reshape(kernel.shape[-2:])
        axes = 4 if layer.startswith("conv") else 2
        if kernel.ndim != axes or len(kernel) != len(bias) or 0 in kernel.shape:
            raise UserError(
                f"{origin}: {layer} has weights of shape {kernel.shape} and biases of shape "
                f"{bias.shape}, which do not belong together."
            )
        if layer.startswith("conv"):
            kernel = kernel.transpose(2, 3, 1, 0)
        else:
            if layer == "fc6":
                kernel = _by_channel_last(kernel, len(found["conv5"]["bias"]), origin)
            kernel = kernel.T
        found[layer] = {
            "kernel": np.ascontiguousarray(kernel),
            "bias": np.ascontiguousarray(bias),
        }
    return found


def _by_channel_last(kernel: np.ndarray, channels: int, origin: str) -> np.ndarray:
    """fc6's weights, (outputs, inputs), with the inputs by row, column and channel."""
    outputs, inputs = kernel.shape
    side = round((inputs / channels) ** 0.5)
    if channels * side * side != inputs:
        raise UserError(
            f"{origin}: fc6 reads {inputs} numbers, which are no square maps of the "
            f"{channels} channels of conv5."
        )
    maps = kernel.reshape(outputs, channels, side, side)
    return maps.transpose(0, 2, 3, 1).reshape(outputs, inputs)


def to_torchvision(
    params: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """The state dict of torchvision's AlexNet with these weights: arrays by name.

    Raises:
      UserError: if the network has other layers, or layers of two towers, which
        torchvision's has not.
    """
    if sorted(params) != sorted(TORCHVISION):
        raise UserError(
            f"torchvision's AlexNet has the layers {', '.join(TORCHVISION)}; this network "
            f"has {', '.join(params)}."
        )
    channels = 3
    found: dict[str, np.ndarray] = {}
    for layer, there in TORCHVISION.items():
        kernel, bias = (np.asarray(params[layer][part]) for part in ("kernel", "bias"))
        if layer.startswith("conv"):
            if kernel.shape[2] != channels:
                raise UserError(
                    f"{layer} reads {kernel.shape[2]} of {channels} channels: it has two "
                    "towers, and torchvision's AlexNet has one."
                )
            channels = kernel.shape[3]
            kernel = kernel.transpose(3, 2, 0, 1)
        else:
            if layer == "fc6":
                side = round((len(kernel) / channels) ** 0.5)
                maps = kernel.reshape(side, side, channels, -1)
                kernel = maps.transpose(2, 0, 1, 3).reshape(len(kernel), -1)
            kernel = kernel.T
        found[f"{there}.weight"] = np.ascontiguousarray(kernel)
        found[f"{there}.bias"] = bias
    return found
