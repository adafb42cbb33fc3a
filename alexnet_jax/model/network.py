"""A network by its configuration, as pure functions: initialize, apply, outputs."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, Key
from ml_collections import ConfigDict

from alexnet_jax.model import layers
from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.model.four_layer import FourLayer

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """initialize(key) -> params; apply(params, images, dropout_keys) -> logits.

    outputs(params, images, dropout_keys) gives those of every layer by its name, the
    logits last. Params are a plain nested dict, {"conv1": {"kernel": ..., "bias": ...},
    ...}: there is no other state. Dropout is on where keys, one an example, are given.
    """

    initialize: Callable[[Key[Array, ""]], Params]
    apply: Callable[[Params, jax.Array, jax.Array | None], jax.Array]
    outputs: Callable[[Params, jax.Array, jax.Array | None], dict[str, jax.Array]]


def build(
    model: Mapping[str, Any] | ConfigDict, *, image_size: int, num_classes: int
) -> Network:
    """The network of a configuration's section `model`.

    Raises:
      UserError: if `image_size` leaves a layer no pixels.
    """

    def module(key: Key[Array, ""]) -> AlexNet | FourLayer:
        return _module(model, image_size=image_size, num_classes=num_classes, key=key)

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

    def outputs(
        params: Params,
        images: Float[Array, "n h w 3"],
        dropout_keys: Key[Array, " n"] | None,
    ) -> dict[str, jax.Array]:
        return nnx.merge(graph, nnx.State(params)).outputs(images, dropout_keys)

    return Network(initialize, apply, outputs)


def _module(
    model: Mapping[str, Any] | ConfigDict,
    *,
    image_size: int,
    num_classes: int,
    key: Key[Array, ""],
) -> AlexNet | FourLayer:
    of_both: dict[str, Any] = {
        "image_size": image_size,
        "num_classes": num_classes,
        "channels": model["channels"],
        "width": model["width"],
        "activation": model["activation"],
        "norm": _norm(model),
        "pool": {
            "window": model["pool_window"],
            "stride": model["pool_stride"],
            "rounding": model["pool_rounding"],
            "ties": model["pool_ties"],
        },
        "dropout": {"rate": model["dropout_rate"], "form": model["dropout_form"]},
        "starts": layers.starts(
            model["initialization"],
            model["weight_deviations"],
            model["biases"],
            width=model["width"],
        ),
        "dtype": model["dtype"],
        "key": key,
    }
    if model["name"] == "four_layer":
        return FourLayer(**of_both)
    return AlexNet(
        towers=model["towers"],
        conv1_padding=model["conv1_padding"],
        layer1_order=model["layer1_order"],
        layer2_order=model["layer2_order"],
        map_norm=_map_norm(model),
        dropout_place=model["dropout_place"],
        **of_both,
    )


def _norm(model: Mapping[str, Any] | ConfigDict) -> Callable[[jax.Array], jax.Array]:
    """The normalization across channels, or nothing."""
    if model["normalization"] == "none":
        return _unchanged
    return functools.partial(
        layers.local_response_norm,
        depth=model["norm_depth"],
        k=model["norm_k"],
        alpha=model["norm_alpha"],
        beta=model["norm_beta"],
        towers=1 if model["norm_across_towers"] else model["towers"],
    )


def _map_norm(
    model: Mapping[str, Any] | ConfigDict,
) -> Callable[[jax.Array], jax.Array]:
    """The normalization within each map, or nothing."""
    if not model["map_norm"]:
        return _unchanged
    return functools.partial(
        layers.map_norm,
        size=model["map_norm_size"],
        k=model["map_norm_k"],
        alpha=model["map_norm_alpha"],
        beta=model["map_norm_beta"],
    )


def _unchanged(x: jax.Array) -> jax.Array:
    return x
