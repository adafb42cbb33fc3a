"""Comparisons against scipy, bounds, and the rule that chooses the standing."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from alexnet_jax.report.claims import paper_direction
from alexnet_jax.report.verdict import Standing, compare, standing

ROOT = Path(__file__).parents[2]


def ratios(pairs):
    return compare(pairs, ratio=True, limit=10.0)


def differences(pairs, **options):
    return compare(pairs, ratio=False, limit=None, **options)


def standing_beside(found, paper):
    metric = "epochs_to_train_error" if found["kind"] == "ratio" else "top1_error"
    return standing(found, paper_direction({"metric": metric, "paper": paper}))


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_ratios_have_the_interval_of_their_logarithms_by_scipy(count):
    random = np.random.default_rng(count)
    first, second = random.uniform(0.5, 9, (2, count))
    logarithms = np.log(first) - np.log(second)
    expected = stats.ttest_1samp(logarithms, 0).confidence_interval(0.95)
    found = ratios(list(zip(first, second, strict=True)))
    assert found["mean"] == pytest.approx(stats.gmean(first / second))
    assert (found["low"], found["high"]) == pytest.approx(
        (math.exp(expected.low), math.exp(expected.high))
    )


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_differences_have_the_interval_of_scipys_paired_test(count):
    first, second = np.random.default_rng(count).uniform(0, 1, (2, count))
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    found = differences(list(zip(first, second, strict=True)))
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))


def test_a_missing_value_never_enters_a_mean():
    """The curves end at 10 epochs: the mean ratio is at least sqrt(10 * 6)."""
    found = ratios([(None, 1.0), (6.0, 1.0)])
    assert (found["mean"], found["low"], found["n"]) == (None, None, 1)
    assert found["missing_first"] == 1
    assert found["at_least"] == pytest.approx(math.sqrt(60))
    # Seeds that did not reach the threshold are the slowest: the others look too fast.
    assert found["finished_pairs"] is None


def test_without_an_end_of_the_curves_there_is_no_bound():
    found = compare([(None, 1.0), (6.0, 1.0)], ratio=True, limit=None)
    assert (found["at_least"], found["at_most"]) == (None, None)


@pytest.mark.parametrize(
    ("pairs", "paper", "expected"),
    [
        ([(6.0, 1.0), (6.6, 1.0), (5.5, 1.0)], 6.0, Standing.SAME_CLEAR),
        ([(6.0, 1.0), (0.9, 1.0), (1.1, 1.0)], 6.0, Standing.SAME_UNCLEAR),
        ([(1.0, 1.0), (0.7, 1.0), (1.3, 1.0)], 6.0, Standing.NOT_SEEN),
        ([(0.5, 1.0), (0.52, 1.0), (0.48, 1.0)], 6.0, Standing.OPPOSITE_CLEAR),
        ([(0.5, 1.0), (0.52, 1.0), (0.48, 1.0)], 0.3, Standing.SAME_CLEAR),
        ([(3.0, 1.0)], 6.0, Standing.SAME_ONE_SEED),
        ([(0.3, 1.0)], 6.0, Standing.OPPOSITE_ONE_SEED),
        ([(1.0, 1.0)], 6.0, Standing.EQUAL_ONE_SEED),
        ([(None, 1.0), (6.0, 1.0)], 6.0, Standing.SAME_BOUND),
        ([(1.0, None), (1.0, 2.0)], 6.0, Standing.OPPOSITE_BOUND),
        ([(None, 11.0), (9.0, 10.0)], 6.0, Standing.NOT_ANSWERED),
        ([(None, None), (6.0, 1.0)], 6.0, Standing.NOT_ANSWERED),
    ],
)
def test_the_rule_for_ratios(pairs, paper, expected):
    assert standing_beside(ratios(pairs), paper) == expected


HIGHER = [(0.42, 0.40), (0.43, 0.41), (0.41, 0.388)]


@pytest.mark.parametrize(
    ("pairs", "paper", "expected"),
    [
        (HIGHER, 0.014, Standing.SAME_CLEAR),
        ([(b, a) for a, b in HIGHER], 0.014, Standing.OPPOSITE_CLEAR),
        ([(0.40, 0.40), (0.40, 0.40)], 0.014, Standing.NOT_SEEN),
        ([(None, 0.4), (0.5, 0.4)], 0.014, Standing.NOT_ANSWERED),
        # The paper gives no number:
        (HIGHER, "higher", Standing.SAME_CLEAR),
        (HIGHER, "lower", Standing.OPPOSITE_CLEAR),
        (HIGHER, None, Standing.DIFFERENCE_CLEAR),
        ([(0.42, 0.40), (0.39, 0.41)], None, Standing.DIFFERENCE_UNCLEAR),
        ([(0.42, 0.40)], None, Standing.ONE_SEED),
        ([(0.42, None)], None, Standing.NOT_ANSWERED),
    ],
)
def test_the_rule_for_differences(pairs, paper, expected):
    assert standing_beside(differences(pairs), paper) == expected


def test_equal_error_counts_are_no_effect_whatever_the_rounding():
    """11 of 359 against 11: their means differ by 1e-18."""
    errors = [(4 / 359, 5 / 359), (5 / 359, 4 / 359), (2 / 359, 2 / 359)]
    swapped = [(b, a) for a, b in errors]
    for pairs in (errors, swapped, [(1 / 3 - 1e-17, 1 / 3)] * 3):
        found = differences(pairs) | {"mean": 8.7e-19}
        for paper in ("higher", "lower", 0.02):
            assert standing_beside(found, paper) == Standing.NOT_SEEN
        # Without a minimum there is no width, and the interval is the rounding error.
        found |= {"low": 8.7e-19, "high": 8.7e-19}
        assert standing_beside(found, "lower") == Standing.NOT_SEEN
        assert standing_beside(found, None) == Standing.DIFFERENCE_UNCLEAR


def test_the_same_difference_of_one_image_in_three_seeds_is_not_clear():
    """Errors of 359 images in steps of one: without a minimum there is no width."""
    pairs = [(k / 359, (k + 1) / 359) for k in (3, 5, 6)]
    assert standing_beside(differences(pairs), -0.017) == Standing.SAME_CLEAR
    # The standard deviation of the difference of two numbers rounded to 1/359.
    minimum = math.sqrt(2 / 12) / 359
    found = differences(pairs, minimum_std=minimum)
    assert standing_beside(found, -0.017) == Standing.SAME_UNCLEAR
    half_width = stats.t.ppf(0.975, 2) * minimum / math.sqrt(3)
    assert found["high"] - found["mean"] == pytest.approx(half_width)
    wide = [(0.10, 0.05), (0.20, 0.05), (0.30, 0.05)]
    assert differences(wide, minimum_std=minimum) == differences(wide)


def test_old_summaries_are_understood():
    """Each standing that the committed answers hold, of whatever age."""
    found = []
    for path in (ROOT / "experiments").rglob("summary.json"):
        summary = json.loads(path.read_text())
        for answer in (summary, *summary.get("also", ())):
            claim = answer["claim"]
            for each in answer["comparisons"]:
                assert Standing(each["standing"]) == standing_beside(
                    each, claim["paper"]
                )
                found.append(each["standing"])
    assert len(found) > 30
    assert Standing("opposite, a bound only") == Standing.OPPOSITE_BOUND
    with pytest.raises(ValueError, match="no such words"):
        Standing("no such words")
