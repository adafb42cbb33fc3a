"""Some of the digits: most of a short run on all of them is its evaluations."""

import dataclasses

from alexnet_jax.data.open import open_source
from alexnet_jax.data.types import GrayImages


def few_digits(*, train=None, held_out=None):
    """The digits, of either split the first ones only."""
    source = open_source("digits", tfds_dir="")
    return dataclasses.replace(
        source,
        train=_first(source.train, train),
        validation=_first(source.validation, held_out),
    )


def _first(split, count):
    gray = GrayImages(*(values[:count] for values in split.gray))
    return dataclasses.replace(split, num_examples=len(gray.labels), gray=gray)
