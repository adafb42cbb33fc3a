"""Intervals against scipy."""

import numpy as np
import pytest
from scipy import stats

from alexnet_jax.report.verdict import Interval, interval


def test_interval_is_students_t():
    values = [1.0, 2.0, 4.0, 4.5]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = interval(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_ratios_are_averaged_in_logarithms():
    """2 and 1/2 cancel; the interval of ratios is symmetric in logarithms."""
    found = interval([2.0, 0.5], ratio=True)
    assert found.mean == pytest.approx(1.0)
    assert found.low * found.high == pytest.approx(1.0)


def test_one_value_has_no_interval_and_no_value_has_no_mean():
    assert interval([3.0]) == Interval(3.0, None, None, 1)
    assert interval([]) == Interval(None, None, None, 0)


def test_a_smaller_standard_deviation_is_replaced():
    low_high = interval([1.0, 1.0, 1.0], minimum_std=0.3)
    half_width = stats.t.ppf(0.975, 2) * 0.3 / np.sqrt(3)
    assert low_high.high - low_high.mean == pytest.approx(half_width)
    assert interval([1.0, 2.0], minimum_std=0.3) == interval([1.0, 2.0])
