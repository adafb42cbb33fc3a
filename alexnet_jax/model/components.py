"""The layers that the networks share, made from the section `model` of a configuration."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
from flax import nnx
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from alexnet_jax.model import layers
from alexnet_jax.model.layers import FEATURE_NORMS


def local_response_norm(settings: ConfigDict) -> Callable[[jax.Array], jax.Array]:
    """Normalization across channels (section 3.3), or the identity."""
    if settings.normalization != "local_response":
        return identity
    return functools.partial(
        layers.local_response_norm,
        depth=settings.norm_depth,
        k=settings.norm_k,
        alpha=settings.norm_alpha,
        beta=settings.norm_beta,
        towers=1 if settings.norm_across_towers else settings.towers,
    )


def within_channel_norm(settings: ConfigDict) -> Callable[[jax.Array], jax.Array]:
    """Normalization within each channel, or the identity."""
    if not settings.within_channel_norm or settings.normalization in FEATURE_NORMS:
        return identity
    return functools.partial(
        layers.within_channel_norm,
        size=settings.within_channel_norm_size,
        k=settings.within_channel_norm_k,
        alpha=settings.within_channel_norm_alpha,
        beta=settings.within_channel_norm_beta,
    )


def add_feature_norms(
    network: nnx.Module,
    settings: ConfigDict,
    names: Sequence[str],
    channels: Sequence[int],
) -> None:
    """Gives a network the layers that normalize others, if its settings ask for some.

    The layer that normalizes conv1 is called "conv1_norm".

    Args:
      names: all layers but the last.
      channels: of each of them; 0 if it is left out.
    """
    if make := FEATURE_NORMS.get(settings.normalization):
        for name, count in zip(names, channels, strict=True):
            if count:
                setattr(network, f"{name}_norm", make(count))


def apply_layer(network: nnx.Module, name: str, x: jax.Array) -> jax.Array:
    """What the layer called `name` makes of `x`, normalized if there is a layer for that."""
    x = getattr(network, name)(x)
    norm = getattr(network, f"{name}_norm", None)
    return x if norm is None else norm(x).astype(x.dtype)


def max_pool(settings: ConfigDict) -> Callable[[jax.Array], jax.Array]:
    """Max pooling (section 3.4)."""
    return functools.partial(
        layers.max_pool,
        window=settings.pool_window,
        stride=settings.pool_stride,
        rounding=settings.pool_rounding,
        ties=settings.pool_ties,
    )


def average_pool(settings: ConfigDict) -> Callable[[jax.Array], jax.Array]:
    """Average pooling with the windows of max pooling."""
    return functools.partial(
        layers.average_pool,
        window=settings.pool_window,
        stride=settings.pool_stride,
        rounding=settings.pool_rounding,
    )


def pooled_size(settings: ConfigDict, name: str, size: int) -> int:
    """The height (or width) that the pooling layer called `name` makes of `size`.

    Raises:
      UserError: if no pixel is left.
    """
    return layers.checked_pooled_size(
        name,
        size,
        window=settings.pool_window,
        stride=settings.pool_stride,
        rounding=settings.pool_rounding,
    )


def activation(settings: ConfigDict) -> Callable[[jax.Array], jax.Array]:
    """The nonlinearity (section 3.1).

    Raises:
      UserError: if there is none of that name.
    """
    return layers.activation_function(settings.activation)


def dropout(settings: ConfigDict) -> Callable[..., jax.Array]:
    """Dropout (section 4.2), which is still to be given `keys` and `layer`."""
    return functools.partial(
        layers.dropout, rate=settings.dropout_rate, form=settings.dropout_form
    )


def identity(x: jax.Array) -> jax.Array:
    return x


@dataclasses.dataclass(frozen=True)
class LayerFactory:
    """Makes the layers of a network with their initial parameters."""

    initializations: Mapping[str, layers.LayerInitialization]
    key: Key[Array, ""]

    @classmethod
    def of(
        cls, settings: ConfigDict, names: Sequence[str], key: Key[Array, ""]
    ) -> "LayerFactory":
        """For layers of these names, in the order of the settings (section 5)."""
        found = layers.layer_initializations(
            settings.initialization,
            settings.weight_stds,
            settings.biases,
            width=settings.width,
        )
        return cls(dict(zip(names, found, strict=True)), key)

    def convolution(
        self,
        name: str,
        in_channels: int,
        out_channels: int,
        *,
        window: int,
        stride: int,
        padding: tuple[int, int],
        towers: int,
    ) -> layers.Convolution:
        """A convolution padded by so many rows before and after, and as many columns."""
        return layers.Convolution(
            (in_channels, out_channels),
            window=window,
            stride=stride,
            padding=(padding, padding),
            towers=towers,
            initialization=self.initializations[name],
            key=layers.layer_key(self.key, name),
        )

    def same(
        self,
        name: str,
        in_channels: int,
        out_channels: int,
        *,
        window: int,
        towers: int,
    ) -> layers.Convolution:
        """A convolution with stride 1 whose padding preserves the size of the images."""
        return self.convolution(
            name,
            in_channels,
            out_channels,
            window=window,
            stride=1,
            padding=(window // 2, window // 2),
            towers=towers,
        )

    def dense(self, name: str, in_features: int, out_features: int) -> layers.Dense:
        return layers.Dense(
            in_features,
            out_features,
            initialization=self.initializations[name],
            key=layers.layer_key(self.key, name),
        )
