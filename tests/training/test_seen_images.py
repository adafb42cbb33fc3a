"""Training images for a person to see are those that the network sees."""

import numpy as np
import PIL.Image
import pytest
from numbered_images import CROP, SIZE, load
from small_question import resolved

from alexnet_jax.config import base
from alexnet_jax.training.batches import augmented_batches
from alexnet_jax.training.seen_images import seen_images
from alexnet_jax.training.trial import TrialSpec

FORMS = {
    "image": {"data.mean": "image"},
    "center": {"data.mean": "center"},
    "channel": {"data.mean": "channel", "data.channel_scale": (58.0, 57.0, 57.5)},
    "bgr": {"data.mean": "center", "data.channel_order": "bgr"},
}


@pytest.fixture(scope="module")
def numbers():
    return load(memory_bytes=10**9)


def seen(spec, data, count):
    return seen_images(spec.augmentation, spec.steps.form, data, count)


def spec_of(data, **fields):
    config = base(network="four_layer")
    config.data.rescale_size, config.data.crop_size = SIZE, CROP
    config.data.random_flip = True
    if "data__random_resized_crop" not in fields:
        config.data.random_crop = True
    config.training.batch_size = 16
    config.arms = {"arm": {name.replace("__", "."): v for name, v in fields.items()}}
    return TrialSpec.of(resolved(config).trials[0].settings, data)


@pytest.mark.parametrize("form", list(FORMS))
def test_without_lighting_the_network_sees_the_crop_itself(numbers, form):
    fields = {name.replace(".", "__"): value for name, value in FORMS[form].items()}
    images = seen(spec_of(numbers, **fields), numbers, 8)
    np.testing.assert_array_equal(images.seen, images.batch["image"])
    for i, (y, x) in enumerate(images.batch["offset"]):
        crop = images.whole[i, y : y + CROP, x : x + CROP]
        if images.batch["mirrored"][i]:
            crop = crop[:, ::-1]
        np.testing.assert_array_equal(images.seen[i], crop)


def test_boxes_are_seen_at_their_places(numbers):
    """Some of them in reflected images."""
    images = seen(spec_of(numbers, data__random_resized_crop=0.2), numbers, 8)
    assert set(images.batch["mirrored"]) == {0, 1}
    for i in range(8):
        y, x, height, width = images.place_of(i)
        cut = images.whole[i, y : y + height, x : x + width]
        cut = cut[:, ::-1] if images.batch["mirrored"][i] else cut
        resized = PIL.Image.fromarray(np.ascontiguousarray(cut)).resize(
            (CROP, CROP), PIL.Image.Resampling.BILINEAR
        )
        np.testing.assert_allclose(images.seen[i], np.asarray(resized, int), atol=1.01)


def test_lighting_is_seen(numbers):
    images = seen(spec_of(numbers, data__lighting_std=0.1), numbers, 8)
    shifted = images.batch["image"] + images.batch["lighting"][:, None, None, :]
    np.testing.assert_allclose(images.seen, np.clip(shifted, 0, 255), atol=0.51)
    assert np.any(images.seen != images.batch["image"])


@pytest.mark.parametrize("sharing", [1, 4])
def test_the_images_are_those_of_the_first_batches(numbers, sharing):
    """Neighbors that share a crop and a reflection are represented by one of them."""
    given = spec_of(numbers, **({"data__crop_sharing": sharing} if sharing > 1 else {}))
    images = seen(given, numbers, 8)
    batches = list(
        augmented_batches(given.augmentation, numbers, 0, range(2), batch_size=16)
    )
    for name, values in images.batch.items():
        trained = np.concatenate([batch[name] for batch in batches])
        np.testing.assert_array_equal(values, trained[::sharing][:8], err_msg=name)


def test_there_may_be_fewer_images_than_asked_for(numbers):
    images = seen(spec_of(numbers), numbers, 1000)
    assert sorted(images.batch["example"]) == list(range(numbers.train.num_examples))
