"""The random augmentation of training images (section 4.1 of the paper).

Only the random numbers are drawn here: where each crop begins, whether it is mirrored,
and the lighting that is added to its colors. The pixels of encoded images are cropped and
mirrored by `decoding`, with the functions of `images`; those of images in memory and of
raw prepared ones by `rescaled`. The training step adds the lighting on the device.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Int64
from ml_collections import ConfigDict

from alexnet_jax.data import randaugment, sampling

# The purposes of an example's random numbers, which make their keys differ.
CROP, FLIP, LIGHTING, BOX, OPERATIONS = 0, 1, 2, 3, 4
SHARED = 2**32 - 1  # Takes the place of the epoch where neighbors share their numbers.

Positions = Int64[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How training images are augmented.

    Attributes:
      crop_size: The side of the crop, in pixels.
      random_crop: Whether the crop is random; if not, it is the center.
      random_flip: Whether half of the images are mirrored, left to right.
      crop_sharing: The number of consecutive examples that share one crop and one flip;
        1 gives each example its own.
      lighting_std: The standard deviation of the PCA color augmentation (lighting); 0
        switches it off.
      lighting_shrink: Whether pixels are divided by 1 + lighting_std after the offset
        was added.
      lighting_off_epoch: The epoch at which the lighting ends; 0 means never.
      components: The matrix that the lighting's random numbers multiply, from
        `Statistics.components`.
      random_resized_crop: The least share of an image's area that a box of it has, which
        the training step resizes to the crop; 0 means that there are none. With boxes,
        `crop_size` is that of whole images.
      randaugment: The number of operations of RandAugment on each image.
      randaugment_magnitude: Their strength, of 30.
    """

    crop_size: int
    random_crop: bool
    random_flip: bool
    crop_sharing: int
    lighting_std: float
    lighting_shrink: bool
    lighting_off_epoch: float
    components: Float32[np.ndarray, "3 3"]
    random_resized_crop: float = 0.0
    randaugment: int = 0
    randaugment_magnitude: float = 0.0

    @staticmethod
    def of(
        data: Mapping[str, Any] | ConfigDict,
        components: Float32[np.ndarray, "3 3"],
        image_size: int,
    ) -> "Augmentation":
        """What a section `data` asks for, of rescaled images `image_size` pixels wide."""
        names = {field.name for field in dataclasses.fields(Augmentation)}
        fields = {name: data[name] for name in names - {"components"}}
        if data["random_resized_crop"]:
            fields["crop_size"] = image_size
        return Augmentation(**fields, components=components)

    def draw(
        self,
        positions: Positions,
        examples: Positions,
        *,
        image_size: int,
        num_examples: int,
        seed: int,
    ) -> dict[str, np.ndarray]:
        """Draws the augmentation of `examples`, the ones at `positions` of the run.

        An example's crop, flip and lighting depend on (seed, epoch, example) alone;
        shared crops and flips depend on (seed, position // crop_sharing).

        Args:
          positions: Positions in the endless sequence of epochs.
          examples: The indices of the examples.
          image_size: The side of the rescaled images, in pixels.
          num_examples: The length of an epoch.
          seed: The seed of the run.

        Returns:
          The fields "offset", "mirrored", "lighting" and "gain" of `TrainBatch`, with
          `random_resized_crop` "box", and with `randaugment` "operations".
        """
        count, epochs = len(positions), positions // num_examples

        def keys(purpose: int) -> sampling.Keys:
            if self.crop_sharing > 1 and purpose in (CROP, FLIP):
                group = positions // self.crop_sharing
                return sampling.keys(seed, SHARED, group, purpose)
            return sampling.keys(seed, epochs, examples, purpose)

        offset = np.full((count, 2), (image_size - self.crop_size) // 2, np.int32)
        if self.random_crop:
            # 33 x 33 positions for 224 of 256: the paper says 32 x 32, its code uses 33.
            side = image_size - self.crop_size + 1
            offset[:] = np.stack(
                np.divmod(sampling.integers(keys(CROP), side**2), side), 1
            )
        mirrored = np.zeros(count, np.int32)
        if self.random_flip:
            mirrored = sampling.integers(keys(FLIP), 2)
        lighting, gain = self._lighting(positions, num_examples, keys(LIGHTING))
        drawn = {
            "offset": offset,
            "mirrored": mirrored,
            "lighting": lighting,
            "gain": gain,
        }
        if self.random_resized_crop:
            drawn["box"] = _boxes(keys(BOX), image_size, self.random_resized_crop)
        if self.randaugment:
            drawn["operations"] = _operations(keys(OPERATIONS), self.randaugment)
        return drawn

    def _lighting(
        self, positions: Positions, num_examples: int, keys: sampling.Keys
    ) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, " n"]]:
        """What is added to the colors, and what multiplies them afterwards."""
        count = len(positions)
        lighting, gain = np.zeros((count, 3), np.float32), np.ones(count, np.float32)
        if self.lighting_std > 0:
            on = np.ones(count, bool)
            if self.lighting_off_epoch > 0:
                on = positions < round(self.lighting_off_epoch * num_examples)
            # components @ alpha with alpha ~ N(0, lighting_std**2), section 4.1
            alpha = self.lighting_std * sampling.normals(keys, 3)
            lighting[on] = (alpha @ self.components.T)[on]
            if self.lighting_shrink:
                gain[on] = 1 / (1 + self.lighting_std)
        return lighting, gain


def _operations(keys: sampling.Keys, count: int) -> Int32[np.ndarray, "n count"]:
    """Draws operations as `randaugment.changed` takes them, each with either sign."""
    kinds = len(randaugment.OPERATIONS)
    drawn = [
        sampling.integers(sampling.mix(keys + np.uint64(k)), 2 * kinds)
        for k in range(count)
    ]
    numbers = np.stack(drawn, axis=1)
    return np.where(numbers < kinds, numbers, ~(numbers - kinds)).astype(np.int32)


def _boxes(keys: sampling.Keys, side: int, least: float) -> Float32[np.ndarray, "n 4"]:
    """Draws a box of each image, (y, x, height, width) in whole pixels.

    As torchvision's RandomResizedCrop, after Szegedy et al., "Going Deeper with
    Convolutions" (2015): its area is uniform between `least` and 1 of the image's, the
    logarithm of its aspect between those of 3/4 and 4/3. Of ten draws the first that fits
    into the image is taken; if there is none, the whole image.
    """
    area, aspect = (sampling.uniforms(keys + np.uint64(k), 10) for k in (100, 200))
    area = side**2 * (least + (1 - least) * area)
    aspect = np.exp(np.log(4 / 3) * (2 * aspect - 1))
    sides = np.stack([np.sqrt(area / aspect), np.sqrt(area * aspect)], axis=-1)
    sides = np.maximum(np.rint(sides), 1)  # (n, 10, 2): heights and widths
    sides[:, -1] = np.where((sides[:, -1] > side).any(1)[:, None], side, sides[:, -1])
    first = (sides <= side).all(2).argmax(1)
    size = sides[np.arange(len(keys)), first]
    place = sampling.uniforms(keys + np.uint64(300), 2)
    corner = np.minimum(np.floor(place * (side - size + 1)), side - size)
    return np.concatenate([corner, size], axis=1).astype(np.float32)
