"""A dataset's name determines how it is opened."""

from reading import write_images

from alexnet_jax.data.open import open_source


def test_the_prefix_before_the_equals_sign_selects_the_source(tmp_path):
    layout = [
        f"{split}/{c}/1.png" for split in ("train", "val") for c in ("cat", "dog")
    ]
    write_images(tmp_path / "digits", layout)
    opened = open_source(f"folder={tmp_path / 'digits'}", tfds_dir="")
    assert opened.name == "folder=digits"
    assert opened.class_names == ("cat", "dog")
