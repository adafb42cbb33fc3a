"""The page about a network: complete, harmless, and readable on a phone."""

import base64
import dataclasses
import html
import io
import re
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest
from browser import measured

from alexnet_jax.trained.explore.exploration_page import page
from alexnet_jax.trained.explore.explored import (
    ChosenImage,
    ClassErrors,
    Compared,
    Explored,
    LayerActivations,
    LayerShape,
    MeasuredErrors,
    Mistake,
    ShownMistake,
    SimilarImage,
    TowerView,
    UnitShares,
)
from alexnet_jax.trained.explore.page_pictures import image_uri, map_uri
from alexnet_jax.trained.guesses import Guess

HOSTILE = '<script>alert("1")</script>'
CLASSES = (HOSTILE, "a_class_whose_name_is_long_and_has_no_space_at_all_in_it", "cat")
DRAWS = np.random.default_rng(0)


def photograph(side=80):
    return DRAWS.integers(0, 256, (side, side, 3), dtype=np.uint8)


def layers():
    maps = DRAWS.random((12, 13, 13)).astype(np.float32)
    units = np.sort(DRAWS.random(24))[::-1].astype(np.float32)
    logits = np.array([3.0, 0.5, -1.5], np.float32)
    return [
        LayerActivations("conv1", (13, 13, 96), tuple(range(12)), maps, 0.5, 0.0),
        LayerActivations("fc7", (4096,), tuple(range(24)), units, 0.25, 0.0),
        LayerActivations("fc8", (3,), (0, 1, 2), logits, 1.0, -1.5, CLASSES),
    ]


def chosen(true_class, first):
    guesses = [Guess(CLASSES[first], 0.625), Guess("cat", 0.25), Guess("b", 0.0003)]
    near = [
        SimilarImage(photograph(), name, f"{HOSTILE}.jpg", 1.5) for name in CLASSES * 2
    ]
    return ChosenImage(
        f"{HOSTILE}.jpg", photograph(), guesses, true_class, layers(), near
    )


@pytest.fixture(scope="module")
def content():
    mistake = Mistake(5, HOSTILE, CLASSES[1], 0.9, 0.05)
    confusion = np.array([[5, 2, 1], [0, 9, 1], [0, 0, 1234]])
    errors = MeasuredErrors(
        dataset="folder=photos",
        split="val",
        examples=1252,
        top1_wrong=4,
        top5_wrong=0,
        loss=0.1,
        by_class=[
            ClassErrors(HOSTILE, 8, 3, CLASSES[1]),
            ClassErrors(CLASSES[1], 10, 1, "cat"),
            ClassErrors("cat", 1234, 0, ""),
        ],
        class_names=CLASSES,
        confusion=confusion,
        mistakes=[ShownMistake(mistake, f"{HOSTILE}.jpg", photograph())] * 4,
        notes=(f"a note {HOSTILE}",),
    )
    kernels = DRAWS.random((48, 11, 11, 3))
    dead = np.arange(48) % 20 == 3
    return Explored(
        title=f"run {HOSTILE}",
        facts=[("Network", "AlexNet"), ("Trained on", f"folder={HOSTILE}")],
        parameters=60_965_224,
        num_classes=3,
        layers=[LayerShape("conv1", (55, 55, 96), 34_944), LayerShape("fc8", (3,), 9)],
        towers=[
            TowerView(kernels, dead, 0.1, 0.3),
            TowerView(kernels, dead & False, 0.8, 0.05),
        ],
        chosen=[chosen(HOSTILE, 0), chosen(HOSTILE, 1), chosen(None, 2)],
        choice="These images were given.",
        unread=[(f"{HOSTILE}.png", f"/secret/{HOSTILE}.png is damaged")],
        errors=errors,
        units=UnitShares("relu", {"conv1": 0.125, "fc7": 0.0}, 1024),
        compared=Compared("fc7", 10_000, 1_281_167, "folder=photos", True),
        warnings=[f"other data {HOSTILE}"],
    )


@pytest.fixture(scope="module")
def text(content):
    return page(content)


class Elements(HTMLParser):
    """Tags with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def of_section(text, anchor):
    return text[text.index(f'<section id="{anchor}">') :].partition("</section>")[0]


def widths(text):
    return [float(width) for width in re.findall(r"width:([\d.]+)%", text)]


def test_the_page_loads_nothing_and_runs_nothing(text):
    found = Elements(text).found
    assert not {"script", "link", "iframe", "object", "base"} & {
        tag for tag, _ in found
    }
    for _, attributes in found:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            value = attributes.get(name, "#")
            assert value.startswith(("data:image/", "#"))
            if value.startswith("#") and value != "#":
                assert f'id="{value[1:]}"' in text
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert policy in [attributes.get("content") for _, attributes in found]
    assert "url(" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_what_comes_from_data_is_text(text):
    assert "<script" not in text
    # Title, classes, notes, names of files and warnings: all of them are there.
    assert text.count("&lt;script&gt;") > 30
    assert "/secret/" not in text
    known = {"alt", "class", "content", "charset", "href", "http-equiv", "id", "lang"}
    known |= {"name", "open", "src", "style", "title"}
    assert {
        name for _, attributes in Elements(text).found for name in attributes
    } <= known


def test_every_image_can_be_decoded(text, content):
    sources = re.findall(r'src="data:image/(png|jpeg);base64,([^"]*)"', text)
    assert len(sources) == text.count("<img")
    for kind, data in sources:
        with PIL.Image.open(io.BytesIO(base64.b64decode(data))) as image:
            image.load()
            assert image.format.lower() == kind
    assert text.count("<img") == 2 * 48 + 3 * (1 + 12) + 4 + 3 * 7


def test_the_same_content_gives_the_same_bytes(content, text):
    assert page(content) == text


def test_bars_are_as_long_as_the_probabilities(text, content):
    shown = widths(of_section(text, "images"))
    expected = [
        100 * guess.probability for one in content.chosen for guess in one.guesses
    ]
    assert shown == pytest.approx(expected, abs=1e-3)
    heights = [float(each) for each in re.findall(r"height:([\d.]+)%", text)]
    strips = [
        100 * abs(layer.maps) / abs(layer.maps).max()
        for one in content.chosen
        for layer in one.layers
        if layer.maps.ndim == 1
    ]
    assert heights == pytest.approx(np.concatenate(strips).tolist(), abs=0.01)


def test_classes_have_their_numbers(text, content):
    section = of_section(text, "classes")
    expected = [100 * row.wrong / row.examples for row in content.errors.by_class]
    assert widths(section) == pytest.approx(expected, abs=1e-3)
    for said in ("3 of 8, 37.5%", "1 of 10, 10.0%", "0 of 1,234, 0.0%"):
        assert said in section
    assert widths(of_section(text, "units")) == [12.5, 0.0]


def test_the_confusion_matrix_has_every_count_in_its_place(text, content):
    rows = re.findall(r"<tr><th title.*?</tr>", of_section(text, "confusion"))
    counts = [re.findall(r"<td[^>]*>([\d,]*)</td>", row) for row in rows]
    assert counts == [
        [f"{count:,}" if count else "" for count in row]
        for row in content.errors.confusion.tolist()
    ]


def test_dead_kernels_are_marked(text):
    section = of_section(text, "kernels")
    cells = re.findall(r'<div class="kernel( dead)?"><img[^>]*alt="([^"]*)"', section)
    dead = [place for place, (marked, _) in enumerate(cells) if marked]
    assert dead == [3, 23, 43]
    assert [name for marked, name in cells if marked] == [
        f"kernel {k}, dead" for k in dead
    ]
    assert "96 kernels in 2 towers, 3 of them dead" in section
    of_towers = re.findall(r"<small[^>]*>([^<]*)</small></h3>", section)
    assert of_towers == [
        "10% color, 0.30 cycles per pixel",
        "80% color, 0.05 cycles per pixel",
    ]


def test_a_wrong_first_guess_is_red_where_the_class_is_known(text):
    section = of_section(text, "images")
    bars = re.findall(r'class="(bar[^"]*)" style', section)
    assert bars == ["bar"] * 3 + ["bar wrong", "bar", "bar"] + ["bar"] * 3
    assert "1 of the 2 whose class is known" in section


def test_many_classes_are_folded_and_have_no_matrix(content):
    rows = [ClassErrors(f"c{k}", 10, 9 - k // 100, "") for k in range(1000)]
    errors = dataclasses.replace(
        content.errors, by_class=rows, confusion=np.zeros((0, 0), int)
    )
    text = page(dataclasses.replace(content, errors=errors))
    assert 'id="confusion"' not in text
    assert "#confusion" not in text
    section = of_section(text, "classes")
    before, _, after = section.partition("<details>")
    assert (before.count('class="row"'), after.count('class="row"')) == (20, 980)
    assert len(text) < 3e6


def test_what_was_compared_is_stated(text, content):
    section = of_section(text, "similar")
    assert "10,000 of all 1,281,167 training images, evenly spaced" in section
    others = dataclasses.replace(content.compared, trained_on=False)
    said = of_section(page(dataclasses.replace(content, compared=others)), "similar")
    assert "images of the training split of <bdi>folder=photos</bdi>" in said
    assert "training images" not in said.replace("training split", "")


def test_a_page_without_data_has_what_takes_none(content):
    bare = dataclasses.replace(
        content, chosen=[], errors=None, units=None, compared=None, without_data="Gone"
    )
    text = page(bare)
    assert "Gone. Errors, mistakes" in text
    assert re.findall(r'<section id="(\w+)"', text) == ["network", "kernels", "images"]
    assert "No images to show" in text


def test_a_network_without_mistakes_or_dead_units(content):
    errors = dataclasses.replace(content.errors, mistakes=[], top1_wrong=0)
    units = UnitShares("gelu", {}, 10)
    text = page(dataclasses.replace(content, errors=errors, units=units))
    assert "It makes no mistake" in text
    assert "Dead units were not counted" in text


# --- Pictures ---------------------------------------------------------------------


def decoded(uri):
    return PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_few_colors_are_kept_exactly_and_photographs_become_jpeg():
    gray = np.repeat(DRAWS.integers(0, 256, (8, 8, 1), dtype=np.uint8), 3, axis=2)
    few = np.zeros((8, 8, 3), np.uint8)
    few[::2] = (10, 200, 30)
    for pixels, mode in ((gray, "L"), (few, "P")):
        image = decoded(image_uri(pixels))
        assert (image.format, image.mode) == ("PNG", mode)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels)
    large = decoded(image_uri(photograph(300), most=224))
    assert (large.format, large.size) == ("JPEG", (224, 224))


def test_a_map_is_gray_from_the_lowest_to_the_highest():
    values = np.array([[0.0, 0.5], [1.0, -1.0]])
    of_relu = np.asarray(decoded(map_uri(values, 0.0, 1.0)))
    assert of_relu.tolist() == [[0, 128], [255, 0]]
    of_tanh = np.asarray(decoded(map_uri(values, -1.0, 1.0)))
    assert of_tanh.tolist() == [[128, 191], [255, 0]]


# --- In a browser -----------------------------------------------------------------

# A frame is as wide as asked; the window of a headless browser has a smallest width.
MEASURE = """<!DOCTYPE html><meta charset="utf-8">
<iframe id="frame" style="width: {width}px; height: 844px; border: 0" srcdoc="{page}">
</iframe><pre id="found"></pre>
<script>
addEventListener("load", () => {{
  const page = document.getElementById("frame").contentDocument;
  const root = page.documentElement;
  page.querySelectorAll("details").forEach(one => one.open = true);
  const every = [...page.querySelectorAll("body *")];
  const box = one => one.getBoundingClientRect();
  const wide = every.filter(one => box(one).right > root.clientWidth + 0.5
    || one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display != "inline"
      && getComputedStyle(one).overflowX != "visible");
  // Leaves of the page: images, bars and whatever holds text of its own.
  const leaves = every.filter(one => one.matches("img, .track, .strip")
    || [...one.childNodes].some(node => node.nodeType == 3 && node.data.trim())
      && !one.matches("bdi, b, span span, summary, p *, style"));
  const overlapping = [];
  for (const [k, one] of leaves.entries()) {{
    const a = box(one);
    for (const other of leaves.slice(k + 1)) {{
      if (one.contains(other) || other.contains(one)) continue;
      const b = box(other);
      const inside = Math.min(Math.min(a.right, b.right) - Math.max(a.left, b.left),
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));
      if (inside > 1.5) overlapping.push(one.outerHTML.slice(0, 80) + " | "
        + other.outerHTML.slice(0, 80));
    }}
  }}
  document.getElementById("found").textContent = JSON.stringify({{
    width: root.clientWidth, scrolled: root.scrollWidth,
    wide: wide.map(one => one.outerHTML.slice(0, 90)), overlapping, leaves: leaves.length,
    images: page.images.length,
    broken: [...page.images].filter(one => !one.complete || !one.naturalWidth).length,
    small: [...page.images].filter(one => box(one).width < 16).length}});
}});
</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_nothing_overlaps_or_is_scrolled_sideways(text, tmp_path, width):
    framed = MEASURE.format(width=width, page=html.escape(text))
    found = measured(framed, tmp_path)
    assert found["wide"] == []
    assert found["overlapping"] == []
    assert found["leaves"] > 200
    assert (found["images"], found["broken"]) == (text.count("<img"), 0)
    assert found["small"] == 0
    # A vertical scroll bar may take some of the width.
    assert width - 20 <= found["width"] <= width
    assert found["scrolled"] <= found["width"]
