"""The networks in PyTorch have the sizes of ours, and their steps run in each form."""

import functools

import jax
import pytest

from benchmarks import step_benchmarks, torch_baselines
from benchmarks.timing import BenchmarkSettings

SETTINGS = BenchmarkSettings(1, "float32")
WORKLOADS = {
    "two towers": functools.partial(step_benchmarks.alexnet, 2),
    "one tower": functools.partial(step_benchmarks.alexnet, 1),
    "batch normalization": step_benchmarks.with_later_ideas,
    "four layers": functools.partial(step_benchmarks.four_layer, "tanh", 4),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_pytorchs_network_has_as_many_parameters(name):
    pytest.importorskip("torch", reason="PyTorch is an optional package")
    workload = WORKLOADS[name](SETTINGS)
    shapes = jax.eval_shape(workload.network().initialize, jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    network = workload.torch_network()
    running = [b for name, b in network.named_buffers() if "running" in name]
    assert sum(p.numel() for p in (*network.parameters(), *running)) == count


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_pytorch_is_timed_in_each_memory_format(monkeypatch, optimizer):
    pytest.importorskip("torch", reason="PyTorch is an optional package")
    monkeypatch.setattr(torch_baselines, "can_compile", lambda: False)
    workload = WORKLOADS["four layers"](SETTINGS)
    batch = step_benchmarks.noise_batch(workload)
    found = torch_baselines.train_steps(
        workload.torch_network, batch, "float32", optimizer
    )
    assert list(found) == ["torch NCHW", "torch channels_last"]
    for step in found.values():
        step()
