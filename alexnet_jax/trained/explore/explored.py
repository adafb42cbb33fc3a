"""What a page about a trained network shows: plain values, found elsewhere."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from alexnet_jax.trained.guesses import Guess

Pixels = UInt8[np.ndarray, "h w 3"]


@dataclasses.dataclass(frozen=True)
class LayerShape:
    """A layer: what it passes on for one image, and its parameters.

    Attributes:
      shape: (height, width, channels) of a convolution, (units,) of a dense layer.
      parameters: weights and biases.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int


@dataclasses.dataclass(frozen=True)
class TowerView:
    """The kernels of the first layer in one tower.

    Attributes:
      kernels: each scaled from 0 to 1.
      dead: which of them have hardly any weight.
      color_share: the mean share of color in their energy, 0 to 1.
      frequency: the mean spatial frequency of their energy, in cycles per pixel.
    """

    kernels: Float[np.ndarray, "n h w 3"]
    dead: Bool[np.ndarray, " n"]
    color_share: float
    frequency: float


@dataclasses.dataclass(frozen=True)
class LayerActivations:
    """What one layer passes on for one image: its strongest channels or units.

    Attributes:
      name, shape: those of its `LayerShape`.
      numbers: of the channels or units shown, strongest first.
      maps: of a convolution, (shown, height, width); of a dense layer, (shown,).
      active: the share of its outputs that are not zero.
      lowest: the lowest of all its outputs; negative for tanh and for logits.
      labels: names of the units shown, for the last layer: those of the classes.
    """

    name: str
    shape: tuple[int, ...]
    numbers: tuple[int, ...]
    maps: Float[np.ndarray, "shown ..."]
    active: float
    lowest: float
    labels: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class SimilarImage:
    """A training image near to a chosen one.

    Attributes:
      pixels: the center crop.
      class_name: its class.
      name: its file's name, or where else it is.
      distance: Euclidean, between the features of the two images.
    """

    pixels: Pixels
    class_name: str
    name: str
    distance: float


@dataclasses.dataclass(frozen=True)
class ChosenImage:
    """An image with what the network takes it for, and what its layers pass on.

    Attributes:
      name: its file's name, or where else it is.
      pixels: the center crop, which is what the network sees.
      guesses: the most probable classes, best first.
      true_class: None if it is not known.
      layers: from the first to the last.
      similar: the nearest training images, nearest first.
    """

    name: str
    pixels: Pixels
    guesses: Sequence[Guess]
    true_class: str | None
    layers: Sequence[LayerActivations]
    similar: Sequence[SimilarImage] = ()


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A test image with a wrong first guess.

    Attributes:
      example: its index in the split.
      true_class: its class.
      taken_for: the network's first guess.
      probability: of that.
      true_probability: of its own class.
    """

    example: int
    true_class: str
    taken_for: str
    probability: float
    true_probability: float


@dataclasses.dataclass(frozen=True)
class ShownMistake:
    """A mistake with its image.

    Attributes:
      name: the file's name, or where else the image is.
      pixels: the center crop.
    """

    mistake: Mistake
    name: str
    pixels: Pixels


class ClassErrors(NamedTuple):
    """The top-1 errors of one class."""

    name: str
    examples: int
    wrong: int
    most_often_taken_for: str


@dataclasses.dataclass(frozen=True)
class MeasuredErrors:
    """What a pass over the test images has shown.

    Attributes:
      dataset, split: where the images are from.
      examples, top1_wrong, top5_wrong: images.
      loss: mean, in nats.
      by_class: the worst class first.
      class_names, confusion: images by class and first guess, for few classes; otherwise
        empty.
      mistakes: the most confident ones, the most confident first.
      notes: what a reader should know of the classes.
      paper: the paper's row under the same protocol, in words; else empty.
    """

    dataset: str
    split: str
    examples: int
    top1_wrong: int
    top5_wrong: int
    loss: float
    by_class: Sequence[ClassErrors]
    class_names: Sequence[str]
    confusion: Int64[np.ndarray, "classes classes"]
    mistakes: Sequence[ShownMistake]
    notes: Sequence[str] = ()
    paper: str = ""


@dataclasses.dataclass(frozen=True)
class UnitShares:
    """By layer, the share of dead units or of saturated outputs.

    Attributes:
      activation: of the hidden layers, "relu", "tanh" or another.
      shares: empty for other activations.
      images: how many of them it was measured on.
    """

    activation: str
    shares: dict[str, float]
    images: int


@dataclasses.dataclass(frozen=True)
class Compared:
    """Among which images those near to the chosen ones were sought.

    Attributes:
      layer: whose outputs were compared.
      images: how many of them.
      available: how many the split has.
      dataset: where they are from.
      trained_on: whether these are the images that the network was trained on.
    """

    layer: str
    images: int
    available: int
    dataset: str
    trained_on: bool


@dataclasses.dataclass(frozen=True)
class Explored:
    """Everything on the page.

    Attributes:
      title: the network's name.
      facts: (name, value) pairs that say what it is.
      parameters: their number.
      num_classes: the number of classes.
      layers: all of them, first to last.
      towers: the kernels of the first layer.
      chosen: the chosen images.
      choice: how they were chosen, in a sentence.
      unread: (name, reason) of given images that cannot be read.
      without_data: why nothing was measured; empty if something was.
      errors, units: None without data.
      compared: None without data, or without training images in it.
      warnings: what else a reader has to know first.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    parameters: int
    num_classes: int
    layers: Sequence[LayerShape]
    towers: Sequence[TowerView]
    chosen: Sequence[ChosenImage]
    choice: str
    unread: Sequence[tuple[str, str]] = ()
    without_data: str = ""
    errors: MeasuredErrors | None = None
    units: UnitShares | None = None
    compared: Compared | None = None
    warnings: Sequence[str] = ()
