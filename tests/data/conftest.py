"""The numbered images in memory, as files on disk, and as a raw prepared set."""

import pytest
from numbered_images import load, raw_split

from alexnet_jax.data import sampling


@pytest.fixture(scope="session")
def in_memory():
    return load(2**29)


@pytest.fixture(scope="session")
def on_disk():
    return load(0)


@pytest.fixture(scope="session")
def raw():
    return load(0, of_split=raw_split)


@pytest.fixture(params=["in_memory", "on_disk", "raw"])
def data(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def reversed_order(monkeypatch):
    """Reverses the order of every epoch when called."""
    usual = sampling.epoch_order

    def reverse():
        monkeypatch.setattr(sampling, "epoch_order", lambda *a: usual(*a)[::-1])

    return reverse
