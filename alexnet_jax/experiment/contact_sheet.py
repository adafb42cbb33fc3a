"""The contact sheet of what the network sees: training images before and after augmentation.

The images are read, cropped, reflected and colored by the functions that training uses.
"""

import importlib.util
import io
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import FrozenConfigDict
from PIL import Image, ImageDraw, ImageFont

from alexnet_jax.files import atomic_file
from alexnet_jax.training.seen_images import SeenImages, seen_images
from alexnet_jax.training.trial import TrialSpec

NAME = "contact_sheet.png"
COLUMNS, MAX_ROWS = 8, 4  # images, and ways to augment them
TILE, GAP, MARGIN, LINE = 112, 8, 16, 16  # pixels
NAME_LINES = 2  # of a class name, at most
NO_LETTER = "\uffff"  # drawn as letters are that a font lacks
INK, FAINT, FRAME = "black", "dimgray", "magenta"

# Fields of the section data on which a training image does not depend before it is mixed
# with another.
OTHER_FIELDS = ("eval_crops", "prepared_dir", "lighting_off_epoch", "mixup", "cutmix")


class ImageRow(NamedTuple):
    """Training images of the trials that see the same ones.

    Attributes:
      arms: the names of the trials' arms.
      images: before and after.
      classes: the name of each image's class.
    """

    arms: tuple[str, ...]
    images: SeenImages
    classes: tuple[str, ...]


def write(
    folder: Path,
    title: str,
    settings_of: Sequence[tuple[str, FrozenConfigDict]],
    data_of: Callable[[FrozenConfigDict], Any],
) -> None:
    """Writes `NAME` into `folder`, unless it is there.

    Args:
      folder: an existing folder.
      title: the first line of the contact sheet.
      settings_of: the names of arms, and all settings of a trial of each.
      data_of: from a trial's settings of the section data to its data; None leaves the
        trial out.

    Raises:
      UserError: if an image cannot be read.
    """
    if (folder / NAME).exists():
        return
    found = list(rows(settings_of, data_of))
    if not found:
        return
    sheet = draw(title, found)
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    with atomic_file(folder / NAME) as file:
        file.write(encoded.getvalue())


def rows(
    settings_of: Sequence[tuple[str, FrozenConfigDict]],
    data_of: Callable[[FrozenConfigDict], Any],
) -> Iterator[ImageRow]:
    """The first `MAX_ROWS` different ways in which trials see their first images."""
    found: dict[str, dict[str, FrozenConfigDict]] = {}
    for arm, settings in settings_of:
        section = settings.data.to_dict()
        key = {name: section[name] for name in section if name not in OTHER_FIELDS}
        found.setdefault(repr(key), {}).setdefault(arm, settings)
    for alike in list(found.values())[:MAX_ROWS]:
        settings = next(iter(alike.values()))
        data = data_of(settings.data)
        if data is not None:
            spec = TrialSpec.of(settings, data)
            images = seen_images(spec.augmentation, spec.steps.form, data, COLUMNS)
            names = data.source.class_names
            classes = tuple(names[label] for label in images.batch["label"])
            yield ImageRow(tuple(alike), images, classes)


# --- The drawing ------------------------------------------------------------------


def draw(title: str, of_rows: Sequence[ImageRow]) -> Image.Image:
    """The contact sheet: the images of each row before and after, under class names."""
    font = _font()
    title = " ".join(
        title.split()
    )  # A path may have line breaks, which no font measures.
    step = TILE + GAP
    names = [
        [
            _lines(caption_of(name, int(label), font), font)
            for name, label in zip(one.classes, one.images.batch["label"], strict=True)
        ]
        for one in of_rows
    ]
    name_lines = max(len(lines) for of_row in names for lines in of_row)
    height_of_row = (name_lines + 3) * LINE + 2 * step
    width = 2 * MARGIN + COLUMNS * step - GAP
    height = 2 * MARGIN + LINE + len(of_rows) * height_of_row
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), _cut(title, width - 2 * MARGIN, font), INK, font)
    y = MARGIN + LINE
    for one, of_row in zip(of_rows, names, strict=True):
        captions = _captions(one, with_arms=len(of_rows) > 1)
        before, after = (_cut(text, width - 2 * MARGIN, font) for text in captions)
        pen.text((MARGIN, y + GAP / 2), before, FAINT, font)
        top = y + LINE + GAP + name_lines * LINE
        pen.text((MARGIN, top + step - GAP / 2), after, FAINT, font)
        for i, lines in enumerate(of_row):
            x = MARGIN + i * step
            for number, line in enumerate(lines):
                place = (x, top - (len(lines) - number) * LINE)
                pen.text(place, line, INK, font)
            sheet.paste(_tile(one.images.whole[i]), (x, top))
            pen.rectangle(_crop_frame(one, i, x, top), outline=FRAME)
            sheet.paste(_tile(one.images.seen[i]), (x, top + step + LINE))
            if one.images.batch["mirrored"][i]:
                pen.text((x, top + 2 * step + LINE - GAP), "reflected", FAINT, font)
        y += height_of_row
    return sheet


def _captions(one: ImageRow, *, with_arms: bool) -> tuple[str, str]:
    """What stands above the images before, and above those after."""
    size, crop = one.images.whole.shape[1], one.images.seen.shape[1]
    arms = f" ({', '.join(one.arms)})" if with_arms else ""
    shown = " BGR is shown as RGB." if one.images.form.channel_order == "bgr" else ""
    return (
        f"Training images, {size}x{size} pixels, and the frame of their crop{arms}:",
        f"What the network sees, {crop}x{crop} pixels, the mean added back:{shown}",
    )


def _tile(pixels: np.ndarray) -> Image.Image:
    enlarged = len(pixels) < TILE
    how = Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX
    return Image.fromarray(pixels).resize((TILE, TILE), how)


def _crop_frame(one: ImageRow, i: int, x: int, y: int) -> list[float]:
    scale = TILE / one.images.whole.shape[1]
    top, left, height, width = (scale * number for number in one.images.place_of(i))
    return [x + left, y + top, x + left + width - 1, y + top + height - 1]


def caption_of(
    name: str, label: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """A class's name; its label where the font lacks a letter, such as a Chinese one."""
    drawn = {bytes(font.getmask(letter)) for letter in name if not letter.isspace()}
    return f"class {label}" if bytes(font.getmask(NO_LETTER)) in drawn else name


def _lines(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """A class name in at most `NAME_LINES` lines of the width of an image."""
    letters = max(1, int(TILE / font.getlength("n")))
    found = textwrap.wrap(name, letters, max_lines=NAME_LINES, placeholder=" ...")
    return [_cut(line, TILE, font) for line in found]


def _cut(
    text: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """The text, shortened to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which has more scripts than Pillow's own; from Matplotlib, not imported."""
    found = importlib.util.find_spec("matplotlib")
    for place in (found.submodule_search_locations or ()) if found else ():
        path = Path(place) / "mpl-data/fonts/ttf/DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), 12)
    return ImageFont.load_default()
