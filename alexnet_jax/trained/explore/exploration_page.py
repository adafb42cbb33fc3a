"""The page of the command `explore`: HTML that loads nothing, for phones and desktops."""

from collections.abc import Iterator

from alexnet_jax.trained.explore import page_errors, page_images, page_network
from alexnet_jax.trained.explore.explored import Explored
from alexnet_jax.trained.explore.page_parts import document, text

ANCHORS = {
    "network": "the network",
    "kernels": "kernels",
    "images": "images",
    "mistakes": "mistakes",
    "similar": "similar images",
    "classes": "classes",
    "confusion": "confusions",
    "units": "units",
}


def page(content: Explored) -> str:
    """The whole page; the same for the same content."""
    sections = list(_sections(content))
    whole = "\n".join(sections)
    links = "\n".join(
        f'<a href="#{anchor}">{name}</a>'
        for anchor, name in ANCHORS.items()
        if f'<section id="{anchor}">' in whole
    )
    header = f"<header>\n{_header(content)}\n<nav>\n{links}\n</nav>\n</header>"
    footer = (
        '<footer class="soft">Made by <code>python -m alexnet_jax explore</code>. This '
        "file is complete: it loads nothing from elsewhere.</footer>"
    )
    return document(f"Inside {content.title}", [header, *sections, footer])


def _sections(content: Explored) -> Iterator[str]:
    yield page_network.network_section(content)
    yield page_network.kernel_section(content)
    yield page_images.chosen_section(content)
    if content.errors is not None:
        yield page_errors.mistake_section(content.errors)
    if content.compared is not None and content.chosen:
        yield page_images.similar_section(content.chosen, content.compared)
    if content.errors is not None:
        yield page_errors.class_section(content.errors)
        yield page_errors.confusion_section(content.errors)
    if content.units is not None:
        yield page_network.unit_section(content.units)


def _header(content: Explored) -> str:
    """The title, what has to be known first, and four numbers."""
    facts = dict(content.facts)
    parts = [
        f"<h1>Inside {text(content.title)}</h1>",
        f'<p class="soft">{text(facts["Network"])}, trained on '
        f"{text(facts['Trained on'])}.</p>",
    ]
    warnings = list(content.warnings)
    if content.without_data:
        warnings.append(
            f"{content.without_data}. Errors, mistakes, similar images and dead units are "
            "therefore not shown; --dataset=DATASET names another place."
        )
    parts += [f'<div class="warning">{text(warning)}</div>' for warning in warnings]
    parts.append('<div class="tiles">' + "".join(_tiles(content)) + "</div>")
    return "\n".join(parts)


def _tiles(content: Explored) -> Iterator[str]:
    errors = content.errors
    if errors is not None:
        yield _tile(f"{errors.top1_wrong / errors.examples:.1%}", "top-1 error")
        yield _tile(f"{errors.examples:,}", "images it was measured on")
    else:
        yield _tile("–", "top-1 error, not measured")
        yield _tile(f"{len(content.layers)}", "layers")
    yield _tile(f"{content.parameters:,}", "parameters")
    yield _tile(f"{content.num_classes:,}", "classes")


def _tile(value: str, name: str) -> str:
    return f'<div class="tile"><b>{value}</b><span>{name}</span></div>'
