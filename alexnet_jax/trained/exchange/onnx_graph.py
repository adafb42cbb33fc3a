"""A network as a graph of ONNX: its layers in the order in which the network has them.

Images come as (n, rows, columns, channels) and are turned, because ONNX has the channels
before rows and columns.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.errors import UserError
from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.model.zfnet import ZFNet
from alexnet_jax.trained.exchange.onnx_layers import (
    ACTIVATIONS,
    GROUPS_OF,
    GraphBuilder,
)
from alexnet_jax.trained.trained_network import TrainedNetwork

OPSET = 17
NEEDED = (
    "Exporting to ONNX takes the extra of that name: in a checkout, "
    "pip install -c constraints.txt -e '.[onnx]'."
)


def graph_of(network: TrainedNetwork, mean: np.ndarray) -> bytes:
    """The ONNX graph of a network: center crops in uint8 to log-probabilities.

    Args:
      mean: what is subtracted from a center crop.

    Raises:
      UserError: if the library is missing, or ONNX cannot express the network.
    """
    model, side = network.settings.model, network.form.crop_size
    if reason := _not_expressed(model):
        raise UserError(f"{reason} Export the network as .stablehlo.")
    onnx = _library("onnx")
    graph = GraphBuilder(onnx, model, network.params, side)
    _input(graph, network, mean)
    BODIES[model.name](graph)
    graph.add("LogSoftmax", axis=1)
    graph.nodes[-1].output[0] = "log_probabilities"
    info, types = onnx.helper.make_tensor_value_info, onnx.TensorProto
    made = onnx.helper.make_graph(
        graph.nodes,
        model.name,
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


def _not_expressed(model: ConfigDict) -> str:
    """What of a network's settings a graph of ours cannot express, as a sentence; or ""."""
    for name, known in (
        ("name", BODIES),
        ("activation", ACTIVATIONS),
        ("normalization", ("none", "local_response", *GROUPS_OF)),
        ("dtype", ("float32",)),
    ):
        if model[name] not in known:
            return f"model.{name}={model[name]} is not exported to ONNX."
    if model.normalization != "local_response":
        return ""
    if model.norm_depth % 2 == 0:
        return (
            f"model.norm_depth={model.norm_depth}: of an even number of channels ONNX "
            "takes another one before the middle."
        )
    for name in ("norm_alpha", "norm_beta"):
        if not model[name] > 0:
            return f"model.{name}={model[name]}: onnxruntime wants it positive."
    return ""


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


def _alexnet(graph: GraphBuilder) -> None:
    """AlexNet and its variants, of which a layer may be left out."""
    model = graph.model
    network = ZFNet if model.name == "zfnet" else AlexNet
    orders = {"conv1": model.layer1_order, "conv2": model.layer2_order}
    for layer, window in zip(orders, network.windows(model), strict=True):
        if layer in graph.params:
            graph.convolution(layer, window.stride, window.padding)
        for part in orders[layer].split():
            if part == "activation":
                graph.activation()
            elif part == "pool":
                graph.max_pool()
            else:
                graph.local_response_norm()
                if layer == "conv2":
                    graph.within_channel_norm()
    for layer in ("conv3", "conv4", "conv5", "conv6"):
        if layer in graph.params:
            graph.same_convolution(layer)
            graph.activation()
        if layer == "conv5":
            graph.max_pool()
    graph.flatten()
    for layer in ("fc6", "fc7"):
        if layer not in graph.params:
            continue
        if model.dropout_place == "before":
            graph.dropout()
        graph.dense(layer)
        graph.activation()
        if model.dropout_place == "after":
            graph.dropout()
    graph.dense("fc8")


def _four_layer(graph: GraphBuilder) -> None:
    """The network of Figure 1."""
    graph.same_convolution("conv1")
    graph.max_pool()
    graph.activation()
    graph.local_response_norm()
    for layer in ("conv2", "conv3"):
        graph.same_convolution(layer)
        graph.activation()
        graph.average_pool()
        if layer == "conv2":
            graph.local_response_norm()
    graph.flatten()
    graph.dropout()
    graph.dense("fc4")


# By field model.name, what appends all layers of a network.
BODIES: dict[str, Callable[[GraphBuilder], None]] = {
    "alexnet": _alexnet,
    "zfnet": _alexnet,
    "four_layer": _four_layer,
}
