"""The values of a hyperparameter search: grids, products, rows and random draws.

They are what `config.tuned` holds; `report/tuning.py` and `report/summary.py` choose.

`config.tuned` is a mapping from an entry to the values to try, which are tried in every arm.
Several entries are multiplied: `{"optimizer.learning_rate": (0.1, 0.01)}` by itself is a
grid of one field, and two entries are the product of both. An entry can name several fields,
joined by commas; it then has rows of values, one value for each field. `together` and
`draws` write such entries. Random values are drawn when the config file is read, from a
fixed seed, so that every reading of the file gives the same values.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# A distribution: it draws one value of a field.
Draw = Callable[[np.random.Generator], float]


def together(values: Mapping[str, Sequence[float]]) -> dict[str, tuple]:
    """Returns an entry of fields that vary together, in rows: the first value of each, ...

    Raises:
      ValueError: if one field has more values than another.
    """
    return {",".join(values): tuple(zip(*values.values(), strict=True))}


def draws(count: int, fields: Mapping[str, Draw], *, seed: int = 0) -> dict[str, tuple]:
    """Returns an entry of random values, rounded to three significant digits.

    Where few of the fields matter, random search finds as good a value as a grid in fewer
    trials (Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", 2012).

    Args:
      count: the number of rows.
      fields: the distribution of each field, by dotted name.
      seed: of the random numbers.
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
    """Returns the uniform distribution between two numbers."""
    return lambda random: random.uniform(low, high)


def log_uniform(low: float, high: float) -> Draw:
    """Returns the distribution whose logarithm is uniform between two positive numbers.

    It suits learning rates and other scales.
    """
    return lambda random: float(np.exp(random.uniform(np.log(low), np.log(high))))


def settings(tuned: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Returns every combination of the entries, as values by dotted field name.

    Without entries, there is one combination, which sets nothing.
    """
    entries = [
        [dict(zip(name.split(","), row, strict=True)) for row in _rows(name, values)]
        for name, values in tuned.items()
    ]
    return [
        {name: value for part in parts for name, value in part.items()}
        for parts in itertools.product(*entries)
    ]


def middle_first(count: int) -> list[int]:
    """The numbers below `count`, those in the middle first.

    The best of several values is rarely one of the outermost, and trials that are slower
    than an earlier one can be given up.
    """
    return sorted(range(count), key=lambda number: abs(number - (count - 1) / 2))


def values_of(tuned: Mapping[str, Sequence[Any]]) -> dict[str, tuple]:
    """Returns the values of each tuned field, in the order in which they are tried."""
    return {
        name: tuple(row[number] for row in _rows(entry, values))
        for entry, values in tuned.items()
        for number, name in enumerate(entry.split(","))
    }


def pinned(
    tuned: Mapping[str, Sequence[Any]], field: str, value: float
) -> dict[str, tuple]:
    """Returns `tuned` with a single value of `field` in place of those to try.

    Rows that become equal are kept once.
    """
    found = {}
    for entry, values in tuned.items():
        names = entry.split(",")
        rows = [
            tuple(
                value if name == field else tried
                for name, tried in zip(names, row, strict=True)
            )
            for row in _rows(entry, values)
        ]
        kept = tuple(dict.fromkeys(rows))
        found[entry] = tuple(row[0] for row in kept) if len(names) == 1 else kept
    return found


def _rows(entry: str, values: Sequence[Any]) -> list[tuple]:
    """Returns an entry's rows; a value of a single field is a row of one."""
    if "," in entry:
        return [tuple(row) for row in values]
    return [(value,) for value in values]
