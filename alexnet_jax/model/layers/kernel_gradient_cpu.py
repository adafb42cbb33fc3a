"""The gradient of a convolution's kernel as matrix products, faster than XLA's on CPUs.

XLA on CPU computes this gradient as a convolution whose kernel is as large as the images.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax.model.layers.blocks_cpu import images_at_once, varying_zero
from alexnet_jax.model.layers.shapes import FeatureMaps, Images, Kernel, Padding
from alexnet_jax.model.layers.space_to_depth import fold_images, unfold_kernel

# Multiplications of a batch from which `kernel_gradient` pays off, and from which it does
# where XLA is slowest, with the 3 channels of images. On an EPYC core it was 1.2 to 9 times
# as fast as XLA's above them: in AlexNet's layers and the four-layer network at batch 128,
# and in the first of them at batches of 1 and 8. Below them it was 0.7 to 1.1 times as fast.
MIN_MULTIPLICATIONS = 110_000_000
MIN_MULTIPLICATIONS_OF_IMAGES = 15_000_000

# Values of the first operand of a matrix product, 4 MB of float32, which should stay in the
# cache. A product takes the largest divisor of the batch that keeps to them. On an EPYC core
# a quarter to twice as many were as fast, and fewer cost more where two devices computed.
VALUES_AT_ONCE = 2**20


def is_faster(outputs: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Whether `kernel_gradient` pays off for outputs and a kernel of these shapes."""
    of_images = kernel[2] <= 3
    least = MIN_MULTIPLICATIONS_OF_IMAGES if of_images else MIN_MULTIPLICATIONS
    return math.prod(outputs[:3]) * math.prod(kernel) >= least


def kernel_gradient(
    x: Images,
    gradient: FeatureMaps,
    shape: tuple[int, ...],
    *,
    stride: int,
    padding: Padding,
) -> Kernel:
    """The gradient of `convolve` with respect to its kernel, which has this `shape`.

    A sum over blocks of a few images, each a matrix product (inputs of a pixel, pixels) by
    (pixels, output channels). With the pixels last in the first operand, its rows are
    images shifted by one position of the kernel, which are fast to copy whatever the
    number of channels, and both operands have the order that the product is fastest in.
    It computes in at least float32, which CPUs multiply faster than bfloat16.
    """
    count, rows, columns, outputs = gradient.shape
    height, width = (-(-window // stride) for window in shape[:2])
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    channels = shape[2] * stride**2
    values = height * width * channels * rows * columns
    images = images_at_once(count, values, VALUES_AT_ONCE)

    def block_sum(number: int | jax.Array) -> jax.Array:
        block = lax.dynamic_slice_in_dim(x, number * images, images).astype(dtype)
        block = jnp.moveaxis(fold_images(block, shape, stride, padding), -1, 0)
        # Shifted across, then down: two steps of few copies compile and run faster than
        # one step with a copy for each position of the kernel.
        block = jnp.stack([block[..., j : j + columns] for j in range(width)])
        block = jnp.stack([block[:, :, :, i : i + rows] for i in range(height)])
        errors = lax.dynamic_slice_in_dim(gradient, number * images, images)
        errors = errors.astype(dtype).reshape(-1, outputs)
        return lax.dot(block.reshape(-1, len(errors)), errors)

    total = lax.fori_loop(
        0,
        count // images,
        lambda number, total: total + block_sum(number),
        jnp.broadcast_to(
            varying_zero(dtype, x, gradient), (height * width * channels, outputs)
        ),
    )
    total = total.reshape(height, width, -1, outputs).astype(x.dtype)
    return unfold_kernel(jnp.moveaxis(total, -1, 0), shape, stride)
