"""Convolutions in one or two towers (section 3.2, Figure 2)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Key

from alexnet_jax.model.layers import (
    convolution_cpu,
    few_channels_cpu,
    kernel_gradient_cpu,
    small_maps_cpu,
)
from alexnet_jax.model.layers.initialization import (
    LayerInitialization,
    initial_parameters,
)
from alexnet_jax.model.layers.shapes import FeatureMaps, Images, Kernel, Padding


class Convolution(nnx.Module):
    """A convolution with bias; each tower reads its own share of the input channels.

    The kernel has the shape (height, width, in_channels / towers, out_channels), where
    `channels` is (in_channels, out_channels).
    """

    def __init__(
        self,
        channels: tuple[int, int],
        *,
        window: int,
        stride: int,
        padding: Padding,
        towers: int,
        initialization: LayerInitialization,
        key: Key[Array, ""],
    ) -> None:
        in_channels, out_channels = channels
        shape = (window, window, in_channels // towers, out_channels)
        kernel, bias = initial_parameters(shape, initialization, key)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)
        self.stride = stride
        self.padding = padding
        self.towers = towers

    def __call__(self, x: Images) -> FeatureMaps:
        # One convolution a tower, not feature_group_count=2: XLA on CPU runs grouped
        # convolutions 6 to 8 times slower.
        inputs = jnp.split(x, self.towers, axis=-1)
        kernels = jnp.split(self.kernel[...].astype(x.dtype), self.towers, axis=-1)
        outputs = [
            convolve(x_tower, kernel, stride=self.stride, padding=self.padding)
            for x_tower, kernel in zip(inputs, kernels, strict=True)
        ]
        bias = self.bias[...].astype(x.dtype)
        return jnp.concatenate(outputs, axis=-1) + jnp.expand_dims(bias, (0, 1, 2))


def convolve(
    x: Images, kernel: Kernel, *, stride: int, padding: Padding
) -> FeatureMaps:
    """Cross-correlates the images of one tower with a kernel; no bias."""
    return _convolve(x, kernel, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: Images, kernel: Kernel, stride: int, padding: Padding) -> FeatureMaps:
    xla = functools.partial(_xla_convolve, stride=stride, padding=padding)

    def with_added_channel(x, kernel):
        return xla(*few_channels_cpu.with_added_channel(x, kernel))

    def forward(x, kernel):
        if small_maps_cpu.is_faster(x.shape, kernel.shape, stride):
            cpu: Callable = functools.partial(small_maps_cpu.convolve, padding=padding)
        elif few_channels_cpu.is_faster(kernel.shape):
            cpu = with_added_channel
        else:
            return xla(x, kernel)
        return lax.platform_dependent(x, kernel, cpu=cpu, default=xla)

    return convolution_cpu.unroll_vmap(forward)(x, kernel)


def _convolve_forward(x, kernel, stride, padding):
    return _convolve(x, kernel, stride, padding), (x, kernel)


def _convolve_backward(stride, padding, saved, gradient):
    """XLA's gradients, except that matrix products compute some of them on a CPU."""
    x, kernel = saved
    geometry = {"stride": stride, "padding": padding}

    def xla_image_gradient(x, kernel, gradient):
        _, backward = jax.vjp(lambda x: _xla_convolve(x, kernel, **geometry), x)
        return backward(gradient)[0]

    def cpu_image_gradient(x, kernel, gradient):
        return small_maps_cpu.image_gradient(gradient, kernel, x.shape[1:3], padding)

    def xla_kernel_gradient(x, kernel, gradient):
        _, backward = jax.vjp(lambda k: _xla_convolve(x, k, **geometry), kernel)
        return backward(gradient)[0]

    def cpu_kernel_gradient(x, kernel, gradient):
        return kernel_gradient_cpu.kernel_gradient(
            x, gradient, kernel.shape, **geometry
        )

    def on_cpus(faster, cpu, xla):
        if not faster:
            return xla
        return functools.partial(lax.platform_dependent, cpu=cpu, default=xla)

    image_gradient = on_cpus(
        small_maps_cpu.is_faster(x.shape, kernel.shape, stride),
        cpu_image_gradient,
        xla_image_gradient,
    )
    kernel_gradient = on_cpus(
        kernel_gradient_cpu.is_faster(gradient.shape, kernel.shape),
        cpu_kernel_gradient,
        xla_kernel_gradient,
    )
    return tuple(
        convolution_cpu.unroll_vmap(one)(x, kernel, gradient)
        for one in (image_gradient, kernel_gradient)
    )


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _xla_convolve(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> jax.Array:
    strides, layout = (stride, stride), ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=layout
    )
