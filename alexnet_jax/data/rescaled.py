"""A split whose images are rescaled, and the crops of those that need no decoding."""

import contextlib
import dataclasses
import io

import numpy as np
import PIL.Image

from alexnet_jax.data.types import Split
from alexnet_jax.errors import UserError

SAMPLED_IMAGES = 16  # to find out how large the original images are

Columns = dict[str, np.ndarray]  # arrays of one length


@dataclasses.dataclass(frozen=True)
class RescaledSplit:
    """A split whose images arrive rescaled to size x size pixels.

    Attributes:
      split: The split.
      size: The side of the rescaled images, in pixels.
      rescale: How they are rescaled: "shorter_side" or "warp", see `images.rescale`.
      images, labels: All images (n, size, size, 3) and labels, if they fit into memory;
        else None.
    """

    split: Split
    size: int
    rescale: str
    images: np.ndarray | None = None
    labels: np.ndarray | None = None

    @property
    def num_examples(self) -> int:
        return self.split.num_examples

    def check_batch_size(self, batch_size: int, whose: str = "") -> None:
        """Raises UserError if a batch is larger than the split.

        It would hold some images several times, and a step would be more than an epoch.

        Args:
          batch_size: The number of images in a batch.
          whose: Who sets it, for the message, if it is not the whole experiment.
        """
        count = self.num_examples
        if batch_size <= count:
            return
        # A power of two that makes ten steps an epoch or more.
        smaller = 2 ** (max(1, min(count // 10, 128)).bit_length() - 1)
        raise UserError(
            f"config.training.batch_size={batch_size}{whose and f' ({whose})'} is larger "
            f"than the training set, which has {count} images: take at most {count}, for "
            f"example --config.training.batch_size={smaller}."
        )

    def original_side(self) -> int | None:
        """The median shorter side of some original images, in pixels.

        None if they are those of a prepared set, or none can be read.
        """
        if self.split.encoding != "original":
            return None
        step = max(1, self.num_examples // SAMPLED_IMAGES)
        sides = []
        for index in range(0, self.num_examples, step):
            with contextlib.suppress(UserError):  # It is reported when it is needed.
                sides.append(_shorter_side(self.split.read(index)[0]))
        known = sorted(side for side in sides if side is not None)
        return known[len(known) // 2] if known else None

    @property
    def needs_decoder(self) -> bool:
        """Whether `rows` cannot return its pixels, because they are encoded."""
        return self.images is None and self.split.encoding != "raw"

    def rows(self, index: int, first: int, count: int) -> tuple[np.ndarray, int]:
        """Returns `count` rows of pixels from row `first` on, and the label.

        For images in memory, and for raw images.

        Raises:
          UserError: If they cannot be read.
        """
        if self.images is not None and self.labels is not None:
            return self.images[index, first : first + count], int(self.labels[index])
        assert self.split.read_part is not None
        row = self.size * 3
        data, label = self.split.read_part(index, first * row, count * row)
        return np.frombuffer(data, np.uint8).reshape(count, self.size, 3), label

    def crop_rows(self, columns: Columns, crop_size: int) -> Columns:
        """Returns a batch of images that need no decoding, with its `columns`."""
        whole = self._whole_rows(columns, crop_size)
        if whole is not None:
            return whole
        count = len(columns["example"])
        image = np.empty((count, crop_size, crop_size, 3), np.uint8)
        label = np.empty(count, np.int32)
        lists = [columns[name].tolist() for name in ("example", "offset", "mirrored")]
        for i, (index, (y, x), mirrored) in enumerate(zip(*lists, strict=True)):
            rows, label[i] = self.rows(index, y, crop_size)
            crop_pixels(image[i], rows, x, mirrored)
        return {"image": image, "label": label, **columns}

    def _whole_rows(self, columns: Columns, crop_size: int) -> Columns | None:
        """The batch at once, if its images are in memory and neither cropped nor mirrored.

        None otherwise. Small images take less time to copy than to find one by one.
        """
        if self.images is None or self.labels is None or crop_size != self.size:
            return None
        if columns["mirrored"].any():
            return None
        examples = columns["example"]
        return {
            "image": self.images[examples],
            "label": self.labels[examples],
            **columns,
        }


def crop_pixels(out: np.ndarray, rows: np.ndarray, x: int, mirrored: int) -> None:
    """Copies an image's rows from column `x` on to `out`, mirrored if `mirrored` is 1.

    For pixels that are decoded already: in one copy and without TensorFlow.

    Args:
      out: Receives the crop, (height, width, 3).
      rows: Rows of the image, (height, any width, 3).
      x: The first column of the crop.
      mirrored: 1 to mirror it left to right, otherwise 0.
    """
    cut_out = rows[:, x : x + out.shape[1]]
    if mirrored:
        for channel in range(3):  # All channels at once take numpy twice the time.
            out[..., channel] = cut_out[:, ::-1, channel]
    else:
        out[...] = cut_out


def _shorter_side(encoded: bytes) -> int | None:
    """The shorter side in pixels of an encoded image, from its header; None if unknown."""
    try:
        with PIL.Image.open(io.BytesIO(encoded)) as image:
            return min(image.size)
    except Exception:  # Pillow raises whatever its decoders raise.
        return None
