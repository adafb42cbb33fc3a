"""Steps, epochs and learning rates of a trial, and drops at plateaus."""

import dataclasses
import itertools
import json
import math
from fractions import Fraction

import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.errors import UserError
from alexnet_jax.training.schedule import (
    LearningRates,
    Plateau,
    Schedule,
    ScheduleSpec,
    learning_rates_at,
)


def everywhere(rate):
    return LearningRates(rate, rate, rate, rate)


# --- Steps -------------------------------------------------------------------------

decimals = st.integers(1, 200).map(lambda number: number / 100)


def schedule_of(num_examples, batch_size, num_epochs):
    config = base()
    config.training.batch_size = batch_size
    config.training.num_epochs = num_epochs
    return Schedule.of(config.training, config.optimizer, num_examples)


def exact(number):
    """The decimal number that a float is printed as."""
    return Fraction(str(number))


@settings(deadline=None)
@given(st.integers(1, 2000), st.integers(1, 300), decimals)
@example(100, 10, 1.1)
def test_a_trial_has_the_fewest_steps_that_cover_its_epochs(
    num_examples, batch_size, num_epochs
):
    schedule = schedule_of(num_examples, batch_size, num_epochs)
    steps = exact(num_epochs) * num_examples / batch_size
    assert schedule.num_steps == max(1, math.ceil(steps))
    assert schedule.num_images == schedule.num_steps * batch_size


def test_the_papers_trial_has_900_821_steps():
    """1,281,167 images, 90 epochs, batches of 128: 10,009 steps per epoch."""
    config = base("imagenet2012")
    config.recipe = "paper"
    settings = resolve(config, {}).settings
    schedule = Schedule.of(settings.training, settings.optimizer, 1_281_167)
    assert schedule.num_steps == math.ceil(90 * 1_281_167 / 128) == 900_821
    assert schedule.epoch(10_009) == pytest.approx(1, abs=1e-4)


def test_an_epoch_is_a_number_of_images_not_of_whole_steps():
    schedule = schedule_of(num_examples=10, batch_size=4, num_epochs=2.0)
    assert schedule.num_steps == 5
    assert [schedule.epoch(step) for step in range(6)] == [0, 0.4, 0.8, 1.2, 1.6, 2.0]


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 64), decimals, decimals)
@example(10, 1, 1.0, 0.1)
@example(400, 1, 1.0, 0.01)
@example(50_000, 125, 1.0, 0.01)
def test_each_period_is_due_once_at_the_step_that_completes_it(
    num_examples, batch_size, num_epochs, every
):
    schedule = schedule_of(num_examples, batch_size, num_epochs)
    due = [
        step
        for step in range(1, schedule.num_steps + 1)
        if schedule.is_due(step, every)
    ]
    period = exact(every) * num_examples / batch_size  # in steps
    periods = math.floor(schedule.num_steps / period)
    completing = {math.ceil(number * period) for number in range(1, periods + 1)}
    assert due == sorted(completing | {schedule.num_steps})


def test_the_last_step_is_always_due():
    schedule = schedule_of(num_examples=100, batch_size=10, num_epochs=1.0)
    assert [step for step in range(1, 11) if schedule.is_due(step, 50.0)] == [10]


def test_a_steps_learning_rates_are_those_of_the_epoch_it_starts_at():
    """In recipe source2012, the biases' rate is twice as high and never drops."""
    config = base()
    config.training.batch_size = 50
    config.training.num_epochs = 4.0
    config.optimizer.drop_epochs = (1.0, 2.25)
    config.optimizer.conv1_drop_epochs = (2.0,)
    config.optimizer.conv1_stop_epoch = 3.0
    schedule = Schedule.of(config.training, config.optimizer, 100)
    rates = [schedule.learning_rates(step) for step in range(1, 9)]
    # Steps start at epochs 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5.
    expected = [0.01, 0.01, 0.001, 0.001, 0.001, 0.0001, 0.0001, 0.0001]
    assert [one.kernel for one in rates] == pytest.approx(expected)
    assert [one.bias for one in rates] == pytest.approx([0.02] * 8)
    conv1 = [0.01, 0.01, 0.001, 0.001, 0.0001, 0.00001, 0.0, 0.0]
    assert [one.conv1_kernel for one in rates] == pytest.approx(conv1)
    assert [one.conv1_bias for one in rates] == pytest.approx([0.02] * 6 + [0.0] * 2)


# --- Learning-rate schedules ------------------------------------------------------


def optimizer_of(recipe, **changes):
    config = base()
    config.recipe = recipe
    spec = ScheduleSpec.of(resolve(config, {}).settings.optimizer)
    return dataclasses.replace(spec, **changes)


def rates_of(recipe, epoch, **changes):
    """(kernel, bias, conv1_kernel, conv1_bias), for comparison."""
    rates = learning_rates_at(epoch, optimizer_of(recipe, **changes), num_epochs=90.0)
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
def test_the_2012_codes_learning_rates(epoch, kernel, conv1_kernel, conv1_bias):
    """Biases keep 0.02 to the end; conv1 drops once more and stops before the rest."""
    assert (kernel, 0.02, conv1_kernel, conv1_bias) == rates_of("source2012", epoch)


@pytest.mark.parametrize(
    ("recipe", "drops", "twice"),
    [
        ("paper", (23, 51, 78), 1),
        ("caffe", (20, 40, 60, 80), 2),
        ("torchvision", (30, 60), 1),
    ],
)
def test_the_other_recipes_learning_rates_drop_together(recipe, drops, twice):
    for passed, (begin, end) in enumerate(itertools.pairwise((0, *drops, 90.001))):
        rate = 10.0 ** -(2 + passed)
        for epoch in (float(begin), end - 0.001):
            expected = (rate, twice * rate, rate, twice * rate)
            assert expected == rates_of(recipe, epoch)


def test_biases_without_drops_keep_their_multiple_of_the_initial_rate():
    changes = {"bias_lr_multiplier": 3.0, "bias_drops": False}
    assert rates_of("paper", 80.0, **changes) == (1e-5, 0.03, 1e-5, 0.03)


def test_conv1_may_stop_without_an_earlier_drop():
    changes = {"conv1_stop_epoch": 0.5}
    assert rates_of("paper", 0.499, **changes) == (0.01, 0.01, 0.01, 0.01)
    assert rates_of("paper", 0.5, **changes) == (0.01, 0.01, 0.0, 0.0)


def test_without_drops_the_learning_rates_are_constant():
    choices = optimizer_of("paper", drop_epochs=())
    rates = {
        learning_rates_at(epoch, choices, num_epochs=90.0) for epoch in (0.0, 50.0, 1e6)
    }
    assert rates == {everywhere(0.01)}


PAPER = optimizer_of("paper")


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0.5, 100), max_size=5), st.floats(0.01, 1))
def test_drops_may_come_in_any_order_and_the_rate_never_rises(drops, factor):
    choices = dataclasses.replace(PAPER, learning_rate=1.0, drop_factor=factor)

    def rate(epoch, drops):
        changed = dataclasses.replace(choices, drop_epochs=tuple(drops))
        return learning_rates_at(epoch, changed, num_epochs=90.0).kernel

    rates = [rate(epoch, drops) for epoch in np.linspace(0, 101, 50).tolist()]
    assert rate(60.0, drops[::-1]) == rate(60.0, drops)
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(factor ** len(drops))


OTHERS = ("plateau", "constant", "cosine")


def scheduled(schedule, **changes):
    """Settings of the 2012 code, whose own steps slow down and stop conv1."""
    return optimizer_of("source2012", schedule=schedule, bias_drops=True, **changes)


@pytest.mark.parametrize("epoch", [0.0, 25.0, 70.0, 91.0, 1e6])
def test_a_constant_learning_rate_keeps_its_initial_value(epoch):
    rates = learning_rates_at(epoch, scheduled("constant"), num_epochs=91.0)
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
def test_cosine_decays_from_the_initial_rate_to_zero(epoch, share):
    """A half cosine: 3/4 and 1/4 at one third and two thirds of the epochs."""
    rates = learning_rates_at(epoch, scheduled("cosine"), num_epochs=60.0)
    kernel, bias = 0.01 * share, 0.02 * share
    assert rates == pytest.approx((kernel, bias, kernel, bias), rel=1e-12, abs=0)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 1e4))
def test_cosine_never_rises(num_epochs):
    choices = dataclasses.replace(PAPER, schedule="cosine")
    rates = [
        learning_rates_at(share * num_epochs, choices, num_epochs=num_epochs).kernel
        for share in np.linspace(0, 1.1, 23).tolist()
    ]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[-1]) == (0.01, 0.0)


def warmed_up(kind, *, warmup, epochs=4.0):
    """The learning rate of kernels in each step, ten steps an epoch."""
    config = base()
    config.training.batch_size = 10
    config.training.num_epochs = epochs
    config.optimizer.schedule = kind
    config.optimizer.warmup_epochs = warmup
    schedule = Schedule.of(config.training, config.optimizer, 100)
    steps = range(1, schedule.num_steps + 1)
    return [schedule.learning_rates(step) for step in steps]


def test_a_warm_up_rises_to_the_cosine_that_follows():
    """As optax's schedule, whose cosine begins a step before."""
    rates = [of_step.kernel for of_step in warmed_up("cosine", warmup=1.5)]
    optaxs = optax.warmup_cosine_decay_schedule(0.0, 0.01, 15, 40)
    expected = [float(optaxs(t if t <= 15 else t - 1)) for t in range(1, 41)]
    assert rates == pytest.approx(expected, rel=1e-5)
    assert rates[13] < rates[14] == rates[15] == 0.01 > rates[16]


@pytest.mark.parametrize("warmup", [0.05, 1.5, 4.0])
def test_a_warm_up_ends_in_the_rates_of_the_schedule(warmup):
    whole = warmed_up("steps", warmup=0.0)
    steps = round(warmup * 10)
    for step, of_step in enumerate(warmed_up("steps", warmup=warmup), 1):
        share = min(1.0, step / steps if steps else 1.0)
        expected = [share * rate for rate in whole[step - 1]]
        assert of_step == pytest.approx(expected, rel=1e-12)


def test_a_warm_up_beyond_the_end_is_refused():
    config = base()
    config.training.num_epochs = 2.0
    config.optimizer.warmup_epochs = 3.0
    with pytest.raises(UserError, match="longer than the training: at most"):
        resolve(config, {})


def test_a_warm_up_beyond_the_tuning_stage_is_refused():
    """Which would choose among rates that none of its trials has had."""
    config = base()
    config.training.num_epochs, config.optimizer.warmup_epochs = 9.0, 3.0
    config.tuned = {"optimizer.learning_rate": (0.01, 0.02)}
    config.tuning_seeds, config.tuning_epochs = 1, 2.0
    with pytest.raises(UserError, match=r"at most config\.tuning_epochs=2"):
        resolve(config, {})


@pytest.mark.parametrize("epoch", [0.0, 25.0, 70.0, 1e6])
@pytest.mark.parametrize("drops", [0, 1, 2, 3])
def test_plateau_learning_rates_depend_on_drops_not_on_the_epoch(epoch, drops):
    choices = scheduled("plateau", drop_factor=0.5)
    kernel, bias = 0.01 / 2**drops, 0.02 / 2**drops
    rates = learning_rates_at(epoch, choices, num_epochs=91.0, drops=drops)
    assert rates == pytest.approx((kernel, bias, kernel, bias), rel=1e-12, abs=0)


@pytest.mark.parametrize("schedule", ["steps", *OTHERS])
@pytest.mark.parametrize("recipe", ["source2012", "torchvision"])
def test_biases_without_drops_keep_their_rate_under_every_schedule(schedule, recipe):
    choices = optimizer_of(
        recipe, schedule=schedule, bias_drops=False, conv1_stop_epoch=0.0
    )
    rates = learning_rates_at(60.0, choices, num_epochs=90.0, drops=2)
    assert rates.bias == rates.conv1_bias == 0.01 * choices.bias_lr_multiplier
    assert (rates.kernel < 0.01) == (schedule != "constant")


@pytest.mark.parametrize("schedule", ["steps", *OTHERS])
def test_rates_are_plain_floats(schedule):
    choices = scheduled(schedule, learning_rate=1, bias_lr_multiplier=2)
    for epoch in (0, 30, 80, 91):
        rates = learning_rates_at(epoch, choices, num_epochs=91, drops=1)
        assert all(type(rate) is float for rate in rates)


# --- Plateaus ---------------------------------------------------------------------


def followed(errors, plateau=None, **changes):
    """The plateau after each evaluation, one per epoch, and its messages by epoch."""
    plateau = plateau or Plateau()
    choices = dataclasses.replace(PAPER, schedule="plateau", **changes)
    stands, said = [], {}
    for epoch, error in enumerate(errors, start=1):
        plateau, why = plateau.after(float(epoch), error, choices)
        stands.append(plateau)
        if why:
            said[epoch] = why
    return stands, said


def test_the_learning_rate_drops_when_the_error_stalls():
    """Two epochs without a lower error; the count restarts at each drop."""
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


def test_a_lower_error_restarts_the_count():
    errors = [0.5, 0.5, 0.5, 0.49, 0.5, 0.5, 0.48, 0.5, 0.5, 0.5]
    stands, said = followed(errors, plateau_epochs=3.0)
    assert list(said) == [10]
    assert stands[-2] == Plateau(best=0.48, best_epoch=7.0, since=7.0, drops=0)


def test_messages_give_the_configured_numbers():
    changes = {"plateau_epochs": 1.5, "plateau_drops": 1, "drop_factor": 0.5}
    _, said = followed([0.41234] + [0.6] * 5, **changes)
    assert said == {
        3: "validation top-1 error not below 0.41234 (epoch 1) for 2 epochs: "
        "learning rate divided by 2, to 0.005 (drop 1 of 1)"
    }


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
def test_a_missing_error_is_not_an_improvement(nothing):
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
def test_a_plateau_resumes_from_its_json(errors, cut, epochs, most):
    """Cut at any evaluation; drops are limited in number and spacing."""
    choices = {"plateau_epochs": epochs, "plateau_drops": most}
    stands, said = followed(errors, **choices)
    begun, told = followed(errors[:cut], **choices)
    plateau = begun[-1] if begun else Plateau()
    text = json.dumps(dataclasses.asdict(plateau), allow_nan=False)
    rebuilt = Plateau(**json.loads(text))
    assert rebuilt == plateau
    spec = dataclasses.replace(PAPER, **choices)
    for epoch, error in enumerate(errors[cut:], start=cut + 1):
        kept = dataclasses.replace(rebuilt)
        rebuilt, why = (one := rebuilt.after(float(epoch), error, spec))
        assert kept.after(float(epoch), error, spec) == one
        told |= {epoch: why} if why else {}
    assert (told, rebuilt) == (said, stands[-1] if stands else Plateau())
    known = [error for error in errors if error is not None and error == error]
    assert rebuilt.best == min(known, default=None)
    assert rebuilt.drops == len(said) <= most
    assert all(b - a >= epochs for a, b in itertools.pairwise([0, *said]))
