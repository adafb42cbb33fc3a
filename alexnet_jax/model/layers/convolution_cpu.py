"""Convolutions under `jax.vmap` on CPUs: one after the other."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


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
