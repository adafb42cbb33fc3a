"""Runs tf.data graphs that call Python so that they can be stopped at any moment."""

import atexit
import contextlib
import signal
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from types import FrameType
from typing import Any

import tensorflow as tf

# TensorFlow must leave the accelerators to JAX.
for kind in ("GPU", "TPU"):
    tf.config.set_visible_devices([], kind)

# The bytes that tf.data may use for prefetching; a single batch may be larger.
RAM_BUDGET = 2**30

Stoppable = Callable[[tf.data.Dataset], tf.data.Dataset]


def stream(
    numbers: tf.data.Dataset,
    build: Callable[[tf.data.Dataset, Stoppable], tf.data.Dataset],
) -> Generator[Any, None, None]:
    """Yields the elements of a graph as numpy arrays, prefetched by threads.

    If an element cannot be made, a tf.errors.OpError is yielded in its place, and the
    next element follows. Whoever leaves early closes the generator (contextlib.closing).

    When tf.data destroys an iterator, it waits for the iterator's running calls of
    Python. At the end of an interrupted process these can no longer proceed: 2 of 9
    runs hung. Therefore no iterator is destroyed before its numbers are stopped and its
    calls have returned; at the latest before the interpreter begins to shut down.

    Args:
      numbers: The elements from which the graph starts.
      build: Receives the numbers and `stoppable`, and returns the graph. `stoppable`
        makes a dataset end when the generator is closed. The numbers are stoppable
        already; where one element becomes many, those should be too.
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
    with _interrupt_delayed():
        dataset = build(stoppable(numbers), stoppable).prefetch(tf.data.AUTOTUNE)
        iterator = dataset.with_options(options).as_numpy_iterator()
    try:
        yield from _elements(iterator)
    finally:
        with _interrupt_delayed():
            running.assign(False)
            for _ in _elements(iterator):
                pass


def _elements(iterator: Iterator[Any]) -> Iterator[Any]:
    while True:
        try:
            with _interrupt_delayed():
                element = next(iterator)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            element = error
        yield element


@contextlib.contextmanager
def _interrupt_delayed() -> Iterator[None]:
    """Delays KeyboardInterrupt: amid TensorFlow's C++ it would become another error.

    Of 150 preparations interrupted while TensorFlow traced or ran the graph, two ended
    with a RuntimeError and one crashed. Where a signal raises nothing, as in training,
    and in other threads, there is nothing to delay.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    received = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if received:
            raise KeyboardInterrupt
