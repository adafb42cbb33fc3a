"""What a field of a configuration is, and values that several of them accept."""

import dataclasses
import math

from alexnet_jax.config.recipes import Value

# The operations that follow a convolution, in order.
ORDERS = ("activation norm pool", "norm pool activation", "activation pool norm")

# Schedules of the learning rate: training/schedule.py.
SCHEDULES = ("steps", "plateau", "constant", "cosine")

# The default of a field that is a recipe's choice: taken from `recipes.py`.
BY_RECIPE = ""


@dataclasses.dataclass(frozen=True)
class Field:
    """One field: its default, its meaning, and the values that it accepts.

    Attributes:
      meaning: what it sets, its unit, and where it is from: a section ("s. 5") of the paper,
        or the paper that a later one is from.
      later: whether it came after the paper: it has no effect by default, and no recipe
        sets it.
      also: what else it is called, by people who look for it.
    """

    default: Value
    meaning: str
    choices: tuple[str, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf
    above: float = -math.inf  # an exclusive minimum
    later: bool = False
    also: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Above:
    """In the place of a value: equal to any number above the bound."""

    bound: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (int, float)) and other > self.bound

    __hash__ = None  # type: ignore[assignment]


# Pairs: values of fields, and the fields that have no effect while all of these hold.
Switches = tuple[tuple[dict[str, Value | Above], tuple[str, ...]], ...]
