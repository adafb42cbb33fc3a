"""Crops, reflections and lighting drawn by a key, beside those that a run draws."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.config import base
from alexnet_jax.data.augmentation import Augmentation
from alexnet_jax.data.rescaled import crop_pixels
from alexnet_jax.training.preprocess import InputForm
from alexnet_jax.training.random_input import RandomInput

COUNT, SIDE, CROP, EPOCH = 400, 12, 8, 1000
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3))
IMAGES = IMAGES.astype(np.uint8)
COMPONENTS = np.array([[30, 2, 0], [29, -2, 1], [28, 0, -1]], np.float32)


def random_input(recipe="paper", **changes):
    config = base()
    config.recipe = recipe
    data = dict(config.data) | {
        "crop_size": CROP,
        "crop_sharing": 1,
        "lighting_shrink": False,
        "lighting_off_epoch": 0.0,
    }
    augmentation = Augmentation.of(data | changes, COMPONENTS, SIDE)
    form = InputForm.of(data)
    return RandomInput(form, np.zeros((1, 1, 3), np.float32), augmentation, EPOCH)


def drawn(given, step=0, seed=0, count=COUNT):
    batch = given.drawn(jax.random.key(seed), jnp.asarray(IMAGES[:count]), step)
    return {name: np.asarray(values) for name, values in batch.items()}


def test_the_crops_are_those_that_a_run_cuts_there():
    batch = drawn(random_input())
    expected = np.empty((CROP, CROP, 3), np.uint8)
    places = zip(batch["offset"].tolist(), batch["mirrored"].tolist(), strict=True)
    for n, ((y, x), mirrored) in enumerate(places):
        crop_pixels(expected, IMAGES[n][y : y + CROP], x, mirrored)
        np.testing.assert_array_equal(batch["image"][n], expected)


def test_every_place_is_drawn_and_half_of_the_images_are_mirrored():
    batch = drawn(random_input())
    places = {tuple(place) for place in batch["offset"].tolist()}
    assert places == {(y, x) for y in range(5) for x in range(5)}
    assert set(batch["mirrored"].tolist()) == {0, 1}
    assert batch["mirrored"].mean() == pytest.approx(0.5, abs=0.1)


def test_the_lighting_has_the_covariance_of_a_run():
    """components @ alpha with alpha ~ N(0, lighting_std**2), section 4.1."""
    given = random_input(lighting_std=0.1)
    many = np.concatenate([drawn(given, seed=s)["lighting"] for s in range(20)])
    positions = np.arange(len(many))
    of_run = given.augmentation.draw(
        positions, positions, image_size=SIDE, num_examples=len(many), seed=0
    )["lighting"]
    expected = 0.01 * COMPONENTS @ COMPONENTS.T
    for found in (many, of_run):
        np.testing.assert_allclose(np.cov(found.T), expected, rtol=0.1, atol=0.05)


def test_neighbors_share_a_crop_and_a_reflection_but_no_lighting():
    batch = drawn(random_input(crop_sharing=32), count=100)
    for name in ("offset", "mirrored"):
        np.testing.assert_array_equal(
            batch[name], batch[name][np.arange(100) // 32 * 32]
        )
    assert len(np.unique(batch["offset"], axis=0)) > 1
    assert len(np.unique(batch["lighting"], axis=0)) == 100


def test_without_randomness_it_is_the_center():
    batch = drawn(random_input(random_crop=False, random_flip=False, lighting_std=0.0))
    np.testing.assert_array_equal(batch["image"], IMAGES[:, 2:10, 2:10])
    assert not batch["lighting"].any()
    assert (batch["gain"] == 1).all()


def test_the_lighting_ends_within_the_batch_in_which_it_does_in_a_run():
    given = random_input(lighting_off_epoch=1.25, lighting_shrink=True)
    for step in (2, 3, 4):
        batch = drawn(given, step)
        positions = step * COUNT + np.arange(COUNT)
        of_run = given.augmentation.draw(
            positions, positions % EPOCH, image_size=SIDE, num_examples=EPOCH, seed=0
        )
        np.testing.assert_array_equal(batch["gain"], of_run["gain"])
        for some in (batch, of_run):
            on = some["lighting"].any(axis=1)
            np.testing.assert_array_equal(on, positions < 1250)


def test_it_is_a_function_of_the_key():
    given = random_input()
    one, again, other = (drawn(given, seed=seed) for seed in (3, 3, 4))
    for name, values in one.items():
        np.testing.assert_array_equal(values, again[name])
    assert (one["offset"] != other["offset"]).any()


def test_the_steps_of_all_recipes_can_be_drawn():
    for recipe in ("paper", "source2012", "caffe", "torchvision"):
        given = random_input(recipe)
        form = dataclasses.replace(given.form, mean="channel")
        given = dataclasses.replace(given, form=form)
        found = given.training(jax.random.key(0), jnp.asarray(IMAGES[:4]), 0)
        assert found.shape == (4, CROP, CROP, 3)
