"""The gradient of a convolution's kernel as matrix products, faster than XLA's on CPUs.

XLA on CPU computes this gradient as a convolution whose kernel is as large as the images.
"""

import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax.model.layers.blocks_cpu import images_at_once
from alexnet_jax.model.layers.shapes import FeatureMaps, Images, Kernel, Padding
from alexnet_jax.model.layers.space_to_depth import fold_images, unfold_kernel

# Output pixels an image from which `kernel_gradient` pays off. On an EPYC core it was 2 to
# 9 times as fast as XLA's in AlexNet's conv1 to conv5 and in conv1 and conv2 of the
# four-layer network, 1.3 times at 8x8 and 1.2 times at 6x6 pixels, and 0.9 times at 4x4.
# Batches of 16 to 128 and 3 to 384 channels were tried; with 16 channels the two were
# within 10% of each other.
MIN_PIXELS = 36

# Output pixels of one matrix product, which takes as many images as have them and at
# least one: its operands should stay in the cache. 256 to 1024 were as fast.
PIXELS_AT_ONCE = 512


def is_faster(outputs: tuple[int, ...]) -> bool:
    """Whether `kernel_gradient` pays off for outputs (n, i, j, d) of this shape."""
    _, rows, columns, _ = outputs
    return rows * columns >= MIN_PIXELS


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
    images = images_at_once(count, rows * columns, PIXELS_AT_ONCE)

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

    # The sum starts from a zero that depends on the arrays, until XLA simplifies it:
    # under shard_map a plain one would count as equal on all devices.
    first = x[0, 0, 0, 0] > gradient[0, 0, 0, 0]
    zero = lax.select(first, jnp.zeros((), dtype), jnp.zeros((), dtype))
    total = lax.fori_loop(
        0,
        count // images,
        lambda number, total: total + block_sum(number),
        jnp.broadcast_to(zero, (height * width * channels, outputs)),
    )
    total = total.reshape(height, width, -1, outputs).astype(x.dtype)
    return unfold_kernel(jnp.moveaxis(total, -1, 0), shape, stride)
