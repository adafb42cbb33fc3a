"""What the data of an experiment must have before anything is compiled."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from small_question import question, resolved

from alexnet_jax.config import base
from alexnet_jax.data.types import Split
from alexnet_jax.errors import UserError
from alexnet_jax.experiment.datasets import Datasets, check_batch, preset_notice

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


# --- small images, or few ---------------------------------------------------------


def datasets(side, count, encoding="original"):
    """Data of so many images of so many pixels, as `preset_notice` uses them."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((side, 2 * side, 3), np.uint8)).save(buffer, "png")
    split = Split("train", count, lambda i: (buffer.getvalue(), 0), encoding=encoding)
    data = SimpleNamespace(source=SimpleNamespace(train=split))
    made = object.__new__(Datasets)
    made.of = lambda wanted: data
    return made


def notice(of_data, network="alexnet", **overrides):
    config = base("folder=/pictures", network)
    plan = resolved(config, **overrides)
    return preset_notice(plan, of_data)


@pytest.mark.parametrize(
    ("of_data", "words"),
    [
        (datasets(32, 420), ("420", "32 pixels")),
        (datasets(32, 10**6), ("1,000,000", "32 pixels")),
        (datasets(300, 420), ("420",)),
        (datasets(300, 420, encoding="jpeg"), ("420",)),
    ],
)
def test_full_size_on_small_or_few_images_is_offered_the_preset(of_data, words):
    said = notice(of_data)
    for word in (*words, "--config.preset=small"):
        assert word in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("of_data", "overrides"),
    [
        (datasets(300, 10**5), {}),
        (datasets(32, 10**5, encoding="raw"), {}),
        (datasets(32, 420), {"preset": "small"}),
        (datasets(32, 420), {"preset": "full"}),
        (datasets(32, 420), {"network": "four_layer"}),
        (datasets(32, 420), {"model__width": 0.25}),
    ],
)
def test_nobody_else_is_offered_the_preset(of_data, overrides):
    assert notice(of_data, **overrides) is None
