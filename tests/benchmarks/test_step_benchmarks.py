"""The steps that are compared must compute the same loss."""

import dataclasses
import functools

import pytest
from ml_collections import ConfigDict

from benchmarks import step_benchmarks
from benchmarks.timing import BenchmarkSettings


def test_steps_whose_losses_disagree_are_not_timed(monkeypatch):
    losses = iter([6.9, 7.0])
    monkeypatch.setattr(
        step_benchmarks, "train_step", lambda *_: functools.partial(next, losses)
    )
    settings = BenchmarkSettings(1, "float32")
    workload = step_benchmarks.four_layer("relu", 1, settings)
    with pytest.raises(ValueError, match=r"a step: .*6\.9.*7\.0"):
        step_benchmarks.compare_steps("a step", workload, {}, settings)


@pytest.mark.slow
def test_a_step_without_plain_jax_is_compared_with_pytorch_alone(monkeypatch):
    """Of batch normalization and AdamW, which take running statistics and their own state."""
    monkeypatch.setattr(step_benchmarks.torch_baselines, "pytorch", lambda: None)
    settings = BenchmarkSettings(1, "float32")
    workload = step_benchmarks.four_layer("relu", 8, settings)
    later = dataclasses.replace(
        workload,
        model=ConfigDict(workload.model.to_dict() | {"normalization": "batch"}),
        plain_logits=None,
        optimizer=step_benchmarks.ADAMW_SPEC,
    )
    comparison = step_benchmarks.compare_steps("a step", later, {}, settings)
    (ours,) = comparison.implementations.values()
    losses = [float(ours()) for _ in range(3)]
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_four_layer_step_has_the_loss_of_plain_jax(monkeypatch, activation):
    """Building the comparison computes both losses, and raises if they differ."""
    settings = BenchmarkSettings(1, "float32")
    monkeypatch.setattr(step_benchmarks.torch_baselines, "pytorch", lambda: None)
    workload = step_benchmarks.four_layer(activation, 8, settings)
    comparison = step_benchmarks.compare_steps("a step", workload, {}, settings)
    assert sorted(comparison.implementations) == ["ours", "plain"]
