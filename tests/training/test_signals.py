"""Signals as requested actions; test_faults.py sends them to whole runs."""

import os
import signal
import time
from types import SimpleNamespace

import pytest

from alexnet_jax.errors import Stopped
from alexnet_jax.training import loop
from alexnet_jax.training.group import TrialGroup
from alexnet_jax.training.signals import SAVE, Signals


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


def request(number, **options):
    """What the signal makes `Signals` request."""
    with Signals(**options) as signals:
        os.kill(os.getpid(), number)
        time.sleep(0.1)
        return signals.take()


@pytest.mark.parametrize("saves", [True, False])
def test_what_is_said_to_be_saved_is_saved(capfd, saves):
    request(signal.SIGTERM, saves=saves)
    said = capfd.readouterr().err
    assert ("saving" in said, "keeping nothing" in said) == (saves, not saves)


def group_with(action, *, saves):
    """A group whose trials a signal has asked to leave or to save."""
    signals = SimpleNamespace(saves=saves, take=lambda: action)
    devices = SimpleNamespace(all_reduced=lambda requested: requested)
    group = object.__new__(TrialGroup)
    group.context = SimpleNamespace(signals=signals, devices=devices)
    return group


def test_a_preflight_leaves_without_saving():
    """The group in this test could not be saved."""
    loop.follow_signals(group_with(SAVE, saves=False))
    with pytest.raises(Stopped, match="SIGTERM, in the preflight"):
        loop.follow_signals(group_with(int(signal.SIGTERM), saves=False))
