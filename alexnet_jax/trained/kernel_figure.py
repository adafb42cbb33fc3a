"""The kernels of the first layer, tower by tower, as in Figure 3 of the paper."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from alexnet_jax.report.drawing import Drawing, write_drawing
from alexnet_jax.trained.trained_network import TrainedNetwork

IN_A_ROW = 16  # kernels, as in Figure 3
DEAD_BELOW = 0.1  # of the median norm
DEAD_COLOR = "#b2182b"
GAP = 1  # pixels between kernels


@dataclasses.dataclass(frozen=True)
class TowerKernels:
    """The kernels of conv1 in one tower.

    Attributes:
      kernels: the weights, RGB, (kernels, height, width, 3).
      dead: which of them have hardly any weight: a norm below a tenth of the median over
        both towers. Weight decay makes a kernel so whose unit no longer learns.
      color_shares: for each kernel the share of color in its energy, 0 to 1: what is left
        of the sum of squares when the mean over red, green and blue is taken out.
      frequencies: for each kernel the mean spatial frequency of its energy, in cycles per
        pixel: 0 for one color all over, up to 0.5 for stripes of one pixel.
    """

    kernels: Float[np.ndarray, "n h w 3"]
    dead: Bool[np.ndarray, " n"]
    color_shares: Float[np.ndarray, " n"]
    frequencies: Float[np.ndarray, " n"]

    @property
    def color_share(self) -> float:
        """The mean share of color over the kernels that are not dead; 0 if all are."""
        return self._mean(self.color_shares)

    @property
    def frequency(self) -> float:
        """The mean frequency over the kernels that are not dead; 0 if all are."""
        return self._mean(self.frequencies)

    def _mean(self, values: Float[np.ndarray, " n"]) -> float:
        alive = values[~self.dead]
        return float(alive.mean()) if len(alive) else 0.0


def towers_of(network: TrainedNetwork) -> list[TowerKernels]:
    """The kernels of conv1 by tower; a network without towers has a single one."""
    kernels = kernels_of(network).astype(np.float64)
    norms = np.sqrt((kernels**2).sum(axis=(1, 2, 3)))
    dead = norms < DEAD_BELOW * np.median(norms)
    of_each = (kernels, dead, color_shares(kernels), frequencies(kernels))
    parts = network.settings.model.towers
    return [
        TowerKernels(*of_tower)
        for of_tower in zip(*(np.split(each, parts) for each in of_each), strict=True)
    ]


def kernels_of(network: TrainedNetwork) -> Float[np.ndarray, "n h w 3"]:
    """The kernels of conv1 with their input channels in the order red, green, blue."""
    kernel = np.asarray(network.params["conv1"]["kernel"])
    if network.form.channel_order == "bgr":
        kernel = kernel[:, :, ::-1]
    return np.moveaxis(kernel, -1, 0)


def color_shares(kernels: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, " n"]:
    """The share of color in the energy of each kernel; 0 for one without weights."""
    gray = kernels.mean(axis=3, keepdims=True)
    color, all_of_it = (
        (each**2).sum(axis=(1, 2, 3)) for each in (kernels - gray, kernels)
    )
    return color / np.maximum(all_of_it, 1e-30)


def frequencies(kernels: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, " n"]:
    """The mean spatial frequency of each kernel's energy, in cycles per pixel.

    The mean is over the bins of the two-dimensional Fourier transforms of red, green and
    blue, each weighted by its energy; 0 for a kernel without weights.
    """
    down, across = map(np.fft.fftfreq, kernels.shape[1:3])
    cycles = np.hypot(down[:, None], across[None])
    energy = (np.abs(np.fft.fft2(kernels, axes=(1, 2))) ** 2).sum(axis=3)
    total = np.maximum(energy.sum(axis=(1, 2)), 1e-30)
    return (energy * cycles).sum(axis=(1, 2)) / total


def scaled(kernels: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n h w 3"]:
    """Each kernel scaled from 0 to 1, to be seen."""
    low, high = (f(kernels, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    return (kernels - low) / np.maximum(high - low, 1e-12)


def grid(kernels: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "height width 3"]:
    """The scaled kernels side by side, `IN_A_ROW` in a row, with white between them."""
    count, height, width, _ = kernels.shape
    rows, columns = -(-count // IN_A_ROW), min(count, IN_A_ROW)
    tall, wide = height + GAP, width + GAP
    picture = np.ones((rows * tall + GAP, columns * wide + GAP, 3))
    for number, one in enumerate(scaled(kernels)):
        row, column = divmod(number, IN_A_ROW)
        top, left = row * tall + GAP, column * wide + GAP
        picture[top : top + height, left : left + width] = one
    return picture


def draw(network: TrainedNetwork) -> Drawing:
    """A block of kernels for each tower, with its numbers above; dead ones crossed out."""
    towers = towers_of(network)
    pictures = [grid(tower.kernels) for tower in towers]
    heights = [len(picture) for picture in pictures]
    width = 8.0
    inches = width / pictures[0].shape[1]
    figure = Drawing(
        figsize=(width, sum(heights) * inches + 0.45 * len(towers) + 0.2),
        layout="constrained",
    )
    axes = figure.subplots(len(towers), 1, squeeze=False, height_ratios=heights)[:, 0]
    for number, (axis, tower, picture) in enumerate(
        zip(axes, towers, pictures, strict=True), start=1
    ):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title(tower, number, len(towers)), fontsize=9, loc="left")
        axis.axis("off")
        _, height, wide, _ = tower.kernels.shape
        for place in np.flatnonzero(tower.dead):
            row, column = divmod(int(place), IN_A_ROW)
            top = row * (height + GAP) + GAP - 0.5
            left = column * (wide + GAP) + GAP - 0.5
            axis.plot(
                [left, left + wide], [top, top + height], color=DEAD_COLOR, linewidth=2
            )
    return figure


def title(tower: TowerKernels, number: int, towers: int) -> str:
    """What stands above a tower's kernels: how many, color, frequency, and the dead ones."""
    name = f"Tower {number}" if towers > 1 else "conv1"
    dead = int(tower.dead.sum())
    crossed = f"; {dead} dead, crossed out" if dead else ""
    return (
        f"{name}: {len(tower.kernels)} kernels, {tower.color_share:.0%} of their energy is "
        f"color, mean frequency {tower.frequency:.2f} cycles per pixel{crossed}"
    )


def write_figure(network: TrainedNetwork, path: Path) -> None:
    """Writes `draw` as PNG or SVG, by the name's end.

    Raises:
      OSError: if it cannot be written.
    """
    write_drawing(draw(network), path, dpi=150)
