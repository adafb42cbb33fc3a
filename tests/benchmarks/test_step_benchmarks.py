"""The steps that are compared must compute the same loss."""

import dataclasses
import functools

import pytest

from benchmarks import step_benchmarks
from benchmarks.timing import BenchmarkSettings


@dataclasses.dataclass(frozen=True)
class FakeNetwork:
    apply: object = None


def test_steps_whose_losses_disagree_are_not_timed(monkeypatch):
    monkeypatch.setattr(step_benchmarks, "build_network", lambda *_: FakeNetwork())
    losses = iter([6.9, 7.0])
    monkeypatch.setattr(
        step_benchmarks, "train_step", lambda *_: functools.partial(next, losses)
    )
    settings = BenchmarkSettings(1, "float32")
    with pytest.raises(ValueError, match=r"a step: .*6\.9.*7\.0"):
        step_benchmarks.compare_steps("a step", 2, {}, settings)
