"""The update rule of section 5, by hand across a drop, and the learning rate's fall."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.training.optimizer import learning_rate_at, update_rule

# v <- 0.9 v - rate (0.0005 w + 0.5); w <- w + v, from w = 1 and v = 0.
RATES = (0.01, 0.01, 0.001, 0.001)
VELOCITIES = (-0.0050050000, -0.0095094750, -0.0090590202, -0.0086536064)
WEIGHTS = (0.9949950000, 0.9854855250, 0.9764265048, 0.9677728984)
# The same with the rate outside the velocity, as optax.sgd and PyTorch have it.
OUTSIDE = (0.9949950000, 0.9854855250, 0.9841291795, 0.9824079765)

HALF_OF_THE_TENTH_DIGIT = 5e-11


def trace(rule_of, *, name="kernel", decay=0.0005):
    """(velocity, weight) after each step from 1 with gradient 0.5, in float64."""
    with jax.enable_x64(True):
        params = {"fc": {name: jnp.asarray(1.0, jnp.float64)}}
        gradients = {"fc": {name: jnp.asarray(0.5, jnp.float64)}}
        state = rule_of(RATES[0], decay).init(params)
        steps = []
        for rate in RATES:
            updates, state = rule_of(rate, decay).update(gradients, state, params)
            params = optax.apply_updates(params, updates)
            steps.append((float(updates["fc"][name]), float(params["fc"][name])))
    return steps


def paper(rate, decay):
    return update_rule(learning_rate=rate, momentum=0.9, weight_decay=decay)


def sgd(rate, decay):
    return optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate, momentum=0.9))


def test_four_steps_across_a_drop_are_those_by_hand():
    velocities, weights = zip(*trace(paper), strict=True)
    assert velocities == pytest.approx(VELOCITIES, abs=HALF_OF_THE_TENTH_DIGIT, rel=0)
    assert weights == pytest.approx(WEIGHTS, abs=HALF_OF_THE_TENTH_DIGIT, rel=0)


def test_the_rule_differs_from_optax_sgd_after_a_drop_and_not_before():
    weights = [weight for _, weight in trace(paper)]
    outside = [weight for _, weight in trace(sgd)]
    assert outside == pytest.approx(OUTSIDE, abs=HALF_OF_THE_TENTH_DIGIT, rel=0)
    assert weights[:2] == pytest.approx(outside[:2], rel=1e-14)
    assert all(
        inside < other - 0.007
        for inside, other in zip(weights[2:], outside[2:], strict=True)
    )


def test_kernels_decay_and_biases_do_not():
    with_decay, without = (trace(paper, name="bias", decay=d) for d in (0.0005, 0.0))
    assert with_decay == without
    assert with_decay[0] == (-0.005, 0.995)
    assert trace(paper, name="kernel", decay=0.0) == without
    assert trace(paper, name="kernel", decay=0.0005) != without


def layers(seed):
    draws = np.random.default_rng(seed)
    return {
        "conv1": {
            "kernel": jnp.asarray(draws.standard_normal((3, 3, 2, 4)), jnp.float32),
            "bias": jnp.asarray(draws.standard_normal(4), jnp.float32),
        },
        "fc2": {
            "kernel": jnp.asarray(draws.standard_normal((5, 2)), jnp.float32),
            "bias": jnp.asarray(draws.standard_normal(2), jnp.float32),
        },
    }


def test_every_leaf_of_a_network_moves_by_the_rule():
    params, gradients, velocity = layers(0), layers(1), layers(2)
    rule = update_rule(learning_rate=0.1, momentum=0.5, weight_decay=0.25)
    structure = jax.tree.structure(rule.init(params))
    state = jax.tree.unflatten(structure, jax.tree.leaves(velocity))
    updates, after = rule.update(gradients, state, params)
    for name, kind in itertools.product(params, ("kernel", "bias")):
        decay = 0.25 if kind == "kernel" else 0.0
        w, g, v = (
            np.asarray(tree[name][kind]) for tree in (params, gradients, velocity)
        )
        expected = 0.5 * v - 0.1 * (decay * w + g)
        np.testing.assert_allclose(updates[name][kind], expected, rtol=1e-5, atol=1e-6)
    moved = zip(jax.tree.leaves(updates), jax.tree.leaves(after), strict=True)
    for update, leaf in moved:  # the state is the velocity
        np.testing.assert_array_equal(update, leaf)


def test_a_learning_rate_of_zero_leaves_weights_at_rest_bit_identical():
    params, gradients = layers(3), layers(4)
    rule = update_rule(learning_rate=0.0, momentum=0.9, weight_decay=0.0005)
    updates, _ = rule.update(gradients, rule.init(params), params)
    after = optax.apply_updates(params, updates)
    jax.tree.map(np.testing.assert_array_equal, after, params)


def test_one_compilation_serves_all_numbers():
    @jax.jit
    def weight(rate, momentum, decay):
        compiled.append(1)
        rule = update_rule(learning_rate=rate, momentum=momentum, weight_decay=decay)
        params = {"kernel": jnp.ones(())}
        return rule.update({"kernel": jnp.ones(())}, rule.init(params), params)[0]

    compiled = []
    first = weight(np.float32(0.1), np.float32(0.9), np.float32(0.0))
    second = weight(np.float32(0.2), np.float32(0.5), np.float32(0.5))
    assert float(first["kernel"]) == pytest.approx(-0.1)
    assert float(second["kernel"]) == pytest.approx(-0.3)
    assert len(compiled) == 1


# --- The learning rate's fall -----------------------------------------------------

PAPER = {
    "learning_rate": 0.01,
    "drop_epochs": (23.0, 51.0, 78.0),
    "drop_factor": 0.1,
}


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0.0, 1e-2),
        (22.999, 1e-2),
        (23.0, 1e-3),
        (23.001, 1e-3),
        (50.999, 1e-3),
        (51.0, 1e-4),
        (77.999, 1e-4),
        (78.0, 1e-5),
        (90.0, 1e-5),
    ],
)
def test_the_learning_rate_falls_at_each_drop(epoch, expected):
    assert learning_rate_at(epoch, **PAPER) == pytest.approx(expected, rel=1e-12)


def test_without_drops_the_learning_rate_stays():
    choices = PAPER | {"drop_epochs": ()}
    assert {learning_rate_at(epoch, **choices) for epoch in (0.0, 50.0, 1e6)} == {0.01}


@settings(deadline=None)
@given(st.lists(st.floats(0.5, 100), max_size=5), st.floats(0.01, 1))
def test_drops_may_come_in_any_order_and_the_rate_never_rises(drops, factor):
    choices = {"learning_rate": 1.0, "drop_factor": factor}
    rates = [
        learning_rate_at(epoch, drop_epochs=drops, **choices)
        for epoch in np.linspace(0, 101, 50).tolist()
    ]
    backwards = learning_rate_at(60.0, drop_epochs=drops[::-1], **choices)
    assert backwards == learning_rate_at(60.0, drop_epochs=drops, **choices)
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(factor ** len(drops))
