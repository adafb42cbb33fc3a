"""Order is a pure function of (seed, epoch), and each epoch a permutation."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alexnet_jax.data.order import epoch_order, examples_at


@given(st.integers(0, 2**31 - 1), st.integers(0, 1000), st.integers(1, 500))
def test_an_epoch_is_a_permutation(seed, epoch, num_examples):
    order = epoch_order(seed, epoch, num_examples)
    assert sorted(order.tolist()) == list(range(num_examples))


def test_order_depends_on_seed_and_epoch():
    orders = {tuple(epoch_order(s, e, 50)) for s in range(5) for e in range(5)}
    assert len(orders) == 25


def test_order_is_pinned():
    """A change of the hash would silently change every run."""
    assert epoch_order(1, 2, 10).tolist() == [1, 3, 7, 9, 2, 8, 6, 4, 5, 0]


@given(st.data(), st.integers(0, 2**31 - 1), st.integers(1, 40))
def test_places_go_through_one_epoch_after_the_other(data, seed, num_examples):
    first = data.draw(st.integers(0, 5 * num_examples))
    places = np.arange(first, first + data.draw(st.integers(1, 90)))
    endless = np.concatenate([epoch_order(seed, e, num_examples) for e in range(135)])
    found = examples_at(places, seed=seed, num_examples=num_examples)
    assert found.tolist() == endless[places].tolist()


def test_positions_are_uniform():
    """Each example comes first about as often as any other (chi-square, 9 degrees)."""
    firsts = np.array([epoch_order(7, epoch, 10)[0] for epoch in range(5000)])
    counts = np.bincount(firsts, minlength=10)
    assert ((counts - 500) ** 2 / 500).sum() < 27.9  # p = 0.001
