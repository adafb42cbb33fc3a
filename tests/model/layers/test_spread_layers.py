"""The layers' forms for CPUs under `jax.shard_map`, which checks what devices share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from random_arrays import normal

from alexnet_jax.model import layers
from alexnet_jax.model.layers import kernel_gradient_cpu, pooling


def loss(kernel, x):
    """Of a convolution and both kinds of pooling, each with windows that overhang."""
    y = layers.convolve(x, kernel, stride=1, padding=((2, 2), (2, 2)))
    y = layers.max_pool(y, window=3, stride=2, rounding="up", ties="first")
    y = layers.average_pool(y, window=3, stride=2, rounding="up")
    return (y * y).sum()


@pytest.mark.parametrize("how", ["shard_map", "pmap"])
def test_gradients_summed_over_devices_are_those_of_one(how, monkeypatch):
    monkeypatch.setattr(pooling, "VALUES_AT_ONCE", 1)
    monkeypatch.setattr(kernel_gradient_cpu, "VALUES_AT_ONCE", 1)
    devices = jax.devices()[:4]
    assert len(devices) == 4  # conftest.py makes eight
    x = jnp.asarray(normal(51, 8, 12, 12, 3))
    kernel = jnp.asarray(normal(52, 5, 5, 3, 24))

    def gradient(kernel, x):
        kernel = jax.lax.pcast(kernel, "batch", to="varying")
        return jax.lax.psum(jax.grad(loss)(kernel, x), "batch")

    if how == "pmap":
        spread = jax.pmap(
            gradient, "batch", in_axes=(None, 0), out_axes=None, devices=devices
        )
        found = spread(kernel, x.reshape(4, 2, *x.shape[1:]))
    else:
        batch = PartitionSpec("batch")
        mesh = Mesh(np.array(devices), ("batch",))
        specs = {"in_specs": (PartitionSpec(), batch), "out_specs": PartitionSpec()}
        found = jax.jit(jax.shard_map(gradient, mesh=mesh, **specs))(kernel, x)
    expected = jax.jit(jax.grad(loss))(kernel, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
