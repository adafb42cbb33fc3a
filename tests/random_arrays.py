"""Arrays of normal draws for the tests of layers."""

import numpy as np


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
