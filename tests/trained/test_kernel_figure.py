"""Figure 3: every kernel in its place, the dead ones crossed out, color as a number."""

import dataclasses

import numpy as np
import pytest

from alexnet_jax.trained import kernel_figure
from alexnet_jax.trained.locate import load


@pytest.fixture(scope="module")
def network(run_folder):
    """With 40 kernels of 11 x 11 in two towers: gray ones, then colored ones."""
    found = load(run_folder / "ReLU/seed0")
    draws = np.random.default_rng(0)
    kernel = draws.normal(size=(11, 11, 3, 40)).astype(np.float32)
    kernel[..., :20] = kernel[:, :, :1, :20]
    kernel[..., 20:] -= kernel[..., 20:].mean(axis=2, keepdims=True)
    kernel[..., 3] *= 1e-4
    kernel[..., 39] *= 1e-4
    settings = found.settings.as_configdict().unlock()
    settings.model.towers = 2
    params = found.params | {"conv1": {"kernel": kernel, "bias": np.zeros(40, "f4")}}
    return dataclasses.replace(
        found, params=params, settings=type(found.settings)(settings)
    )


def test_towers_differ_in_their_share_of_color(network):
    first, second = kernel_figure.towers_of(network)
    assert first.color_share == pytest.approx(0, abs=1e-6)
    assert second.color_share == pytest.approx(1, abs=1e-6)
    assert np.flatnonzero(first.dead).tolist() == [3]
    assert np.flatnonzero(second.dead).tolist() == [19]
    # In general: by the definition, summed in another way.
    kernels = np.random.default_rng(1).normal(size=(5, 3, 3, 3))
    gray = (kernels.sum(axis=3) ** 2 / 3).sum(axis=(1, 2))
    expected = 1 - gray / (kernels**2).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(kernel_figure.color_shares(kernels), expected)


def test_the_frequency_is_that_of_the_stripes():
    y, x = np.mgrid[:11, :11]
    stripes = np.cos(2 * np.pi * 3 * x / 11)  # three cycles in eleven pixels
    diagonal = np.sin(2 * np.pi * (2 * x + 4 * y) / 11)
    patterns = (stripes, 2 + 0 * x, diagonal, 0 * x, np.eye(11)[5] * np.eye(11)[:, 5:6])
    kernels = np.stack([p[..., None] * [0.3, 0, -2] for p in patterns])
    found = kernel_figure.frequencies(kernels)
    np.testing.assert_allclose(found[:2], [3 / 11, 0], atol=1e-12)
    assert found[2] == pytest.approx(np.hypot(2, 4) / 11)
    assert found[3] == 0
    # A single pixel has the same energy at every frequency.
    bins = np.minimum(np.arange(11), 11 - np.arange(11)) / 11
    assert found[4] == pytest.approx(
        np.mean([np.hypot(a, b) for a in bins for b in bins])
    )


def test_every_kernel_is_in_its_place(network):
    tower = kernel_figure.towers_of(network)[1]
    picture = kernel_figure.grid(tower.kernels)
    assert picture.shape == (2 * 12 + 1, 16 * 12 + 1, 3)
    for number, one in enumerate(kernel_figure.scaled(tower.kernels)):
        row, column = divmod(number, 16)
        place = picture[
            12 * row + 1 : 12 * row + 12, 12 * column + 1 : 12 * column + 12
        ]
        np.testing.assert_array_equal(place, one)
    assert (picture[13:, 4 * 12 + 1 :] == 1).all()  # four in the last row


def test_dead_kernels_are_crossed_out_and_the_titles_say_so(network, tmp_path):
    figure = kernel_figure.draw(network)
    assert [len(axis.lines) for axis in figure.axes] == [1, 1]
    (line,) = figure.axes[0].lines
    assert line.get_xdata().tolist() == [3 * 12 + 0.5, 3 * 12 + 11.5]
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles[0].startswith(
        "Tower 1: 20 kernels, 0% of their energy is color, mean"
    )
    assert titles[0].endswith(" cycles per pixel; 1 dead, crossed out")
    assert "100% of their energy is color" in titles[1]
    for name in ("a.png", "a.svg"):
        kernel_figure.write_figure(network, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000


def test_kernels_of_a_bgr_network_are_shown_as_rgb(network):
    settings = network.settings.as_configdict().unlock()
    settings.data.channel_order = "bgr"
    turned = dataclasses.replace(network, settings=type(network.settings)(settings))
    of_rgb, of_bgr = map(kernel_figure.kernels_of, (network, turned))
    np.testing.assert_array_equal(of_rgb[..., ::-1], of_bgr)
