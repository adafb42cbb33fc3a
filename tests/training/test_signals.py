"""Signals as requested actions; test_faults.py sends them to whole runs."""

import os
import signal
import time

from alexnet_jax.training.signals import Signals


def test_a_request_received_twice_counts_once():
    """A launcher may signal a process and its group; a second SIGINT would exit."""
    with Signals() as signals:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
        assert signals.take() == signal.SIGTERM


def test_each_request_to_save_is_returned_once():
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.1)
        assert [signals.take() > 0, signals.take() > 0] == [True, False]
