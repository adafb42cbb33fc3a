"""The network that a configuration asks for, as pure functions of its parameters."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, Key
from ml_collections import ConfigDict

from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.model.four_layer import FourLayer

Params = dict[str, Any]

# By field model.name.
NETWORKS: dict[str, type[AlexNet] | type[FourLayer]] = {
    "alexnet": AlexNet,
    "four_layer": FourLayer,
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as three pure functions.

    Parameters are a plain nested dict, {"conv1": {"kernel": ..., "bias": ...}, ...}, and
    the only state. Dropout keys, one an example, turn dropout on; None turns it off.

    Attributes:
      initialize: `root_key` -> parameters, in host memory.
      apply: parameters, NHWC images, dropout keys -> logits.
      outputs: the same arguments -> the output of each layer by its name, logits last.
    """

    initialize: Callable[[Key[Array, ""]], Params]
    apply: Callable[[Params, jax.Array, jax.Array | None], jax.Array]
    outputs: Callable[[Params, jax.Array, jax.Array | None], dict[str, jax.Array]]


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

    def initialize(key: Key[Array, ""]) -> Params:
        return nnx.to_pure_dict(nnx.state(module(key)))

    def apply(
        params: Params,
        images: Float[Array, "n h w 3"],
        dropout_keys: Key[Array, " n"] | None,
    ) -> Float[Array, "n classes"]:
        return nnx.merge(graph, nnx.State(params))(images, dropout_keys)

    def outputs(
        params: Params,
        images: Float[Array, "n h w 3"],
        dropout_keys: Key[Array, " n"] | None,
    ) -> dict[str, jax.Array]:
        return nnx.merge(graph, nnx.State(params)).outputs(images, dropout_keys)

    return Network(initialize, apply, outputs)
