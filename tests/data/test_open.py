"""The name of a dataset chooses what opens it."""

from reading import write_images

from alexnet_jax.data.open import open_source


def test_a_source_is_told_by_what_stands_before_the_equals_sign(tmp_path):
    write_images(tmp_path / "digits", ["train/cat/1.png", "val/cat/1.png"])
    opened = open_source(f"folder={tmp_path / 'digits'}", tfds_dir="")
    assert opened.name == "folder=digits"
    assert opened.class_names == ("cat",)
