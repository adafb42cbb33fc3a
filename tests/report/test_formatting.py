"""Numbers, arms without a value, and names of datasets as a report shows them."""

import pytest
from report_records import CLAIM

from alexnet_jax.report import formatting

ERROR = CLAIM | {"metric": "top1_error"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(5.213, "5.2"), (0.609, "0.61"), (36.4, "36"), (1.0, "1"), (1.004, "1.004")],
)
def test_a_ratio_other_than_1_is_not_shown_as_1(value, shown):
    assert formatting.show_value(value, CLAIM) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.014, "1.4"), (-0.00043, "-0.04"), (-0.00001, "0.0"), (0.0, "0.0")],
)
def test_a_difference_is_not_shown_as_none_unless_it_is(value, shown):
    assert formatting.show_value(value, ERROR) == f"{shown} points"


def test_an_error_of_one_arm_is_in_percent():
    claim = ERROR | {"compare": None}
    assert formatting.show_value(0.182, claim) == "18.2%"


def test_arms_without_a_mean_tell_why():
    facts = {"mean": None, "without_value": 1, "per_seed": [0.1, None, 0.2]}
    shown = formatting.show_interval(facts | {"diverged": 1, "unfinished": 0}, ERROR)
    assert shown == "1 of 3 seeds without a value (1 diverged)"
    # As summary.json files were before they counted diverged seeds.
    assert formatting.show_interval(facts, CLAIM) == "1 of 3 seeds did not reach it"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("cifar10:3.0.2", "CIFAR-10"),
        ("tfds=fashion_mnist/3.0.1", "Fashion-MNIST"),
        ("folder=flowers", "the folder flowers"),
        ("stanford_dogs", "stanford_dogs"),
    ],
)
def test_titles_of_datasets(name, title):
    assert formatting.dataset_title(name) == title
