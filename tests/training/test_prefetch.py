"""Batches are read and placed ahead of their use."""

import itertools
import threading
import time

import numpy as np
import pytest

from alexnet_jax.errors import UserError
from alexnet_jax.training import prefetch
from alexnet_jax.training.prefetch import Prefetcher


def prefetched(devices, batches):
    return Prefetcher(batches, devices.place_batch)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_batches_come_placed_each_once_and_in_order(devices, count):
    batches = ({"example": np.full(8, number)} for number in range(count))
    with prefetched(devices, batches) as batches_ahead:
        for number in range(count):
            assert int(batches_ahead.next()["example"][0, 0]) == number
        assert batches_ahead.next() is None
        assert batches_ahead.next() is None


def endless(taken):
    for number in itertools.count():
        taken.append(number)
        yield {"example": np.full(8, number)}


def test_two_batches_are_ready_and_one_is_read_ahead_of_the_one_in_use(devices):
    taken = []
    with prefetched(devices, endless(taken)) as batches_ahead:
        batches_ahead.next()
        wait_until(lambda: len(taken) == 4)
        time.sleep(0.1)
    assert taken == [0, 1, 2, 3]  # and no more on exit


def test_an_iterator_left_early_is_closed_wherever_it_is(devices):
    closed = []

    def batches():
        try:
            yield from endless([])
        finally:
            closed.append(threading.current_thread())

    for taken in range(4):
        with prefetched(devices, batches()) as batches_ahead:
            for _ in range(taken):
                batches_ahead.next()
    assert len(closed) == 4


def test_a_read_error_is_raised_where_the_batch_is_requested(devices):
    def batches():
        yield {"example": np.zeros(8)}
        raise UserError("a picture cannot be read")

    with prefetched(devices, batches()) as batches_ahead:
        batches_ahead.next()
        for _ in range(2):
            with pytest.raises(UserError, match="a picture"):
                batches_ahead.next()


def test_waiting_for_a_batch_is_timed_unless_it_is_ready(devices, monkeypatch):
    go_on, clock = threading.Event(), [0.0]
    monkeypatch.setattr(prefetch.time, "perf_counter", lambda: clock[0])

    def batches():
        for number in range(2):
            yield {"example": np.full(8, number)}
            go_on.wait()
            time.sleep(0.5)  # until next() waits for it
            clock[0] += 5.0

    with prefetched(devices, batches()) as ahead:
        wait_until(ahead.ready)
        ahead.next()
        assert ahead.waited == 0.0
        assert not ahead.ready()
        go_on.set()
        ahead.next()
        assert ahead.waited == 5.0


def wait_until(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("not within ten seconds")
