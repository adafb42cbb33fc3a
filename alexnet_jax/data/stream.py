"""tf.data graphs that call Python, run so that they can be left at any moment."""

import atexit
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

import tensorflow as tf

RAM_BUDGET = 2**30  # bytes, of what tf.data tunes; one batch may be larger


Stoppable = Callable[[tf.data.Dataset], tf.data.Dataset]


def stream(
    numbers: tf.data.Dataset,
    build: Callable[[tf.data.Dataset, Stoppable], tf.data.Dataset],
) -> Generator[Any, None, None]:
    """The elements of `build(numbers, stoppable)` as numpy arrays, made ahead by threads.

    `stoppable` makes a dataset end when the iterator is closed. The numbers are so
    already; where an element becomes many, what follows them should be too.

    Where an element cannot be made, the tf.errors.OpError stands in its place; the next
    one follows. Whoever leaves early closes the iterator (contextlib.closing).

    An iterator of tf.data waits, when it is destroyed, for its calls of Python that are
    under way. At the end of an interrupted process these could not go on any more: in 2
    of 9 runs it hung. So no iterator is destroyed before its numbers are stopped and
    its calls are through; at the latest before the interpreter begins to end.
    """
    made = _stream(numbers, build)
    _OPEN.add(made)
    return made


_OPEN: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for each in list(_OPEN):
        each.close()


def _stream(
    numbers: tf.data.Dataset,
    build: Callable[[tf.data.Dataset, Stoppable], tf.data.Dataset],
) -> Generator[Any, None, None]:
    running = tf.Variable(True, trainable=False)
    is_running = tf.autograph.experimental.do_not_convert(lambda *_: running)

    def stoppable(dataset: tf.data.Dataset) -> tf.data.Dataset:
        return dataset.take_while(is_running)

    options = tf.data.Options()
    options.autotune.enabled = True
    options.autotune.ram_budget = RAM_BUDGET
    dataset = build(stoppable(numbers), stoppable).prefetch(tf.data.AUTOTUNE)
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
