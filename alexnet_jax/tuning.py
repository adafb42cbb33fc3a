"""What `config.tuned` holds: the values tried for each arm on its own.

A mapping whose entries are multiplied: `{"optimizer.learning_rate": (0.1, 0.01)}` alone is
a grid of one field, two entries are the product of both. An entry of several fields, names
joined by commas, has one row of values for each setting: `together` and `draws` write such.
They are drawn when the config file is read, and are the same every time.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Draw = Callable[[np.random.Generator], float]


def together(values: Mapping[str, Sequence[float]]) -> dict[str, tuple]:
    """Fields that vary together: the first values of all, the second of all, ...

    Raises:
      ValueError: if one field has more values than another.
    """
    return {",".join(values): tuple(zip(*values.values(), strict=True))}


def draws(count: int, fields: Mapping[str, Draw], *, seed: int = 0) -> dict[str, tuple]:
    """`count` random settings of the fields, a row each, of three significant digits.

    For a random search, which finds as good a value by fewer trials than a grid wherever
    few of the fields matter (Bergstra and Bengio, 2012).
    """
    random = np.random.Generator(np.random.Philox(seed))
    rows = [
        tuple(float(f"{draw(random):.3g}") for draw in fields.values())
        for _ in range(count)
    ]
    if len(fields) == 1:
        return {name: tuple(value for (value,) in rows) for name in fields}
    return {",".join(fields): tuple(rows)}


def uniform(low: float, high: float) -> Draw:
    """Evenly between two numbers."""
    return lambda random: random.uniform(low, high)


def log_uniform(low: float, high: float) -> Draw:
    """Evenly between the logarithms of two positive numbers: for rates."""
    return lambda random: float(np.exp(random.uniform(np.log(low), np.log(high))))


def settings(tuned: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every choice of values that `tuned` asks for; a first one of none."""
    entries = [
        [dict(zip(name.split(","), row, strict=True)) for row in _rows(name, values)]
        for name, values in tuned.items()
    ]
    return [
        {name: value for part in parts for name, value in part.items()}
        for parts in itertools.product(*entries)
    ]


def values_of(tuned: Mapping[str, Sequence[Any]]) -> dict[str, tuple]:
    """Each tuned field's values, in the order in which they are tried."""
    return {
        name: tuple(row[number] for row in _rows(entry, values))
        for entry, values in tuned.items()
        for number, name in enumerate(entry.split(","))
    }


def pinned(
    tuned: Mapping[str, Sequence[Any]], field: str, value: float
) -> dict[str, tuple]:
    """`tuned` with one value in the place of those tried for `field`."""
    found = {}
    for entry, values in tuned.items():
        names = entry.split(",")
        rows = [
            tuple(
                value if name == field else v
                for name, v in zip(names, row, strict=True)
            )
            for row in _rows(entry, values)
        ]
        kept = tuple(dict.fromkeys(rows))
        found[entry] = tuple(row[0] for row in kept) if len(names) == 1 else kept
    return found


def _rows(entry: str, values: Sequence[Any]) -> list[tuple]:
    """With one field, a value is its own row."""
    return [tuple(v) for v in values] if "," in entry else [(v,) for v in values]
