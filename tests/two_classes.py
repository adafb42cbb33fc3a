"""A folder of small images of two classes, and prepared sets made of it."""

import numpy as np
from PIL import Image

from alexnet_jax.data.open import open_source
from alexnet_jax.data.prepared import build, writer

SIZE = 16


def write_two_classes(root):
    """30 + 10 JPEGs and PNGs of two classes and many sizes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("val", 10)):
        for i in range(count):
            folder = root / split / ("bright", "dark")[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            size = (20 + 3 * i, 90 - 2 * i, 3)
            low = 100 * (1 - i % 2)
            made = rng.integers(low, low + 150, size, dtype=np.uint8)
            Image.fromarray(made).save(
                folder / f"p {i:02}.{('jpg', 'png')[i % 3 == 0]}"
            )
    return root


def write_bad_files(root):
    """Adds four files that cannot be read, three of them to train on."""
    whole = (root / "train/dark/p 01.jpg").read_bytes()
    for name, data in (
        ("train/bright/empty.jpg", b""),
        ("train/dark/cut off.jpg", whole[: len(whole) // 2]),
        ("train/dark/p 01\ttab \u2713.png", b"a text named .png"),
        ("val/dark/zeros.jpg", bytes(100)),
    ):
        (root / name).write_bytes(data)
    return root


def job(images, folder, *, encoding="jpeg", size=SIZE, rescale="shorter_side"):
    source = open_source(f"folder={images}", tfds_dir="")
    return writer.Job(source, folder, rescale, size, encoding)


def prepare(
    images,
    folder,
    *,
    encoding="jpeg",
    size=SIZE,
    rescale="shorter_side",
    skip_bad=False,
):
    return build.prepare(
        open_source(f"folder={images}", tfds_dir=""),
        folder,
        rescale=rescale,
        size=size,
        encoding=encoding,
        skip_bad=skip_bad,
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
