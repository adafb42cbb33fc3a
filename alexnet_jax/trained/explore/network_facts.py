"""What a trained network is, in words: its recipe, its training and its errors."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import FrozenConfigDict

from alexnet_jax.model.network import split
from alexnet_jax.trained.explore.explored import LayerShape, TowerView
from alexnet_jax.trained.kernel_figure import scaled, towers_of
from alexnet_jax.trained.trained_network import TrainedNetwork

NETWORK_TITLES = {
    "alexnet": "AlexNet",
    "zfnet": "ZFNet, the variant of AlexNet of 2013",
    "four_layer": "the four-layer network of Figure 1",
}
ACTIVATION_TITLES = {"relu": "ReLU", "tanh": "tanh", "gelu": "GELU", "silu": "SiLU"}
NORMALIZATIONS = {
    "local_response": "local response normalization",
    "none": "no normalization",
}
CROPS = {"center": "center crop", "ten": "ten crops averaged"}


def short_origin(origin: str) -> str:
    """A network's name without the folders above its run."""
    path = Path(origin)
    for above in path.parents:
        if (above / "experiment.json").is_file():
            return str(path.relative_to(above.parent))
    return path.name or str(path)


def num_parameters(network: TrainedNetwork) -> int:
    learned, _ = split(dict(network.params))
    return sum(leaf.size for leaf in jax.tree.leaves(learned))


def facts(network: TrainedNetwork) -> list[tuple[str, str]]:
    """What it is and how it was trained, as (name, value) pairs."""
    settings, on, side = network.settings, network.trained_on, network.form.crop_size
    model, width = settings.model, settings.model.width
    size = "" if width == 1 else f", at {width:g} times the paper's width"
    return [
        ("Network", f"{NETWORK_TITLES.get(model.name, model.name)}{size}"),
        ("Recipe", f"{settings.recipe}: {', '.join(_choices(settings))}"),
        ("Parameters", f"{num_parameters(network):,} weights and biases"),
        (
            "Input",
            f"{side} × {side} pixels, a crop of images rescaled to "
            f"{settings.data.rescale_size} × {settings.data.rescale_size}",
        ),
        (
            "Trained on",
            f"{on.dataset}: {on.num_examples:,} images of {len(on.class_names):,} classes",
        ),
        ("Training", _training(network)),
        ("Errors, measured in training", _measured(network)),
    ]


def _choices(settings: FrozenConfigDict) -> Iterable[str]:
    """The choices that the paper discusses in sections 3 and 4."""
    model = settings.model
    yield ACTIVATION_TITLES.get(model.activation, model.activation)
    if model.name != "four_layer":
        yield "one tower" if model.towers == 1 else f"{model.towers} towers"
    yield NORMALIZATIONS.get(
        model.normalization, f"{model.normalization} normalization"
    )
    yield f"{model.pool_window}x{model.pool_window} pooling with stride {model.pool_stride}"
    rate = model.dropout_rate
    yield f"dropout {rate:g}" if rate else "no dropout"
    decay = settings.optimizer.weight_decay
    yield f"weight decay {decay:g}" if decay else "no weight decay"


def _training(network: TrainedNetwork) -> str:
    step, batch = network.step, network.settings.training.batch_size
    if not step:
        return "not known"
    passes = step * batch / network.trained_on.num_examples
    epochs = network.settings.training.num_epochs
    return (
        f"{step:,} steps of {batch} images, which is {passes:.3g} of {epochs:g} passes over "
        "the training images"
    )


def _measured(network: TrainedNetwork) -> str:
    found, on = network.measured, network.trained_on
    if "top1_error" not in found:
        return "none"
    crops = CROPS.get(network.form.eval_crops, network.form.eval_crops)
    errors = _shares(found, len(network.class_names))
    step = f", at step {found['step']:,}" if "step" in found else ""
    return (
        f"{errors}, loss {found['loss']:.3f} nats; {on.num_validation:,} images of the "
        f"split “{found.get('split', on.validation)}”, {crops}{step}"
    )


def _shares(found: Any, classes: int) -> str:
    top5 = f", top-5 error {found['top5_error']:.1%}" if classes > 5 else ""
    return f"top-1 error {found['top1_error']:.1%}{top5}"


def layer_shapes(network: TrainedNetwork) -> list[LayerShape]:
    """The layers with their shapes and numbers of parameters; computes nothing."""
    side = network.form.crop_size
    image = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    shapes = jax.eval_shape(
        lambda params, x: network.network.outputs(params, x, None),
        network.params,
        image,
    )
    learned, _ = split(dict(network.params))
    # A layer that is left out has no parameters; its name may stand for a pooling.
    return [
        LayerShape(
            name,
            tuple(shapes[name].shape[1:]),
            sum(
                leaf.size
                for of in (name, f"{name}_norm")
                for leaf in jax.tree.leaves(learned.get(of, {}))
            ),
        )
        for name in network.layers
    ]


def tower_views(network: TrainedNetwork) -> list[TowerView]:
    """The kernels of the first layer by tower, to be seen."""
    return [
        TowerView(scaled(tower.kernels), tower.dead, tower.color_share, tower.frequency)
        for tower in towers_of(network)
    ]
