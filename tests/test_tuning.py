"""Grids, products, rows and random draws of tuned values."""

import json
import math

import numpy as np
import pytest

from alexnet_jax import tuning
from alexnet_jax.config import all_trials, base, finish
from alexnet_jax.errors import UserError

RATE, DECAY, MOMENTUM = (
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "optimizer.momentum",
)


def test_entries_are_multiplied_and_rows_kept_together():
    tuned = {
        MOMENTUM: (0.0, 0.9),
        **tuning.together({RATE: (0.1, 0.01, 0.001), DECAY: (0.0, 0.1, 0.2)}),
    }
    found = tuning.settings(tuned)
    assert len(found) == 2 * 3
    assert found[1] == {MOMENTUM: 0.0, RATE: 0.01, DECAY: 0.1}
    assert {(one[RATE], one[DECAY]) for one in found} == {
        (0.1, 0.0),
        (0.01, 0.1),
        (0.001, 0.2),
    }
    assert tuning.settings({}) == [{}]


def test_rows_need_as_many_values_of_each():
    with pytest.raises(ValueError, match="shorter"):
        tuning.together({RATE: (0.1, 0.01), DECAY: (0.0,)})


def test_draws_are_the_same_each_time_and_lie_where_they_should():
    fields = {RATE: tuning.log_uniform(1e-4, 1e-1), DECAY: tuning.uniform(0, 0.01)}
    drawn = tuning.draws(500, fields)
    assert drawn == tuning.draws(500, fields)
    assert drawn != tuning.draws(500, fields, seed=1)
    rates, decays = zip(*drawn[f"{RATE},{DECAY}"], strict=True)
    assert min(rates) >= 1e-4
    assert max(rates) <= 1e-1
    # A log-uniform draw: a third in each decade, within five deviations.
    shares = np.histogram(np.log10(rates), bins=[-4, -3, -2, -1])[0] / 500
    assert shares == pytest.approx([1 / 3] * 3, abs=5 * math.sqrt(2 / 9 / 500))
    assert np.mean(decays) == pytest.approx(0.005, abs=5 * 0.01 / math.sqrt(12 * 500))
    assert all(rate == float(f"{rate:.3g}") for rate in rates)
    one = tuning.draws(4, {RATE: tuning.log_uniform(1e-4, 1e-1)})
    assert all(isinstance(value, float) for value in one[RATE])


def configured(tuned, overrides=None):
    config = base(network="four_layer").copy_and_resolve_references()
    config.arms = {"a": {}, "b": {"model.activation": "tanh"}}
    config.tuned = tuned
    config.seeds = 2
    for name, value in (overrides or {}).items():
        section, _, field = name.partition(".")
        config[section][field] = value
    return finish(config, overrides or {})


def test_trials_of_drawn_settings_are_the_same_when_read_back():
    fields = {RATE: tuning.log_uniform(1e-4, 1e-1), DECAY: tuning.uniform(0, 0.01)}
    config = configured(tuning.draws(3, fields))
    found = all_trials(config)
    assert len(found) == 2 * 3 * 2
    assert len({trial.folder for trial in found}) == 12
    held = json.loads(json.dumps(config.to_dict()))
    assert all_trials(held) == found


def test_an_overridden_field_of_several_is_pinned():
    tuned = tuning.together({RATE: (0.1, 0.01, 0.001), MOMENTUM: (0.5, 0.9, 0.9)})
    config = configured(tuned, {RATE: 0.2})
    assert tuning.settings(config.tuned) == [
        {RATE: 0.2, MOMENTUM: 0.5},
        {RATE: 0.2, MOMENTUM: 0.9},
    ]


@pytest.mark.parametrize(
    ("tuned", "words"),
    [
        ({f"{RATE},{MOMENTUM}": ((0.1, 0.9), (0.1,))}, "rows of 2 values"),
        ({f"{RATE},{MOMENTUM}": (0.1, 0.2)}, "rows of 2 values"),
        ({f"{RATE},{MOMENTUM}": ((0.1, 0.9), (0.1, 0.9))}, "holds a value twice"),
        ({RATE: (0.1,), f"{RATE},{MOMENTUM}": ((0.1, 0.9),)}, "sets a field twice"),
        ({f"{RATE},optimizer.momentun": ((0.1, 0.9),)}, "optimizer.momentum"),
        ({f"{RATE},model.activation": ((0.1, "relu"),)}, "make it arms"),
        ({f"{RATE},{MOMENTUM}": ((0.1, 2.0),)}, "momentum"),
    ],
)
def test_rows_that_will_not_do_are_refused(tuned, words):
    with pytest.raises(UserError, match=words):
        configured(tuned)
