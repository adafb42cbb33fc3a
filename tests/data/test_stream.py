"""Graphs that call Python can be closed at any time and continue after errors."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from alexnet_jax.data.stream import stream


def slow(number):
    sum(range(20_000))  # holds the GIL
    if number % 10 == 7:
        raise ValueError(f"no number {number}")
    return number * number


def build(numbers, _):
    return numbers.map(
        lambda number: tf.numpy_function(slow, [number], tf.int64),
        num_parallel_calls=4,
        deterministic=True,
    )


def test_elements_and_errors_come_in_order():
    found = list(stream(tf.data.Dataset.range(40), build))
    assert len(found) == 40
    for number, element in enumerate(found):
        if number % 10 == 7:
            assert isinstance(element, tf.errors.OpError)
            assert f"no number {number}" in str(element)
        else:
            assert element == number**2


@pytest.mark.parametrize("taken", [0, 1, 6, 7, 8, 25])
def test_closing_early_stops_the_input(taken):
    """Otherwise closing would wait for 10**9 of them."""
    asked = []

    def noted(numbers, stoppable):
        read = numbers.map(lambda n: tf.numpy_function(note, [n], tf.int64))
        return build(read, stoppable)

    def note(number):
        asked.append(number)
        return number

    with contextlib.closing(stream(tf.data.Dataset.range(10**9), noted)) as made:
        for _ in range(taken):
            next(made)
    assert len(asked) < taken + 1000
    count = len(asked)
    sum(range(10**7))
    assert len(asked) == count  # No thread continues.


def test_elements_expanded_from_one_are_stopped_too():
    worked = []

    def work(number):
        worked.append(number)
        return number

    def many(numbers, stoppable):
        unfolded = numbers.flat_map(lambda n: tf.data.Dataset.range(10**6))
        return stoppable(unfolded).map(lambda n: tf.numpy_function(work, [n], tf.int64))

    with contextlib.closing(stream(tf.data.Dataset.range(3), many)) as made:
        next(made)
    assert len(worked) < 10_000


LEFT = """
import tensorflow as tf
from alexnet_jax.data.stream import stream

def work(number):
    sum(range(3000))
    return number

def build(numbers, _):
    return numbers.map(
        lambda n: tf.numpy_function(work, [n], tf.int64), num_parallel_calls=8
    )

for _ in range(150):
    made = stream(tf.data.Dataset.range(10**9), build)
    next(made)
    del made
made = stream(tf.data.Dataset.range(10**9), build)
next(made)
raise SystemExit(3)  # with one that is still running
"""


@pytest.mark.slow
def test_exiting_with_many_open_streams_does_not_hang():
    """Without `stream`, 2 of 9 runs hung (test_prepare.py tests Ctrl-C)."""
    done = subprocess.run([sys.executable, "-c", LEFT], timeout=200)
    assert done.returncode == 3


def test_an_interrupt_waits_for_an_element_and_ends_the_calls():
    calls = []

    def interrupting(number):
        calls.append(int(number))
        if number == 3:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)  # for the main thread to receive it
        return number

    def build(numbers, _):
        return numbers.map(lambda n: tf.numpy_function(interrupting, [n], tf.int64))

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        elements = stream(tf.data.Dataset.range(10_000), build)
        with pytest.raises(KeyboardInterrupt):
            for _ in elements:
                pass
        called = len(calls)
        assert called < 10_000
        assert list(elements) == []
        assert len(calls) == called
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_until_the_graph_is_built():
    built = []

    def build(numbers, _):
        signal.raise_signal(signal.SIGINT)
        built.append(True)
        return numbers

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(stream(tf.data.Dataset.range(3), build))
        assert built
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
