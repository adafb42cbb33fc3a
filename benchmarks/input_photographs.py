"""Makes the photographs that the input benchmarks read, and prepared datasets of them.

Photographs of 500 x 375 pixels, ImageNet's most frequent size, are cut from the sample
images of scikit-learn and scikit-image into a temporary folder, or those of a folder are
taken (--images). They are prepared at 256 x 256 by the package's own code.
"""

import contextlib
import dataclasses
import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image

from alexnet_jax.data.open import open_source
from alexnet_jax.data.prepared import reader, writer
from alexnet_jax.data.types import Source
from alexnet_jax.errors import UserError

NUM_PHOTOGRAPHS = 66  # Every tenth is held out, which leaves 60 to train on.
PHOTOGRAPH_SIZE = (500, 375)  # width and height
RESCALE_SIZE, CROP_SIZE = 256, 224
SAMPLE_IMAGES = {  # By package: the folder and the names of its color photographs.
    "sklearn": ("datasets/images", ["china.jpg", "flower.jpg"]),
    "skimage": ("data", ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"]),
}


@dataclasses.dataclass(frozen=True)
class Photographs:
    """The same photographs in three forms on disk.

    Attributes:
      note: what they were made of, for reports.
      paths: the files of the original training images.
      originals, jpeg, raw: the original files as a source, and the prepared datasets
        with JPEG and with raw records.
    """

    note: str
    paths: list[str]
    originals: Source
    jpeg: Source
    raw: Source

    @property
    def color_components(self) -> np.ndarray:
        """The principal components of the colors, scaled by standard deviation."""
        assert self.jpeg.statistics is not None
        return self.jpeg.statistics.components("standard_deviation")


@contextlib.contextmanager
def photographs(
    count: int = NUM_PHOTOGRAPHS, images: str = ""
) -> Iterator[Photographs]:
    """Makes `count` photographs in a folder that is deleted afterwards.

    Args:
      count: how many.
      images: a folder of images, as `--config=FILE:folder=PATH` takes them, to be used in
        their place; it is only read.

    Raises:
      SystemExit: if that folder is no dataset; this process is only a part of a command.
    """
    with tempfile.TemporaryDirectory(prefix="alexnet_jax-") as name:
        folder = Path(name)
        originals = Path(images).absolute() if images else folder / "photographs"
        note = "" if images else write_originals(originals, count)
        try:
            source = open_source(f"folder={originals}", tfds_dir="")
        except UserError as error:
            raise SystemExit(f"Error: {error}") from error
        if images:
            note = note_on(source)
        prepared = {
            encoding: prepare_source(source, folder, encoding)
            for encoding in ("jpeg", "raw")
        }
        paths = [
            str(originals / source.train.where(i))
            for i in range(source.train.num_examples)
        ]
        yield Photographs(note, paths, source, **prepared)


def note_on(source: Source) -> str:
    """How many images a folder has, and of what size, without its path."""
    train = source.train
    some = range(0, train.num_examples, max(1, train.num_examples // 100))
    sizes = [len(train.read(number)[0]) for number in some]
    return (
        f"{train.num_examples:,} images of a folder, "
        f"{np.mean(sizes) / 1000:.0f} kB each on average"
    )


def sample_images() -> list[Path]:
    """Returns the color photographs in scikit-learn and, if installed, scikit-image."""
    found = []
    for package, (folder, names) in SAMPLE_IMAGES.items():
        if (spec := importlib.util.find_spec(package)) and spec.origin:
            found += [Path(spec.origin).parent / folder / name for name in names]
    return found


def write_originals(folder: Path, count: int) -> str:
    """Writes random parts of each sample image, one class per image; returns a note."""
    samples = sample_images()
    draws = np.random.default_rng(0)
    width, height = PHOTOGRAPH_SIZE
    num_bytes = 0
    for path in samples:
        class_folder = folder / path.stem
        class_folder.mkdir(parents=True)
        with PIL.Image.open(path) as opened:
            image = opened.convert("RGB")
        largest = min(image.width / width, image.height / height)
        for number in range(count // len(samples)):
            scale = largest * draws.uniform(0.7, 1)
            w, h = scale * width, scale * height
            x = draws.uniform(0, image.width - w)
            y = draws.uniform(0, image.height - h)
            part = image.resize(
                PHOTOGRAPH_SIZE, PIL.Image.Resampling.LANCZOS, (x, y, x + w, y + h)
            )
            file = class_folder / f"{number:02d}.jpg"
            part.save(file, quality=95, subsampling="4:2:0")
            num_bytes += file.stat().st_size
    total = count // len(samples) * len(samples)
    note = (
        f"{total} parts of {', '.join(path.stem for path in samples)}, "
        f"{width} x {height}, JPEG of quality 95, {num_bytes / total / 1000:.0f} kB each"
    )
    if importlib.util.find_spec("skimage") is None:
        note += "; scikit-image, which has more photographs, is not installed"
    return note


def prepare_source(source: Source, folder: Path, encoding: str) -> Source:
    """Prepares a dataset as `python -m alexnet_jax.prepare` does, without its output."""
    job = writer.Job(source, folder / encoding, "shorter_side", RESCALE_SIZE, encoding)
    job.folder.mkdir()
    writer.write_shards(job, job.shards(), lambda _: None)
    writer.complete(job)
    return reader.open_prepared(job.folder)
