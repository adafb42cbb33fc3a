"""Random crops, reflections and lighting drawn from a key of JAX (section 4.1).

For a training loop of one's own. A run draws them on the host, by `data/augmentation.py`,
and cuts crops out of images before they are on a device; from there on the two are one.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32, Int, Key, UInt8

from alexnet_jax.data.augmentation import Augmentation
from alexnet_jax.training.preprocess import (
    Batch,
    InputForm,
    center_input,
    crops,
    train_input,
)

# In the place of an example's number, what a step's key draws the augmentation by: one key
# serves dropout as well.
_AUGMENTATION = 2**31


@dataclasses.dataclass(frozen=True, eq=False)
class RandomInput:
    """How whole images become a network's input.

    Attributes:
      form: how their crops do.
      mean: what is subtracted, in gray levels: `form.mean_of(...)`.
      augmentation: what is drawn in training, but for RandAugment and boxes of random size.
      num_examples: images an epoch.
    """

    form: InputForm
    mean: Float32[np.ndarray, "h w 3"]
    augmentation: Augmentation
    num_examples: int

    def training(
        self,
        key: Key[Array, ""],
        images: UInt8[Array, "n side side 3"],
        step: Int[Array, ""] | int,
    ) -> Float[Array, "n s s 3"]:
        """The input of a training step: crops minus the mean, with their lighting.

        Args:
          key: the step's.
          images: the batch, rescaled, in gray levels.
          step: steps done, by which the lighting may have ended.
        """
        batch = self.drawn(key, images, step)
        return train_input(batch, jnp.asarray(self.mean), self.form)

    def evaluation(
        self, images: UInt8[Array, "n side side 3"]
    ) -> Float[Array, "n s s 3"]:
        """The network's input for the center crops of rescaled images, in gray levels."""
        return center_input(images, jnp.asarray(self.mean), self.form)

    def drawn(
        self,
        key: Key[Array, ""],
        images: UInt8[Array, "n side side 3"],
        step: Int[Array, ""] | int,
    ) -> Batch:
        """The fields of a training batch that `train_input` reads.

        Where consecutive images share a crop and a reflection, they do within this batch.

        Args:
          key: the step's.
          images: the batch, rescaled, in gray levels.
          step: steps done, each with a batch of this size: they decide whether the lighting
            has ended.
        """
        count, side = images.shape[:2]
        given = self.augmentation
        of_crop, of_flip, of_lighting = jax.random.split(
            jax.random.fold_in(key, _AUGMENTATION), 3
        )
        far = side - given.crop_size
        group = jnp.arange(count) // given.crop_sharing
        offset = jnp.full((count, 2), far // 2, jnp.int32)
        if given.random_crop:
            offset = jax.random.randint(of_crop, (count, 2), 0, far + 1)[group]
        mirrored = jnp.zeros(count, jnp.int32)
        if given.random_flip:
            mirrored = jax.random.randint(of_flip, (count,), 0, 2)[group]
        alpha = given.lighting_std * jax.random.normal(of_lighting, (count, 3))
        # components @ alpha as a sum: a GPU may compute a product in fewer bits.
        lighting = (alpha[:, None] * given.components[None]).sum(-1)
        shrink = 1 / (1 + given.lighting_std) if given.lighting_shrink else 1.0
        gain = jnp.full(count, shrink, jnp.float32)
        if given.lighting_off_epoch > 0:
            end = round(given.lighting_off_epoch * self.num_examples)
            on = step * count + jnp.arange(count) < end
            lighting = jnp.where(on[:, None], lighting, 0.0)
            gain = jnp.where(on, gain, 1.0)
        # Compiled by itself it is the same numbers in every program, as a run's are.
        lighting, gain = lax.optimization_barrier((lighting, gain))
        places = jnp.concatenate([offset, mirrored[:, None]], axis=1)
        return {
            "image": crops(images, places, given.crop_size),
            "offset": offset,
            "mirrored": mirrored,
            "lighting": lighting,
            "gain": gain,
        }
