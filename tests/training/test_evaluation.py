"""Evaluation counts do not depend on batch size or devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_trial import tiny, trainer_of

from alexnet_jax.data.pipeline import Data, evaluation_batches
from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.data.types import Split
from alexnet_jax.training import preprocess
from alexnet_jax.training import trainer as trainers
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.stacking import stack
from alexnet_jax.training.trainer import Evaluator, StepSpec

ALL = 1797  # 3 x 599: not divisible by 7, 8, 128 or 2,000


@pytest.fixture(scope="module")
def all_digits(data):
    """Data whose validation split holds every digit once."""
    both = data.train, data.validation
    images = np.concatenate([one.images for one in both])
    labels = np.concatenate([one.labels for one in both])
    split = Split("test", ALL, read=lambda index: (b"", int(labels[index])))
    held_out = RescaledSplit(split, data.train.size, data.train.rescale, images, labels)
    return Data(data.source, data.train, held_out, data.statistics)


def config_of(views):
    return tiny(data__crop_size=12, data__eval_crops=views, training__batch_size=24)


def params_of(trainer):
    return trainer.network.initialize(jax.random.key(5))


@functools.cache
def some_devices(how, count):
    return Devices(how, jax.devices()[:count])


def by_hand(views, data):
    """Error counts and mean loss of all images at once, on one device."""
    config, devices = config_of(views), some_devices("pmap", 1)
    trainer = trainer_of(config, data, devices)
    params, images = params_of(trainer), jnp.asarray(data.validation.images)
    mean = jnp.float32(data.statistics.mean_image)
    probabilities = [
        jax.nn.softmax(
            trainer.network.apply(
                params, preprocess.crop_input(images, place, mean, trainer.form), None
            )
        )
        for place in preprocess.crop_places(data.validation.size, trainer.form)
    ]
    mean_of_views = np.mean(np.asarray(probabilities, np.float64), axis=0)
    labels = data.validation.labels
    of_label = mean_of_views[np.arange(ALL), labels]
    larger = (mean_of_views > of_label[:, None]).sum(axis=1)
    errors = int((larger >= 1).sum()), int((larger >= 5).sum())
    return errors, float(-np.log(of_label).mean())


@pytest.fixture(scope="module")
def expected(all_digits):
    return {views: by_hand(views, all_digits) for views in ("center", "ten")}


@pytest.mark.parametrize(
    ("views", "batch_size", "how", "count"),
    [
        pytest.param("center", 1, "pmap", 8, marks=pytest.mark.slow),
        ("center", 2000, "pmap", 1),
        ("ten", 128, "shard_map", 3),
    ],
)
def test_counts_do_not_depend_on_batch_size_or_devices(
    all_digits, expected, views, batch_size, how, count
):
    """1,797 examples, a padded last batch: equal error counts, loss up to rounding."""
    (top1, top5), loss = expected[views]
    assert 100 < top5 < top1 < 1700
    config, devices = config_of(views), some_devices(how, count)
    trainer = trainer_of(config, all_digits, devices)
    evaluator = Evaluator(
        trainer,
        all_digits,
        trainer.place_mean(all_digits, devices),
        devices,
        batch_size=devices.rounded_up(batch_size),
    )
    shown = []
    counting = dataclasses.replace(
        evaluator,
        trainer=dataclasses.replace(
            trainer,
            eval_step=lambda *given: (
                shown.append(trainer.eval_step(*given)) or shown[-1]
            ),
        ),
    )
    params = devices.place_copies(stack([params_of(trainer)]))
    (row,) = counting.evaluate(params, step=0, epoch=0.0)
    whole = -(-batch_size // count) * count
    assert len(shown) == -(-ALL // whole)
    assert sum(int(counts.examples[0]) for counts in shown) == ALL
    assert (row["top1_error"], row["top5_error"]) == (top1 / ALL, top5 / ALL)
    assert row["loss"] == pytest.approx(loss, rel=1e-5)
    assert row["split"] == "test"


# --- Evaluation -------------------------------------------------------------------


def test_an_evaluation_that_loses_an_example_raises(data, devices, monkeypatch):
    config = tiny()
    trainer = trainer_of(config, data, devices)
    params = devices.place_copies(
        stack([trainer.network.initialize(jax.random.key(5))])
    )
    mean_image = devices.place_copies(data.statistics.mean_image.astype(np.float32))

    def without_the_last(*args, **kwargs):
        yield from list(evaluation_batches(*args, **kwargs))[:-1]

    monkeypatch.setattr(trainers, "evaluation_batches", without_the_last)
    evaluator = Evaluator(trainer, data, mean_image, devices, 128)
    with pytest.raises(AssertionError):
        evaluator.evaluate(params, step=0, epoch=0.0)


def test_ten_crops_are_evaluated_where_a_batch_would_be_a_single_image(all_digits):
    """XLA on CPUs cannot compile them, so that a batch is of two images at least."""
    config = config_of("ten")
    config.training.gradient_accumulation = 2 * trainers.EVALUATION_BATCH
    assert trainers.evaluation_batch_size(config.training.gradient_accumulation, 1) == 1
    few = dataclasses.replace(all_digits, validation=first_images(all_digits, 5))
    devices = some_devices("pmap", 1)
    spec = StepSpec.of(config, few)
    evaluator = Evaluator.of(spec, few, devices)
    assert (evaluator.batch_size, evaluator.num_batches) == (2, 3)
    params = devices.place_copies(stack([params_of(evaluator.trainer)]))
    (row,) = evaluator.evaluate(params, step=0, epoch=0.0)
    wrong = row["top1_error"] * 5
    assert wrong == pytest.approx(round(wrong))


def first_images(data, count):
    held_out = data.validation
    return RescaledSplit(
        dataclasses.replace(held_out.split, num_examples=count),
        held_out.size,
        held_out.rescale,
        held_out.images[:count],
        held_out.labels[:count],
    )
