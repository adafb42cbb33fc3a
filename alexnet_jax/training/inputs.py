"""The first lines of a step: uint8 images to the network's input (sections 2 and 4.1)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32, Float64, Int, Int32, UInt8
from ml_collections import ConfigDict

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class InputForm:
    """What the network is given, by the names of the configuration's section `data`."""

    crop_size: int
    mean: str
    channel_mean: tuple[float, ...]
    channel_scale: tuple[float, ...]
    channel_order: str
    views: str

    @staticmethod
    def of(data: Mapping[str, Any] | ConfigDict) -> "InputForm":
        names = [field.name for field in dataclasses.fields(InputForm)]
        return InputForm(**{name: data[name] for name in names})

    def mean_of(
        self,
        mean_image: Float64[np.ndarray, "side side 3"],
        channel_mean: Float64[np.ndarray, "3"],
    ) -> Float32[np.ndarray, "h w 3"]:
        """What the steps subtract, in grey levels, of a training set's means.

        "image": the mean image, of which each crop has its own place subtracted.
        "center": its central part, as in the 2012 code, whatever the crop's place.
        "channel": one number a channel.
        """
        if self.mean == "channel":
            means = np.array(self.channel_mean or channel_mean)
            return means.astype(np.float32).reshape(1, 1, 3)
        if self.mean == "center":
            begin = (len(mean_image) - self.crop_size) // 2
            inside = slice(begin, begin + self.crop_size)
            mean_image = mean_image[inside, inside]
        return mean_image.astype(np.float32)


def train_input(
    batch: Batch, mean: Float[Array, "h w 3"], form: InputForm
) -> Float[Array, "n s s 3"]:
    """Cropped images minus the mean, plus each one's colour shift, times its gain."""
    means = mean[None]
    if form.mean == "image":
        means = jax.vmap(lambda place: _view(mean[None], place, form.crop_size)[0])(
            jnp.concatenate([batch["offset"], batch["mirrored"][:, None]], axis=1)
        )
    x = batch["image"].astype(jnp.float32) - means
    x = (x + batch["lighting"][:, None, None, :]) * batch["gain"][:, None, None, None]
    return _scaled(x, form)


def views(side: int, form: InputForm) -> Int32[np.ndarray, "views 3"]:
    """(y, x, mirrored) of each view of a test image `side` pixels wide (section 4.1).

    "ten": upper left, upper right, centre, lower left, lower right, in the 2012 code's
    order, then the same five mirrored. "center": one.
    """
    far = side - form.crop_size
    middle = far // 2
    if form.views == "center":
        return np.array([(middle, middle, 0)], np.int32)
    corners = [(0, 0), (0, far), (middle, middle), (far, 0), (far, far)]
    return np.array([(y, x, m) for m in (0, 1) for y, x in corners], np.int32)


def view_input(
    images: UInt8[Array, "n side side 3"],
    place: Int[Array, "3"] | Int32[np.ndarray, "3"],
    mean: Float[Array, "h w 3"],
    form: InputForm,
) -> Float[Array, "n s s 3"]:
    """One view of whole images, minus the mean."""
    x = _view(images, place, form.crop_size).astype(jnp.float32)
    means = mean[None]
    if form.mean == "image":
        means = _view(means, place, form.crop_size)
    return _scaled(x - means, form)


def _view(images: jax.Array, place: Any, size: int) -> jax.Array:
    """size x size of each image from (y, x) on, mirrored or not."""
    y, x, mirrored = place
    shape = (len(images), size, size, 3)
    cut = lax.dynamic_slice(images, (0, y, x, 0), shape)
    return jnp.where(mirrored == 1, cut[:, :, ::-1], cut)


def _scaled(x: Float[Array, "n s s 3"], form: InputForm) -> Float[Array, "n s s 3"]:
    """Divided by the channels' scale and in their order, both given for R, G, B."""
    if form.channel_scale != (1.0, 1.0, 1.0):
        x = x / jnp.asarray(form.channel_scale, x.dtype).reshape(1, 1, 1, 3)
    return x[..., ::-1] if form.channel_order == "bgr" else x
