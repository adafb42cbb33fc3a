"""tf.data graphs that call Python, run so that they can be left at any moment."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

import tensorflow as tf

RAM_BUDGET = 2**30  # bytes, of what tf.data tunes; one batch may be larger


def stream(
    numbers: tf.data.Dataset, build: Callable[[tf.data.Dataset], tf.data.Dataset]
) -> Generator[Any, None, None]:
    """The elements of `build(numbers)` as numpy arrays, made ahead by threads.

    Where an element cannot be made, the tf.errors.OpError stands in its place; the next
    one follows. Whoever leaves early closes the iterator (contextlib.closing).

    An iterator of tf.data waits, when it is destroyed, for its calls of Python that are
    under way. At the end of an interrupted process these could not go on any more: in 2
    of 9 runs it hung. So no iterator is destroyed before its numbers are stopped and
    its calls are through.
    """
    running = tf.Variable(True, trainable=False)
    go_on = tf.autograph.experimental.do_not_convert(lambda *_: running)
    options = tf.data.Options()
    options.autotune.enabled = True
    options.autotune.ram_budget = RAM_BUDGET
    dataset = build(numbers.take_while(go_on)).prefetch(tf.data.AUTOTUNE)
    iterator = dataset.with_options(options).as_numpy_iterator()
    try:
        yield from _elements(iterator)
    finally:
        running.assign(False)
        for _ in _elements(iterator):
            pass


def _elements(iterator: Iterator[Any]) -> Iterator[Any]:
    while True:
        try:
            yield next(iterator)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            yield error
