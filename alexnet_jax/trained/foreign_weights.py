"""AlexNets of torchvision and Caffe as networks of this project, and back to torchvision.

Their arrays differ in the order of the axes. Kernels are (outputs, inputs, height, width)
there and (height, width, inputs, outputs) here; dense weights are (outputs, inputs) there and
(inputs, outputs) here, and fc6 reads the last feature maps by channel, row and column there,
and by row, column and channel here. Caffe's networks read blue, green and red.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from alexnet_jax.errors import UserError

# The layers of torchvision's AlexNet, by the names here.
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
CAFFE = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")

WeightsByLayer = dict[str, dict[str, np.ndarray]]


def from_torchvision(tensors: Mapping[str, np.ndarray], origin: str) -> WeightsByLayer:
    """The weights here of a state dict of torchvision's AlexNet.

    Also of one that was saved from a network spread over GPUs, whose names begin with
    "module.", and of PyTorch's older form of the convolutions.

    Args:
      tensors: by name.
      origin: the file, for messages.

    Raises:
      UserError: if it is another network's: with the layer, and both shapes.
    """
    held = {
        name.removeprefix("module.").replace("features.module.", "features."): x
        for name, x in tensors.items()
    }
    parts = {
        layer: [held.get(f"{there}.{part}") for part in ("weight", "bias")]
        for layer, there in TORCHVISION.items()
    }
    missing = [
        f"{TORCHVISION[layer]}.{part}"
        for layer, arrays in parts.items()
        for part, array in zip(("weight", "bias"), arrays, strict=True)
        if array is None
    ]
    if missing:
        raise UserError(
            f"{origin} is not torchvision's AlexNet: it lacks {', '.join(missing[:4])}; it "
            f"has {', '.join(list(held)[:4])}."
        )
    known = {
        f"{there}.{p}" for there in TORCHVISION.values() for p in ("weight", "bias")
    }
    if further := sorted(held.keys() - known):
        raise UserError(
            f"{origin} is not torchvision's AlexNet: it has {', '.join(further[:4])} besides."
        )
    return _turned(parts, origin)  # type: ignore[arg-type]  # none is None


def from_caffe(
    blobs: Mapping[str, Sequence[np.ndarray]], origin: str
) -> WeightsByLayer:
    """The weights here of a .caffemodel of bvlc_alexnet or CaffeNet.

    The errors are those of `from_torchvision`. A last layer of another name, as fine-tuned
    networks have it, is taken for fc8.
    """
    names = [name for name in CAFFE[:-1] if name in blobs]
    last = [name for name in blobs if name not in CAFFE[:-1]]
    if len(names) < len(CAFFE) - 1 or len(last) != 1:
        raise UserError(
            f"{origin} is not Caffe's AlexNet, which has the layers {', '.join(CAFFE)}: it "
            f"has {', '.join(list(blobs)[:12])}."
        )
    parts = dict(zip(CAFFE, [*names, *last], strict=True))
    return _turned({here: blobs[there] for here, there in parts.items()}, origin)


def _turned(parts: Mapping[str, Sequence[np.ndarray]], origin: str) -> WeightsByLayer:
    """Kernels and biases in the order of axes here."""
    found: WeightsByLayer = {}
    for layer, arrays in parts.items():
        if len(arrays) != 2:
            raise UserError(
                f"{origin}: {layer} has {len(arrays)} arrays; weights and biases are expected."
            )
        kernel, bias = (np.asarray(x, np.float32) for x in arrays)
        bias = bias.reshape(-1)
        if layer.startswith("conv"):
            if kernel.ndim != 4 or len(kernel) != len(bias):
                raise _misfit(origin, layer, kernel, bias)
            kernel = kernel.transpose(2, 3, 1, 0)
        else:
            # Caffe's older files have (1, 1, outputs, inputs).
            kernel = kernel.reshape(kernel.shape[-2:]) if kernel.ndim > 2 else kernel
            if kernel.ndim != 2 or len(kernel) != len(bias):
                raise _misfit(origin, layer, kernel, bias)
            if layer == "fc6":
                kernel = _by_channel_last(kernel, found["conv5"]["bias"], origin)
            kernel = kernel.T
        found[layer] = {
            "kernel": np.ascontiguousarray(kernel),
            "bias": np.ascontiguousarray(bias),
        }
    return found


def _by_channel_last(
    kernel: np.ndarray, of_conv5: np.ndarray, origin: str
) -> np.ndarray:
    """fc6's weights, (outputs, inputs), with the inputs by row, column and channel."""
    outputs, inputs = kernel.shape
    channels = len(of_conv5)
    side = round((inputs / channels) ** 0.5)
    if channels * side * side != inputs:
        raise UserError(
            f"{origin}: fc6 reads {inputs} numbers, which are no square maps of the "
            f"{channels} channels of conv5."
        )
    maps = kernel.reshape(outputs, channels, side, side)
    return maps.transpose(0, 2, 3, 1).reshape(outputs, inputs)


def _misfit(origin: str, layer: str, kernel: np.ndarray, bias: np.ndarray) -> UserError:
    return UserError(
        f"{origin}: {layer} has weights of shape {kernel.shape} and biases of shape "
        f"{bias.shape}, which do not belong together."
    )


def to_torchvision(
    params: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """The state dict of torchvision's AlexNet with these weights: `from_torchvision` undone.

    Raises:
      UserError: if the network has other layers, or layers of two towers, which
        torchvision's has not.
    """
    if tuple(params) != tuple(TORCHVISION):
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
