"""Whether a network is about to learn: AlexNet's perennial fault is a start that never moves.

If all images give nearly the same logits, the gradient says how often each class occurs
and nothing else, and the loss stays at ln(classes). At full size, on 16 images of
photograph-like noise, the logits differ by 0.03 for source2012, 0.004 for caffe, 0.002
for the paper's text and 0.0007 for torchvision; by 0.00006 for the text's first weights
under inputs of deviation 1. The bound, `training.warn_below_spread`, lies between.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from alexnet_jax.model.network import Network, Params
from alexnet_jax.training.inputs import Batch, InputForm, train_input

# Of ln(classes): by counting classes alone a network gets slightly below it.
NOT_FALLEN = 0.99

# Images looked at: enough for a deviation, few enough for a small GPU.
MOST_IMAGES = 64

# Of an input, below which the first weights of 2012 hardly pass anything on; grey levels
# less their mean have 50 to 80.
LEAST_INPUT_DEVIATION = 5.0

Diagnose = Callable[[Params, Mapping[str, Any], jax.Array], dict[str, Any]]


def make_diagnose(network: Network, form: InputForm) -> Diagnose:
    """Returns diagnose(params, batch, mean) -> what a network makes of a batch.

    The parameters and the mean are placed, the batch (n, ...) is in host memory.
    "input_deviation": of all of its input. "layers": of each layer's outputs, by name,
    the "deviation" of all; the "spread", each unit's deviation between images, averaged
    over the units; and "dead", the share of channels, or of dense units, that give every
    image the same. "logit_spread": the spread of the last.
    """

    @jax.jit
    def measure(params: Params, batch: Batch, mean: jax.Array) -> dict[str, Any]:
        images = train_input(batch, mean, form)
        outputs = network.outputs(params, images, None)
        layers = {
            name: {
                "deviation": y.std(),
                "spread": y.std(axis=0).mean(),
                "dead": _dead(y),
            }
            for name, y in outputs.items()
        }
        return {"input_deviation": images.std(), "layers": layers}

    def diagnose(
        params: Params, batch: Mapping[str, Any], mean: jax.Array
    ) -> dict[str, Any]:
        first = {name: values[:MOST_IMAGES] for name, values in batch.items()}
        here = jax.tree.map(lambda leaf: leaf.addressable_data(0), (params, mean))
        measured = measure(here[0], first, here[1])
        measured = jax.tree.map(float, jax.device_get(measured))
        *_, last = measured["layers"].values()
        return measured | {
            "images": len(first["label"]),
            "logit_spread": last["spread"],
        }

    return diagnose


def _dead(y: Float[Array, "n *place units"]) -> Float[Array, ""]:
    same = y.max(axis=0) == y.min(axis=0)
    return same.reshape(-1, same.shape[-1]).all(axis=0).mean()


def row(measured: dict[str, Any], config: ConfigDict) -> dict[str, Any]:
    """The diagnosis as a line of metrics.jsonl, with a "warning" or null.

    What overflowed and is no finite number is null too: JSON has none.
    """
    # Of two images or more: one cannot differ from itself.
    least = config.training.warn_below_spread
    stuck = measured["images"] > 1 and not measured["logit_spread"] >= least
    warning = None
    if stuck:
        warning = (
            f"it may never start to learn. The logits of {measured['images']} images "
            f"differ by {measured['logit_spread']:.2g} only (from {least:g} on it is "
            f"well). Likely because {likely_cause(measured, config)}"
        )
    return {
        "kind": "diagnosis",
        "step": 0,
        "epoch": 0.0,
        **jax.tree.map(
            lambda number: number if math.isfinite(number) else None, measured
        ),
        "warning": warning,
    }


def likely_cause(measured: Mapping[str, Any], config: ConfigDict) -> str:
    """What most probably keeps the images apart no better, and how to mend it."""
    scale = measured["input_deviation"]
    deviations = config.model.weight_deviations
    normal = config.model.initialization == "normal"
    if normal and scale < LEAST_INPUT_DEVIATION:
        divided = tuple(config.data.channel_scale) != (1.0, 1.0, 1.0)
        return (
            f"the input has deviation {scale:.2g}, and first weights of deviation "
            f"{deviations[0]:g} suit grey levels (50 to 80): give "
            f"{'--config.data.channel_scale=1,1,1 or ' if divided else ''}"
            "larger --config.model.weight_deviations."
        )
    for name, layer in measured["layers"].items():
        if layer["dead"] > 0.5:
            mend = "config.model.biases and config.model.weight_deviations"
            return (
                f"{layer['dead']:.0%} of {name} are dead, giving every image the same: "
                f"look at {mend if normal else 'config.model.initialization'}."
            )
    if normal:
        hint = ": the 2012 code has 0.03 in conv3 to conv5"
        return (
            f"the first weights, of deviations {deviations}, are too small"
            f"{hint if config.model.name == 'alexnet' else ''} "
            "(config.model.weight_deviations)."
        )
    return "the first weights are too small (config.model.initialization)."


class Start:
    """Watches the first steps' loss, and warns once if it does not fall."""

    def __init__(self, config: ConfigDict, *, num_classes: int) -> None:
        self.config = config
        self.bound = NOT_FALLEN * math.log(num_classes)
        self.over = num_classes == 1

    def checked(self, row: dict[str, Any]) -> dict[str, Any]:
        """The train row, with a "warning" if its loss should have fallen by then."""
        steps = self.config.training.warn_after_steps
        if self.over or row["loss"] is None:
            return row
        if row["loss"] < self.bound:
            self.over = True
        elif row["step"] >= steps:
            self.over = True
            return row | {
                "warning": (
                    f"after {row['step']} steps the loss, {row['loss']:.4g}, has not fallen "
                    f"below {self.bound:.4g}, {NOT_FALLEN:.0%} of ln(classes): nothing is "
                    "learnt so far. Likely "
                    f"config.optimizer.learning_rate={row['learning_rate']:g} is too large "
                    "or too small, or the first weights: see the diagnosis of step 0."
                )
            }
        return row
