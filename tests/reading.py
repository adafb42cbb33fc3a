"""What the tests of data sources share: writing images, and reading splits."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf


def png(number, size=8):
    """A different image for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3))
    return tf.io.encode_png(pixels.astype(np.uint8)).numpy()


def records(split):
    return [split.read(i) for i in range(split.num_examples)]


def read_by_many_threads(split):
    """Every record, by eight threads that start together, in random order."""
    start = threading.Barrier(8)

    def read(number):
        indices = list(range(split.num_examples))
        random.Random(number).shuffle(indices)
        start.wait()
        return {i: split.read(i) for i in indices}

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(read, range(8)))


def write_images(root, layout):
    """Writes {"train/cat/1.png", ...}; returns the bytes by path."""
    written = {}
    for number, name in enumerate(layout):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
        written[name] = path.read_bytes()
    return written
