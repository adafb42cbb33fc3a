"""The first lines of a step: from uint8 images to the network's input (sections 2, 4.1)."""

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
    """How images become the network's input: fields of the section `data`."""

    crop_size: int
    mean: str
    channel_mean: tuple[float, ...]
    channel_scale: tuple[float, ...]
    channel_order: str
    eval_crops: str
    random_resized_crop: float = 0.0

    @staticmethod
    def of(data: Mapping[str, Any] | ConfigDict) -> "InputForm":
        """The input form that a section `data` asks for."""
        names = [field.name for field in dataclasses.fields(InputForm)]
        return InputForm(**{name: data[name] for name in names})

    def mean_of(
        self,
        mean_image: Float64[np.ndarray, "side side 3"],
        channel_mean: Float64[np.ndarray, "3"],
    ) -> Float32[np.ndarray, "h w 3"]:
        """What the steps subtract, in gray levels, from a training set's mean image.

        "image": the mean image; each crop has its own place of it subtracted.
        "center": its central part, wherever the crop is, as in the 2012 code.
        "channel": one number per channel.
        """
        if self.mean == "channel":
            means = np.array(self.channel_mean or channel_mean)
            return means.astype(np.float32).reshape(1, 1, 3)
        if self.mean == "center":
            begin = (len(mean_image) - self.crop_size) // 2
            inside = slice(begin, begin + self.crop_size)
            mean_image = mean_image[inside, inside]
        return mean_image.astype(np.float32)

    def mean_shape(self, side: int) -> tuple[int, int, int]:
        """The shape of `mean_of`, for a mean image `side` pixels wide."""
        widths = {"channel": 1, "center": self.crop_size, "image": side}
        width = widths[self.mean]
        return width, width, 3


def batch_shapes(
    form: InputForm, image_size: int, leading: tuple[int, ...]
) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and types of a training batch: the fields of `data.pipeline.TrainBatch`.

    Args:
      form: how its images become the network's input.
      image_size: the side of the images before they are cropped, in pixels.
      leading: the axes before those of an example, such as (n,).
    """
    boxes = form.random_resized_crop > 0
    side = image_size if boxes else form.crop_size
    of_example = {
        "image": ((side, side, 3), np.uint8),
        "label": ((), np.int32),
        "offset": ((2,), np.int32),
        "mirrored": ((), np.int32),
        "lighting": ((3,), np.float32),
        "gain": ((), np.float32),
        "example": ((), np.int32),
        "epoch": ((), np.int32),
        **({"box": ((4,), np.float32)} if boxes else {}),
    }
    return {
        name: jax.ShapeDtypeStruct((*leading, *shape), dtype)
        for name, (shape, dtype) in of_example.items()
    }


def train_input(
    batch: Batch, mean: Float[Array, "h w 3"], form: InputForm
) -> Float[Array, "n s s 3"]:
    """Cropped images minus the mean, plus each one's lighting offset, times its gain.

    With random resized crops the images are whole, and are resized from their boxes here.
    """
    x, size = batch["image"].astype(jnp.float32), batch["image"].shape[1]
    if form.mean == "image":
        x = x - jax.vmap(lambda place: _crop(mean[None], place, size)[0])(
            jnp.concatenate([batch["offset"], batch["mirrored"][:, None]], axis=1)
        )
    if form.random_resized_crop:
        x = jax.vmap(_resized, (0, 0, None))(x, batch["box"], form.crop_size)
    if form.mean != "image":
        x = x - mean[None]
    x = (x + batch["lighting"][:, None, None, :]) * batch["gain"][:, None, None, None]
    return _scaled(x, form)


def _resized(
    image: Float[Array, "side side 3"], box: Float[Array, "4"], size: int
) -> Float[Array, "size size 3"]:
    """The box (y, x, height, width) of an image, resized by antialiased interpolation.

    As if it were cut out first, which is why it is not `jax.image.scale_and_translate`:
    that would read pixels around the box.
    """
    y, x, height, width = box
    rows, columns = (
        _weights(start, length, len(image), size)
        for start, length in ((y, height), (x, width))
    )
    return jnp.einsum("sy,yxc,tx->stc", rows, image, columns)


def _weights(
    start: jax.Array, length: jax.Array, side: int, size: int
) -> Float[Array, "size side"]:
    """What each of `size` pixels takes of those from `start` on, along one axis."""
    step = length / size
    centers = start + (jnp.arange(size) + 0.5) * step
    pixels = jnp.arange(side) + 0.5
    inside = (pixels > start) & (pixels < start + length)
    distances = abs(pixels[None] - centers[:, None]) / jnp.maximum(1.0, step)
    weights = jnp.where(inside[None], jnp.maximum(0.0, 1 - distances), 0.0)
    return weights / weights.sum(1, keepdims=True)


def crop_places(side: int, form: InputForm) -> Int32[np.ndarray, "crops 3"]:
    """(y, x, mirrored) of each crop of a test image `side` pixels wide (section 4.1).

    "ten": upper left, upper right, center, lower left, lower right, in the 2012 code's
    order, then the same five mirrored. "center": the center alone.
    """
    far = side - form.crop_size
    middle = far // 2
    if form.eval_crops == "center":
        return np.array([(middle, middle, 0)], np.int32)
    corners = [(0, 0), (0, far), (middle, middle), (far, 0), (far, far)]
    return np.array([(y, x, m) for m in (0, 1) for y, x in corners], np.int32)


def crop_input(
    images: UInt8[Array, "n side side 3"],
    place: Int[Array, "3"] | Int32[np.ndarray, "3"],
    mean: Float[Array, "h w 3"],
    form: InputForm,
) -> Float[Array, "n s s 3"]:
    """One crop of whole images, minus the mean."""
    x = _crop(images, place, form.crop_size).astype(jnp.float32)
    means = mean[None]
    if form.mean == "image":
        means = _crop(means, place, form.crop_size)
    return _scaled(x - means, form)


def center_input(
    images: UInt8[Array, "n side side 3"],
    mean: Float[Array, "h w 3"],
    form: InputForm,
) -> Float[Array, "n s s 3"]:
    """A network's input for the center crops of whole images.

    These are taken whatever crops the network is evaluated by.
    """
    center = dataclasses.replace(form, eval_crops="center")
    (place,) = crop_places(images.shape[1], center)
    return crop_input(images, place, mean, center)


def crops(
    images: UInt8[Array, "n side side 3"], places: Int[Array, "n 3"], size: int
) -> UInt8[Array, "n size size 3"]:
    """Each image's own crop of `size` pixels, at its place (y, x, mirrored)."""
    return jax.vmap(lambda image, place: _crop(image[None], place, size)[0])(
        images, places
    )


def _crop(images: jax.Array, place: Any, size: int) -> jax.Array:
    """The square of `size` pixels at (y, x) of each image, mirrored or not."""
    y, x, mirrored = place
    shape = (images.shape[0], size, size, 3)  # the number may be symbolic
    cut = lax.dynamic_slice(images, (0, y, x, 0), shape)
    return jnp.where(mirrored == 1, cut[:, :, ::-1], cut)


def _scaled(x: Float[Array, "n s s 3"], form: InputForm) -> Float[Array, "n s s 3"]:
    """Divided by the channel scale, which is given for R, G, B, and in channel order."""
    if form.channel_scale != (1.0, 1.0, 1.0):
        x = x / jnp.asarray(form.channel_scale, x.dtype).reshape(1, 1, 1, 3)
    return x[..., ::-1] if form.channel_order == "bgr" else x
