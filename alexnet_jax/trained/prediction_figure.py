"""Images with the classes that a network takes them for, in the manner of Figure 4."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from alexnet_jax.report.drawing import Drawing, write_drawing
from alexnet_jax.trained.guesses import Predicted

COLUMNS = 4
LONGEST_NAME = 26  # characters; longer ones are cut
BAR_COLOR, TRUE_COLOR = "#9db7d5", "#d6604d"


def draw(predicted: Sequence[Predicted]) -> Drawing:
    """The images in rows, each above the bars of its classes.

    The bar of the class that an image's folder names is red, as in Figure 4.
    """
    columns = min(COLUMNS, len(predicted))
    rows = -(-len(predicted) // columns)
    figure = Drawing(figsize=(2.1 * columns, 3.4 * rows), layout="constrained")
    grid = figure.subplots(
        2 * rows, columns, squeeze=False, height_ratios=[2, 1.3] * rows
    )
    for axis in grid.flat:
        axis.axis("off")
    for number, one in enumerate(predicted):
        row, column = divmod(number, columns)
        image, bars = grid[2 * row, column], grid[2 * row + 1, column]
        image.imshow(one.pixels)
        title = one.true_class or Path(one.name).name
        image.set_title(_shortened(title), fontsize=8)
        draw_bars(bars, one)
    return figure


def draw_bars(axis: Axes, one: Predicted) -> None:
    """The classes of one image, the best on top: a bar's length is the probability."""
    names = [guess.name for guess in one.guesses]
    places = list(range(len(names)))[::-1]
    colors = [TRUE_COLOR if name == one.true_class else BAR_COLOR for name in names]
    axis.barh(places, [guess.probability for guess in one.guesses], color=colors)
    for place, guess in zip(places, one.guesses, strict=True):
        label = f"{_shortened(guess.name)}  {guess.probability:.0%}"
        axis.text(0.02, place, label, va="center", fontsize=7)
    axis.set(xlim=(0, 1), ylim=(-0.6, len(names) - 0.4))


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def write_picture(predicted: Sequence[Predicted], path: Path) -> None:
    """Writes `draw` as PNG or SVG, by the name's end.

    Raises:
      OSError: if it cannot be written.
    """
    write_drawing(draw(predicted), path, dpi=110)
