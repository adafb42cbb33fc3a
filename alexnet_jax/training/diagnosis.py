"""Whether a network will start to learn: a common fault of AlexNet is that it never does.

If all images have nearly the same logits, the gradient only says how often each class
occurs, and the loss stays at ln(classes). At full size, on 16 images of photograph-like
noise, the logits' standard deviation between images is 0.03 for source2012, 0.004 for
caffe, 0.002 for the paper's text and 0.0007 for torchvision, but 0.00006 for the text's
initial weights with inputs of standard deviation 1. The bound,
`training.warn_below_spread`, lies in between.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree
from ml_collections import ConfigDict

from alexnet_jax.training.preprocess import Batch, InputForm, train_input

# A share of ln(classes): a network that only counts the classes gets slightly below it.
NOT_FALLEN = 0.99

# Images measured: enough for a standard deviation, few enough for a small GPU.
MOST_IMAGES = 64

# Standard deviation of the input below which the initial weights of 2012 pass hardly
# anything on; gray levels minus their mean have 50 to 80.
LEAST_INPUT_STD = 5.0

Outputs = Callable[[PyTree, jax.Array], dict[str, jax.Array]]
Diagnose = Callable[[PyTree, Mapping[str, Any], jax.Array], dict[str, Any]]


def make_diagnose(outputs_of: Outputs, form: InputForm) -> Diagnose:
    """Returns diagnose(params, batch, mean) -> how a single network responds to a batch.

    The parameters and the mean are on the devices, the batch (n, ...) in host memory.
    The result has "input_std", the standard deviation of the whole input; "layers", by
    name, of each layer's outputs the standard deviation ("std"), the "spread",
    each unit's standard deviation between images averaged over the units, and "dead",
    the share of channels, or of dense units, with the same output for every image; and
    "logit_spread", the spread of the last layer.

    Args:
      outputs_of: `Network.outputs_of_batch`, of a single network.
      form: how images become its input.
    """

    @jax.jit
    def measure(params: PyTree, batch: Batch, mean: jax.Array) -> dict[str, Any]:
        images = train_input(batch, mean, form)
        outputs = outputs_of(params, images)
        layers = {
            name: {
                "std": y.std(),
                "spread": y.std(axis=0).mean(),
                "dead": _dead(y),
            }
            for name, y in outputs.items()
        }
        return {"input_std": images.std(), "layers": layers}

    def diagnose(
        params: PyTree, batch: Mapping[str, Any], mean: jax.Array
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


@dataclasses.dataclass(frozen=True)
class DiagnosisSpec:
    """When the start of a trial is worth a warning, and what a likely cause depends on.

    Attributes:
      warn_below_spread: the least spread of initial logits that gives no warning.
      warn_after_steps: the steps after which the loss should have fallen.
      network: the name of the network.
      initialization: how its initial weights are drawn.
      weight_stds: their standard deviations, where they are "normal".
      channel_scale: what the input is divided by.
    """

    warn_below_spread: float
    warn_after_steps: int
    network: str
    initialization: str
    weight_stds: tuple[float, ...]
    channel_scale: tuple[float, ...]

    @staticmethod
    def of(settings: ConfigDict) -> "DiagnosisSpec":
        """What a trial's settings say about it."""
        model, training = settings.model, settings.training
        return DiagnosisSpec(
            warn_below_spread=training.warn_below_spread,
            warn_after_steps=training.warn_after_steps,
            network=model.name,
            initialization=model.initialization,
            weight_stds=model.weight_stds,
            channel_scale=tuple(settings.data.channel_scale),
        )


def row(measured: dict[str, Any], spec: DiagnosisSpec) -> dict[str, Any]:
    """The diagnosis as a line of metrics.jsonl, with a "warning" or null.

    Numbers that are not finite become null: JSON does not have them.
    """
    # It takes two images or more to differ.
    least = spec.warn_below_spread
    stuck = measured["images"] > 1 and not measured["logit_spread"] >= least
    warning = None
    if stuck:
        warning = (
            f"it may never start to learn. The logits of {measured['images']} images "
            f"have a standard deviation of only {measured['logit_spread']:.2g} (at least "
            f"{least:g} is fine). Likely because {likely_cause(measured, spec)}"
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


def likely_cause(measured: Mapping[str, Any], spec: DiagnosisSpec) -> str:
    """The most probable reason why the logits hardly differ, and how to fix it."""
    scale = measured["input_std"]
    stds = spec.weight_stds
    normal = spec.initialization == "normal"
    if normal and scale < LEAST_INPUT_STD:
        divided = spec.channel_scale != (1.0, 1.0, 1.0)
        return (
            f"the input has a standard deviation of {scale:.2g}, and initial weights with "
            f"standard deviation {stds[0]:g} suit gray levels (50 to 80): give "
            f"{'--config.data.channel_scale=1,1,1 or ' if divided else ''}"
            "larger --config.model.weight_stds."
        )
    for name, layer in measured["layers"].items():
        if layer["dead"] > 0.5:
            fields = "config.model.biases and config.model.weight_stds"
            return (
                f"{layer['dead']:.0%} of {name} are dead, with the same output for every "
                f"image: check {fields if normal else 'config.model.initialization'}."
            )
    if normal:
        hint = ": the 2012 code has 0.03 in conv3 to conv5"
        return (
            f"the initial weights, with standard deviations {stds}, are too small"
            f"{hint if spec.network == 'alexnet' else ''} "
            "(config.model.weight_stds)."
        )
    return "the initial weights are too small (config.model.initialization)."


class StartMonitor:
    """Watches the loss of the first steps, and warns once if it does not fall.

    Attributes:
      done: whether it has fallen, or the warning is given.
    """

    def __init__(self, spec: DiagnosisSpec, *, num_classes: int) -> None:
        self.spec = spec
        self.bound = NOT_FALLEN * math.log(num_classes)
        self.done = num_classes == 1

    def checked(self, row: dict[str, Any]) -> dict[str, Any]:
        """The train row, with a "warning" if its loss should have fallen by then."""
        steps = self.spec.warn_after_steps
        if self.done or row["loss"] is None:
            return row
        if row["loss"] < self.bound:
            self.done = True
        elif row["step"] >= steps:
            self.done = True
            return row | {
                "warning": (
                    f"after {row['step']} steps the loss, {row['loss']:.4g}, has not fallen "
                    f"below {self.bound:.4g}, {NOT_FALLEN:.0%} of ln(classes): nothing is "
                    "learned so far. Likely "
                    f"config.optimizer.learning_rate={row['learning_rate']:g} or the "
                    "initial weights are too large or too small: see the diagnosis of "
                    "step 0."
                )
            }
        return row
