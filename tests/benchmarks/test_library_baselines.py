"""AlexNet in plain JAX is the same function as ours."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet_jax.model.network import build
from benchmarks import library_baselines, step_benchmarks
from benchmarks.timing import BenchmarkSettings


@pytest.fixture(autouse=True)
def plain_jax():
    """A user's plain JAX adds a bias by broadcasting."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.slow
def test_plain_jax_gives_our_logits_and_gradient():
    """With dropout, at a small size."""
    towers = 2
    model = step_benchmarks.alexnet(towers, BenchmarkSettings(3, "float32")).model
    network = build(
        ConfigDict(model.to_dict() | {"width": 1 / 24}), image_size=64, num_classes=10
    )
    params = network.initialize(jax.random.key(0))
    images = np.random.default_rng(0).standard_normal((3, 64, 64, 3)) * 50
    images = jnp.asarray(images, jnp.float32)
    keys = jax.vmap(jax.random.key)(jnp.arange(3))

    @functools.partial(jax.jit, static_argnums=0)
    def logits_and_gradient(apply, params):
        logits, backward = jax.vjp(lambda params: apply(params, images, keys), params)
        return logits, backward(jnp.cos(logits))[0]

    plain = functools.partial(library_baselines.alexnet_logits, towers=towers)
    ours = logits_and_gradient(network.apply, params)
    for one, other in zip(
        *map(jax.tree.leaves, (ours, logits_and_gradient(plain, params))), strict=True
    ):
        np.testing.assert_allclose(
            one, other, rtol=1e-3, atol=1e-5 * np.abs(other).max() + 1e-12
        )
