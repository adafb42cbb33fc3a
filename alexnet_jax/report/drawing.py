"""What the figures have in common: how arms look, the scale of errors, marks of epochs."""

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from alexnet_jax.files import atomic_file

# Arms differ in color and in line, so that they can be distinguished in print and by
# readers who are color-blind. The two numbers have no common factor: 56 arms differ.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#333333")
LINES: tuple[Any, ...] = (
    *("-", "--", "-.", ":"),
    *((0, dashes) for dashes in ((8, 2), (6, 2, 1, 2, 1, 2), (3, 3), (1, 4))),
)

# No arm has these.
MEASURED_COLOR = "#1a1a1a"
PAPER_COLOR = "#b2182b"

# Where curves end below it, a linear axis would draw them on top of each other.
SMALL_ERROR = 0.05


class Drawing(Figure):
    """A figure that a notebook shows at the end of a cell, with any backend.

    Attributes:
      colors: how many its PNG has there; fewer make a smaller notebook.
    """

    colors = 256

    def _repr_png_(self) -> bytes:
        return as_png(self, dpi=80, colors=self.colors)


def arm_styles(arms: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The color and the line of every arm, as keywords of `Axes.plot`."""
    return {
        arm: {"color": COLORS[i % len(COLORS)], "linestyle": LINES[i % len(LINES)]}
        for i, arm in enumerate(arms)
    }


def set_error_scale(axes: Axes, name: str, lowest: float) -> None:
    """The scale of a vertical axis of errors, and its label, which says so.

    Linear, or, where the lowest curve ends in a small error, logarithmic down to 1% (or
    0.1%) and linear from there to 0, for which a logarithmic axis has no place.

    Args:
      name: of the errors.
      lowest: the lowest of the values at which the curves end.
    """
    axes.set(ylabel=name, ylim=(0, 1))
    if lowest < SMALL_ERROR:
        linear_below = 0.01 if lowest >= 0.002 else 0.001
        axes.set_yscale("symlog", linthresh=linear_below, linscale=0.5)
        axes.set_ylabel(f"{name} (log scale, linear below {100 * linear_below:g}%)")
        ticks = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
        axes.set_yticks([0, *(tick for tick in ticks if tick >= linear_below)])
        axes.set_ylim(0, 1)
        axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda error, _: f"{100 * error:g}%")


def as_png(figure: Figure, dpi: int = 150, colors: int = 128) -> bytes:
    """A figure as PNG in few colors: with 128, a quarter of the bytes of all of them."""
    full, small = io.BytesIO(), io.BytesIO()
    with _boxes_for_letters():
        figure.savefig(full, format="png", dpi=dpi)
    with Image.open(full) as image:
        few = image.convert("RGB").quantize(colors, dither=Image.Dither.NONE)
    few.save(small, "PNG", optimize=True)
    return small.getvalue()


def as_svg(figure: Figure) -> bytes:
    """A figure as SVG, the same for the same content."""
    buffer = io.BytesIO()
    with _boxes_for_letters():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def write_drawing(figure: Figure, path: Path, dpi: int) -> None:
    """Writes a figure as SVG or, in 256 colors, as PNG, by the end of the file's name.

    Raises:
      OSError: if it cannot be written.
    """
    svg = path.suffix.lower() == ".svg"
    with atomic_file(path) as file:
        file.write(as_svg(figure) if svg else as_png(figure, dpi, colors=256))


@contextlib.contextmanager
def _boxes_for_letters() -> Iterator[None]:
    """Without a warning for each letter that the font lacks, as of a folder's name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def mark_crossing(
    axes: Axes, point: tuple[float, float], color: str, *, below: bool
) -> None:
    """A point where an arm reaches the threshold, with its epoch above or below it.

    The epoch stands to the right of the point, or to the left where it would leave the
    axes. All curves are drawn by then.
    """
    axes.plot(*point, "o", color=color, markeredgecolor="white", markersize=9, zorder=3)
    inside = point[0] < 0.85 * axes.get_xlim()[1]
    axes.annotate(
        f"{point[0]:.2f}",
        point,
        xytext=(6 if inside else -6, -18 if below else 8),
        textcoords="offset points",
        ha="left" if inside else "right",
        fontweight="bold",
        color=color,
        fontsize=10,
        bbox={"boxstyle": "round,pad=0.15", "color": "white", "alpha": 0.75},
    )
