"""Random draws: uniform, normal, and functions of their numbers alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet_jax.data import draws

COUNT = 20_000


def numbered(*more):
    return draws.keys(5, np.arange(COUNT), *more)


def test_keys_are_pinned():
    """A change of the hash would silently change every run."""
    assert draws.keys(1, 2, np.array([3, 4])).tolist() == [
        7702586659592502839,
        14056738641343212577,
    ]


@given(*[st.integers(0, 2**62)] * 4)
def test_a_key_depends_on_each_number_and_its_place(seed, a, b, c):
    key = draws.keys(seed, a, b)
    assert key == draws.keys(seed, a, b)
    others = [(seed, a, c), (seed, c, b), (c, a, b), (seed, b, a), (seed, a)]
    for other in others:
        assert (draws.keys(*other) == key) == (other == (seed, a, b))


def test_a_key_does_not_depend_on_its_neighbours():
    some = np.array([7, 3, 11])
    together = draws.keys(1, some, 2)
    alone = [draws.keys(1, number, 2)[0] for number in some.tolist()]
    assert together.tolist() == alone


@pytest.mark.parametrize(
    "below_limit",
    # The limits of chi-square, with 1, 24 and 1088 degrees, at p = 0.001.
    [(2, 10.8), (25, 51.2), (33 * 33, 1237.8)],
    ids=str,
)
def test_integers_are_equally_likely(below_limit):
    below, limit = below_limit
    for purpose in range(3):
        found = draws.integers(numbered(purpose), below)
        counts = np.bincount(found, minlength=below)
        assert len(counts) == below
        assert counts.min() > 0
        assert ((counts - COUNT / below) ** 2 / (COUNT / below)).sum() < limit


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**31 - 1))
def test_integers_stay_below(key, below):
    (found,) = draws.integers(np.array([key], np.uint64), below)
    assert 0 <= found < below


def test_normals_are_normal_and_independent():
    found = draws.normals(numbered(), 3)
    assert found.shape == (COUNT, 3)
    error = 1 / COUNT**0.5
    assert np.abs(found.mean(axis=0)).max() < 4 * error
    np.testing.assert_allclose(np.cov(found.T), np.eye(3), atol=6 * error)
    # Neighbours in the row of keys too, and tails as thick as they should be.
    assert np.abs(np.mean(found[1:] * found[:-1], axis=0)).max() < 4 * error
    within = [np.mean(np.abs(found) < deviations) for deviations in (1, 2, 3)]
    np.testing.assert_allclose(within, [0.6827, 0.9545, 0.9973], atol=0.005)


def test_fewer_normals_are_the_first_of_more():
    np.testing.assert_array_equal(
        draws.normals(numbered(), 5)[:, :3], draws.normals(numbered(), 3)
    )


@pytest.mark.parametrize("key", [0, 2**64 - 1])
def test_normals_are_finite_at_the_ends(key):
    assert np.isfinite(draws.normals(np.array([key], np.uint64), 4)).all()
