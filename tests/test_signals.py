"""Signals as wishes: see also test_faults.py, which sends them to whole runs."""

import os
import signal
import time

from alexnet_jax.training.signals import Signals


def test_one_wish_heard_twice_is_one():
    """A launcher that signals a process and its group; a second SIGINT would leave."""
    with Signals() as asked:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
        assert asked.take() == signal.SIGTERM


def test_a_wish_to_save_is_heard_once_for_each_time():
    with Signals() as asked:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.1)
        assert [asked.take() > 0, asked.take() > 0] == [True, False]
