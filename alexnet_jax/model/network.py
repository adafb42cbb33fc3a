"""The network that a configuration asks for, as pure functions of its parameters."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, Key
from ml_collections import ConfigDict

from alexnet_jax.model import layers
from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.model.four_layer import FourLayer
from alexnet_jax.model.layers import STATISTICS
from alexnet_jax.model.zfnet import ZFNet

Params = dict[str, Any]

# By field model.name.
NETWORKS: dict[str, type[AlexNet] | type[FourLayer]] = {
    "alexnet": AlexNet,
    "zfnet": ZFNet,
    "four_layer": FourLayer,
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as pure functions.

    Parameters are a plain nested dict, {"conv1": {"kernel": ..., "bias": ...}, ...}, and
    the only state: those of the layer that normalizes conv1 are "conv1_norm". Beside what
    is learned it has the running statistics of batch normalization, which `split`
    separates from it. Images are NHWC. Dropout keys, one an example, turn dropout on; None turns it
    off.

    Attributes:
      module: `root_key` -> the network with its initial parameters, as a module of Flax.
      graph: what is left of the module without its parameters.
    """

    module: Callable[[Key[Array, ""]], AlexNet | FourLayer]
    graph: nnx.GraphDef

    def initialize(self, key: Key[Array, ""]) -> Params:
        """Returns the initial parameters that a `root_key` draws, in host memory."""
        return nnx.to_pure_dict(nnx.state(self.module(key)))

    def apply(
        self,
        params: Params,
        images: Float[Array, "n h w 3"],
        dropout_keys: Key[Array, " n"] | None,
    ) -> Float[Array, "n classes"]:
        """Returns the logits."""
        return self._with(params)(images, dropout_keys)

    def outputs(
        self,
        params: Params,
        images: Float[Array, "n h w 3"],
        dropout_keys: Key[Array, " n"] | None,
    ) -> dict[str, jax.Array]:
        """Returns the output of each layer by its name, the logits last."""
        return self._with(params).outputs(images, dropout_keys)

    def outputs_of_batch(
        self, params: Params, images: Float[Array, "n h w 3"]
    ) -> dict[str, jax.Array]:
        """`outputs`, normalized by the batch's own statistics where training does so."""
        network = self._with(params)
        layers.normalize_by_batch(network, across_devices=False)
        return network.outputs(images, None)

    def train(
        self,
        params: Params,
        images: Float[Array, "n h w 3"],
        dropout_keys: Key[Array, " n"],
        frozen: Collection[str] = (),
    ) -> tuple[Float[Array, "n classes"], Params]:
        """Returns the logits, and the running statistics after this batch.

        What normalizes the batch are its own statistics, over all devices of the axis
        `AXIS`. The layers `frozen` keep to their running ones.
        """
        network = self._with(params)
        layers.normalize_by_batch(network, but={f"{name}_norm" for name in frozen})
        logits = network(images, dropout_keys)
        return logits, nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))

    def _with(self, params: Params) -> AlexNet | FourLayer:
        return nnx.merge(self.graph, nnx.State(params))


def root_key(seed: int) -> Key[Array, ""]:
    """The key of the initial weights, whatever generator JAX has as its default."""
    return jax.random.key(seed, impl="threefry2x32")


def build(settings: ConfigDict, *, image_size: int, num_classes: int) -> Network:
    """Builds the network of `settings`, the section `model` of a configuration.

    Args:
      image_size: height and width of the images in pixels.
      num_classes: number of logits.

    Raises:
      UserError: if images of this size leave a layer no pixels, or if there is no
        activation function of this name.
    """

    def module(key: Key[Array, ""]) -> AlexNet | FourLayer:
        network = NETWORKS[settings.name]
        return network(
            settings, image_size=image_size, num_classes=num_classes, key=key
        )

    graph = nnx.graphdef(nnx.eval_shape(lambda: module(root_key(0))))

    return Network(module, graph)


def layer_of(name: str) -> str:
    """The layer that the parameters `name` belong to: "conv1" of "conv1_norm"."""
    return name.removesuffix("_norm")


def split(params: Params) -> tuple[Params, Params]:
    """What is learned, and the running statistics: {} unless there are some."""
    statistics = {
        name: {kind: leaf for kind, leaf in of_layer.items() if kind in STATISTICS}
        for name, of_layer in params.items()
        if STATISTICS & of_layer.keys()
    }
    learned = {
        name: {kind: leaf for kind, leaf in of_layer.items() if kind not in STATISTICS}
        for name, of_layer in params.items()
    }
    return learned, statistics


def united(learned: Params, statistics: Params) -> Params:
    """The parameters that `split` has taken apart."""
    return {
        name: of_layer | statistics.get(name, {}) for name, of_layer in learned.items()
    }
