"""Loads the images of batches: from memory as they are, from files with tf.data.

What a batch holds is decided before, for the whole batch at once.
"""

import dataclasses
from collections.abc import Callable, Generator
from typing import Any

from alexnet_jax.data.rescaled import Columns, RescaledSplit

AUTOTUNE = -1  # tf.data.AUTOTUNE


@dataclasses.dataclass(frozen=True)
class BatchLoader:
    """Loads the images of batches.

    Attributes:
      data: Where the images come from.
      describe: Maps a step to the columns of its batch: "example", the indices of up to
        `batch_size` examples; "offset" and "mirrored", their crops; and any other
        columns, which are handed through.
      crop_size: The side of the crops, in pixels.
      batch_size: The largest number of examples in a batch.
      num_parallel_calls: The number of images, or of raw batches, processed at a time.
        It does not change the batches.
    """

    data: RescaledSplit
    describe: Callable[[int], Columns]
    crop_size: int
    batch_size: int
    num_parallel_calls: int = AUTOTUNE

    def batches(self, steps: range) -> Generator[Any, None, None]:
        """Yields one batch per step: its columns, with "image" and "label".

        Raises:
          UserError: If an image cannot be read; the message names it.
        """
        if self.data.images is None:
            yield from self._decoder().batches(steps)
            return
        for step in steps:  # Threads would only get in the way.
            yield self.data.crop_rows(self.describe(step), self.crop_size)

    def single(self, columns: Columns) -> Columns:
        """One batch, read without further threads: for a few images.

        Raises:
          UserError: If an image cannot be read; the message names it.
        """
        if self.data.needs_decoder:
            return self._decoder().single(columns)
        return self.data.crop_rows(columns, self.crop_size)

    def _decoder(self) -> Any:
        # TensorFlow takes seconds to import, and images in memory do without.
        from alexnet_jax.data.decoding import Decoder

        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Decoder(**given)
