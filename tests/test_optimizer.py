"""The update rule of section 5, by hand across a drop, and the learning rates' fall."""

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
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.config import base, finish
from alexnet_jax.training.optimizer import Plateau, Rates, rates_at, update_rule

# v <- 0.9 v - rate (0.0005 w + 0.5); w <- w + v, from w = 1 and v = 0.
RATES = (0.01, 0.01, 0.001, 0.001)
VELOCITIES = (-0.0050050000, -0.0095094750, -0.0090590202, -0.0086536064)
WEIGHTS = (0.9949950000, 0.9854855250, 0.9764265048, 0.9677728984)
# The same with the rate outside the velocity, as optax.sgd and PyTorch have it.
OUTSIDE = (0.9949950000, 0.9854855250, 0.9841291795, 0.9824079765)

HALF_OF_THE_TENTH_DIGIT = 5e-11


def everywhere(rate):
    return Rates(rate, rate, rate, rate)


def trace(rule_of, *, name="kernel", decay=0.0005):
    """(update, weight) after each step from 1 with gradient 0.5, in float64."""
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


def ours(rate, decay, *, rate_in_velocity=True, bias_decay=False):
    return update_rule(
        rates=everywhere(rate),
        momentum=0.9,
        weight_decay=decay,
        rate_in_velocity=rate_in_velocity,
        bias_decay=bias_decay,
    )


outside = functools.partial(ours, rate_in_velocity=False)


def sgd(rate, decay):
    return optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate, momentum=0.9))


# --- The rule ---------------------------------------------------------------------


def test_four_steps_across_a_drop_are_those_by_hand():
    velocities, weights = zip(*trace(ours), strict=True)
    assert velocities == pytest.approx(VELOCITIES, abs=HALF_OF_THE_TENTH_DIGIT, rel=0)
    assert weights == pytest.approx(WEIGHTS, abs=HALF_OF_THE_TENTH_DIGIT, rel=0)


def test_with_the_rate_outside_the_velocity_they_are_others_from_the_drop_on():
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


def moved(params, gradients, rates, *, before=None, **choices):
    """The updates of one step; `before`: a velocity in place of rest."""
    rule = update_rule(
        rates=rates,
        **{
            "momentum": 0.9,
            "weight_decay": 0.0005,
            "rate_in_velocity": True,
            "bias_decay": False,
            **choices,
        },
    )
    state = rule.init(params)
    if before is not None:
        structure = jax.tree.structure(state)
        state = jax.tree.unflatten(structure, jax.tree.leaves(before))
    return rule.update(gradients, state, params)


# Its optimizer itself; in a process of its own: beside TensorFlow it can crash.
PYTORCH = """
import json, sys

import torch

first, gradients, rates = json.load(sys.stdin)
weights = [torch.tensor(leaf, requires_grad=True) for leaf in first]
sgd = torch.optim.SGD(weights, lr=1.0, momentum=0.9, weight_decay=0.25)
for rate, of_step in zip(rates, gradients):
    for group in sgd.param_groups:
        group["lr"] = rate
    for leaf, gradient in zip(weights, of_step):
        leaf.grad = torch.tensor(gradient)
    sgd.step()
json.dump([leaf.tolist() for leaf in weights], sys.stdout)
"""


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"
)
def test_the_rate_outside_is_pytorchs():
    """The same gradients over a drop, with decay of kernels and biases."""
    first = layers(0)
    gradients = [layers(10 + step) for step in range(len(RATES))]
    params, velocity = first, jax.tree.map(jnp.zeros_like, first)
    for rate, of_step in zip(RATES, gradients, strict=True):
        updates, velocity = moved(
            params,
            of_step,
            everywhere(rate),
            before=velocity,
            weight_decay=0.25,
            rate_in_velocity=False,
            bias_decay=True,
        )
        params = optax.apply_updates(params, updates)

    def lists(tree):
        return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(tree)]

    given = json.dumps([lists(first), [lists(one) for one in gradients], RATES])
    done = subprocess.run(
        [sys.executable, "-c", PYTORCH],
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    for ours, other, start in zip(lists(params), theirs, lists(first), strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-6)
        assert np.abs(np.subtract(ours, start)).max() > 0.01


@pytest.mark.parametrize("rate_in_velocity", [True, False])
def test_kernels_decay_and_biases_by_choice(rate_in_velocity):
    def last(name, decay, bias_decay):
        rule = functools.partial(
            ours, rate_in_velocity=rate_in_velocity, bias_decay=bias_decay
        )
        return trace(rule, name=name, decay=decay)[-1]

    undecayed = last("kernel", 0.0, True)
    assert last("bias", 0.0, True) == last("bias", 0.0, False) == undecayed
    assert last("bias", 0.0005, False) == undecayed
    decayed = last("kernel", 0.0005, True)
    assert decayed != undecayed
    assert last("kernel", 0.0005, False) == last("bias", 0.0005, True) == decayed


@pytest.mark.parametrize("rate_in_velocity", [True, False])
@pytest.mark.parametrize("bias_decay", [True, False])
def test_every_leaf_of_a_network_moves_by_the_rule(rate_in_velocity, bias_decay):
    """Each at its own rate: kernels, biases, conv1's kernel, conv1's bias."""
    params, gradients, before = layers(0), layers(1), layers(2)
    updates, after = moved(
        params,
        gradients,
        Rates(kernel=0.1, bias=0.3, conv1_kernel=0.02, conv1_bias=0.7),
        before=before,
        momentum=0.5,
        weight_decay=0.25,
        rate_in_velocity=rate_in_velocity,
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
        if rate_in_velocity:
            velocity = 0.5 * v - rate * (decay * w + g)
            update = velocity
        else:
            velocity = 0.5 * v + (decay * w + g)
            update = -rate * velocity
        close = {"rtol": 1e-5, "atol": 1e-6}
        np.testing.assert_allclose(updates[name][kind], update, **close)
        np.testing.assert_allclose(after[name][kind], velocity, **close)


@pytest.mark.parametrize("rate_in_velocity", [True, False])
def test_a_rate_of_zero_leaves_its_weights_bit_identical(rate_in_velocity):
    """Under full way, with decay; the others move on."""
    params, gradients, velocity = layers(3), layers(4), layers(5)
    names = [(*one,) for one in itertools.product(params, ("kernel", "bias"))]
    still = {
        Rates(0.0, 0.0, 0.0, 0.0): set(names),
        Rates(0.1, 0.1, 0.0, 0.0): {("conv1", "kernel"), ("conv1", "bias")},
        Rates(0.1, 0.1, 0.0, 0.1): {("conv1", "kernel")},
        Rates(0.1, 0.0, 0.1, 0.1): {("fc2", "bias")},
    }
    for rates, expected in still.items():
        updates, _ = moved(
            params,
            gradients,
            rates,
            before=velocity,
            rate_in_velocity=rate_in_velocity,
            bias_decay=True,
        )
        after = optax.apply_updates(params, updates)
        unmoved = {
            (name, kind)
            for name, kind in names
            if np.array_equal(after[name][kind], params[name][kind])
        }
        assert unmoved == expected


@pytest.mark.parametrize("rate_in_velocity", [True, False])
@pytest.mark.parametrize("bias_decay", [True, False])
def test_a_frozen_layer_stays_bit_identical_update_after_update(
    rate_in_velocity, bias_decay
):
    """conv1 in full motion, then stopped: gradients, decay and velocity go on."""
    params, velocity = layers(6), layers(7)
    frozen = Rates(0.1, 0.2, 0.0, 0.0)
    for step in range(12):
        updates, state = moved(
            params,
            layers(20 + step),
            everywhere(0.1) if step < 4 else frozen,
            before=velocity,
            rate_in_velocity=rate_in_velocity,
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


def test_one_compilation_serves_all_numbers():
    @jax.jit
    def weight(rates, momentum, decay):
        compiled.append(1)
        one = {"fc": {"kernel": jnp.ones(())}}
        choices = {"momentum": momentum, "weight_decay": decay}
        return moved(one, one, rates, **choices)[0]["fc"]["kernel"]

    compiled = []
    first = weight(Rates(*np.float32([0.1] * 4)), np.float32(0.9), np.float32(0.0))
    second = weight(Rates(*np.float32([0.2] * 4)), np.float32(0.5), np.float32(0.5))
    third = weight(Rates(*np.float32([0.0] * 4)), np.float32(0.5), np.float32(0.5))
    assert float(first) == pytest.approx(-0.1)
    assert float(second) == pytest.approx(-0.3)
    assert float(third) == 0.0
    assert len(compiled) == 1


# --- The learning rates' fall -----------------------------------------------------


def optimizer_of(recipe, **changes):
    config = base()
    config.recipe = recipe
    return finish(config, {}).optimizer.to_dict() | changes


def rates_of(recipe, epoch, **changes):
    """(kernel, bias, conv1_kernel, conv1_bias), for comparison."""
    rates = rates_at(epoch, optimizer_of(recipe, **changes), num_epochs=90.0)
    return pytest.approx(tuple(rates), rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("epoch", "kernel", "conv1_kernel", "conv1_bias"),
    [
        (0.0, 1e-2, 1e-2, 0.02),
        (24.999, 1e-2, 1e-2, 0.02),
        (25.0, 1e-3, 1e-3, 0.02),
        (50.999, 1e-3, 1e-3, 0.02),
        (51.0, 1e-4, 1e-4, 0.02),
        (66.999, 1e-4, 1e-4, 0.02),
        (67.0, 1e-4, 1e-5, 0.02),
        (71.999, 1e-4, 1e-5, 0.02),
        (72.0, 1e-4, 0.0, 0.0),
        (78.999, 1e-4, 0.0, 0.0),
        (79.0, 1e-5, 0.0, 0.0),
        (91.0, 1e-5, 0.0, 0.0),
    ],
)
def test_the_2012_codes_rates(epoch, kernel, conv1_kernel, conv1_bias):
    """Its biases keep 0.02 to the end; conv1 slows down and stops before the rest."""
    assert (kernel, 0.02, conv1_kernel, conv1_bias) == rates_of("source2012", epoch)


@pytest.mark.parametrize(
    ("recipe", "drops", "twice"),
    [
        ("paper", (23, 51, 78), 1),
        ("caffe", (20, 40, 60, 80), 2),
        ("torchvision", (30, 60), 1),
    ],
)
def test_the_other_recipes_rates_fall_together(recipe, drops, twice):
    for passed, (begin, end) in enumerate(itertools.pairwise((0, *drops, 90.001))):
        rate = 10.0 ** -(2 + passed)
        for epoch in (float(begin), end - 0.001):
            expected = (rate, twice * rate, rate, twice * rate)
            assert expected == rates_of(recipe, epoch)


def test_biases_that_do_not_drop_keep_their_multiple_of_the_first_rate():
    changes = {"bias_rate": 3.0, "bias_drops": False}
    assert rates_of("paper", 80.0, **changes) == (1e-5, 0.03, 1e-5, 0.03)


def test_conv1_may_stop_without_slowing_down_before():
    changes = {"conv1_stop_epoch": 0.5}
    assert rates_of("paper", 0.499, **changes) == (0.01, 0.01, 0.01, 0.01)
    assert rates_of("paper", 0.5, **changes) == (0.01, 0.01, 0.0, 0.0)


def test_without_drops_the_learning_rates_stay():
    choices = optimizer_of("paper", drop_epochs=())
    rates = {rates_at(epoch, choices, num_epochs=90.0) for epoch in (0.0, 50.0, 1e6)}
    assert rates == {everywhere(0.01)}


PAPER = optimizer_of("paper")


@settings(deadline=None)
@given(st.lists(st.floats(0.5, 100), max_size=5), st.floats(0.01, 1))
def test_drops_may_come_in_any_order_and_the_rate_never_rises(drops, factor):
    choices = PAPER | {"learning_rate": 1.0, "drop_factor": factor}

    def rate(epoch, drops):
        changed = choices | {"drop_epochs": tuple(drops)}
        return rates_at(epoch, changed, num_epochs=90.0).kernel

    rates = [rate(epoch, drops) for epoch in np.linspace(0, 101, 50).tolist()]
    assert rate(60.0, drops[::-1]) == rate(60.0, drops)
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(factor ** len(drops))


OTHERS = ("plateau", "constant", "cosine")


def scheduled(schedule, **changes):
    """Of the 2012 code, whose conv1 slows down and stops under its own steps."""
    return optimizer_of("source2012", schedule=schedule, bias_drops=True, **changes)


@pytest.mark.parametrize("epoch", [0.0, 25.0, 70.0, 91.0, 1e6])
def test_a_constant_rate_is_the_first_all_along(epoch):
    rates = rates_at(epoch, scheduled("constant"), num_epochs=91.0)
    assert rates == (0.01, 0.02, 0.01, 0.02)


@pytest.mark.parametrize(
    ("epoch", "share"),
    [
        (0.0, 1.0),
        (20.0, 0.75),
        (30.0, 0.5),
        (40.0, 0.25),
        (60.0, 0.0),
        (61.0, 0.0),
    ],
)
def test_a_cosine_falls_from_the_first_rate_to_zero(epoch, share):
    """Half of it: 3/4 and 1/4 at a third and at two thirds of the way."""
    rates = rates_at(epoch, scheduled("cosine"), num_epochs=60.0)
    kernel, bias = 0.01 * share, 0.02 * share
    assert rates == pytest.approx((kernel, bias, kernel, bias), rel=1e-12, abs=0)


@settings(deadline=None)
@given(st.floats(0.01, 1e4))
def test_a_cosine_never_rises(num_epochs):
    choices = PAPER | {"schedule": "cosine"}
    rates = [
        rates_at(share * num_epochs, choices, num_epochs=num_epochs).kernel
        for share in np.linspace(0, 1.1, 111).tolist()
    ]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[-1]) == (0.01, 0.0)


@pytest.mark.parametrize("epoch", [0.0, 25.0, 70.0, 1e6])
@pytest.mark.parametrize("drops", [0, 1, 2, 3])
def test_at_a_plateau_the_rates_fall_by_the_drops_whatever_the_epoch(epoch, drops):
    choices = scheduled("plateau", drop_factor=0.5)
    kernel, bias = 0.01 / 2**drops, 0.02 / 2**drops
    rates = rates_at(epoch, choices, num_epochs=91.0, drops=drops)
    assert rates == pytest.approx((kernel, bias, kernel, bias), rel=1e-12, abs=0)


@pytest.mark.parametrize("schedule", ["steps", *OTHERS])
@pytest.mark.parametrize("recipe", ["source2012", "torchvision"])
def test_biases_that_do_not_drop_keep_it_under_every_schedule(schedule, recipe):
    choices = optimizer_of(
        recipe, schedule=schedule, bias_drops=False, conv1_stop_epoch=0.0
    )
    rates = rates_at(60.0, choices, num_epochs=90.0, drops=2)
    assert rates.bias == rates.conv1_bias == 0.01 * choices["bias_rate"]
    assert (rates.kernel < 0.01) == (schedule != "constant")


@pytest.mark.parametrize("schedule", ["steps", *OTHERS])
def test_rates_are_plain_floats(schedule):
    choices = scheduled(schedule, learning_rate=1, bias_rate=2)
    for epoch in (0, 30, 80, 91):
        rates = rates_at(epoch, choices, num_epochs=91, drops=1)
        assert all(type(rate) is float for rate in rates)


# --- Plateaus ---------------------------------------------------------------------


def followed(errors, plateau=None, **changes):
    """The plateau after each evaluation, one an epoch, and what was said when."""
    plateau = plateau or Plateau()
    choices = PAPER | {"schedule": "plateau"} | changes
    stands, said = [], {}
    for epoch, error in enumerate(errors, start=1):
        plateau, why = plateau.after(float(epoch), error, choices)
        stands.append(plateau)
        if why:
            said[epoch] = why
    return stands, said


def test_the_rate_drops_where_the_error_stalls():
    """Two epochs without a lower one; the clock starts anew at each drop."""
    errors = [0.5, 0.4, 0.4, 0.45, 0.41, 0.42, 0.4, 0.4, 0.4]
    stands, said = followed(errors, plateau_epochs=2.0)
    assert [stand.drops for stand in stands] == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert stands[-1] == Plateau(best=0.4, best_epoch=2.0, since=8.0, drops=3)
    assert said == {
        4: "validation top-1 error not below 0.4 (epoch 2) for 2 epochs: "
        "learning rate divided by 10, to 0.001 (drop 1 of 3)",
        6: "validation top-1 error not below 0.4 (epoch 2) for 2 epochs: "
        "learning rate divided by 10, to 0.0001 (drop 2 of 3)",
        8: "validation top-1 error not below 0.4 (epoch 2) for 2 epochs: "
        "learning rate divided by 10, to 1e-05 (drop 3 of 3)",
    }


def test_a_lower_error_starts_the_clock_anew():
    errors = [0.5, 0.5, 0.5, 0.49, 0.5, 0.5, 0.48, 0.5, 0.5, 0.5]
    stands, said = followed(errors, plateau_epochs=3.0)
    assert list(said) == [10]
    assert stands[-2] == Plateau(best=0.48, best_epoch=7.0, since=7.0, drops=0)


def test_what_is_said_are_the_numbers_of_the_choices():
    changes = {"plateau_epochs": 1.5, "plateau_drops": 1, "drop_factor": 0.5}
    _, said = followed([0.41234] + [0.6] * 5, **changes)
    assert said == {
        3: "validation top-1 error not below 0.41234 (epoch 1) for 2 epochs: "
        "learning rate divided by 2, to 0.005 (drop 1 of 1)"
    }


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
def test_no_error_is_no_lower_one(nothing):
    stands, said = followed([0.5, nothing, nothing, nothing], plateau_epochs=3.0)
    assert [stand.best for stand in stands] == [0.5] * 4
    assert list(said) == [4]
    (*_, last), said = followed([nothing] * 2, plateau_epochs=2.0)
    assert last == Plateau(best=None, since=2.0, drops=1)
    assert said[2].startswith("no validation top-1 error for 2 epochs: ")


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([None, math.nan, 0.1, 0.2, 0.3, 0.4, 0.5]), max_size=40),
    st.integers(0, 40),
    st.floats(0.5, 5),
    st.integers(1, 4),
)
def test_a_plateau_goes_on_from_its_json(errors, cut, epochs, most):
    """Cut anywhere, with as many drops at most, at least so many epochs apart."""
    choices = {"plateau_epochs": epochs, "plateau_drops": most}
    stands, said = followed(errors, **choices)
    begun, told = followed(errors[:cut], **choices)
    plateau = begun[-1] if begun else Plateau()
    text = json.dumps(dataclasses.asdict(plateau), allow_nan=False)
    rebuilt = Plateau(**json.loads(text))
    assert rebuilt == plateau
    for epoch, error in enumerate(errors[cut:], start=cut + 1):
        kept = dataclasses.replace(rebuilt)
        rebuilt, why = (one := rebuilt.after(float(epoch), error, PAPER | choices))
        assert kept.after(float(epoch), error, PAPER | choices) == one
        told |= {epoch: why} if why else {}
    assert (told, rebuilt) == (said, stands[-1] if stands else Plateau())
    known = [error for error in errors if error is not None and error == error]
    assert rebuilt.best == min(known, default=None)
    assert rebuilt.drops == len(said) <= most
    assert all(b - a >= epochs for a, b in itertools.pairwise([0, *said]))
