"""The mean image of a training set and the principal components of its colors.

Section 2 of the paper subtracts the mean; section 4.1 augments along the components.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of the rescaled training images, in gray levels (0..255).

    Attributes:
      mean_image: The mean of each pixel.
      eigenvalues: The variances along the principal components of RGB over all pixels
        of all images, largest first.
      eigenvectors: The components, as columns; the largest entry of each is positive.
    """

    mean_image: Float64[np.ndarray, "h w 3"]
    eigenvalues: Float64[np.ndarray, "3"]
    eigenvectors: Float64[np.ndarray, "3 3"]

    @property
    def channel_mean(self) -> Float64[np.ndarray, "3"]:
        """The mean over all pixels of all images."""
        return self.mean_image.mean(axis=(0, 1))

    def components(self, scale: str) -> Float32[np.ndarray, "3 3"]:
        """Returns the scaled components of the lighting, as columns, in gray levels.

        The PCA color augmentation (section 4.1) multiplies them by random numbers.

        Args:
          scale: "standard_deviation", as in the 2012 code: each component times the standard
            deviation along it. "eigenvalue", as in the text: each component times the
            variance of intensities in 0..1. On 0..255 the latter would shift colors by
            more than a thousand gray levels.

        Raises:
          ValueError: for any other scale.
        """
        match scale:
            case "standard_deviation":
                lengths = np.sqrt(self.eigenvalues)
            case "eigenvalue":
                lengths = self.eigenvalues / 255.0
            case _:
                raise ValueError(f"Unknown scale of the lighting: {scale!r}.")
        return (self.eigenvectors * lengths).astype(np.float32)


@dataclasses.dataclass
class Sums:
    """Sums over images, from which the statistics follow.

    They are sums of integers, so the order of the images does not matter.

    Attributes:
      count: The number of images, all of one size.
      total: The sum of each pixel over the images.
      products: The sums, over all pixels of all images, of the products of R, G and B.
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
        """Returns the statistics, rounded once: no digits are lost to cancellation.

        Raises:
          ValueError: If there are no images.
        """
        if self.count == 0:
            raise ValueError("There are no images to compute statistics from.")
        height, width, _ = self.total.shape
        pixels = self.count * height * width
        # Python's integers are unbounded: pixels * products reaches 4e26 on ImageNet.
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
        # Gray images have two components without variance, which may round below 0.
        return Statistics(
            self.total / self.count, np.maximum(eigenvalues, 0.0), eigenvectors
        )


def sums_of(images: UInt8[np.ndarray, "n h w 3"]) -> Sums:
    """Returns the sums of a batch, which has at most 2**37 pixels."""
    pixels = images.reshape(-1, 3).astype(np.float64)
    # Integers below 2**53 are exact in float64, which multiplies faster.
    return Sums(
        len(images),
        images.sum(axis=0, dtype=np.int64),
        (pixels.T @ pixels).astype(np.int64),
    )


def total(batches: Iterable[np.ndarray]) -> Sums:
    """Returns the sums of all images.

    Args:
      batches: uint8 arrays (n, h, w, 3).

    Raises:
      ValueError: If there are no batches.
    """
    sums = None
    for images in batches:
        of_batch = sums_of(images)
        sums = of_batch if sums is None else sums + of_batch
    if sums is None:
        raise ValueError("There are no images to compute statistics from.")
    return sums


def compute(batches: Iterable[np.ndarray]) -> Statistics:
    """Returns the statistics of all images, in float64.

    Args:
      batches: uint8 arrays (n, h, w, 3).

    Raises:
      ValueError: If there are no batches.
    """
    return total(batches).statistics()
