"""Sample order and random draws are pure functions with the right distributions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.data import sampling
from alexnet_jax.data.sampling import ExampleOrder, epoch_order

COUNT = 20_000


def numbered(*more):
    return sampling.keys(5, np.arange(COUNT), *more)


def test_keys_are_pinned():
    """A changed hash would silently change every run."""
    assert sampling.keys(1, 2, np.array([3, 4])).tolist() == [
        7702586659592502839,
        14056738641343212577,
    ]


@settings(deadline=None)
@given(*[st.integers(0, 2**62)] * 4)
def test_a_key_depends_on_each_number_and_its_position(seed, a, b, c):
    key = sampling.keys(seed, a, b)
    assert key == sampling.keys(seed, a, b)
    others = [(seed, a, c), (seed, c, b), (c, a, b), (seed, b, a), (seed, a)]
    for other in others:
        assert (sampling.keys(*other) == key) == (other == (seed, a, b))


def test_a_key_does_not_depend_on_its_neighbors():
    some = np.array([7, 3, 11])
    together = sampling.keys(1, some, 2)
    alone = [sampling.keys(1, number, 2)[0] for number in some.tolist()]
    assert together.tolist() == alone


@pytest.mark.parametrize(
    "below_limit",
    # The limits of chi-square, with 1, 24 and 1088 degrees of freedom, at p = 0.001.
    [(2, 10.8), (25, 51.2), (33 * 33, 1237.8)],
    ids=str,
)
def test_integers_are_equally_likely(below_limit):
    below, limit = below_limit
    for purpose in range(3):
        found = sampling.integers(numbered(purpose), below)
        counts = np.bincount(found, minlength=below)
        assert len(counts) == below
        assert counts.min() > 0
        assert ((counts - COUNT / below) ** 2 / (COUNT / below)).sum() < limit


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(1, 2**31 - 1))
def test_integers_stay_below(key, below):
    (found,) = sampling.integers(np.array([key], np.uint64), below)
    assert 0 <= found < below


def test_normals_are_normal_and_independent():
    found = sampling.normals(numbered(), 3)
    assert found.shape == (COUNT, 3)
    error = 1 / COUNT**0.5
    assert np.abs(found.mean(axis=0)).max() < 4 * error
    np.testing.assert_allclose(np.cov(found.T), np.eye(3), atol=6 * error)
    # Neighboring keys are independent too, and the tails have the right weight.
    assert np.abs(np.mean(found[1:] * found[:-1], axis=0)).max() < 4 * error
    within = [np.mean(np.abs(found) < stds) for stds in (1, 2, 3)]
    np.testing.assert_allclose(within, [0.6827, 0.9545, 0.9973], atol=0.005)


def test_fewer_normals_are_a_prefix_of_more():
    np.testing.assert_array_equal(
        sampling.normals(numbered(), 5)[:, :3], sampling.normals(numbered(), 3)
    )


@pytest.mark.parametrize("key", [0, 2**64 - 1])
def test_normals_are_finite_for_extreme_keys(key):
    assert np.isfinite(sampling.normals(np.array([key], np.uint64), 4)).all()


# --- The order of examples --------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 1000), st.integers(1, 500))
def test_an_epoch_is_a_permutation(seed, epoch, num_examples):
    order = epoch_order(seed, epoch, num_examples)
    assert sorted(order.tolist()) == list(range(num_examples))


def test_order_depends_on_seed_and_epoch():
    orders = {tuple(epoch_order(s, e, 50)) for s in range(5) for e in range(5)}
    assert len(orders) == 25


def test_order_is_pinned():
    """A changed hash would silently change every run."""
    assert epoch_order(1, 2, 10).tolist() == [1, 3, 7, 9, 2, 8, 6, 4, 5, 0]


@settings(deadline=None)
@given(st.data(), st.integers(0, 2**31 - 1), st.integers(1, 40))
def test_positions_run_through_one_epoch_after_another(data, seed, num_examples):
    first = data.draw(st.integers(0, 5 * num_examples))
    positions = np.arange(first, first + data.draw(st.integers(1, 90)))
    endless = np.concatenate([epoch_order(seed, e, num_examples) for e in range(135)])
    found = ExampleOrder(seed, num_examples).at(positions)
    assert found.tolist() == endless[positions].tolist()


def test_each_seed_keeps_the_order_of_its_epochs(monkeypatch):
    """Also where several seeds take turns, and a batch ends one epoch and begins another."""
    sorted_epochs = []

    def counted(seed, epoch, num_examples):
        sorted_epochs.append((seed, epoch))
        return epoch_order(seed, epoch, num_examples)

    monkeypatch.setattr(sampling, "epoch_order", counted)
    orders = [ExampleOrder(seed, 10) for seed in range(3)]
    for first in range(0, 40, 4):
        for order in orders:
            order.at(np.arange(first, first + 4))
    assert sorted(sorted_epochs) == [(s, e) for s in range(3) for e in range(4)]


def test_positions_are_uniform():
    """Each example comes first about as often as any other (chi-square, 9 degrees)."""
    firsts = np.array([epoch_order(7, epoch, 10)[0] for epoch in range(5000)])
    counts = np.bincount(firsts, minlength=10)
    assert ((counts - 500) ** 2 / 500).sum() < 27.9  # p = 0.001
