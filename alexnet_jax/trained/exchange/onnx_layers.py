"""The layers of the networks as nodes of an ONNX graph, of maps (n, channels, rows, columns)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.model.layers import FEATURE_NORMS, feature_norm, pooled_size

Arrays = Mapping[str, np.ndarray]


class GraphBuilder:
    """Appends nodes to a graph, each to the output of the one before it.

    Attributes:
      onnx: the library.
      nodes, constants: the graph so far.
      model: the section `model` of the network's configuration.
      params: the network's parameters, by layer.
      size: rows, and columns, of the maps so far; 0 once they are flat.
      channels: of the maps so far, or their units.
      last: the name of the last output.
    """

    def __init__(
        self, onnx: Any, model: ConfigDict, params: Mapping[str, Arrays], size: int
    ) -> None:
        self.onnx = onnx
        self.model, self.params = model, params
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.size, self.channels = size, 3
        self.last = "images"

    def constant(self, array: Any, name: str = "") -> str:
        """Holds an array; returns the name by which nodes take it."""
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

    # --- Layers with parameters -------------------------------------------------------

    def convolution(self, name: str, stride: int, padding: tuple[int, int]) -> None:
        """A convolution with as many groups as its kernel has, and its normalization."""
        kernel = np.asarray(self.params[name]["kernel"])
        window, _, inputs, outputs = kernel.shape
        before, after = padding
        self.add(
            "Conv",
            self.constant(kernel.transpose(3, 2, 0, 1), f"{name}.kernel"),
            self.constant(np.asarray(self.params[name]["bias"]), f"{name}.bias"),
            group=self.channels // inputs,
            strides=[stride, stride],
            pads=[before, before, after, after],
        )
        self.size = (self.size + before + after - window) // stride + 1
        self.channels = outputs
        self._feature_norm(f"{name}_norm")

    def same_convolution(self, name: str) -> None:
        """A convolution whose maps have the size of its input's."""
        half = len(self.params[name]["kernel"]) // 2
        self.convolution(name, 1, (half, half))

    def flatten(self) -> None:
        """Rows, columns, channels: the order in which dense layers expect them."""
        self.add("Transpose", perm=[0, 2, 3, 1])
        self.add("Flatten", axis=1)
        self.channels *= self.size**2
        self.size = 0

    def dense(self, name: str) -> None:
        """A dense layer and its normalization."""
        kernel = np.asarray(self.params[name]["kernel"])
        self.add(
            "Gemm",
            self.constant(kernel, f"{name}.kernel"),
            self.constant(np.asarray(self.params[name]["bias"]), f"{name}.bias"),
        )
        self.channels = kernel.shape[1]
        self._feature_norm(f"{name}_norm")

    def _feature_norm(self, name: str) -> None:
        """Batch, layer or group normalization, if a layer of this name is there."""
        arrays = self.params.get(name)
        if arrays is None:
            return
        scale, bias = np.asarray(arrays["scale"]), np.asarray(arrays["bias"])
        if self.model.normalization == "batch":
            self.add(
                "BatchNormalization",
                self.constant(scale),
                self.constant(bias),
                self.constant(np.asarray(arrays["mean"])),
                self.constant(np.asarray(arrays["var"])),
                epsilon=feature_norm.EPSILON,
            )
            return
        groups = GROUPS_OF[self.model.normalization](self.channels)
        sides = [self.size, self.size] if self.size else []
        # It normalizes each channel by itself: here a channel is a group.
        self.add("Reshape", self.constant(np.array([0, groups, -1])))
        self.add(
            "InstanceNormalization",
            self.constant(np.ones(groups, np.float32)),
            self.constant(np.zeros(groups, np.float32)),
            epsilon=feature_norm.EPSILON,
        )
        self.add("Reshape", self.constant(np.array([0, self.channels, *sides])))
        channelwise = (-1, *(1 for _ in sides))
        self.add("Mul", self.constant(scale.reshape(channelwise)))
        self.add("Add", self.constant(bias.reshape(channelwise)))

    # --- Layers without parameters ---------------------------------------------------------------

    def activation(self) -> None:
        """The network's activation function."""
        ACTIVATIONS[self.model.activation](self)

    def dropout(self) -> None:
        """What dropout is in evaluation: nothing, or the share that was kept."""
        if self.model.dropout_form == "mask" and self.model.dropout_rate > 0:
            self.add("Mul", self.constant(np.float32(1 - self.model.dropout_rate)))

    def max_pool(self) -> None:
        """The maximum over windows; the last one may overhang the maps."""
        self._pool("MaxPool")

    def average_pool(self) -> None:
        """The mean over the pixels of a window that lie inside the maps."""
        self._pool("AveragePool", count_include_pad=0)

    def _pool(self, kind: str, **attributes: Any) -> None:
        window, stride = self.model.pool_window, self.model.pool_stride
        size = pooled_size(self.size, window, stride, self.model.pool_rounding)
        over = max(0, (size - 1) * stride + window - self.size)
        self.add(
            kind,
            kernel_shape=[window, window],
            strides=[stride, stride],
            pads=[0, 0, over, over],
            **attributes,
        )
        self.size = size

    def local_response_norm(self) -> None:
        """Across the channels, of each tower by itself where it is so; or nothing."""
        model = self.model
        if model.normalization != "local_response":
            return
        towers = 1 if model.norm_across_towers else model.towers
        normalization = {
            "size": model.norm_depth,
            "alpha": model.norm_alpha * model.norm_depth,  # ONNX divides it
            "beta": model.norm_beta,
            "bias": model.norm_k,
        }
        whole, width = self.last, self.channels // towers
        parts = []
        for tower in range(towers):
            if towers > 1:
                begin, end = (
                    self.constant(np.array([each * width]))
                    for each in (tower, tower + 1)
                )
                axis = self.constant(np.array([1]))
                self.add("Slice", begin, end, axis, of=whole)
            parts.append(self.add("LRN", **normalization))
        if towers > 1:
            self.add("Concat", *parts[1:], of=parts[0], axis=1)

    def within_channel_norm(self) -> None:
        """The second normalization of layer 2, if there is one."""
        model = self.model
        if not model.within_channel_norm or model.normalization in FEATURE_NORMS:
            return
        size, x = model.within_channel_norm_size, self.last
        before, after = size // 2, (size - 1) // 2
        alpha = np.float32(model.within_channel_norm_alpha * size**2)
        self.add("Mul", x)
        self.add(
            "AveragePool",
            kernel_shape=[size, size],
            pads=[before, before, after, after],
            count_include_pad=1,
        )
        self.add("Mul", self.constant(alpha))
        self.add("Add", self.constant(np.float32(model.within_channel_norm_k)))
        beta = self.constant(np.float32(model.within_channel_norm_beta))
        power = self.add("Pow", beta)
        self.add("Div", power, of=x)


def _silu(graph: GraphBuilder) -> None:
    x = graph.last
    graph.add("Sigmoid")
    graph.add("Mul", x)


def _gelu(graph: GraphBuilder) -> None:
    x = graph.last
    graph.add("Mul", graph.constant(np.float32(0.5**0.5)))
    graph.add("Erf")
    graph.add("Add", graph.constant(np.float32(1)))
    graph.add("Mul", x)
    graph.add("Mul", graph.constant(np.float32(0.5)))


# By field model.normalization, into how many groups it takes so many channels; of batch
# normalization, whose statistics are those of training, none.
GROUPS_OF: dict[str, Callable[[int], int]] = {
    "batch": lambda channels: 0,
    "layer": lambda channels: 1,
    "group": feature_norm.groups,
}

# By field model.activation, what appends it.
ACTIVATIONS: dict[str, Callable[[GraphBuilder], Any]] = {
    "relu": lambda graph: graph.add("Relu"),
    "tanh": lambda graph: graph.add("Tanh"),
    "sigmoid": lambda graph: graph.add("Sigmoid"),
    "softplus": lambda graph: graph.add("Softplus"),
    "leaky_relu": lambda graph: graph.add("LeakyRelu", alpha=0.01),
    "gelu": _gelu,
    "silu": _silu,
}
