"""How Ray is started: its limits, a second attempt, and what is reported if it does not start."""

import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from alexnet_jax.errors import UserError
from alexnet_jax.experiment.cluster import ray_session


@pytest.fixture
def ray(monkeypatch):
    """A module in place of Ray; `ray.outcomes` are what its next starts raise, or None."""
    fake = SimpleNamespace(outcomes=[], starts=[], ended=0)

    def init(**options):
        fake.starts.append(options)
        outcome = fake.outcomes.pop(0)
        if callable(outcome):
            outcome()
        elif outcome is not None:
            raise outcome

    def shutdown():
        fake.ended += 1

    fake.init, fake.shutdown = init, shutdown
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(ray_session, "_check_reachable", lambda address: None)
    for name in ray_session.FORWARDED:
        monkeypatch.setenv(name, "1")
    for name in ray_session.START_LIMITS:  # restored after the test
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return fake


def test_a_start_has_generous_limits_and_keeps_the_users_own(ray, monkeypatch):
    monkeypatch.setenv("RAY_worker_register_timeout_seconds", "7")
    ray.outcomes = [None]
    ray_session.connect(None)
    found = {name: os.environ[name] for name in ray_session.START_LIMITS}
    assert found.pop("RAY_worker_register_timeout_seconds") == "7"
    assert all(int(limit) >= ray_session.START_SECONDS for limit in found.values())
    assert [start["address"] for start in ray.starts] == ["local"]


def test_a_start_that_fails_is_tried_once_more(ray, capsys):
    ray.outcomes = [Exception("The current node timed out during startup."), None]
    ray_session.connect(None)
    assert (len(ray.starts), ray.ended) == (2, 1)
    assert "timed out during startup" in capsys.readouterr().err


def test_two_failed_starts_name_main(ray):
    ray.outcomes = [Exception("one"), RuntimeError("two")]
    with pytest.raises(
        UserError, match=r"2 attempts.*two.*python -m alexnet_jax\.main"
    ):
        ray_session.connect(None)
    assert len(ray.starts) == 2


def test_a_start_that_takes_too_long_has_failed(ray, monkeypatch):
    monkeypatch.setattr(ray_session, "START_SECONDS", 0.05)
    ray.outcomes = [lambda: time.sleep(5), None]
    before = signal.getsignal(signal.SIGALRM)
    ray_session.connect(None)
    assert len(ray.starts) == 2
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_cluster_by_its_address_is_tried_once_and_its_limits_are_its_own(ray):
    ray.outcomes = [Exception("no answer")]
    with pytest.raises(UserError, match=r"--address=host:1.*no answer"):
        ray_session.connect("host:1")
    assert len(ray.starts) == 1
    assert not set(ray_session.START_LIMITS) & set(os.environ)
