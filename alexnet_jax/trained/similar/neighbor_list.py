"""The images nearest to a query, as a table and as JSON."""

import dataclasses
import json

import numpy as np
from jaxtyping import UInt8


@dataclasses.dataclass(frozen=True)
class Neighbor:
    """A training image near a query.

    Attributes:
      index: its number in the split.
      distance: Euclidean, of the features.
      class_name: its class.
      where: where a person finds it.
      same_image: it is the query itself, or a copy: all pixels are equal, to one gray level.
    """

    index: int
    distance: float
    class_name: str
    where: str
    same_image: bool = False


@dataclasses.dataclass(frozen=True)
class WithNeighbors:
    """A query with its neighbors.

    Attributes:
      name: the file as it was given.
      pixels: as the network's preprocessing begins with it: rescaled, a square.
      true_class: the class of the dataset that its folder names; None if it names none.
      neighbors: the nearest first.
    """

    name: str
    pixels: UInt8[np.ndarray, "side side 3"]
    true_class: str | None
    neighbors: list[Neighbor]

    def is_of_its_class(self, neighbor: Neighbor) -> bool:
        """Whether a neighbor is of the class that the query's folder names."""
        return neighbor.class_name == self.true_class


def json_line(found: WithNeighbors) -> str:
    """One line of JSON."""
    held = {
        "image": found.name,
        "true_class": found.true_class,
        "neighbors": [dataclasses.asdict(each) for each in found.neighbors],
    }
    return json.dumps(held)


def text(found: WithNeighbors) -> str:
    """The neighbors, one a line; those of the query's class are marked."""
    of_class = f" ({found.true_class}, by its folder)" if found.true_class else ""
    lines = [f"{found.name}{of_class}"]
    width = max(len(each.class_name) for each in found.neighbors)
    for each in found.neighbors:
        mark = "*" if found.is_of_its_class(each) else " "
        same = "  <- the same image" if each.same_image else ""
        lines.append(
            f"  {each.distance:9.4g} {mark} {each.class_name:<{width}}  {each.where}{same}"
        )
    return "\n".join(lines)
