"""Figure 3: every kernel in its place, the dead ones crossed out, color as a number."""

import dataclasses
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest
from matplotlib.colors import to_rgb
from random_network import changed

from alexnet_jax.trained import kernel_figure
from alexnet_jax.trained.locate import load


@pytest.fixture(scope="module")
def network(run_folder):
    """With 40 kernels of 11 x 11 in two towers, of stripes: gray ones, then colored ones.

    Two cycles in eleven pixels across, and four down, each of a phase and strength of its own.
    """
    found = load(run_folder / "ReLU/seed0")
    draws = np.random.default_rng(0)
    y, x = np.mgrid[:11, :11][..., None]
    phase, strength = draws.uniform(0, 6, (2, 20)), draws.uniform(1, 2, 40)
    gray = np.cos(2 * np.pi * 2 * x / 11 + phase[0])[:, :, None]
    colored = np.cos(2 * np.pi * 4 * y / 11 + phase[1])[:, :, None]
    kernel = np.concatenate(
        [gray * np.ones((3, 1)), colored * [[0.7], [0.3], [-1]]], axis=3
    )
    kernel = (kernel * strength).astype(np.float32)
    kernel[..., 3] *= 1e-4
    kernel[..., 39] *= 1e-4
    params = found.params | {"conv1": {"kernel": kernel, "bias": np.zeros(40, "f4")}}
    return dataclasses.replace(changed(found, model__towers=2), params=params)


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
    assert titles == [
        f"Tower {number}: 20 kernels, {color} of their energy is color, mean frequency "
        f"{frequency} cycles per pixel; 1 dead, crossed out"
        for number, color, frequency in ((1, "0%", "0.18"), (2, "100%", "0.36"))
    ]


def test_the_files_show_the_kernels_and_their_crosses(network, tmp_path):
    for name in ("a.png", "a.svg"):
        kernel_figure.write_figure(network, tmp_path / name)
    with PIL.Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[1] == 8 * 150
    crosses = np.abs(pixels - np.multiply(255, to_rgb(kernel_figure.DEAD_COLOR))) < 32
    rows = np.flatnonzero(crosses.all(axis=2).any(axis=1))  # in one of 256 colors
    assert len(rows) > 60  # two lines across eleven pixels, each drawn as about six
    assert rows[0] < len(pixels) / 2 < rows[-1]  # one in each tower
    blue = np.flatnonzero((pixels[..., 2] > pixels[..., 0] + 60).any(axis=1))
    assert len(blue) > 60  # stripes of the lower tower's kernels
    assert blue[0] > len(pixels) / 2
    svg = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert len(svg.findall(".//{http://www.w3.org/2000/svg}image")) == 2


def test_kernels_of_a_bgr_network_are_shown_as_rgb(network):
    turned = changed(network, data__channel_order="bgr")
    of_rgb, of_bgr = map(kernel_figure.kernels_of, (network, turned))
    np.testing.assert_array_equal(of_rgb[..., ::-1], of_bgr)
