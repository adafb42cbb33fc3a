"""Normalizations of a layer's features that came after local response normalization.

They stand between the layer and its activation function, have a scale and a shift of each
channel, which are learned, and take the place of local response normalization.
"""

import math
from collections.abc import Callable, Collection

from flax import nnx

# The devices that share a batch, as the steps of training call their axis.
AXIS = "batch"

# What a normalization keeps beside its parameters: running means over the batches.
STATISTICS = {"mean", "var"}

# Groups of channels, or as many as divide them: Wu and He (2018), section 3.
GROUPS = 32
EPSILON = 1e-5


def _batch(channels: int) -> nnx.Module:
    """Over a channel of the batch: Ioffe and Szegedy, "Batch Normalization" (2015).

    A running mean takes a tenth of each batch's statistics, as PyTorch's does; the running
    variance is that of the batch, which PyTorch multiplies by n / (n - 1).
    """
    return nnx.BatchNorm(
        channels,
        use_running_average=True,
        momentum=0.9,
        epsilon=EPSILON,
        axis_name=AXIS,
        use_fast_variance=False,  # A difference of two large numbers would be less exact.
        rngs=nnx.Rngs(0),
    )


def _layer(channels: int) -> nnx.Module:
    """Over all values of an image: Ba et al., "Layer Normalization" (2016)."""
    return nnx.GroupNorm(channels, num_groups=1, epsilon=EPSILON, rngs=nnx.Rngs(0))


def _group(channels: int) -> nnx.Module:
    """Over groups of channels of an image: Wu and He, "Group Normalization" (2018)."""
    return nnx.GroupNorm(
        channels, num_groups=groups(channels), epsilon=EPSILON, rngs=nnx.Rngs(0)
    )


def groups(channels: int) -> int:
    """How many groups of channels group normalization makes."""
    return math.gcd(GROUPS, channels)


def normalize_by_batch(
    network: nnx.Module, *, but: Collection[str] = (), across_devices: bool = True
) -> None:
    """Has a network normalize by statistics of its batch, where it would by running ones.

    Args:
      but: layers that go on with their running statistics.
      across_devices: whether the batch is that of all devices of the axis `AXIS`.
    """
    for name, layer in vars(network).items():
        if isinstance(layer, nnx.BatchNorm) and name not in but:
            layer.use_running_average = False
            layer.axis_name = AXIS if across_devices else None


# By field model.normalization, from a number of channels to a layer that normalizes them.
FEATURE_NORMS: dict[str, Callable[[int], nnx.Module]] = {
    "batch": _batch,
    "layer": _layer,
    "group": _group,
}
