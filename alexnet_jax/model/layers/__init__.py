"""The layers of AlexNet that current libraries lack or implement differently.

Images are NHWC, kernels HWIO. In a layer with two towers (section 3.2) the first half of
the output channels is tower a and the second half tower b; each tower reads its own half
of the input channels.
"""

from alexnet_jax.model.layers.activation import ACTIVATIONS, activation_function
from alexnet_jax.model.layers.convolution import Convolution, convolve
from alexnet_jax.model.layers.dense import Dense
from alexnet_jax.model.layers.dropout import dropout
from alexnet_jax.model.layers.feature_norm import (
    AXIS,
    FEATURE_NORMS,
    STATISTICS,
    normalize_by_batch,
)
from alexnet_jax.model.layers.initialization import (
    LayerInitialization,
    initial_parameters,
    layer_initializations,
    layer_key,
)
from alexnet_jax.model.layers.normalization import (
    local_response_norm,
    within_channel_norm,
)
from alexnet_jax.model.layers.pooling import average_pool, max_pool
from alexnet_jax.model.layers.shapes import (
    FeatureMaps,
    Images,
    Padding,
    checked_pooled_size,
    convolved_size,
    pooled_size,
)
from alexnet_jax.model.layers.space_to_depth import space_to_depth_convolve

__all__ = [
    "ACTIVATIONS",
    "AXIS",
    "FEATURE_NORMS",
    "STATISTICS",
    "Convolution",
    "Dense",
    "FeatureMaps",
    "Images",
    "LayerInitialization",
    "Padding",
    "activation_function",
    "average_pool",
    "checked_pooled_size",
    "convolve",
    "convolved_size",
    "dropout",
    "initial_parameters",
    "layer_initializations",
    "layer_key",
    "local_response_norm",
    "max_pool",
    "normalize_by_batch",
    "pooled_size",
    "space_to_depth_convolve",
    "within_channel_norm",
]
