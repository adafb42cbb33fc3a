"""Which AlexNet: the choices of the four networks that are called so, a row a choice.

paper        what the text of 2012 says; where it is silent, the reading that is noted
source2012   network 145 of the code released in 2025, which made the published numbers
caffe        bvlc_alexnet of 2013
torchvision  the one-tower network of "One weird trick" (2014), as PyTorch ships it

The rows reach the input and the update rule as well as the network, so they stand
beside the configuration, whose defaults they are. `docs/recipes.md` is made from them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

Value = bool | int | float | str | tuple

RECIPES = ("paper", "source2012", "caffe", "torchvision")

# The one whose numbers were published, and the one that starts to learn most surely.
DEFAULT = "source2012"

# The four-layer network of Figure 1 is in none of them.
NO_RECIPE = "none"


@dataclasses.dataclass(frozen=True)
class Choice:
    """One choice: its value in each recipe, and what is to be known about it."""

    paper: Value
    source2012: Value
    caffe: Value
    torchvision: Value
    note: str = ""

    def of(self, recipe: str) -> Value:
        return getattr(self, recipe)


def alike(value: Value, note: str = "") -> Choice:
    """A choice in which the four agree, or that only some of them make."""
    return Choice(value, value, value, value, note)


CHOICES: dict[str, Choice] = {
    # --- The network ---
    "model.channels": Choice(
        (96, 256, 384, 384, 256, 0, 4096, 4096),
        (96, 256, 384, 384, 256, 0, 4096, 4096),
        (96, 256, 384, 384, 256, 0, 4096, 4096),
        (64, 192, 384, 256, 256, 0, 4096, 4096),
        "the nets pre-trained on more of ImageNet had a conv6 of 256",
    ),
    "model.towers": Choice(
        2, 2, 2, 1, "conv2, conv4 and conv5 read their own tower only"
    ),
    "model.conv1_padding": Choice(
        "both",
        "after",
        "none",
        "both",
        "both: 2 and 2; after: 0 and 3, as rounding up in the code gives; the text has none",
    ),
    "model.activation": alike("relu"),
    "model.layer1_order": Choice(
        "activation norm pool",
        "norm pool activation",
        "activation norm pool",
        "activation norm pool",
        "the code normalizes signed values in layer 1",
    ),
    "model.layer2_order": alike("activation norm pool"),
    "model.normalization": Choice(
        "local_response",
        "local_response",
        "local_response",
        "none",
        "none leaves map_norm as it is; the code's ablation (148) removed both",
    ),
    "model.norm_depth": alike(5),
    "model.norm_k": Choice(2.0, 2.0, 1.0, 2.0),
    "model.norm_alpha": Choice(
        1e-4, 2e-5, 2e-5, 1e-4, "multiplies the sum; code and Caffe divide 1e-4 by 5"
    ),
    "model.norm_beta": alike(0.75),
    "model.norm_across_towers": Choice(
        True,
        False,
        True,
        False,
        "N is 'the total number of kernels in the layer'; the code stays in a tower",
    ),
    "model.map_norm": Choice(
        False, True, False, False, "a second norm in layer 2 that the text leaves out"
    ),
    "model.map_norm_size": alike(5),
    "model.map_norm_k": alike(
        1.0, "of the public kernels; those of 2012 are unreleased"
    ),
    "model.map_norm_alpha": alike(4e-5, "0.001 / 25"),
    "model.map_norm_beta": alike(0.75),
    "model.pool_window": alike(3),
    "model.pool_stride": alike(2),
    "model.pool_rounding": Choice(
        "up", "up", "up", "down", "at 55, 27 and 13 pixels the same"
    ),
    "model.pool_ties": Choice(
        "first",
        "all",
        "first",
        "first",
        "cuda-convnet gives the gradient to all maxima",
    ),
    "model.dropout_rate": alike(0.5),
    "model.dropout_form": Choice(
        "mask",
        "mask",
        "inverted",
        "inverted",
        "mask: testing scales; inverted: training",
    ),
    "model.dropout_place": Choice(
        "after",
        "after",
        "after",
        "before",
        "fc6 and fc7: before leaves fc8's input whole",
    ),
    "model.initialization": Choice(
        "normal", "normal", "normal", "fan_in", "fan_in: uniform to 1/sqrt(inputs)"
    ),
    "model.weight_deviations": Choice(
        (0.01,) * 9,
        (0.01, 0.01, 0.03, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01),
        (0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01),
        (0.01,) * 9,
        "with 0.01 in all layers images hardly differ at the logits",
    ),
    "model.biases": Choice(
        (0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
        (0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
        (0.0, 0.1, 0.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0),
        (0.0,) * 9,
    ),
    # --- Its input ---
    "data.rescale": Choice(
        "shorter_side",
        "shorter_side",
        "warp",
        "shorter_side",
        "torchvision's script cuts parts of random size in training: not done here",
    ),
    "data.rescale_size": alike(256),
    "data.crop_size": Choice(224, 224, 227, 224),
    "data.random_crop": alike(True),
    "data.random_flip": alike(True),
    "data.crop_sharing": Choice(
        1, 32, 1, 1, "the code draws one crop and reflection for 32 images"
    ),
    "data.mean": Choice(
        "image",
        "center",
        "image",
        "channel",
        "image: the mean image where the crop lies; center: its centre for every crop",
    ),
    "data.channel_mean": Choice(
        (), (), (), (123.675, 116.28, 103.53), "0.485, 0.456, 0.406 of 255"
    ),
    "data.channel_scale": Choice(
        (1.0, 1.0, 1.0),
        (1.0, 1.0, 1.0),
        (1.0, 1.0, 1.0),
        (58.395, 57.12, 57.375),
        "0.229, 0.224, 0.225 of 255",
    ),
    "data.channel_order": Choice("rgb", "rgb", "bgr", "rgb"),
    "data.lighting_deviation": Choice(0.1, 0.1, 0.0, 0.0),
    "data.lighting_scale": Choice(
        "eigenvalue",
        "deviation",
        "deviation",
        "deviation",
        "eigenvalue: of intensities 0..1; of 0..255 it would shift by 1,483 grey levels",
    ),
    "data.lighting_shrink": Choice(
        False, True, False, False, "the code divides a shifted image by 1.1"
    ),
    "data.lighting_off_epoch": Choice(0.0, 67.0, 0.0, 0.0, "0: never"),
    "data.views": Choice("ten", "ten", "center", "center"),
    # --- Its training ---
    "optimizer.learning_rate": alike(0.01),
    "optimizer.schedule": alike(
        "steps",
        "2012: by hand when the validation error stalled, as plateau does; steps: as logged",
    ),
    "optimizer.drop_epochs": Choice(
        (23.0, 51.0, 78.0),
        (25.0, 51.0, 79.0),
        (20.0, 40.0, 60.0, 80.0),
        (30.0, 60.0),
        "by hand in 2012; the paper says three times",
    ),
    "optimizer.plateau_epochs": alike(
        10.0, "the paper has no number; each rate was kept for 12 to 28 epochs"
    ),
    "optimizer.plateau_drops": alike(3, "'reduced three times prior to termination'"),
    "optimizer.drop_factor": alike(0.1),
    "optimizer.bias_rate": Choice(1.0, 2.0, 2.0, 1.0),
    "optimizer.bias_drops": Choice(
        True, False, True, True, "the code's biases keep 0.02 to the end"
    ),
    "optimizer.conv1_drop_epochs": Choice((), (67.0,), (), (), "1e-4 to 1e-5"),
    "optimizer.conv1_stop_epoch": Choice(0.0, 72.0, 0.0, 0.0, "0: never"),
    "optimizer.momentum": alike(0.9),
    "optimizer.rate_in_velocity": Choice(
        True, True, True, False, "PyTorch multiplies the velocity by the rate instead"
    ),
    "optimizer.weight_decay": Choice(0.0005, 0.0005, 0.0005, 0.0001),
    "optimizer.bias_decay": Choice(False, False, False, True, "the paper does not say"),
    "training.batch_size": Choice(128, 128, 256, 256, "torchvision: 8 GPUs of 32"),
    "training.num_epochs": Choice(90.0, 91.0, 90.0, 90.0),
}

# What a recipe's network is in all of them, and no row: other values depart from it.
OF_ALL: dict[str, Value] = {"model.width": 1.0, "model.dtype": "float32"}

# What the learning rate's schedules read, beside the first rate.
_OF_STEPS = (
    "optimizer.drop_epochs",
    "optimizer.conv1_drop_epochs",
    "optimizer.conv1_stop_epoch",
)
_OF_PLATEAU = ("optimizer.plateau_epochs", "optimizer.plateau_drops")

# ({field: its value, ...}, the fields that then have no effect)
SWITCHES: tuple[tuple[dict[str, Value], tuple[str, ...]], ...] = (
    (
        {"model.name": "four_layer"},
        (
            "model.towers",
            "model.conv1_padding",
            "model.layer1_order",
            "model.layer2_order",
            "model.map_norm",
            "model.dropout_place",
        ),
    ),
    (
        {"model.normalization": "none"},
        (
            "model.norm_depth",
            "model.norm_k",
            "model.norm_alpha",
            "model.norm_beta",
            "model.norm_across_towers",
        ),
    ),
    ({"model.towers": 1}, ("model.norm_across_towers",)),
    (
        {"model.map_norm": False},
        (
            "model.map_norm_size",
            "model.map_norm_k",
            "model.map_norm_alpha",
            "model.map_norm_beta",
        ),
    ),
    ({"model.dropout_rate": 0.0}, ("model.dropout_form", "model.dropout_place")),
    ({"model.initialization": "fan_in"}, ("model.weight_deviations", "model.biases")),
    ({"data.mean": "image"}, ("data.channel_mean",)),
    ({"data.mean": "center"}, ("data.channel_mean",)),
    (
        {"data.lighting_deviation": 0.0},
        ("data.lighting_scale", "data.lighting_shrink", "data.lighting_off_epoch"),
    ),
    ({"data.random_crop": False, "data.random_flip": False}, ("data.crop_sharing",)),
    ({"optimizer.schedule": "steps"}, _OF_PLATEAU),
    ({"optimizer.schedule": "plateau"}, _OF_STEPS),
    (
        {"optimizer.schedule": "cosine"},
        (*_OF_STEPS, *_OF_PLATEAU, "optimizer.drop_factor"),
    ),
    (
        {"optimizer.schedule": "constant"},
        (*_OF_STEPS, *_OF_PLATEAU, "optimizer.drop_factor", "optimizer.bias_drops"),
    ),
    (
        {"optimizer.schedule": "steps", "optimizer.drop_epochs": ()},
        ("optimizer.bias_drops",),
    ),
    (
        {
            "optimizer.schedule": "steps",
            "optimizer.drop_epochs": (),
            "optimizer.conv1_drop_epochs": (),
        },
        ("optimizer.drop_factor",),
    ),
    ({"optimizer.bias_rate": 0.0}, ("optimizer.bias_drops", "optimizer.bias_decay")),
)


def without_effect(values: Mapping[str, Any]) -> dict[str, str]:
    """The fields of `values` that nothing reads, each with what switches it off."""
    found: dict[str, str] = {}
    for switches, fields in SWITCHES:
        if all(values.get(switch) == value for switch, value in switches.items()):
            reason = " and ".join(f"{name}={value}" for name, value in switches.items())
            found |= {field: reason for field in fields if field not in found}
    return found


def departures(values: Mapping[str, Any]) -> dict[str, Any]:
    """The choices in which `values`, by dotted name, are not those of their recipe."""
    recipe = values["recipe"]
    if recipe == NO_RECIPE:
        return {}
    of_recipe = {name: choice.of(recipe) for name, choice in CHOICES.items()}
    return {
        name: values[name]
        for name, chosen in (OF_ALL | of_recipe).items()
        if values[name] != chosen
    }
