"""The training set's mean image and its principal components of colour (s. 2, 4.1)."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of the rescaled training images, in grey levels of 0..255.

    Attributes:
      mean_image: the mean of each pixel.
      eigenvalues: variances along the principal components of RGB over all pixels of
        all images, largest first.
      eigenvectors: the components, as columns; the largest entry of each is positive.
    """

    mean_image: Float64[np.ndarray, "h w 3"]
    eigenvalues: Float64[np.ndarray, "3"]
    eigenvectors: Float64[np.ndarray, "3 3"]

    @property
    def channel_mean(self) -> Float64[np.ndarray, "3"]:
        """Mean over all pixels of all images."""
        return self.mean_image.mean(axis=(0, 1))

    def components(self, scale: str) -> Float32[np.ndarray, "3 3"]:
        """What the lighting draws multiply (section 4.1), as columns, in grey levels.

        Scale "deviation", the 2012 code's: each component times the standard deviation
        along it. "eigenvalue", the text's: times the variance, of intensities 0..1; on
        0..255 it would shift colours by over a thousand grey levels.
        """
        lengths = np.sqrt(self.eigenvalues)
        if scale == "eigenvalue":
            lengths = self.eigenvalues / 255.0
        return (self.eigenvectors * lengths).astype(np.float32)


@dataclasses.dataclass
class Sums:
    """What the statistics are made of: sums of integers, so that no order matters.

    Attributes:
      count: of images, all of one size.
      total: over the images, of each pixel.
      products: over all pixels of all images, of R, G and B with one another.
    """

    count: int
    total: Int64[np.ndarray, "h w 3"]
    products: Int64[np.ndarray, "3 3"]

    @staticmethod
    def zero(height: int, width: int) -> "Sums":
        return Sums(0, np.zeros((height, width, 3), np.int64), np.zeros((3, 3), int))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.count + other.count,
            self.total + other.total,
            self.products + other.products,
        )

    def statistics(self) -> Statistics:
        """Mean image and components, rounded once: nothing cancels on the way.

        Raises:
          ValueError: if there are no images.
        """
        if self.count == 0:
            raise ValueError("No images to compute statistics of.")
        height, width, _ = self.total.shape
        pixels = self.count * height * width
        # Python's integers have no largest: pixels * products is 4e26 for ImageNet.
        sums = [int(channel) for channel in self.total.sum(axis=(0, 1))]
        scatter = [
            [pixels * int(self.products[i, j]) - sums[i] * sums[j] for j in range(3)]
            for i in range(3)
        ]
        divisor = pixels * max(1, pixels - 1)
        covariance = np.array([[entry / divisor for entry in row] for row in scatter])
        eigenvalues, eigenvectors = np.linalg.eigh(covariance)
        eigenvalues, eigenvectors = eigenvalues[::-1], eigenvectors[:, ::-1]
        largest = np.abs(eigenvectors).argmax(axis=0)
        eigenvectors = eigenvectors * np.sign(eigenvectors[largest, np.arange(3)])
        # Grey images have two components of no variance, which may come out below 0.
        return Statistics(
            self.total / self.count, np.maximum(eigenvalues, 0.0), eigenvectors
        )


def sums_of(images: UInt8[np.ndarray, "n h w 3"]) -> Sums:
    """The sums of a batch. Its images have at most 2**37 pixels together."""
    pixels = images.reshape(-1, 3).astype(np.float64)
    # Whole numbers below 2**53 are exact in float64, which multiplies faster.
    return Sums(
        len(images),
        images.sum(axis=0, dtype=np.int64),
        (pixels.T @ pixels).astype(np.int64),
    )


def compute(batches: Iterable[np.ndarray]) -> Statistics:
    """Statistics of the images of all batches, uint8 (n, h, w, 3), in float64.

    Raises:
      ValueError: if there are none.
    """
    sums = None
    for images in batches:
        of_batch = sums_of(images)
        sums = of_batch if sums is None else sums + of_batch
    if sums is None:
        raise ValueError("No images to compute statistics of.")
    return sums.statistics()
