"""The nearest rows are those of a slow loop in float64, also where float32 cancels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.trained.similar.exact_search import nearest_rows


def slow_nearest(rows, queries, count):
    """One pair at a time."""
    found, distances = [], []
    for query in queries.astype(np.float64):
        squares = [
            float(np.square(row.astype(np.float64) - query).sum()) for row in rows
        ]
        order = sorted(range(len(rows)), key=lambda i: (squares[i], i))[:count]
        found.append(order)
        distances.append([squares[i] ** 0.5 for i in order])
    return np.array(found), np.array(distances)


def blocks_of(rows, size):
    """In one buffer that is overwritten, as a file's blocks are."""
    buffer = np.empty((size, rows.shape[1]), np.float32)
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        buffer[: len(part)] = part
        yield buffer[: len(part)]


def check(rows, queries, count, size):
    expected = slow_nearest(rows, queries, count)
    found = nearest_rows(blocks_of(rows, size), queries, count)
    np.testing.assert_array_equal(found.rows, expected[0])
    np.testing.assert_allclose(found.distances, expected[1], rtol=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    num_rows=st.integers(1, 60),
    width=st.integers(1, 40),
    num_queries=st.integers(1, 12),
    count=st.integers(1, 8),
    size=st.integers(1, 70),
    seed=st.integers(0, 1000),
    levels=st.sampled_from([2, 3, 1000]),
)
def test_any_rows_in_any_blocks(
    num_rows, width, num_queries, count, size, seed, levels
):
    """Of few levels many rows are equally near."""
    draws = np.random.default_rng(seed)
    rows = draws.integers(0, levels, (num_rows, width)).astype(np.float32)
    queries = draws.integers(0, levels, (num_queries, width)).astype(np.float32)
    check(rows, queries, count, size)


@pytest.mark.parametrize("size", [7, 64, 300])
@pytest.mark.parametrize("num_queries", [2, 11])
def test_rows_that_differ_in_their_last_bits(size, num_queries):
    """By |a|^2 + |b|^2 - 2 a.b in float32 these would be in any order."""
    draws = np.random.default_rng(0)
    center = 1000 + draws.standard_normal(256).astype(np.float32)
    steps = draws.integers(-3, 4, (300, 256)) * (draws.random((300, 256)) < 0.1)
    rows = (center + steps * np.spacing(center)).astype(np.float32)
    rows[200] = rows[17]
    queries = rows[:: 300 // num_queries][:num_queries].copy()
    wrong = np.argsort(np.square(rows).sum(1) - 2 * rows @ queries[0], kind="stable")[
        :6
    ]
    assert wrong.tolist() != slow_nearest(rows, queries[:1], 6)[0][0].tolist()
    check(rows, queries, 6, size)


def test_equal_rows_come_in_their_order_in_the_dataset():
    rows = np.zeros((50, 4), np.float32)
    rows[::2] = 1
    found = nearest_rows(blocks_of(rows, 8), np.zeros((1, 4), np.float32), 6)
    assert found.rows.tolist() == [[1, 3, 5, 7, 9, 11]]
    assert (found.distances == 0).all()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_very_small_and_very_large_numbers(scale):
    """Whose squares are no float32 numbers."""
    draws = np.random.default_rng(0)
    rows = (scale * draws.standard_normal((40, 16))).astype(np.float32)
    check(rows, rows[:3] * np.float32(1.25), 5, 16)
    assert nearest_rows(blocks_of(rows, 16), rows[:3], 1).rows.tolist() == [
        [0],
        [1],
        [2],
    ]


def test_fewer_rows_than_asked_for():
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = nearest_rows(blocks_of(rows, 2), rows[1:2], 6)
    assert found.rows.tolist() == [[1, 0, 2]]
