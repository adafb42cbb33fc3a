"""What the data of an experiment must have before anything is compiled."""

import pytest
from small_question import question, resolved

from alexnet_jax.errors import UserError
from alexnet_jax.experiment.datasets import Datasets, check_batch

TRAIN = 1438  # images of digits


def check(plan):
    for trial in plan.one_per_setting():
        check_batch(plan, trial, TRAIN)


@pytest.mark.parametrize("batch_size", [1, TRAIN - 1, TRAIN])
def test_a_batch_may_be_the_whole_training_set(batch_size):
    check(resolved(question(), training__batch_size=batch_size))


@pytest.mark.parametrize("batch_size", [TRAIN + 1, 10 * TRAIN])
def test_a_batch_larger_than_the_training_set_is_refused_with_both_numbers(batch_size):
    plan = resolved(question(), training__batch_size=batch_size)
    with pytest.raises(UserError) as refused:
        Datasets(plan)
    for words in (f"config.training.batch_size={batch_size}", "digits", f"{TRAIN}"):
        assert words in str(refused.value)


def test_the_batch_of_an_arm_is_refused_with_the_arm():
    config = question()
    config.arms["tanh"]["training.batch_size"] = 2000
    with pytest.raises(UserError, match=r"batch_size=2000 \(arm: tanh"):
        check(resolved(config))
