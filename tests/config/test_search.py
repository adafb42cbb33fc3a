"""Grids, products, rows and random draws of tuned values."""

import math

import numpy as np
import pytest
from small_question import question, resolved

from alexnet_jax.config import search

RATE, DECAY, MOMENTUM = (
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "optimizer.momentum",
)


def test_entries_are_multiplied_and_rows_kept_together():
    tuned = {
        MOMENTUM: (0.0, 0.9),
        **search.together({RATE: (0.1, 0.01, 0.001), DECAY: (0.0, 0.1, 0.2)}),
    }
    found = search.settings(tuned)
    assert len(found) == 2 * 3
    assert found[1] == {MOMENTUM: 0.0, RATE: 0.01, DECAY: 0.1}
    assert {(one[RATE], one[DECAY]) for one in found} == {
        (0.1, 0.0),
        (0.01, 0.1),
        (0.001, 0.2),
    }
    assert search.values_of(tuned) == {
        MOMENTUM: (0.0, 0.9),
        RATE: (0.1, 0.01, 0.001),
        DECAY: (0.0, 0.1, 0.2),
    }


def test_without_entries_there_is_one_setting_of_nothing():
    assert search.settings({}) == [{}]
    assert search.values_of({}) == {}


def test_rows_need_as_many_values_of_each_field():
    with pytest.raises(ValueError, match="shorter"):
        search.together({RATE: (0.1, 0.01), DECAY: (0.0,)})


def test_draws_are_the_same_each_time_and_follow_their_distributions():
    fields = {RATE: search.log_uniform(1e-4, 1e-1), DECAY: search.uniform(0, 0.01)}
    drawn = search.draws(500, fields)
    assert drawn == search.draws(500, fields)
    assert drawn != search.draws(500, fields, seed=1)
    rates, decays = zip(*drawn[f"{RATE},{DECAY}"], strict=True)
    assert min(rates) >= 1e-4
    assert max(rates) <= 1e-1
    # A log-uniform draw: a third in each decade, within five standard deviations.
    shares = np.histogram(np.log10(rates), bins=[-4, -3, -2, -1])[0] / 500
    assert shares == pytest.approx([1 / 3] * 3, abs=5 * math.sqrt(2 / 9 / 500))
    assert np.mean(decays) == pytest.approx(0.005, abs=5 * 0.01 / math.sqrt(12 * 500))
    assert all(rate == float(f"{rate:.3g}") for rate in rates)


def test_draws_of_a_single_field_are_its_values():
    drawn = search.draws(4, {RATE: search.log_uniform(1e-4, 1e-1)})
    assert set(drawn) == {RATE}
    assert [type(value) for value in drawn[RATE]] == [float] * 4


def test_an_overridden_field_of_several_is_pinned_and_equal_rows_are_kept_once():
    tuned = search.together({RATE: (0.1, 0.01, 0.001), MOMENTUM: (0.5, 0.9, 0.9)})
    plan = resolved(question(tuned=tuned), optimizer__learning_rate=0.2)
    assert search.settings(plan.tuned) == [
        {RATE: 0.2, MOMENTUM: 0.5},
        {RATE: 0.2, MOMENTUM: 0.9},
    ]


def test_pinning_leaves_other_entries_alone():
    tuned = {RATE: (0.1, 0.01), MOMENTUM: (0.5, 0.9)}
    assert search.pinned(tuned, MOMENTUM, 0.7) == {RATE: (0.1, 0.01), MOMENTUM: (0.7,)}
