"""The fast path of convolutions on CPUs computes the same and stays on CPUs."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_arrays import normal
from reference import library_layers

from alexnet_jax.model import layers
from alexnet_jax.model.layers import convolution_cpu


@pytest.mark.parametrize(
    ("height", "width", "window", "stride", "padding", "dtype"),
    [
        (17, 17, 11, 4, ((0, 3), (0, 3)), jnp.float32),
        (17, 17, 11, 4, ((0, 3), (0, 3)), jnp.bfloat16),
        (9, 12, 5, 1, ((2, 2), (2, 2)), jnp.float32),
        (10, 9, 3, 2, ((1, 0), (2, 1)), jnp.float32),
        (10, 9, 3, 2, ((1, 0), (2, 1)), jnp.bfloat16),
        # The stride skips the last pixels.
        (11, 11, 2, 3, ((0, 0), (0, 0)), jnp.float32),
        (3, 3, 3, 1, ((0, 0), (0, 0)), jnp.float32),
    ],
)
def test_gradients_with_the_loop_are_those_of_xla(
    height, width, window, stride, padding, dtype
):
    x = jnp.asarray(normal(23, 3, height, width, 3), dtype)
    kernel = jnp.asarray(normal(24, window, window, 3, 4), dtype)

    def both_gradients(convolve):
        @jax.jit
        def run(x, kernel):
            y, backward = jax.vjp(convolve, x, kernel)
            return y, *backward(jnp.cos(y))

        return run(x, kernel)

    def ours(x, kernel):
        with mock.patch.object(convolution_cpu, "MIN_LOOP_MULTIPLICATIONS", 0):
            return layers.convolve(x, kernel, stride=stride, padding=padding)

    def plain(x, kernel):
        return library_layers.convolve(
            x, kernel, stride=stride, padding=padding, towers=1
        )

    tolerance = 1e-5 if dtype == jnp.float32 else 2**-6
    for one, other in zip(both_gradients(ours), both_gradients(plain), strict=True):
        assert one.dtype == other.dtype == dtype
        one, other = (np.asarray(v, np.float64) for v in (one, other))
        np.testing.assert_allclose(
            one, other, rtol=tolerance, atol=tolerance * np.abs(other).max()
        )


def test_gradients_with_the_loop_can_be_vmapped():
    x, kernel = (
        jnp.asarray(normal(27, 2, 3, 6, 6, 3)),
        jnp.asarray(normal(28, 3, 3, 3, 4)),
    )
    choices = {"stride": 1, "padding": ((1, 1), (1, 1))}

    def gradient(x):
        return jax.grad(
            lambda kernel: jnp.sin(layers.convolve(x, kernel, **choices)).sum()
        )(kernel)

    with mock.patch.object(convolution_cpu, "MIN_LOOP_MULTIPLICATIONS", 0):
        mapped = jax.jit(jax.vmap(gradient))(x)
    for one, other in zip(mapped, x, strict=True):
        np.testing.assert_allclose(one, gradient(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_loop_is_compiled_for_cpus_only(dtype):
    def loss(kernel, x):
        y = layers.convolve(x, kernel, stride=4, padding=((0, 3), (0, 3)))
        return y.astype(jnp.float32).sum()

    shapes = ((11, 11, 3, 96), (2, 224, 224, 3))
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    traced = jax.jit(jax.grad(loss)).trace(*arguments)
    cpu, gpu = (
        traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")
    )
    assert "stablehlo.while" in cpu
    assert "stablehlo.while" not in gpu


def test_small_convolutions_are_left_to_xla():
    """The loop costs more than it gains for them."""

    def loops(*shapes):
        def total(x, kernel):
            return layers.convolve(x, kernel, stride=1, padding=((2, 2), (2, 2))).sum()

        arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        return "scan[" in str(jax.make_jaxpr(jax.grad(total, 1))(*arguments))

    assert not loops((128, 32, 32, 3), (5, 5, 3, 32))
    assert not loops((16, 8, 8, 16), (5, 5, 16, 16))
    assert loops((128, 27, 27, 48), (5, 5, 48, 128))
