"""The fast paths of convolutions on CPUs compute the same and stay on CPUs."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_arrays import normal
from reference import library_layers

from alexnet_jax.model import layers
from alexnet_jax.model.layers import (
    blocks_cpu,
    few_channels_cpu,
    kernel_gradient_cpu,
    small_maps_cpu,
)

EVERYWHERE = mock.patch.object(kernel_gradient_cpu, "is_faster", return_value=True)
TWO_IMAGES_AT_ONCE = mock.patch.object(
    kernel_gradient_cpu, "images_at_once", lambda count, *_: 2 - count % 2
)
KERNEL_GRADIENTS = [  # images, height, width, window, stride, padding
    (3, 17, 17, 11, 4, ((0, 3), (0, 3))),
    (3, 9, 12, 5, 1, ((2, 2), (2, 2))),
    (12, 16, 16, 5, 1, ((2, 2), (2, 2))),  # Six blocks of two images.
    (3, 10, 9, 3, 2, ((1, 0), (2, 1))),
    (3, 11, 11, 2, 3, ((0, 0), (0, 0))),  # The stride skips the last pixels.
    (3, 3, 3, 3, 1, ((0, 0), (0, 0))),
]


def assert_same_gradients(ours, plain, x, kernel, tolerance):
    """Of the input and of the kernel, within `tolerance` of the largest value."""

    @jax.jit
    def both(x, kernel):
        y, backward = jax.vjp(plain, x, kernel)
        gradient = jnp.cos(y)
        return backward(gradient), jax.vjp(ours, x, kernel)[1](gradient)

    with EVERYWHERE, TWO_IMAGES_AT_ONCE:
        results = both(x, kernel)
    for expected, found in zip(*results, strict=True):
        assert found.dtype == expected.dtype == x.dtype
        found, expected = (np.asarray(v, np.float64) for v in (found, expected))
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error <= tolerance


@pytest.mark.parametrize(
    ("images", "height", "width", "window", "stride", "padding", "dtype", "tolerance"),
    [(*case, "float32", 1e-6) for case in KERNEL_GRADIENTS]
    + [(*case, "bfloat16", 2**-7) for case in KERNEL_GRADIENTS[:2]],
)
def test_gradients_by_matrix_products_are_those_of_xla(
    images, height, width, window, stride, padding, dtype, tolerance
):
    x = jnp.asarray(normal(23, images, height, width, 3), dtype)
    kernel = jnp.asarray(normal(24, window, window, 3, 4), dtype)

    def ours(x, kernel):
        return layers.convolve(x, kernel, stride=stride, padding=padding)

    def plain(x, kernel):
        return library_layers.convolve(
            x, kernel, stride=stride, padding=padding, towers=1
        )

    assert_same_gradients(ours, plain, x, kernel, tolerance)


def test_gradients_by_matrix_products_can_be_vmapped():
    x, kernel = (
        jnp.asarray(normal(27, 2, 3, 6, 6, 3)),
        jnp.asarray(normal(28, 3, 3, 3, 4)),
    )
    choices = {"stride": 1, "padding": ((1, 1), (1, 1))}

    def gradient(x):
        return jax.grad(
            lambda kernel: jnp.sin(layers.convolve(x, kernel, **choices)).sum()
        )(kernel)

    with EVERYWHERE:
        mapped = jax.jit(jax.vmap(gradient))(x)
    for one, other in zip(mapped, x, strict=True):
        np.testing.assert_allclose(one, gradient(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matrix_products_are_compiled_for_cpus_only(dtype):
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


@pytest.mark.parametrize(
    ("outputs", "kernel", "expected"),
    [
        ((128, 32, 32, 32), (5, 5, 3, 32), True),
        ((16, 16, 16, 16), (5, 5, 3, 16), False),
        ((8, 16, 16, 32), (5, 5, 32, 32), False),
        ((64, 8, 8, 64), (5, 5, 32, 64), True),
        ((128, 4, 4, 64), (5, 5, 32, 64), False),
        ((1, 13, 13, 384), (3, 3, 256, 384), True),
    ],
)
def test_kernel_gradients_of_little_work_are_left_to_xla(outputs, kernel, expected):
    """Matrix products cost more than they gain for them."""
    assert kernel_gradient_cpu.is_faster(outputs, kernel) == expected


SMALL_MAPS = [  # height, width, window, padding
    (4, 4, 5, ((2, 2), (2, 2))),
    (3, 4, 5, ((2, 2), (2, 2))),
    (2, 1, 3, ((1, 1), (1, 1))),
    (4, 2, 5, ((0, 3), (4, 1))),
    (3, 3, 4, ((1, 0), (3, 4))),
]


@pytest.mark.parametrize(
    ("height", "width", "window", "padding", "dtype", "tolerance"),
    [(*case, "float32", 1e-6) for case in SMALL_MAPS]
    + [(*SMALL_MAPS[1], "bfloat16", 2**-7)],
)
def test_kernels_larger_than_the_image_are_one_matrix_product(
    height, width, window, padding, dtype, tolerance
):
    x = jnp.asarray(normal(25, 3, height, width, 3), dtype)
    kernel = jnp.asarray(normal(26, window, window, 3, 4), dtype)
    assert small_maps_cpu.is_faster(x.shape, kernel.shape, 1)

    def ours(x, kernel):
        return layers.convolve(x, kernel, stride=1, padding=padding)

    def plain(x, kernel):
        return library_layers.convolve(x, kernel, stride=1, padding=padding, towers=1)

    found, expected = (
        np.asarray(convolve(x, kernel), np.float64) for convolve in (ours, plain)
    )
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
    assert_same_gradients(ours, plain, x, kernel, tolerance)

    xs, kernels = jnp.stack([x, -x]), jnp.stack([kernel, 2 * kernel])
    mapped = np.asarray(jax.jit(jax.vmap(ours))(xs, kernels), np.float64)
    for one, factor in zip(mapped, (1, -2), strict=True):
        assert np.abs(one - factor * found).max() <= tolerance * np.abs(one).max()


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_kernels_larger_than_the_image_are_convolved_elsewhere(platform):
    def total(x, kernel):
        return layers.convolve(x, kernel, stride=1, padding=((2, 2), (2, 2))).sum()

    shapes = ((16, 4, 4, 16), (5, 5, 16, 32))
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    traced = jax.jit(jax.value_and_grad(total)).trace(*arguments)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == (platform == "cuda")


@pytest.mark.parametrize("images", [1, 2, 7, 12, 128])
@pytest.mark.parametrize("size", [1, 64, 300, 3025])
def test_images_are_taken_in_equal_blocks(images, size):
    block = blocks_cpu.images_at_once(images, size, 512)
    assert images % block == 0
    assert block == 1 or block * size <= 512


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 2**-7)]
)
def test_images_with_an_added_channel_are_convolved_alike(dtype, tolerance):
    x = jnp.asarray(normal(29, 3, 19, 23, 3), dtype)
    kernel = jnp.asarray(normal(30, 11, 11, 3, 24), dtype)
    choices = {"stride": 4, "padding": ((0, 3), (0, 3))}
    assert few_channels_cpu.is_faster(kernel.shape)
    found, expected = (
        np.asarray(convolve(x, kernel), np.float64)
        for convolve in (
            lambda x, kernel: layers.convolve(x, kernel, **choices),
            lambda x, kernel: library_layers.convolve(x, kernel, **choices, towers=1),
        )
    )
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize(
    ("channels", "outputs", "added"),
    [(3, 24, True), (3, 32, True), (3, 16, False), (3, 96, False), (12, 32, False)],
)
def test_a_channel_is_added_on_cpus_only(channels, outputs, added):
    convolve = jax.jit(
        lambda x, k: layers.convolve(x, k, stride=1, padding=((2, 2), (2, 2)))
    )
    traced = convolve.trace(
        jax.ShapeDtypeStruct((8, 32, 32, channels), "float32"),
        jax.ShapeDtypeStruct((5, 5, channels, outputs), "float32"),
    )
    for name in ("cpu", "cuda"):
        text = traced.lower(lowering_platforms=(name,)).as_text()
        assert ("tensor<8x32x32x4xf32>" in text) == (added and name == "cpu")
