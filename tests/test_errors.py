"""The nearest right thing."""

from alexnet_jax.errors import nearest


def test_the_nearest_choice_is_named():
    assert nearest("digitz", ["cifar10", "digits"]) == " Did you mean 'digits'?"


def test_nothing_near_is_nothing_said():
    assert nearest("xyz", ["cifar10", "digits"]) == ""
    assert nearest("digits", []) == ""
