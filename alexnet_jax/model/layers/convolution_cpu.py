"""Faster convolutions on CPUs: the kernel's gradient as a loop, and vmap unrolled.

Neither is used on other platforms.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax.model.layers.shapes import FeatureMaps, Images, Kernel, Padding
from alexnet_jax.model.layers.space_to_depth import fold_images, unfold_kernel

# Multiplications an image from which `kernel_gradient` pays off. On an EPYC core it was
# 3.1 times as fast as XLA's at AlexNet's conv1 (105 million), 1.2 to 1.3 times at conv3
# to conv5 (37 million and more) and as fast at conv2 (112 million), but up to 3 times as
# slow in the four-layer network (10 million and fewer).
MIN_LOOP_MULTIPLICATIONS = 20_000_000


def is_loop_faster(outputs: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Whether `kernel_gradient` pays off for outputs and a kernel of these shapes."""
    _, rows, columns, _ = outputs
    return rows * columns * math.prod(kernel) >= MIN_LOOP_MULTIPLICATIONS


def kernel_gradient(
    x: Images,
    gradient: FeatureMaps,
    shape: tuple[int, ...],
    *,
    stride: int,
    padding: Padding,
) -> Kernel:
    """The gradient of `convolve` with respect to its kernel, which has this `shape`.

    One matrix product an image, small enough to stay in the cache: (output channels,
    output pixels) by (output pixels, the inputs that each of them saw). XLA on CPU
    computes the gradient as a convolution whose kernel is as large as the images.
    """
    rows, columns, outputs = gradient.shape[1:]
    height, width = (-(-window // stride) for window in shape[:2])
    dtype = jnp.promote_types(x.dtype, jnp.float32)

    def image_contribution(number: int | jax.Array) -> jax.Array:
        image = lax.dynamic_slice_in_dim(x, number, 1)
        image = fold_images(image, shape, stride, padding)[0]
        seen = [
            image[i : i + rows, j : j + columns]
            for i in range(height)
            for j in range(width)
        ]
        patches = jnp.concatenate(seen, axis=-1).reshape(rows * columns, -1)
        errors = lax.dynamic_index_in_dim(gradient, number, keepdims=False)
        errors = errors.reshape(rows * columns, outputs)
        return lax.dot(errors.T, patches, preferred_element_type=dtype)

    # The sum starts from the first image's, not from zeros: under shard_map zeros would
    # count as equal on all devices.
    total = lax.fori_loop(
        1,
        len(x),
        lambda number, total: total + image_contribution(number),
        image_contribution(0),
    )
    total = total.reshape(outputs, height, width, -1).astype(x.dtype)
    return unfold_kernel(total, shape, stride)


def unroll_vmap(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Returns `function`, which `jax.vmap` on a CPU calls once a trial.

    Elsewhere `jax.vmap` makes one grouped convolution of convolutions whose kernels
    differ. XLA on CPU took 5 to 13 times as long for it as for one convolution after the
    other, at five of six sizes of the four-layer network.
    """
    wrapped = jax.custom_batching.custom_vmap(function)

    @wrapped.def_vmap
    def vmapped(count, is_batched, *arguments):
        axes = [0 if batched else None for batched in is_batched]

        def unrolled(*arguments):
            return jnp.stack(
                [
                    function(
                        *(
                            argument[i] if axis == 0 else argument
                            for argument, axis in zip(arguments, axes, strict=True)
                        )
                    )
                    for i in range(count)
                ]
            )

        grouped = jax.vmap(function, in_axes=axes)
        return lax.platform_dependent(*arguments, cpu=unrolled, default=grouped), True

    return wrapped
