"""What the data of an experiment must have before anything is compiled."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from small_question import question, resolved

from alexnet_jax.config import base
from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.data.types import Split
from alexnet_jax.errors import UserError
from alexnet_jax.experiment.datasets import Datasets, preset_notice

TRAIN = 1438  # images of digits


def split(count):
    return RescaledSplit(Split("train", count, lambda i: (b"", 0)), 16, "warp")


@pytest.mark.parametrize("batch_size", [1, TRAIN - 1, TRAIN])
def test_a_batch_may_be_the_whole_training_set(batch_size):
    split(TRAIN).check_batch_size(batch_size)


@pytest.mark.parametrize(("count", "example"), [(3, 1), (420, 32), (10**6, 128)])
def test_a_batch_larger_than_the_training_set_is_refused_with_both_numbers(
    count, example
):
    with pytest.raises(UserError) as refused:
        split(count).check_batch_size(count + 1)
    for words in (f"batch_size={count + 1} ", f" {count} ", f"batch_size={example}."):
        assert words in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "batch_size=1439 is larger"),
        ({"tanh": {"training.batch_size": 2000}}, r"batch_size=2000 \(arm: tanh"),
    ],
)
def test_it_is_refused_when_the_data_are_opened(changes, words):
    config = question()
    for arm, fields in changes.items():
        config.arms[arm] |= fields
    config.training.batch_size = 64 if changes else TRAIN + 1
    with pytest.raises(UserError, match=words):
        Datasets(resolved(config))


# --- small images, or few ---------------------------------------------------------


def datasets(side, count, encoding="original"):
    """Data of so many images of so many pixels, as `preset_notice` uses them."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((side, 2 * side, 3), np.uint8)).save(buffer, "png")
    split = Split("train", count, lambda i: (buffer.getvalue(), 0), encoding=encoding)
    data = SimpleNamespace(train=RescaledSplit(split, 256, "shorter_side"))
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
