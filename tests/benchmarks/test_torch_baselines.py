"""AlexNet in PyTorch has the size of ours."""

import jax
import pytest

from benchmarks import step_benchmarks, torch_baselines
from benchmarks.timing import BenchmarkSettings


@pytest.mark.parametrize("towers", [2, 1])
def test_pytorchs_network_has_as_many_parameters(towers):
    pytest.importorskip("torch", reason="PyTorch is an optional package")
    ours = step_benchmarks.build_network(towers, BenchmarkSettings(1, "float32"))
    shapes = jax.eval_shape(ours.initialize, jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    network = torch_baselines.alexnet(towers)
    assert sum(p.numel() for p in network.parameters()) == count
