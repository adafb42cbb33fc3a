"""Mean image and principal color components, compared with numpy in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.data import statistics


def random_images(count, size=6, seed=0):
    """Correlated colors, as in a photograph."""
    rng = np.random.default_rng(seed)
    gray = rng.normal(120, 50, (count, size, size, 1))
    color = gray + rng.normal(0, [25, 12, 18], (count, size, size, 3))
    return np.clip(color, 0, 255).astype(np.uint8)


def test_the_mean_image_is_the_mean_of_each_pixel():
    images = random_images(37)
    got = statistics.compute([images]).mean_image
    assert got.dtype == np.float64
    np.testing.assert_allclose(
        got, np.mean(images, axis=0, dtype=np.float64), rtol=1e-12
    )


def test_the_components_are_those_of_the_covariance_over_all_pixels():
    images = random_images(37)
    got = statistics.compute([images])
    covariance = np.cov(images.reshape(-1, 3).astype(np.float64), rowvar=False)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(got.eigenvalues, eigenvalues[::-1], rtol=1e-9)
    # Columns up to sign, largest variance first.
    cosines = np.sum(got.eigenvectors * eigenvectors[:, ::-1], axis=0)
    np.testing.assert_allclose(np.abs(cosines), 1, rtol=1e-9)
    np.testing.assert_allclose(
        got.eigenvectors @ np.diag(got.eigenvalues) @ got.eigenvectors.T,
        covariance,
        rtol=1e-9,
    )


def test_the_largest_entry_of_each_component_is_positive():
    for seed in range(20):
        vectors = statistics.compute([random_images(3, seed=seed)]).eigenvectors
        largest = np.abs(vectors).argmax(axis=0)
        assert (vectors[largest, range(3)] > 0).all()


def test_the_channel_mean_is_the_mean_of_all_pixels():
    images = random_images(37)
    got = statistics.compute([images]).channel_mean
    assert got.dtype == np.float64
    np.testing.assert_allclose(
        got, images.reshape(-1, 3).mean(axis=0, dtype=np.float64), rtol=1e-12
    )


def test_components_scaled_by_std_reproduce_the_covariance():
    images = random_images(37)
    scaled = statistics.compute([images]).components("standard_deviation")
    assert scaled.dtype == np.float32
    covariance = np.cov(images.reshape(-1, 3).astype(np.float64), rowvar=False)
    np.testing.assert_allclose(scaled @ scaled.T, covariance, rtol=1e-5)


def test_components_scaled_by_eigenvalue_use_intensities_0_to_1():
    """Eigenvalue times eigenvector as in the paper, converted to gray levels."""
    images = random_images(37)
    scaled = statistics.compute([images]).components("eigenvalue")
    assert scaled.dtype == np.float32
    covariance = np.cov(images.reshape(-1, 3) / 255, rowvar=False)
    for column, eigenvalue, eigenvector in zip(
        scaled.T[::-1], *(part.T for part in np.linalg.eigh(covariance)), strict=True
    ):
        expected = 255 * eigenvalue * eigenvector
        sign = np.sign(column @ expected)
        np.testing.assert_allclose(column, sign * expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", ["standard_deviation", "eigenvalue"])
def test_components_are_the_eigenvectors_as_columns(scale):
    """Longest first."""
    found = statistics.compute([random_images(37)])
    scaled = found.components(scale)
    lengths = np.linalg.norm(scaled, axis=0)
    assert (np.diff(lengths) < 0).all()
    np.testing.assert_allclose(scaled / lengths, found.eigenvectors, atol=1e-6)


@settings(deadline=None)
@given(st.lists(st.integers(1, 36), unique=True))
def test_statistics_do_not_depend_on_the_batching(cuts):
    images = random_images(37)
    whole = statistics.compute([images])
    parts = statistics.compute(np.split(images, sorted(cuts)))
    np.testing.assert_array_equal(parts.mean_image, whole.mean_image)
    np.testing.assert_array_equal(parts.eigenvalues, whole.eigenvalues)
    np.testing.assert_array_equal(parts.eigenvectors, whole.eigenvectors)


def test_sums_do_not_overflow_or_cancel():
    """With nearly white images, 32-bit sums of squares would overflow."""
    rng = np.random.default_rng(0)
    images = rng.integers(250, 256, (40, 64, 64, 3)).astype(np.uint8)
    got = statistics.compute([images])
    covariance = np.cov(images.reshape(-1, 3).astype(np.float64), rowvar=False)
    np.testing.assert_allclose(
        got.eigenvalues, np.linalg.eigvalsh(covariance)[::-1], rtol=1e-7
    )


@pytest.mark.parametrize("seed", range(5))
def test_gray_images_have_one_component_and_no_negative_variance(seed):
    gray = np.repeat(random_images(20, seed=seed)[..., :1], 3, axis=-1)
    got = statistics.compute([gray])
    assert (got.eigenvalues >= 0).all()
    np.testing.assert_allclose(
        got.eigenvalues,
        [3 * gray[..., 0].astype(np.float64).var(ddof=1), 0, 0],
        rtol=1e-9,
        atol=1e-6,
    )
    np.testing.assert_allclose(got.eigenvectors[:, 0], 3**-0.5, rtol=1e-6)
    for scale in ("standard_deviation", "eigenvalue"):
        assert np.isfinite(got.components(scale)).all()


def test_one_color_has_no_variance():
    got = statistics.compute([np.full((4, 3, 3, 3), 200, np.uint8)])
    np.testing.assert_allclose(got.mean_image, 200)
    np.testing.assert_allclose(got.eigenvalues, 0, atol=1e-6)
    for scale in ("standard_deviation", "eigenvalue"):
        assert np.isfinite(got.components(scale)).all()


@pytest.mark.parametrize("batches", [[], iter(())], ids=["list", "iterator"])
def test_statistics_without_images_are_refused(batches):
    with pytest.raises(ValueError, match="no images"):
        statistics.compute(batches)
