"""The training set's mean image and its principal components of colour (s. 2, 4.1)."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32, Float64


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


def compute(batches: Iterable[np.ndarray]) -> Statistics:
    """Statistics of the images of all batches, uint8 (n, h, w, 3), in float64.

    Raises:
      ValueError: if there are none.
    """
    count = 0
    for images in batches:
        if count == 0:
            total = np.zeros(images.shape[1:])
            products = np.zeros((3, 3), np.int64)
        # Sums of integers below 256**2: exact, and no cancellation to fear.
        total += images.sum(axis=0, dtype=np.int64)
        pixels = images.reshape(-1, 3).astype(np.float64)
        products += (pixels.T @ pixels).astype(np.int64)
        count += len(images)
    if count == 0:
        raise ValueError("No images to compute statistics of.")
    mean_image = total / count
    mean = mean_image.mean(axis=(0, 1))
    num_pixels = count * mean_image.shape[0] * mean_image.shape[1]
    covariance = (products - num_pixels * np.outer(mean, mean)) / max(1, num_pixels - 1)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    eigenvalues, eigenvectors = eigenvalues[::-1], eigenvectors[:, ::-1]
    largest = np.abs(eigenvectors).argmax(axis=0)
    eigenvectors = eigenvectors * np.sign(eigenvectors[largest, np.arange(3)])
    # Grey images have two components of no variance, which rounding can put below 0.
    return Statistics(mean_image, np.maximum(eigenvalues, 0.0), eigenvectors)
