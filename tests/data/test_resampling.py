"""Small images in memory are enlarged without TensorFlow, to the pixels it computes."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from alexnet_jax.data import images, pipeline
from alexnet_jax.data.open import open_source
from alexnet_jax.data.resampling import enlarged


@pytest.mark.parametrize("side", [1, 5, 8, 28])
@pytest.mark.parametrize("size", [28, 31, 64, 72, 227, 256])
def test_enlarged_pixels_equal_those_of_tensorflow(side, size):
    """Bit-identical, also where a pixel lies halfway between two gray levels."""
    rng = np.random.default_rng(side * 1000 + size)
    image = rng.integers(0, 256, (side, side), np.uint8)
    three = tf.constant(np.repeat(image[..., None], 3, axis=-1))
    expected = images.rescale(three, size, "shorter_side").numpy()
    np.testing.assert_array_equal(enlarged(image, size), expected[..., 1])


# Warped smaller, and enlarged.
@pytest.mark.parametrize("size", [pytest.param(6, marks=pytest.mark.slow), 40])
def test_digits_are_the_same_without_and_with_tensorflow(size):
    source = open_source("digits", tfds_dir="")
    encoded = dataclasses.replace(
        source,
        train=dataclasses.replace(source.train, gray=None),
        validation=dataclasses.replace(source.validation, gray=None),
    )
    here, there = (
        pipeline.load_data(one, rescale="shorter_side", rescale_size=size)
        for one in (source, encoded)
    )
    for ours, others in (
        (here.train, there.train),
        (here.validation, there.validation),
    ):
        np.testing.assert_array_equal(ours.images, others.images)
        np.testing.assert_array_equal(ours.labels, others.labels)


@pytest.mark.slow
def test_a_run_on_digits_does_not_import_tensorflow():
    """It takes 7 s and 700 MB, which only files need."""
    program = """
import sys
from alexnet_jax.data.open import open_source
from alexnet_jax.data.pipeline import examples_at, load_data, train_batches
from alexnet_jax.experiment import preflight, runner
from alexnet_jax.report import page
load_data(open_source("digits", tfds_dir=""), rescale="warp", rescale_size=9)
print("tensorflow" in sys.modules)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
