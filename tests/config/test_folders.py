"""Where run folders and prepared images are."""

from pathlib import Path

import pytest
from small_question import resolved

from alexnet_jax.config.folders import prepared_folder
from alexnet_jax.config.presets import base


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("digits", "digits"),
        ("tfds=cifar10:3.0.2", "cifar10-3.0.2"),
        ("folder=some/where/images", "images"),
    ],
)
def test_folders_are_named_after_the_data_set(dataset, name, tmp_path):
    plan = resolved(base(dataset))
    assert plan.run_folder("") == tmp_path / f"runs/alexnet-{name}"
    data = plan.settings.data
    assert prepared_folder(data) == tmp_path / f"prepared/{name}-256"


def test_a_given_folder_is_taken_as_it_is(tmp_path):
    plan = resolved(base(), data__prepared_dir="~/prepared")
    assert plan.run_folder("some/where") == tmp_path / "some/where"
    assert plan.run_folder("~/run") == tmp_path / "home/run"
    assert prepared_folder(plan.settings.data) == tmp_path / "home/prepared"


def test_images_that_are_warped_are_prepared_apart():
    data = resolved(base(), recipe="caffe").settings.data
    assert prepared_folder(data) == Path("prepared/digits-256-warp").absolute()


def test_original_images_need_no_folder():
    data = resolved(base(), data__prepared_dir="none").settings.data
    assert prepared_folder(data) is None
