"""A convolution over folded pixels equals the one it replaces."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_arrays import normal

from alexnet_jax.model import layers


@pytest.mark.parametrize(
    ("height", "width", "window", "stride", "padding"),
    [
        (17, 17, 11, 4, ((0, 3), (0, 3))),
        (10, 9, 3, 2, ((1, 0), (2, 1))),
        (11, 11, 2, 3, ((0, 0), (0, 0))),  # The stride skips the last pixels.
    ],
)
def test_folding_pixels_leaves_a_convolution_as_it_is(
    height, width, window, stride, padding
):
    x = jnp.asarray(normal(25, 2, height, width, 3))
    kernel = jnp.asarray(normal(26, window, window, 3, 4))
    one, other = (
        jax.jit(functools.partial(form, stride=stride, padding=padding))(x, kernel)
        for form in (layers.space_to_depth_convolve, layers.convolve)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
