"""AlexNet in PyTorch has the size of ours."""

import pytest

from benchmarks import torch_baselines


@pytest.mark.parametrize(("towers", "count"), [(2, 60_965_224), (1, 62_378_344)])
def test_pytorchs_network_has_as_many_parameters(towers, count):
    pytest.importorskip("torch", reason="PyTorch is an optional package")
    network = torch_baselines.alexnet(towers)
    assert sum(p.numel() for p in network.parameters()) == count
