"""A network by its configuration, as two pure functions: initialize and apply."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, Key
from ml_collections import ConfigDict

from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.model.four_layer import FourLayer

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """initialize(key) -> params; apply(params, images, dropout_keys) -> logits.

    Params are a plain nested dict, {"conv1": {"kernel": ..., "bias": ...}, ...}: there
    is no other state. Dropout is on where keys, one an example, are given.
    """

    initialize: Callable[[Key[Array, ""]], Params]
    apply: Callable[[Params, jax.Array, jax.Array | None], jax.Array]


def build(
    model: Mapping[str, Any] | ConfigDict, *, image_size: int, num_classes: int
) -> Network:
    """The network of a configuration's section `model`.

    Raises:
      UserError: if `image_size` leaves a layer no pixels.
    """

    def module(key: Key[Array, ""]) -> nnx.Module:
        choices = {
            name: value
            for name, value in model.items()
            if name not in ("name", "towers")
        }
        choices |= {"image_size": image_size, "num_classes": num_classes, "key": key}
        if model["name"] == "four_layer":
            return FourLayer(**choices)
        return AlexNet(towers=model["towers"], **choices)

    graph = nnx.graphdef(nnx.eval_shape(lambda: module(jax.random.key(0))))

    @jax.jit
    def initialize(key: Key[Array, ""]) -> Params:
        return nnx.to_pure_dict(nnx.state(module(key)))

    def apply(
        params: Params,
        images: Float[Array, "n h w 3"],
        dropout_keys: Key[Array, " n"] | None,
    ) -> Float[Array, "n classes"]:
        return nnx.merge(graph, nnx.State(params))(images, dropout_keys)

    return Network(initialize, apply)
