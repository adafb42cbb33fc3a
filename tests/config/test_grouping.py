"""Trials are trained side by side: by several devices, or by one program."""

import pytest
from small_question import question, resolved

from alexnet_jax.config.grouping import group_trials, spreads_trials


def groups_of(plan, largest, num_devices=1):
    population = plan.values["population"]
    return group_trials(
        plan.trials, population=population, largest=largest, num_devices=num_devices
    )


def test_without_population_each_trial_is_a_group():
    plan = resolved(question())
    assert groups_of(plan, 32) == [[trial] for trial in plan.trials]


def test_a_group_differs_in_seeds_and_numbers_of_the_optimizer_only():
    arms = {
        "ReLU": {},
        "decay": {"optimizer.weight_decay": 0.1},
        "biases": {"optimizer.bias_decay": True, "optimizer.weight_decay": 0.1},
        "tanh": {"model.activation": "tanh"},
    }
    plan = resolved(question(population=True, arms=arms))
    groups = groups_of(plan, 32)
    assert [sorted({trial.arm for trial in group}) for group in groups] == [
        ["ReLU", "decay"],
        ["biases"],
        ["tanh"],
    ]
    assert [len(group) for group in groups] == [8, 4, 4]


def test_a_group_is_evaluated_by_the_same_crops():
    """Another arm shares the training of the first one, with crops of its own."""
    arms = {
        "one": {},
        "ten": {"data.eval_crops": "ten"},
        "decay": {"optimizer.weight_decay": 0.1},
    }
    plan = resolved(question(population=True, arms=arms))
    groups = groups_of(plan, 32)
    assert [{trial.arm for trial in group} for group in groups] == [{"one"}, {"decay"}]


@pytest.mark.parametrize(("largest", "sizes"), [(32, [4, 4]), (3, [3, 1, 3, 1])])
def test_a_group_is_no_larger_than_the_largest(largest, sizes):
    plan = resolved(question(population=True))
    groups = groups_of(plan, largest)
    assert [len(group) for group in groups] == sizes
    assert [trial for group in groups for trial in group] == list(plan.trials)


# --- Trials shared out among devices --------------------------------------------------


@pytest.mark.parametrize(
    ("num_devices", "sizes"),
    [(1, [1] * 8), (2, [2] * 4), (3, [3, 1, 3, 1]), (6, [3, 1, 3, 1]), (8, [4, 4])],
)
def test_without_population_a_group_has_one_trial_a_device(num_devices, sizes):
    """As many as divide the devices, which then take equal shares; two arms of four."""
    plan = resolved(question(arms={"ReLU": {}, "tanh": {"model.activation": "tanh"}}))
    groups = groups_of(plan, 32, num_devices)
    assert [len(group) for group in groups] == sizes
    assert [trial for group in groups for trial in group] == list(plan.trials)


@pytest.mark.parametrize(
    ("num_devices", "largest", "sizes"),
    [(2, 32, [4, 4]), (2, 1, [2, 2, 2, 2]), (4, 32, [4, 4]), (3, 32, [3, 1, 3, 1])],
)
def test_with_population_each_device_trains_several(num_devices, largest, sizes):
    arms = {"ReLU": {}, "tanh": {"model.activation": "tanh"}}
    plan = resolved(question(population=True, arms=arms))
    groups = groups_of(plan, largest, num_devices)
    assert [len(group) for group in groups] == sizes


def test_devices_share_out_the_batches_of_large_networks():
    """Their step has more than 2**20 pixels, and 128 images of 90 x 90 have fewer."""
    sizes = {"data.rescale_size": 256, "data.crop_size": 224}
    plan = resolved(question(arms={"large": sizes, "small": {}}))
    assert [len(group) for group in groups_of(plan, 32, 2)] == [1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("spread", "crop_size", "trials"),
    [
        ("auto", 90, True),
        ("auto", 91, False),
        ("trials", 91, True),
        ("batch", 90, False),
    ],
)
def test_what_devices_share_out_follows_from_the_pixels_unless_it_is_given(
    spread, crop_size, trials
):
    config = question(
        spread=spread,
        data__rescale_size=96,
        data__crop_size=crop_size,
        training__batch_size=128,
    )
    settings = resolved(config).settings
    assert spreads_trials(settings) is trials
