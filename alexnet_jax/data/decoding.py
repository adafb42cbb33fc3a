"""Reads, decodes, rescales and crops the images of a batch with tf.data.

Files are read by threads; then encoded images pass the decoder one by one, on all cores.
Raw images need no decoder, and are read whole batches at a time.
"""

import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_jax.data import images
from alexnet_jax.data.prepared import reader
from alexnet_jax.data.rescaled import Columns, RescaledSplit
from alexnet_jax.data.stream import Stoppable, stream
from alexnet_jax.errors import UserError

# The number of files read at a time, for each of two batches: a network disk answers
# late.
READERS, BATCHES_READ = 16, 2

PLACE = ("offset", "mirrored")  # the columns that say where an image is cut


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Loads the images of batches from files.

    Attributes:
      data: Where the images come from.
      describe: Maps a step to the columns of its batch: indices of examples, crops, others.
      crop_size: The side of the crops, in pixels.
      batch_size: The largest number of examples in a batch.
      num_parallel_calls: The number of images, or of raw batches, processed at a time.
    """

    data: RescaledSplit
    describe: Callable[[int], Columns]
    crop_size: int
    batch_size: int
    num_parallel_calls: int

    def batches(self, steps: range) -> Generator[Any, None, None]:
        """Yields one batch per step: its columns, with "image" and "label".

        Raises:
          UserError: If an image cannot be read; the message names it.
        """
        if not steps:
            return
        numbers = tf.data.Dataset.range(steps.start, steps.stop)
        empty = {name: column[:0] for name, column in self.describe(steps[0]).items()}
        raw = self.data.split.encoding == "raw"
        with concurrent.futures.ThreadPoolExecutor(BATCHES_READ * READERS) as readers:

            def build(numbers: tf.data.Dataset, stop: Stoppable) -> tf.data.Dataset:
                if raw:
                    return self._raw_graph(numbers, empty)
                return self._decoding_graph(numbers, stop, empty, readers)

            with contextlib.closing(stream(numbers, build)) as made:
                for step, batch in zip(steps, made, strict=True):
                    if isinstance(batch, tf.errors.OpError):
                        examples = self.describe(step)["example"].tolist()
                        message = _unreadable(self.data, examples, batch)
                        raise UserError(message) from batch
                    yield batch

    def single(self, columns: Columns) -> Columns:
        """One batch, read without further threads: for a few images.

        Raises:
          UserError: If an image cannot be read; the message names it.
        """
        image, label = [], []
        try:
            for i, index in enumerate(columns["example"].tolist()):
                encoded, of_class = self.data.split.read(index)
                one = {name: tf.constant(columns[name][i]) for name in PLACE}
                image.append(self._decode(tf.constant(encoded), one).numpy())
                label.append(of_class)
        except (UserError, tf.errors.OpError) as error:
            examples = columns["example"].tolist()
            raise UserError(_unreadable(self.data, examples, error)) from error
        return {"image": np.stack(image), "label": np.array(label, np.int32), **columns}

    def _raw_graph(self, numbers: tf.data.Dataset, empty: Columns) -> tf.data.Dataset:
        """A graph that yields batches of raw images; `empty` has the columns' types."""

        def load(step: int) -> Columns:
            return self.data.crop_rows(self.describe(step), self.crop_size)

        types = self.data.crop_rows(empty, self.crop_size)
        return _map_python(numbers, load, types, self.num_parallel_calls)

    def _decoding_graph(
        self,
        numbers: tf.data.Dataset,
        stoppable: Stoppable,
        empty: Columns,
        readers: concurrent.futures.Executor,
    ) -> tf.data.Dataset:
        """A graph that reads batches of files, decodes one by one, and batches again."""

        def read_some(indices: list[int]) -> list[tuple[bytes, int]]:
            return [self.data.split.read(index) for index in indices]

        def read(step: int) -> Columns:
            columns = self.describe(step)
            indices = columns["example"].tolist()
            # In slices: to hand one index to a thread costs as much as to read it.
            slices = [indices[i::READERS] for i in range(min(READERS, len(indices)))]
            found: list[Any] = [None] * len(indices)
            for i, some in enumerate(readers.map(read_some, slices)):
                found[i::READERS] = some
            image = np.array([encoded for encoded, _ in found], object)
            label = np.array([label for _, label in found], np.int32)
            return {"image": image, "label": label} | columns

        @tf.autograph.experimental.do_not_convert
        def decode(one: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return one | {"image": self._decode(one["image"], one)}

        types = {"image": np.empty(0, object), "label": empty["example"]} | empty
        files = stoppable(_map_python(numbers, read, types, BATCHES_READ).unbatch())
        decoded = files.map(decode, self.num_parallel_calls, deterministic=True)
        return decoded.batch(self.batch_size)

    def _decode(self, encoded: tf.Tensor, one: dict[str, tf.Tensor]) -> images.Image:
        """Encoded bytes to the crop that is described by the fields of `one`."""
        encoding, size = self.data.split.encoding, self.data.size
        if self.crop_size == size:
            image = images.restore(encoded, encoding, size, self.data.rescale)
        else:
            image = images.restored_crop(
                encoded,
                encoding,
                size,
                self.data.rescale,
                one["offset"],
                self.crop_size,
            )
        return images.mirror(image, one["mirrored"])


def _map_python(
    numbers: tf.data.Dataset,
    function: Callable[[int], Columns],
    types: Columns,
    num_parallel_calls: int,
) -> tf.data.Dataset:
    """Maps a Python function over numbers; its columns have the types of `types`."""
    dtypes = [tf.as_dtype(column.dtype) for column in types.values()]

    def columns(number: np.int64) -> list[np.ndarray]:
        made = function(int(number))
        return [made[name] for name in types]

    @tf.autograph.experimental.do_not_convert
    def graph(number: tf.Tensor) -> dict[str, tf.Tensor]:
        made = tf.numpy_function(columns, [number], dtypes, stateful=False)
        return {
            name: tf.ensure_shape(column, (None, *types[name].shape[1:]))
            for name, column in zip(types, made, strict=True)
        }

    return numbers.map(graph, num_parallel_calls, deterministic=True)


def _unreadable(
    data: RescaledSplit, examples: Iterable[int], error: UserError | tf.errors.OpError
) -> str:
    """The message about a batch that cannot be made: which image, why, the way out."""
    split, reason = data.split, _reason(error)
    for index in examples:
        try:
            encoded, _ = split.read(index)
            images.restore(
                tf.constant(encoded), split.encoding, data.size, data.rescale
            )
        except (UserError, OSError, tf.errors.OpError) as found:
            reason = f"{split.where(index)} in {split.name}: {_reason(found)}"
            break
    else:
        reason = f"one of the examples {sorted(examples)} in {split.name}: {reason}"
    if split.encoding != "original":
        way_out = "" if reader.WAY_OUT in reason else f"\n{reader.WAY_OUT}"
    else:
        way_out = (
            "\nFix or remove it. python -m alexnet_jax.prepare lists all such files, and "
            "with --skip_bad prepares a set without them."
        )
    return f"An image could not be read: {reason}{way_out}"


def _reason(error: Exception) -> str:
    from_tf = isinstance(error, tf.errors.OpError)
    return images.reason(error) if from_tf else str(error)
