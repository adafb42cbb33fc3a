"""What the training steps minimize, beside weight decay: the mean of these losses."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, Shaped
from ml_collections import ConfigDict

from alexnet_jax.errors import UserError

# In the place of a layer's number, what the keys of an example draw how it is mixed by.
_MIXING = 2**31

Images = Float[Array, "n s s 3"]
Labels = Int[Array, " n"]
Image = Float[Array, "s s 3"]
Share = Float[Array, ""]


class Targets(NamedTuple):
    """What images show: each its label, or a share of it and the rest of another label.

    Attributes:
      labels: the label of the larger share.
      others: the other label; None where images are not mixed.
      shares: how much of an image is its label's.
    """

    labels: Labels
    others: Labels | None = None
    shares: Float[Array, " n"] | None = None


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss of an example: fields of the sections `training` and `data`.

    Attributes:
      label_smoothing: the share of the label that is spread evenly over all classes;
        Szegedy et al., "Rethinking the Inception Architecture" (2016), section 7.
      mixup, cutmix: the parameter of the distribution of shares; 0: images are not mixed
        so. With both, each image is mixed in one way or the other, by chance.
    """

    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    @staticmethod
    def of(settings: ConfigDict) -> "Objective":
        """The loss that a trial's settings ask for."""
        data = settings.data
        return Objective(settings.training.label_smoothing, data.mixup, data.cutmix)

    def mixed(
        self, images: Images, labels: Labels, keys: Key[Array, " n"]
    ) -> tuple[Images, Targets]:
        """The images as they are trained on, and what they show.

        The first image is mixed with the second and the second with the first, the third
        with the fourth, and so on: the same pairs on any number of devices.

        Args:
          images: the network's input.
          keys: one an example, a function of (seed, epoch, example).

        Raises:
          UserError: if a device has an odd number of images at a time.
        """
        if not (self.mixup or self.cutmix):
            return images, Targets(labels)
        if len(images) % 2:
            raise UserError(
                f"config.data.mixup and config.data.cutmix mix pairs of images, and a device "
                f"has {len(images)} at a time. Use a config.training.batch_size that is a "
                "multiple of twice the devices times config.training.gradient_accumulation."
            )
        draws = jax.vmap(jax.random.fold_in, (0, None))(keys, _MIXING)
        mixed, shares = jax.vmap(self._mixed)(images, _exchanged(images), draws)
        main, others = shares >= 0.5, _exchanged(labels)
        return mixed, Targets(
            jnp.where(main, labels, others),
            jnp.where(main, others, labels),
            jnp.maximum(shares, 1 - shares),
        )

    def losses(
        self, logits: Float[Array, "n classes"], targets: Targets
    ) -> Float[Array, " n"]:
        """The loss of each example, in nats: cross-entropy, with each label by its share."""
        losses = self._of_labels(logits, targets.labels)
        if targets.others is None or targets.shares is None:
            return losses
        of_others = self._of_labels(logits, targets.others)
        return targets.shares * losses + (1 - targets.shares) * of_others

    def _mixed(
        self, image: Image, other: Image, key: Key[Array, ""]
    ) -> tuple[Image, Share]:
        ways = []
        if self.mixup:
            ways.append(functools.partial(_mixup, alpha=self.mixup))
        if self.cutmix:
            ways.append(functools.partial(_cutmix, alpha=self.cutmix))
        of_way, of_draws = jax.random.split(key)
        way = jax.random.randint(of_way, (), 0, len(ways))
        return jax.lax.switch(way, ways, image, other, of_draws)

    def _of_labels(
        self, logits: Float[Array, "n classes"], labels: Labels
    ) -> Float[Array, " n"]:
        if self.label_smoothing:
            certain = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
            smoothed = optax.smooth_labels(certain, self.label_smoothing)
            return optax.softmax_cross_entropy(logits, smoothed)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def _exchanged(values: Shaped[Array, "n ..."]) -> Shaped[Array, "n ..."]:
    """The first two exchanged, the next two, and so on."""
    pairs = values.reshape(-1, 2, *values.shape[1:])
    return pairs[:, ::-1].reshape(values.shape)


def _mixup(
    image: Image, other: Image, key: Key[Array, ""], *, alpha: float
) -> tuple[Image, Share]:
    """Zhang et al., "mixup" (2018): a mean of two images, with share of Beta(alpha, alpha)."""
    share = jax.random.beta(key, alpha, alpha)
    return share * image + (1 - share) * other, share


def _cutmix(
    image: Image, other: Image, key: Key[Array, ""], *, alpha: float
) -> tuple[Image, Share]:
    """Yun et al., "CutMix" (2019): a box of an image is that of another.

    Its area is 1 - share of Beta(alpha, alpha), its center anywhere; what lies outside of
    the image is cut off, and the share is that of the pixels that are left.
    """
    size = len(image)
    of_share, of_center = jax.random.split(key)
    share = jax.random.beta(of_share, alpha, alpha)
    half = size * jnp.sqrt(1 - share) / 2
    y, x = jax.random.uniform(of_center, (2,), maxval=size)
    pixels = jnp.arange(size) + 0.5
    rows, columns = (abs(pixels - center) < half for center in (y, x))
    box = rows[:, None] & columns[None]
    return jnp.where(box[..., None], other, image), 1 - box.mean()
