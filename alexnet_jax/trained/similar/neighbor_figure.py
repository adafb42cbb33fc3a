"""Images beside the training images nearest to them, in the manner of Figure 4, right."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from alexnet_jax.report.drawing import Drawing, write_drawing
from alexnet_jax.trained.similar.neighbor_list import WithNeighbors

MOST_COLUMNS = 12  # neighbors of a row
LONGEST_NAME = 20  # characters; longer ones are cut
CLASS_COLOR = "#0072b2"  # of the frame around a neighbor of the query's class


def draw(
    found: Sequence[WithNeighbors], pixels_of: Callable[[int], np.ndarray]
) -> Drawing:
    """A row for each query: its image on the left, then its neighbors, nearest first.

    Args:
      found: at least one.
      pixels_of: the pixels of a training image by its number, (side, side, 3).
    """
    columns = min(MOST_COLUMNS, max(len(one.neighbors) for one in found))
    framed = any(one.is_of_its_class(each) for one in found for each in one.neighbors)
    copies = any(each.same_image for one in found for each in one.neighbors)
    same = "; =: the same image" if copies else ""
    rows, top = len(found), 0.45 if framed else 0.25
    height = 1.75 * rows + top
    figure = Drawing(figsize=(1.5 * (columns + 1) + 0.4, height))
    grid = figure.subplots(
        rows, columns + 2, squeeze=False, width_ratios=[1, 0.15, *[1] * columns]
    )
    side = 0.1 / figure.get_figwidth()
    figure.subplots_adjust(
        left=side,
        right=1 - side,
        bottom=0.1 / height,
        top=1 - top / height,
        wspace=0.1,
        hspace=0.25,
    )
    for axis in grid.flat:
        axis.set(xticks=[], yticks=[])
        axis.axis("off")
    for of_query, one in zip(grid, found, strict=True):
        show(of_query[0], one.pixels, one.true_class or Path(one.name).name)
        for axis, each in zip(of_query[2:], one.neighbors, strict=False):
            color = CLASS_COLOR if one.is_of_its_class(each) else None
            name = f"= {each.class_name}" if each.same_image else each.class_name
            show(axis, pixels_of(each.index), name, color)
    if framed:
        figure.text(
            0.5,
            1 - 0.08 / height,
            f"left: the image; framed: training images of its class{same}",
            ha="center",
            va="top",
            fontsize=8,
            color=CLASS_COLOR,
        )
    return figure


def show(axis: Axes, pixels: np.ndarray, title: str, frame: str | None = None) -> None:
    """An image below its title, in a frame if that has a color."""
    axis.axis("on")
    axis.imshow(pixels)
    shown = title if len(title) <= LONGEST_NAME else f"{title[: LONGEST_NAME - 1]}…"
    axis.set_title(shown, fontsize=8, pad=3, color=frame or "black")
    for spine in axis.spines.values():
        spine.set(visible=frame is not None, color=frame or "none", linewidth=2.5)


def write_neighbors(
    found: Sequence[WithNeighbors], pixels_of: Callable[[int], np.ndarray], path: Path
) -> None:
    """Writes `draw` as PNG or SVG, by the name's end.

    Raises:
      OSError: if it cannot be written.
    """
    write_drawing(draw(found, pixels_of), path, dpi=110)
