"""The frame of a page about a trained network, and its recurring parts.

Whatever comes from data passes `text`, which makes it harmless and isolates it from the
direction of writing around it.
"""

import html
from collections.abc import Iterable, Sequence

from alexnet_jax.trained.explore.page_style import STYLE

# The policy allows neither scripts nor anything from elsewhere.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def text(value: object) -> str:
    """Anything as text in HTML, in whatever direction it is written."""
    return f"<bdi>{plain_text(value)}</bdi>"


def plain_text(value: object) -> str:
    """Anything as the value of an attribute."""
    return html.escape(str(value))


def document(title: str, body: Iterable[str]) -> str:
    """The whole page."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{plain_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def section(anchor: str, heading: str, *parts: str) -> str:
    """A section; its heading and parts are HTML."""
    inner = "\n".join(part for part in parts if part)
    return f'<section id="{anchor}">\n<h2>{heading}</h2>\n{inner}\n</section>'


def image(uri: str, description: object, css: str = "") -> str:
    """An image; what it shows is text."""
    kind = f' class="{css}"' if css else ""
    return f'<img{kind} alt="{plain_text(description)}" src="{uri}">'


def bar_row(
    label: str, share: float, value: str, *, css: str = "", of_label: str = ""
) -> str:
    """A label, a bar whose length is `share` of its track, and a value; HTML.

    Args:
      css: a further class of the bar.
      of_label: the class of the label.
    """
    kind = f"bar {css}".strip()
    width = f"width:{100 * min(max(share, 0.0), 1.0):.3f}%"
    named = f' class="{of_label}"' if of_label else ""
    return (
        f'<div class="row"><span{named}>{label}</span>'
        f'<div class="track"><div class="{kind}" style="{width}"></div></div>'
        f"<span>{value}</span></div>"
    )


def percent(share: float) -> str:
    """A probability in words: never 100% or 0% unless it is."""
    if 0 < share < 0.0005:
        return "&lt;0.1%"
    if 0.9995 <= share < 1:
        return "&gt;99.9%"
    return f"{share:.1%}"


def shape_words(shape: Sequence[int]) -> str:
    """For example "27 × 27 × 96"."""
    return " × ".join(f"{n:,}" for n in shape)


def plural(count: int, noun: str) -> str:
    """For example "1 image", "12 images"; "class" and "guess" are not among the nouns."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
