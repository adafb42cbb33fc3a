"""Suggestions for misspelled names."""

from alexnet_jax.errors import nearest


def test_the_nearest_choice_is_named():
    assert nearest("digitz", ["cifar10", "digits"]) == " Did you mean 'digits'?"


def test_without_a_near_choice_there_is_no_suggestion():
    assert nearest("xyz", ["cifar10", "digits"]) == ""
    assert nearest("digits", []) == ""


def test_nothing_is_suggested_that_shares_an_end_only():
    assert nearest("calibration_error", ("train_top1_error", "top1_error")) == ""
    assert nearest("mean_error", ("top5_error",)) == ""
    assert nearest("cfg", ("config",)) == " Did you mean 'config'?"
