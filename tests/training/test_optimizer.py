"""The update rule of section 5, checked by hand across a learning-rate drop."""

import dataclasses
import functools
import importlib.util
import itertools
import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.errors import UserError
from alexnet_jax.training.optimizer import (
    RULES,
    Hyperparameters,
    OptimizerSpec,
    make_optimizer,
)
from alexnet_jax.training.schedule import LearningRates

# v <- 0.9 v - rate (0.0005 w + 0.5); w <- w + v, from w = 1 and v = 0.
RATES = (0.01, 0.01, 0.001, 0.001)
VELOCITIES = (-0.0050050000, -0.0095094750, -0.0090590202, -0.0086536064)
WEIGHTS = (0.9949950000, 0.9854855250, 0.9764265048, 0.9677728984)
# The same with the learning rate outside the momentum, as in optax.sgd and PyTorch.
OUTSIDE = (0.9949950000, 0.9854855250, 0.9841291795, 0.9824079765)

HALF_OF_THE_TENTH_DIGIT = 5e-11


def everywhere(rate):
    return LearningRates(rate, rate, rate, rate)


def trace(rule_of, *, name="kernel", decay=0.0005):
    """(update, weight) of each step from weight 1 with gradient 0.5, in float64."""
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


def ours(rate, decay, *, lr_inside_momentum=True, bias_decay=False):
    return make_optimizer(
        OptimizerSpec(lr_inside_momentum=lr_inside_momentum, bias_decay=bias_decay),
        Hyperparameters(everywhere(rate), 0.9, decay, np.uint32(0)),
    )


outside = functools.partial(ours, lr_inside_momentum=False)


def sgd(rate, decay):
    return optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate, momentum=0.9))


# --- The update rule --------------------------------------------------------------


def test_four_steps_across_a_drop_match_hand_computation():
    velocities, weights = zip(*trace(ours), strict=True)
    assert velocities == pytest.approx(VELOCITIES, abs=HALF_OF_THE_TENTH_DIGIT, rel=0)
    assert weights == pytest.approx(WEIGHTS, abs=HALF_OF_THE_TENTH_DIGIT, rel=0)


def test_with_the_lr_outside_momentum_steps_differ_after_the_drop():
    weights = [weight for _, weight in trace(outside)]
    assert weights == pytest.approx(OUTSIDE, abs=HALF_OF_THE_TENTH_DIGIT, rel=0)
    assert weights == pytest.approx([weight for _, weight in trace(sgd)], rel=1e-14)
    inside = [weight for _, weight in trace(ours)]
    assert weights[:2] == pytest.approx(inside[:2], rel=1e-14)
    assert all(
        one < other - 0.007 for one, other in zip(inside[2:], weights[2:], strict=True)
    )


def layers(seed):
    draws = np.random.default_rng(seed)
    shapes = {"conv1": (3, 3, 2, 4), "fc2": (5, 2)}
    return {
        name: {
            "kernel": jnp.asarray(draws.standard_normal(shape), jnp.float32),
            "bias": jnp.asarray(draws.standard_normal(shape[-1]), jnp.float32),
        }
        for name, shape in shapes.items()
    }


def moved(
    params,
    gradients,
    rates,
    *,
    before=None,
    momentum=0.9,
    weight_decay=0.0005,
    lr_inside_momentum=True,
    bias_decay=False,
    lr_multipliers=(),
):
    """Updates and new state of one step; `before` replaces the zero velocity."""
    rule = make_optimizer(
        OptimizerSpec(lr_inside_momentum, bias_decay, lr_multipliers),
        Hyperparameters(rates, momentum, weight_decay, np.uint32(0)),
    )
    state = rule.init(params)
    if before is not None:
        structure = jax.tree.structure(state)
        state = jax.tree.unflatten(structure, jax.tree.leaves(before))
    return rule.update(gradients, state, params)


# PyTorch's own optimizer, in a separate process: beside TensorFlow it can crash.
PYTORCH = """
import json, sys

import torch

rule, numbers, first, gradients, rates = json.load(sys.stdin)
weights = [torch.tensor(leaf, requires_grad=True) for leaf in first]
optimizer = getattr(torch.optim, rule)(weights, lr=1.0, **numbers)
for rate, of_step in zip(rates, gradients):
    for group in optimizer.param_groups:
        group["lr"] = rate
    for leaf, gradient in zip(weights, of_step):
        leaf.grad = torch.tensor(gradient)
    optimizer.step()
json.dump([leaf.tolist() for leaf in weights], sys.stdout)
"""


SGD = OptimizerSpec(lr_inside_momentum=False, bias_decay=True)
ADAMW = dataclasses.replace(SGD, name="adamw", beta1=0.8, beta2=0.95, epsilon=1e-3)


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"
)
@pytest.mark.parametrize(
    ("spec", "rule", "numbers"),
    [
        pytest.param(SGD, "SGD", {"momentum": 0.9}, id="SGD"),
        pytest.param(ADAMW, "AdamW", {"betas": [0.8, 0.95], "eps": 1e-3}, id="AdamW"),
    ],
)
def test_twenty_steps_are_those_of_pytorch(spec, rule, numbers):
    """The same gradients across a drop, with decay of kernels and biases."""
    rates = [0.05] * 12 + [0.005] * 8
    first = params = layers(0)
    gradients = [layers(10 + step) for step in range(len(rates))]
    state = None
    for rate, of_step in zip(rates, gradients, strict=True):
        numbers_of_step = Hyperparameters(everywhere(rate), 0.9, 0.25, np.uint32(0))
        optimizer = make_optimizer(spec, numbers_of_step)
        state = optimizer.init(params) if state is None else state
        updates, state = optimizer.update(of_step, state, params)
        params = optax.apply_updates(params, updates)

    def lists(tree):
        return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(tree)]

    of_steps = [lists(one) for one in gradients]
    given = [rule, numbers | {"weight_decay": 0.25}, lists(first), of_steps, rates]
    done = subprocess.run(
        [sys.executable, "-c", PYTORCH],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    for ours, other, start in zip(lists(params), theirs, lists(first), strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-6)
        assert np.abs(np.subtract(ours, start)).max() > 0.01


def lamb_by_hand(w, g, state, rate, kind):
    """Algorithm 2 of You et al. (2020), in NumPy; decay 0.25 of kernels and biases."""
    mean, square, step = state
    mean, square, step = 0.8 * mean + 0.2 * g, 0.95 * square + 0.05 * g**2, step + 1
    move = (mean / (1 - 0.8**step)) / (np.sqrt(square / (1 - 0.95**step)) + 1e-3)
    move = move + 0.25 * w
    ratio = np.sqrt((w**2).sum()) / np.sqrt((move**2).sum())
    return w - rate * ratio * move, (mean, square, step)


def lars_by_hand(w, g, velocity, rate, kind):
    """Algorithm 1 of You et al. (2017), with the norm of gradient and decay together."""
    if kind == "kernel":
        g = g + 0.25 * w
        g = 0.02 * g * np.sqrt((w**2).sum()) / np.sqrt((g**2).sum())
    velocity = 0.9 * velocity + rate * g
    return w - velocity, velocity


LAMB = dataclasses.replace(ADAMW, name="lamb")
LARS = OptimizerSpec(True, False, name="lars", trust_coefficient=0.02)


@pytest.mark.parametrize(
    ("spec", "by_hand", "start"),
    [
        pytest.param(LAMB, lamb_by_hand, (0.0, 0.0, 0), id="LAMB"),
        pytest.param(LARS, lars_by_hand, 0.0, id="LARS"),
    ],
)
def test_layers_move_by_their_norms_as_in_the_paper(spec, by_hand, start):
    params, rates = layers(0), [0.05] * 12 + [0.005] * 8
    theirs = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    states = jax.tree.map(lambda _: start, params)
    state = make_optimizer(spec, Hyperparameters.zero()).init(params)
    for step, rate in enumerate(rates):
        gradients = layers(10 + step)
        numbers = Hyperparameters(everywhere(rate), 0.9, 0.25, np.uint32(0))
        updates, state = make_optimizer(spec, numbers).update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        for layer, kind in itertools.product(theirs, ("kernel", "bias")):
            theirs[layer][kind], states[layer][kind] = by_hand(
                theirs[layer][kind],
                np.asarray(gradients[layer][kind], np.float64),
                states[layer][kind],
                rate,
                kind,
            )
    close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6)
    jax.tree.map(close, params, theirs)


def optax_lamb(rate):
    return optax.lamb(rate, b1=0.8, b2=0.95, eps=1e-3, weight_decay=0.25)


def optax_lars(rate):
    kernels = {layer: {"kernel": True, "bias": False} for layer in layers(0)}
    return optax.lars(
        rate,
        weight_decay=0.25,
        weight_decay_mask=kernels,
        trust_coefficient=0.02,
        trust_ratio_mask=kernels,
        momentum=0.9,
    )


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        pytest.param(LAMB, optax_lamb, id="LAMB"),
        pytest.param(LARS, optax_lars, id="LARS"),
    ],
)
def test_twenty_steps_are_those_of_optax(spec, rule):
    """Whose rules for large batches take the rate from a schedule."""
    rates = [0.05] * 12 + [0.005] * 8
    params = theirs = layers(0)
    other = rule(lambda count: jnp.asarray(rates)[count])
    state, their_state = None, other.init(theirs)
    for step, rate in enumerate(rates):
        gradients = layers(10 + step)
        numbers = Hyperparameters(everywhere(rate), 0.9, 0.25, np.uint32(0))
        optimizer = make_optimizer(spec, numbers)
        state = optimizer.init(params) if state is None else state
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        updates, their_state = other.update(gradients, their_state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7)
    jax.tree.map(close, params, theirs)


@pytest.mark.parametrize("inside", [True, False])
def test_a_decoupled_decay_enters_no_velocity(inside):
    """Twenty steps across a drop of the rates: those of optax's parts, and by hand.

    In optax the gradient alone goes through the momentum; what decays is taken off beside.
    """
    spec = OptimizerSpec(inside, False, decoupled_decay=True)
    first = LearningRates(kernel=0.1, bias=0.3, conv1_kernel=0.02, conv1_bias=0.7)
    rates = [first] * 12 + [LearningRates(*(rate / 10 for rate in first))] * 8
    params = layers(0)
    by_hand = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    velocities = jax.tree.map(np.zeros_like, by_hand)
    other = optax.trace(decay=0.9)
    theirs, their_state = params, other.init(params)
    state = make_optimizer(spec, Hyperparameters.zero()).init(params)
    for step, of_step in enumerate(rates):
        gradients = layers(10 + step)
        numbers = Hyperparameters(of_step, 0.9, 0.25, np.uint32(0))
        updates, state = make_optimizer(spec, numbers).update(gradients, state, params)
        params = optax.apply_updates(params, updates)

        def rate_of(path, of_step=of_step):
            of_layer = {"kernel": of_step.kernel, "bias": of_step.bias}
            if path[0].key == "conv1":
                of_layer = {"kernel": of_step.conv1_kernel, "bias": of_step.conv1_bias}
            return of_layer[path[1].key]

        def scaled(tree, rate_of=rate_of):
            return jax.tree_util.tree_map_with_path(
                lambda path, leaf: -rate_of(path) * leaf, tree
            )

        given = scaled(gradients) if inside else gradients
        moves, their_state = other.update(given, their_state)
        decayed = {
            layer: {"kernel": 0.25 * of["kernel"], "bias": 0 * of["bias"]}
            for layer, of in theirs.items()
        }
        for moved_by in (moves if inside else scaled(moves), scaled(decayed)):
            theirs = optax.apply_updates(theirs, moved_by)
        for layer, kind in itertools.product(by_hand, ("kernel", "bias")):
            w, v, g = (t[layer][kind] for t in (by_hand, velocities, gradients))
            rate = rate_of(tuple(map(jax.tree_util.DictKey, (layer, kind))))
            v = 0.9 * v + (rate if inside else 1) * np.asarray(g, np.float64)
            decay = rate * 0.25 * w if kind == "kernel" else 0
            by_hand[layer][kind] = w - (v if inside else rate * v) - decay
            velocities[layer][kind] = v
    close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6)
    jax.tree.map(close, params, theirs)
    jax.tree.map(close, params, by_hand)


@pytest.mark.parametrize("name", RULES)
def test_a_clipped_gradient_is_one_of_that_norm(name):
    """Only a gradient that is longer, and as a whole: its direction stays."""
    clipping = dataclasses.replace(OptimizerSpec(True, False), name=name, clip_norm=2.0)
    plain = dataclasses.replace(clipping, clip_norm=0.0)
    params, long = layers(0), layers(1)
    norm = math.sqrt(sum((np.asarray(x) ** 2).sum() for x in jax.tree.leaves(long)))
    assert norm > 3
    short = jax.tree.map(lambda leaf: leaf * 1.99 / norm, long)
    clipped = jax.tree.map(lambda leaf: leaf * 2.0 / norm, long)
    numbers = Hyperparameters(everywhere(0.1), 0.9, 0.25, np.uint32(0))

    def updates(spec, gradients):
        rule = make_optimizer(spec, numbers)
        return rule.update(gradients, rule.init(params), params)[0]

    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    jax.tree.map(close, updates(clipping, short), updates(plain, short))
    jax.tree.map(close, updates(clipping, long), updates(plain, clipped))


def refused(given, message):
    config = base()
    for field, value in given.items():
        config.set_by("command line", field, value)
    with pytest.raises(UserError, match=message):
        resolve(config, given)


@pytest.mark.parametrize("name", sorted(set(RULES) - {"sgd", "lars"}))
def test_a_field_of_another_rule_is_refused(name):
    given = {"optimizer.name": name, "optimizer.momentum": 0.5}
    refused(given, r"momentum=0\.5 has no effect")


def test_lars_does_not_decay_biases():
    """Whose norms it does not look at."""
    given = {"optimizer.name": "lars", "optimizer.bias_decay": True}
    refused(given, r"config\.optimizer\.bias_decay=True")


@pytest.mark.parametrize("lr_inside_momentum", [True, False])
def test_kernels_decay_and_biases_optionally(lr_inside_momentum):
    def last(name, decay, bias_decay):
        rule = functools.partial(
            ours, lr_inside_momentum=lr_inside_momentum, bias_decay=bias_decay
        )
        return trace(rule, name=name, decay=decay)[-1]

    undecayed = last("kernel", 0.0, True)
    assert last("bias", 0.0, True) == last("bias", 0.0, False) == undecayed
    assert last("bias", 0.0005, False) == undecayed
    decayed = last("kernel", 0.0005, True)
    assert decayed != undecayed
    assert last("kernel", 0.0005, False) == last("bias", 0.0005, True) == decayed


@pytest.mark.parametrize("lr_inside_momentum", [True, False])
@pytest.mark.parametrize("bias_decay", [True, False])
def test_every_leaf_follows_the_update_rule(lr_inside_momentum, bias_decay):
    """Kernels, biases, conv1's kernel and conv1's bias each have their own rate."""
    params, gradients, before = layers(0), layers(1), layers(2)
    updates, after = moved(
        params,
        gradients,
        LearningRates(kernel=0.1, bias=0.3, conv1_kernel=0.02, conv1_bias=0.7),
        before=before,
        momentum=0.5,
        weight_decay=0.25,
        lr_inside_momentum=lr_inside_momentum,
        bias_decay=bias_decay,
    )
    after = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(after))
    rates = {
        ("conv1", "kernel"): 0.02,
        ("conv1", "bias"): 0.7,
        ("fc2", "kernel"): 0.1,
        ("fc2", "bias"): 0.3,
    }
    for (name, kind), rate in rates.items():
        decay = 0.25 if kind == "kernel" or bias_decay else 0.0
        w, g, v = (np.asarray(tree[name][kind]) for tree in (params, gradients, before))
        if lr_inside_momentum:
            velocity = 0.5 * v - rate * (decay * w + g)
            update = velocity
        else:
            velocity = 0.5 * v + (decay * w + g)
            update = -rate * velocity
        close = {"rtol": 1e-5, "atol": 1e-6}
        np.testing.assert_allclose(updates[name][kind], update, **close)
        np.testing.assert_allclose(after[name][kind], velocity, **close)


@pytest.mark.parametrize("inside", [True, False])
def test_layers_with_factors_move_as_optax_moves_them_at_those_rates(inside):
    """Kernels and biases of each layer under a rule of optax's own, over two steps."""
    rates = LearningRates(kernel=0.1, bias=0.3, conv1_kernel=0.02, conv1_bias=0.7)
    factors = {"conv1": 0.25, "fc2": 10.0}
    params = theirs = layers(0)

    def label(path, _):
        return "/".join(part.key for part in path)

    def of(rate, kind):
        decay = optax.add_decayed_weights(0.25 if kind == "kernel" else 0.0)
        scale, momentum = optax.scale(-rate), optax.trace(decay=0.9)
        moves = (scale, momentum) if inside else (momentum, scale)
        return optax.chain(decay, *moves)

    rules = {
        f"{layer}/{kind}": of(factor * rate, kind)
        for layer, factor in factors.items()
        for kind, rate in (
            ("kernel", rates.conv1_kernel if layer == "conv1" else rates.kernel),
            ("bias", rates.conv1_bias if layer == "conv1" else rates.bias),
        )
    }
    labels = jax.tree_util.tree_map_with_path(label, params)
    other = optax.multi_transform(rules, labels)
    their_state, velocity = other.init(theirs), jax.tree.map(jnp.zeros_like, params)
    for step in range(2):
        gradients = layers(10 + step)
        updates, velocity = moved(
            params,
            gradients,
            rates,
            before=velocity,
            weight_decay=0.25,
            lr_inside_momentum=inside,
            lr_multipliers=tuple(factors.items()),
        )
        params = optax.apply_updates(params, updates)
        updates, their_state = other.update(gradients, their_state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    for ours, expected in zip(
        jax.tree.leaves(params), jax.tree.leaves(theirs), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_a_spec_names_only_the_layers_whose_rates_differ():
    config = base()
    specs = []
    for given, frozen in (("", 0), ("conv1-fc8=1", 0), ("others=0.5,last=1", 2)):
        config.optimizer.layer_lr_multipliers = given
        config.optimizer.frozen_layers = frozen
        specs.append(OptimizerSpec.of(config.optimizer, config.model))
    assert specs[0] == specs[1] == OptimizerSpec(True, False)
    assert specs[0].frozen == ()
    assert specs[2].frozen == ("conv1", "conv2")
    assert dict(specs[2].lr_multipliers) == {
        **{"conv1": 0.0, "conv2": 0.0, "conv3": 0.5, "conv4": 0.5, "conv5": 0.5},
        **{"fc6": 0.5, "fc7": 0.5},
    }


@pytest.mark.parametrize("lr_inside_momentum", [True, False])
def test_a_learning_rate_of_zero_leaves_its_weights_bit_identical(lr_inside_momentum):
    """Despite velocity and decay; the other weights move."""
    params, gradients, velocity = layers(3), layers(4), layers(5)
    names = [(*one,) for one in itertools.product(params, ("kernel", "bias"))]
    still = {
        LearningRates(0.0, 0.0, 0.0, 0.0): set(names),
        LearningRates(0.1, 0.1, 0.0, 0.0): {("conv1", "kernel"), ("conv1", "bias")},
        LearningRates(0.1, 0.1, 0.0, 0.1): {("conv1", "kernel")},
        LearningRates(0.1, 0.0, 0.1, 0.1): {("fc2", "bias")},
    }
    for rates, expected in still.items():
        updates, _ = moved(
            params,
            gradients,
            rates,
            before=velocity,
            lr_inside_momentum=lr_inside_momentum,
            bias_decay=True,
        )
        after = optax.apply_updates(params, updates)
        unmoved = {
            (name, kind)
            for name, kind in names
            if np.array_equal(after[name][kind], params[name][kind])
        }
        assert unmoved == expected


@pytest.mark.parametrize("lr_inside_momentum", [True, False])
@pytest.mark.parametrize("bias_decay", [True, False])
def test_a_frozen_layer_stays_bit_identical(lr_inside_momentum, bias_decay):
    """conv1 moves, then freezes; its gradients, decay and velocity stay nonzero."""
    params, velocity = layers(6), layers(7)
    frozen = LearningRates(0.1, 0.2, 0.0, 0.0)
    for step in range(12):
        updates, state = moved(
            params,
            layers(20 + step),
            everywhere(0.1) if step < 4 else frozen,
            before=velocity,
            lr_inside_momentum=lr_inside_momentum,
            bias_decay=bias_decay,
        )
        before, params = params, optax.apply_updates(params, updates)
        velocity = jax.tree.unflatten(
            jax.tree.structure(params), jax.tree.leaves(state)
        )
        for name, kind in itertools.product(params, ("kernel", "bias")):
            assert np.abs(velocity[name][kind]).min() > 0
            same = before[name][kind].tobytes() == params[name][kind].tobytes()
            assert same == (step >= 4 and name == "conv1")


def test_one_compilation_serves_all_hyperparameters():
    @jax.jit
    def weight(rates, momentum, decay):
        compiled.append(1)
        one = {"fc": {"kernel": jnp.ones(())}}
        choices = {"momentum": momentum, "weight_decay": decay}
        return moved(one, one, rates, **choices)[0]["fc"]["kernel"]

    compiled = []
    first = weight(
        LearningRates(*np.float32([0.1] * 4)), np.float32(0.9), np.float32(0.0)
    )
    second = weight(
        LearningRates(*np.float32([0.2] * 4)), np.float32(0.5), np.float32(0.5)
    )
    third = weight(
        LearningRates(*np.float32([0.0] * 4)), np.float32(0.5), np.float32(0.5)
    )
    assert float(first) == pytest.approx(-0.1)
    assert float(second) == pytest.approx(-0.3)
    assert float(third) == 0.0
    assert len(compiled) == 1
