"""The digits match scikit-learn's: both splits, labels and locations."""

import numpy as np
import pytest
import tensorflow as tf
from reading import read_by_many_threads, records
from sklearn.datasets import load_digits

from alexnet_jax.data import digits as handwritten


@pytest.fixture(scope="module")
def digits():
    return handwritten.open_digits()


def test_there_are_1438_training_and_359_validation_digits(digits):
    assert (digits.name, digits.train.name, digits.validation.name) == (
        "digits",
        "train",
        "test",
    )
    assert digits.train.num_examples == len(digits.train) == 1438
    assert digits.validation.num_examples == len(digits.validation) == 359
    assert digits.class_names == tuple("0123456789")


def test_every_fifth_digit_is_held_out(digits):
    """Pixels and labels are scikit-learn's; together the splits are all 1,797."""
    original = load_digits()
    held = set(range(4, 1797, 5))
    kept = [i for i in range(1797) if i not in held]
    for split, indices in ((digits.train, kept), (digits.validation, sorted(held))):
        assert split.num_examples == len(indices)
        for i, (encoded, label) in zip(indices, records(split), strict=True):
            assert label == original.target[i]
            pixels = tf.io.decode_png(encoded, channels=1).numpy()[..., 0]
            # 0..16 is scaled to 0..255.
            assert np.abs(pixels / 255 - original.images[i] / 16).max() < 0.002


def test_no_digit_is_in_both_splits(digits):
    train, held = (
        {encoded for encoded, _ in records(split)}
        for split in (digits.train, digits.validation)
    )
    assert len(train) == 1438  # no two are equal
    assert train.isdisjoint(held)


def test_the_fingerprint_of_digits_is_stable(digits):
    """A different value would invalidate every existing run folder."""
    assert handwritten.open_digits().fingerprint == digits.fingerprint
    assert len(digits.fingerprint) == 16
    assert int(digits.fingerprint, 16) != 0


def test_where_identifies_the_digit(digits):
    original = load_digits()
    for split in (digits.train, digits.validation):
        for i in (0, 7, split.num_examples - 1):
            number = int(split.where(i).split()[1])
            assert split.where(i) == f"digit {number} of scikit-learn's load_digits()"
            assert split.read(i)[1] == original.target[number]


def test_several_threads_read_the_right_digits(digits):
    expected = dict(enumerate(records(digits.train)))
    assert all(got == expected for got in read_by_many_threads(digits.train))
