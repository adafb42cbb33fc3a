"""An evaluation's counts know nothing of batches and devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_trial import tiny

from alexnet_jax.data.pipeline import Data, Rescaled
from alexnet_jax.data.source import Split
from alexnet_jax.training import inputs
from alexnet_jax.training.loop import Evaluator, Trainer
from alexnet_jax.training.member import Plan
from alexnet_jax.training.parallel import Devices

ALL = 1797  # 3 x 599: 1, 7, 8, 128 and 2,000 leave a rest


@pytest.fixture(scope="module")
def all_digits(data):
    """Every digit held out, and none twice."""
    both = data.train, data.validation
    images = np.concatenate([one.images for one in both])
    labels = np.concatenate([one.labels for one in both])
    split = Split("test", ALL, read=lambda index: (b"", int(labels[index])))
    held_out = Rescaled(split, data.train.size, data.train.how, images, labels)
    return Data(data.source, data.train, held_out, data.statistics)


def config_of(views):
    return tiny(data__crop_size=12, data__views=views, training__batch_size=24)


def params_of(trainer):
    return trainer.network.initialize(jax.random.key(5))


@functools.cache
def some_devices(how, count):
    return Devices(how, jax.devices()[:count])


def by_hand(views, data):
    """Errors of all images at once, on one device; mean loss."""
    config, devices = config_of(views), some_devices("pmap", 1)
    trainer = Trainer.of(config, data, devices)
    params, images = params_of(trainer), jnp.asarray(data.validation.images)
    mean = jnp.float32(data.statistics.mean_image)
    probabilities = [
        jax.nn.softmax(
            trainer.network.apply(
                params, inputs.view_input(images, place, mean, trainer.form), None
            )
        )
        for place in inputs.views(data.validation.size, trainer.form)
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


SPREADS = [("pmap", count) for count in (1, 3, 8)] + [("shard_map", 3)]


@pytest.mark.parametrize("views", ["center", "ten"])
@pytest.mark.parametrize("batch_size", [1, 7, 128, 2000])
@pytest.mark.parametrize(("how", "count"), SPREADS)
def test_batches_and_devices_do_not_show_in_the_counts(
    all_digits, expected, views, batch_size, how, count
):
    """1,797 examples, a last batch filled up: the same integers, the loss to rounding."""
    (top1, top5), loss = expected[views]
    assert 100 < top5 < top1 < 1700
    config, devices = config_of(views), some_devices(how, count)
    trainer = Trainer.of(config, all_digits, devices)
    evaluator = Evaluator(
        trainer,
        all_digits,
        trainer.place_mean(all_digits, devices),
        devices,
        Plan.of(config, all_digits.train.num_examples),
        batch_size=batch_size,
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
    (row,) = counting.rows(devices.place_state(params_of(trainer)), step=0)
    whole = -(-batch_size // count) * count
    assert len(shown) == -(-ALL // whole)
    assert sum(int(counts.examples) for counts in shown) == ALL
    assert (row["top1_error"], row["top5_error"]) == (top1 / ALL, top5 / ALL)
    assert row["loss"] == pytest.approx(loss, rel=1e-5)
