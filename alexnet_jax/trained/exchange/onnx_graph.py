"""AlexNet as a graph of ONNX: convolutions in groups, normalizations, pooling, dense layers.

Images come as (n, rows, columns, channels) and are turned, because ONNX has the channels
before rows and columns.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.errors import UserError
from alexnet_jax.model.alexnet import CONV1_PADDING
from alexnet_jax.model.layers import pooled_size
from alexnet_jax.trained.trained_network import TrainedNetwork

OPSET = 17
ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh"}
NEEDED = (
    "Exporting to ONNX takes the extra of that name: pip install 'alexnet_jax[onnx]'."
)


class GraphBuilder:
    """Appends nodes to a graph, each to the output of the one before it."""

    def __init__(self, onnx: Any, size: int) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.size = size  # rows, and columns, of the maps so far
        self.last = "images"

    def constant(self, array: Any, name: str = "") -> str:
        name = name or f"constant{len(self.constants)}"
        held = self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        self.constants.append(held)
        return name

    def add(self, kind: str, *others: str, of: str = "", **attributes: Any) -> str:
        """A node of the last output, or of `of`, and `others`."""
        output = f"{kind}{len(self.nodes)}"
        inputs = [of or self.last, *others]
        node = self.onnx.helper.make_node(kind, inputs, [output], output, **attributes)
        self.nodes.append(node)
        self.last = output
        return output


def graph_of(network: TrainedNetwork, mean: np.ndarray) -> bytes:
    """The graph of a network's program, as `exporting` describes it.

    Args:
      mean: what is subtracted from a center crop.

    Raises:
      UserError: if the library is missing, or ONNX cannot express the network.
    """
    model = network.settings.model
    if model.name != "alexnet" or model.activation not in ACTIVATIONS:
        raise UserError(
            "Only AlexNet with ReLU or tanh is exported to ONNX, and this network is "
            f"{model.name} with {model.activation}. Export it as .stablehlo."
        )
    if model.normalization not in ("local_response", "none"):
        raise UserError(
            f"model.normalization={model.normalization} is not exported to ONNX: export the "
            "network as .stablehlo."
        )
    if model.normalization != "none" and model.norm_depth % 2 == 0:
        raise UserError(
            f"model.norm_depth={model.norm_depth}: of an even number of channels ONNX "
            "takes another one before the middle. Export it as .stablehlo."
        )
    onnx = _library("onnx")
    graph = GraphBuilder(onnx, network.form.crop_size)
    _input(graph, network, mean)
    _convolutions(graph, network)
    _dense_layers(graph, network)
    graph.nodes[-1].output[0] = "log_probabilities"
    side = network.form.crop_size
    info, types = onnx.helper.make_tensor_value_info, onnx.TensorProto
    made = onnx.helper.make_graph(
        graph.nodes,
        "alexnet",
        [info("images", types.UINT8, ["n", side, side, 3])],
        [
            info("log_probabilities", types.FLOAT, ["n", len(network.class_names)]),
        ],
        graph.constants,
    )
    held = onnx.helper.make_model(
        made,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="alexnet_jax",
    )
    onnx.helper.set_model_props(held, {"classes": json.dumps(network.class_names)})
    onnx.checker.check_model(held)
    return held.SerializeToString()


def session(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The graph in a file as a function, run by onnxruntime.

    Raises:
      UserError: if the library is missing.
    """
    runtime = _library("onnxruntime")
    opened = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: opened.run(None, {"images": images})[0]


def _library(name: str) -> Any:
    try:
        # An extra: few want this format, and each of its libraries has tens of megabytes.
        module = __import__(name)
    except ImportError as error:
        raise UserError(NEEDED) from error
    return module


def _input(graph: GraphBuilder, network: TrainedNetwork, mean: np.ndarray) -> None:
    form = network.form
    graph.add("Cast", to=graph.onnx.TensorProto.FLOAT)
    graph.add("Sub", graph.constant(mean[None]))
    if tuple(form.channel_scale) != (1.0, 1.0, 1.0):
        graph.add("Div", graph.constant(np.array(form.channel_scale, np.float32)))
    if form.channel_order == "bgr":
        graph.add("Gather", graph.constant(np.array([2, 1, 0])), axis=3)
    graph.add("Transpose", perm=[0, 3, 1, 2])


def _convolutions(graph: GraphBuilder, network: TrainedNetwork) -> None:
    """conv1 to conv6, with what follows each."""
    model, channels = network.settings.model, 3
    activation = ACTIVATIONS[model.activation]
    for layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6"):
        arrays = network.params.get(layer)
        if arrays is not None:
            padding = CONV1_PADDING[model.conv1_padding]
            channels = _convolve(graph, layer, arrays, channels, padding)
        order = {"conv1": model.layer1_order, "conv2": model.layer2_order}.get(
            layer, "activation" if arrays is not None else ""
        )
        for part in order.split():
            if part == "activation":
                graph.add(activation)
            elif part == "pool":
                _pool(graph, model)
            else:
                _lrn(graph, model, channels)
                if layer == "conv2":
                    _within_channel_norm(graph, model)
        if layer == "conv5":
            _pool(graph, model)


def _convolve(
    graph: GraphBuilder,
    layer: str,
    arrays: Mapping[str, np.ndarray],
    channels: int,
    padding: tuple[int, int],
) -> int:
    """Appends a convolution of `channels` channels; returns how many it makes."""
    kernel = np.asarray(arrays["kernel"])
    window, _, inputs, outputs = kernel.shape
    first = layer == "conv1"
    before, after = padding if first else (window // 2, window // 2)
    stride = 4 if first else 1
    graph.add(
        "Conv",
        graph.constant(kernel.transpose(3, 2, 0, 1), f"{layer}.kernel"),
        graph.constant(np.asarray(arrays["bias"]), f"{layer}.bias"),
        group=channels // inputs,
        strides=[stride, stride],
        pads=[before, before, after, after],
    )
    graph.size = (graph.size + before + after - window) // stride + 1
    return outputs


def _pool(graph: GraphBuilder, model: Any) -> None:
    window, stride = model.pool_window, model.pool_stride
    size = pooled_size(graph.size, window, stride, model.pool_rounding)
    over = max(0, (size - 1) * stride + window - graph.size)
    graph.add(
        "MaxPool",
        kernel_shape=[window, window],
        strides=[stride, stride],
        pads=[0, 0, over, over],
    )
    graph.size = size


def _lrn(graph: GraphBuilder, model: Any, channels: int) -> None:
    """Normalization across the channels, of each tower by itself where it is so."""
    if model.normalization == "none":
        return
    towers = 1 if model.norm_across_towers else model.towers
    normalization = {
        "size": model.norm_depth,
        "alpha": model.norm_alpha * model.norm_depth,  # ONNX divides it
        "beta": model.norm_beta,
        "bias": model.norm_k,
    }
    whole, width = graph.last, channels // towers
    parts = []
    for tower in range(towers):
        if towers > 1:
            begin, end = (
                graph.constant(np.array([each * width])) for each in (tower, tower + 1)
            )
            axis = graph.constant(np.array([1]))
            graph.add("Slice", begin, end, axis, of=whole)
        parts.append(graph.add("LRN", **normalization))
    if towers > 1:
        graph.add("Concat", *parts[1:], of=parts[0], axis=1)


def _within_channel_norm(graph: GraphBuilder, model: Any) -> None:
    """The second normalization of layer 2, if there is one."""
    if not model.within_channel_norm:
        return
    size, x = model.within_channel_norm_size, graph.last
    before, after = size // 2, (size - 1) // 2
    alpha = np.float32(model.within_channel_norm_alpha * size**2)
    graph.add("Mul", x)
    graph.add(
        "AveragePool",
        kernel_shape=[size, size],
        pads=[before, before, after, after],
        count_include_pad=1,
    )
    graph.add("Mul", graph.constant(alpha))
    graph.add("Add", graph.constant(np.float32(model.within_channel_norm_k)))
    beta = graph.constant(np.float32(model.within_channel_norm_beta))
    power = graph.add("Pow", beta)
    graph.add("Div", power, of=x)


def _dense_layers(graph: GraphBuilder, network: TrainedNetwork) -> None:
    """fc6 to fc8, and the logarithms of the probabilities."""
    model = network.settings.model
    activation = ACTIVATIONS[model.activation]
    masked = model.dropout_form == "mask" and model.dropout_rate > 0
    keep = np.float32(1 - model.dropout_rate)
    graph.add("Transpose", perm=[0, 2, 3, 1])
    graph.add("Flatten", axis=1)
    for layer in ("fc6", "fc7", "fc8"):
        arrays = network.params.get(layer)
        if arrays is None:
            continue
        if masked and layer != "fc8" and model.dropout_place == "before":
            graph.add("Mul", graph.constant(keep))
        graph.add(
            "Gemm",
            graph.constant(np.asarray(arrays["kernel"]), f"{layer}.kernel"),
            graph.constant(np.asarray(arrays["bias"]), f"{layer}.bias"),
        )
        if layer == "fc8":
            continue
        graph.add(activation)
        if masked and model.dropout_place == "after":
            graph.add("Mul", graph.constant(keep))
    graph.add("LogSoftmax", axis=1)
