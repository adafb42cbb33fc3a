"""Dropout in both forms (section 4.2)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_arrays import normal

from alexnet_jax.model import layers


def keys(*numbers):
    return jax.vmap(jax.random.key)(jnp.asarray(numbers))


def test_dropout_in_evaluation_multiplies_by_the_share_kept():
    x = jnp.asarray(normal(12, 3, 40))
    y = layers.dropout(x, rate=0.25, form="mask", keys=None, layer=6)
    np.testing.assert_allclose(y, 0.75 * x, rtol=1e-6)


def test_dropout_in_training_zeroes_units_or_leaves_them_unchanged():
    x = jnp.asarray(normal(13, 4, 5000))
    y = layers.dropout(x, rate=0.25, form="mask", keys=keys(0, 1, 2, 3), layer=6)
    dropped = np.asarray(y == 0)
    np.testing.assert_array_equal(y, np.where(dropped, 0, x))
    # 20,000 units: four standard deviations.
    assert dropped.mean() == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 20000))


def test_an_examples_mask_does_not_depend_on_its_neighbors():
    ones = jnp.ones((4, 100))
    together = layers.dropout(
        ones, rate=0.5, form="mask", keys=keys(5, 6, 7, 8), layer=6
    )
    alone = layers.dropout(ones[:1], rate=0.5, form="mask", keys=keys(7), layer=6)
    moved = layers.dropout(ones, rate=0.5, form="mask", keys=keys(7, 1, 6, 5), layer=6)
    np.testing.assert_array_equal(together[2:3], alone)
    np.testing.assert_array_equal(together[2], moved[0])
    np.testing.assert_array_equal(together[1], moved[2])
    np.testing.assert_array_equal(together[0], moved[3])


def test_each_example_and_layer_has_its_own_mask():
    ones = jnp.ones((2, 100))
    six = layers.dropout(ones, rate=0.5, form="mask", keys=keys(0, 1), layer=6)
    seven = layers.dropout(ones, rate=0.5, form="mask", keys=keys(0, 1), layer=7)
    masks = {tuple(mask.tolist()) for mask in (*six, *seven)}
    assert len(masks) == 4


@pytest.mark.parametrize("train", [False, True])
def test_dropout_of_rate_zero_does_nothing(train):
    x = jnp.asarray(normal(14, 2, 10))
    y = layers.dropout(
        x, rate=0.0, form="mask", keys=keys(0, 1) if train else None, layer=6
    )
    np.testing.assert_array_equal(y, x)


def test_inverted_dropout_scales_in_training_and_does_nothing_in_evaluation():
    x = jnp.asarray(normal(9, 4, 50))
    masked = layers.dropout(x, rate=0.25, form="mask", keys=keys(0, 1, 2, 3), layer=6)
    y = layers.dropout(x, rate=0.25, form="inverted", keys=keys(0, 1, 2, 3), layer=6)
    np.testing.assert_allclose(y, masked / 0.75, rtol=1e-6)
    tested = layers.dropout(x, rate=0.25, form="inverted", keys=None, layer=6)
    assert (tested == x).all()
