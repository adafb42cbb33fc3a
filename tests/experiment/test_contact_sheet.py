"""The contact sheet of what the network sees: what is on it, and when it is made."""

import dataclasses

import numpy as np
from numbered_images import load
from PIL import Image
from small_question import resolved

from alexnet_jax.config import base
from alexnet_jax.experiment import contact_sheet


def plan(**fields):
    """Two arms that see other images: without crops, and with crops and reflections."""
    config = base(network="four_layer")
    config.experiment = "seen"
    config.data.rescale_size, config.data.crop_size = 10, 8
    config.arms = {"center": {}, "random": fields or {"data.random_crop": True}}
    return resolved(config)


def settings_of(of_plan):
    return [(trial.arm, trial.settings) for trial in of_plan.one_per_setting()]


def test_arms_that_see_the_same_share_a_row():
    data = load(memory_bytes=10**9)
    differing = settings_of(plan())
    alike = settings_of(plan(**{"model.activation": "tanh"}))
    arms = [one.arms for one in contact_sheet.rows(differing, lambda _: data)]
    assert arms == [("center",), ("random",)]
    arms = [one.arms for one in contact_sheet.rows(alike, lambda _: data)]
    assert arms == [("center", "random")]


def test_each_image_has_the_name_of_its_class():
    data = load(memory_bytes=10**9)
    (one, _) = contact_sheet.rows(settings_of(plan()), lambda _: data)
    examples = one.images.batch["example"]
    assert one.classes == tuple("abcde"[label] for label in data.train.labels[examples])
    np.testing.assert_array_equal(one.images.whole, data.train.images[examples])


def test_the_picture_is_made_once(tmp_path):
    data = load(memory_bytes=10**9)
    given = (tmp_path, "seen on numbers", settings_of(plan()), lambda _: data)
    contact_sheet.write(*given)
    with Image.open(tmp_path / contact_sheet.NAME) as sheet:
        assert sheet.width > contact_sheet.COLUMNS * contact_sheet.TILE
    (tmp_path / contact_sheet.NAME).write_bytes(b"as it was")
    contact_sheet.write(*given)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"as it was"]


def test_trials_without_data_are_left_out(tmp_path):
    contact_sheet.write(tmp_path, "none", settings_of(plan()), lambda _: None)
    assert not list(tmp_path.iterdir())


def test_few_images_and_long_names_have_room():
    data = load(memory_bytes=10**9)
    names = ("x" * 99, "\u732b " * 20, "a b", "", "tab\t" * 9)
    renamed = dataclasses.replace(data.source, class_names=names)
    few = dataclasses.replace(data, source=renamed)
    sheet = contact_sheet.draw(
        "t\n" * 250, list(contact_sheet.rows(settings_of(plan()), lambda _: few))
    )
    assert sheet.width < 1200


def test_a_class_name_that_the_font_cannot_draw_is_its_number():
    """Instead of a row of boxes; Greek and accents are drawn."""
    font = contact_sheet._font()
    assert contact_sheet.caption_of("\u732b", 3, font) == "class 3"
    drawn = "\u03b3\u03ac\u03c4\u03b1 K\u00e4tzchen"
    assert contact_sheet.caption_of(drawn, 3, font) == drawn
