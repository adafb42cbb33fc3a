"""The nearest of many rows by Euclidean distance: exact, in blocks, with bounded memory.

Distances are first taken from float32 products, |a|^2 + |b|^2 - 2 a.b, which cancel where a
and b are close. Rounding moves them by less than a known bound (Higham, Accuracy and
Stability of Numerical Algorithms, section 3.1), so the rows that may be among the nearest are
known for certain. Of these few the distances are computed again, from float64 differences.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

UNIT_ROUNDOFF = 2.0**-24  # of float32
SMALLEST = 2.0**-126  # what a product may lose where it underflows
EXACT_NUMBERS = 2**21  # float64 numbers of candidates at a time: 16 MiB
# With fewer queries, products row by row take two thirds of the time of a matrix product, and
# do not wait for BLAS's threads, which a busy machine delays.
FEW_QUERIES = 8


class Nearest(NamedTuple):
    """The numbers of the nearest rows of each query, the nearest first; of equals, the first one.

    There are fewer than asked for where there are fewer rows.
    """

    rows: Int64[np.ndarray, "queries count"]
    distances: Float64[np.ndarray, "queries count"]


def nearest_rows(
    blocks: Iterable[Float32[np.ndarray, "rows width"]],
    queries: Float32[np.ndarray, "queries width"],
    count: int,
) -> Nearest:
    """The `count` rows nearest to each query, by exact Euclidean distance.

    Args:
      blocks: all rows in order, some at a time; each block is used before the next is
        taken. All numbers are finite.
      queries: finite as well.
      count: at least 1.
    """
    searches = [_Search(query, count) for query in queries]
    first = 0
    for block in blocks:
        with np.errstate(
            over="ignore"
        ):  # an infinite square leaves its row in the race
            squares = np.vecdot(block, block).astype(np.float64)
        products = _products(block, queries)
        for search, of_query in zip(searches, products, strict=True):
            search.add(block, squares, of_query, first)
        first += len(block)
    return Nearest(
        np.array([search.index for search in searches]).reshape(len(queries), -1),
        np.sqrt([search.square for search in searches]).reshape(len(queries), -1),
    )


def _products(
    block: Float32[np.ndarray, "rows width"],
    queries: Float32[np.ndarray, "queries width"],
) -> Float64[np.ndarray, "queries rows"]:
    """Each query times each row. Queries are scaled, so that no product overflows."""
    largest = np.abs(queries).max(axis=1, initial=0.0)
    exponents = np.frexp(largest)[1] + np.frexp(float(block.shape[1]))[1]
    scaled = np.ldexp(queries, -exponents[:, None])
    few = len(queries) <= FEW_QUERIES
    found = np.vecdot(block[:, None], scaled) if few else block @ scaled.T
    return np.ldexp(found.T.astype(np.float64), exponents[:, None])


class _Search:
    """The nearest rows of one query so far, in order: `index`, and `square` of distance."""

    def __init__(self, query: Float32[np.ndarray, " width"], count: int) -> None:
        self.query, self.count = query.astype(np.float64), count
        self.index, self.square = np.zeros(0, np.int64), np.zeros(0)

    def add(
        self,
        block: Float32[np.ndarray, "rows width"],
        squares: Float64[np.ndarray, " rows"],
        products: Float64[np.ndarray, " rows"],
        first: int,
    ) -> None:
        """Takes the rows of a block, whose first one is number `first`."""
        own = float(self.query @ self.query)
        with np.errstate(
            invalid="ignore"
        ):  # squares may be infinite: then all are tried
            near = squares + own - 2 * products
            off = self._bound(squares, own)
            highest = self._highest(near + off)
            tried = np.flatnonzero(~(near - off > highest))
        step = max(1, EXACT_NUMBERS // block.shape[1])
        for start in range(0, len(tried), step):
            some = tried[start : start + step]
            differences = block[some].astype(np.float64) - self.query
            self._merge(first + some, np.square(differences).sum(axis=1))

    def _bound(self, squares: np.ndarray, own: float) -> np.ndarray:
        """By how much rounding may have moved the squares of the distances, at most."""
        width = len(self.query)
        relative = (width + 4) * UNIT_ROUNDOFF
        lost = 32 * width * width * SMALLEST * (1 + np.sqrt(own))
        if relative >= 0.5:  # beyond 8 million numbers a row the bound says nothing
            return np.full(len(squares), np.inf)
        relative = 1.1 * relative / (1 - relative)
        return relative * (squares + 2 * np.sqrt(squares * own)) + lost

    def _highest(self, upper: np.ndarray) -> float:
        """No row beyond this square of a distance is among the nearest."""
        known = self.square[-1] if len(self.square) == self.count else np.inf
        if len(upper) > self.count:
            here = np.partition(upper, self.count - 1)[self.count - 1]
            known = min(known, here) if np.isfinite(here) else known
        return float(known) * (1 + 1e-9)

    def _merge(self, index: np.ndarray, square: np.ndarray) -> None:
        """Keeps the `count` nearest of those so far and these."""
        index, square = np.append(self.index, index), np.append(self.square, square)
        order = np.lexsort((index, square))[: self.count]
        self.index, self.square = index[order], square[order]
