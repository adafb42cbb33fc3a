"""What a network takes an image for."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8


class Guess(NamedTuple):
    """One of the classes that a network proposes for an image, with its probability."""

    name: str
    probability: float


@dataclasses.dataclass(frozen=True)
class Predicted:
    """An image with what a network takes it for.

    Attributes:
      name: the file as it was given.
      pixels: as the network's preprocessing begins with it: rescaled, a square.
      guesses: the most probable classes, best first.
      true_class: the class that its folder names; None if that is none of the network's.
    """

    name: str
    pixels: UInt8[np.ndarray, "side side 3"]
    guesses: list[Guess]
    true_class: str | None
