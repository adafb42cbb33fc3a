"""Sections of the page `explore` about chosen images: guesses, activations, neighbors."""

from collections.abc import Sequence

from alexnet_jax.trained.explore.explored import (
    ChosenImage,
    Compared,
    Explored,
    LayerActivations,
    SimilarImage,
)
from alexnet_jax.trained.explore.page_parts import (
    bar_row,
    image,
    percent,
    plural,
    section,
    shape_words,
    text,
)
from alexnet_jax.trained.explore.page_pictures import css_of, image_uri, map_uri

NAMED_UNITS = 3  # below a strip of units
SEEN_PIXELS, NEAR_PIXELS = 224, 112


def chosen_section(content: Explored) -> str:
    """Each chosen image as the network sees it, with its guesses and its activations."""
    chosen = content.chosen
    if not chosen:
        return section(
            "images",
            "No images to show",
            "<p>The dataset is not there, and no image was given. Name images with "
            "<code>--images=PATH</code>.</p>",
        )
    known = [one for one in chosen if one.true_class is not None]
    right = sum(one.guesses[0].name == one.true_class for one in known)
    heading = f"What it makes of {plural(len(chosen), 'image')}, layer by layer"
    score = ""
    if known:
        score = (
            f" {_score(right, len(known), len(chosen))} The name of that class is bold."
        )
    intro = (
        f"<p>{text(content.choice)} Each is shown as the network sees it, the center crop, "
        f"with the five most probable classes.{score}</p>"
    )
    reading = (
        "<p>Below each image: of every convolution the "
        "channels with the largest mean, strongest first, with their numbers. Within a "
        "layer all maps of an image have one scale: black is zero and white the largest "
        "value; where outputs can be negative, zero is gray. Of every dense layer the "
        "strongest units, as a strip of bars; negative ones are red.</p>"
    )
    unread = (
        f"<p>{plural(len(content.unread), 'given image')} could not be read: "
        f"{', '.join(text(name) for name, _ in content.unread)}.</p>"
        if content.unread
        else ""
    )
    cards = "\n".join(_card(one, is_first=one is chosen[0]) for one in chosen)
    return section(
        "images",
        heading,
        intro,
        unread,
        reading,
        f'<div class="cards">\n{cards}\n</div>',
    )


def _score(right: int, known: int, chosen: int) -> str:
    """How many of the images with a known class are taken for it, in a sentence."""
    taken = "All" if right == known else f"{right}"
    if known == chosen:
        return f"{taken} of them are taken for their own class."
    return f"{taken} of the {known} whose class is known are taken for it."


def _card(one: ChosenImage, *, is_first: bool) -> str:
    rows = [
        bar_row(
            text(guess.name),
            guess.probability,
            percent(guess.probability),
            css="wrong" if _is_wrong(one, k) else "",
            of_label="true" if guess.name == one.true_class else "",
        )
        for k, guess in enumerate(one.guesses)
    ]
    known = f"<b>{text(one.true_class)}</b><br>" if one.true_class is not None else ""
    layers = "\n".join(_layer(layer) for layer in one.layers)
    shown = image(image_uri(one.pixels, SEEN_PIXELS), one.name, css_of(one.pixels))
    return (
        f'<div class="card{" first" if is_first else ""}">\n<div class="seen"><figure>'
        f'{shown}<figcaption>{known}<span class="soft">{text(one.name)}</span></figcaption>'
        f'</figure>\n<div class="bars">{"".join(rows)}</div></div>\n'
        f"<details{' open' if is_first else ''}><summary>What each layer passes on"
        f'</summary>\n<div class="layers">\n{layers}\n</div></details></div>'
    )


def _is_wrong(one: ChosenImage, place: int) -> bool:
    """Whether this is the first guess, and is known to be wrong."""
    known = one.true_class is not None
    return place == 0 and known and one.guesses[0].name != one.true_class


def _layer(layer: LayerActivations) -> str:
    heading = (
        f"<h4>{text(layer.name)} <small>{shape_words(layer.shape)}"
        f"{'' if layer.labels else f', {layer.active:.0%} not zero'}</small></h4>\n"
    )
    return (
        f"<div>{heading}{_strip(layer) if layer.maps.ndim == 1 else _maps(layer)}</div>"
    )


def _maps(layer: LayerActivations) -> str:
    high = float(abs(layer.maps).max())
    low = -high if layer.lowest < 0 else 0.0
    figures = [
        f"<figure>{image(map_uri(one, low, high), f'channel {number}', 'pixels')}"
        f"<figcaption>{number}</figcaption></figure>"
        for number, one in zip(layer.numbers, layer.maps, strict=True)
    ]
    return f'<div class="maps">{"".join(figures)}</div>'


def _strip(layer: LayerActivations) -> str:
    high = max(float(abs(layer.maps).max()), 1e-12)
    names = layer.labels or [f"unit {number}" for number in layer.numbers]
    bars = "".join(
        f"<i{' class=minus' if value < 0 else ''} "
        f'style="height:{100 * abs(value) / high:.2f}%"></i>'
        for value in layer.maps.tolist()
    )
    strongest = [
        f"{text(name)} ({value:.2f})"
        for name, value in zip(names, layer.maps.tolist(), strict=True)
        if value
    ]
    kind = "Highest" if layer.labels else "Strongest"
    named = ", ".join(strongest[:NAMED_UNITS])
    note = f"{kind}: {named}" if named else "All are zero."
    return f'<div class="strip">{bars}</div><p class="note">{note}</p>'


def similar_section(chosen: Sequence[ChosenImage], compared: Compared) -> str:
    """Beside each chosen image the training images that are nearest to it."""
    known = [one for one in chosen if one.true_class is not None]
    near = [(one, each) for one in known for each in one.similar]
    same = sum(each.class_name == one.true_class for one, each in near)
    whose = (
        "training images"
        if compared.trained_on
        else f"images of the training split of {text(compared.dataset)}"
    )
    all_of_them = f"all {compared.available:,} {whose}"
    among = (
        all_of_them
        if compared.images == compared.available
        else f"{compared.images:,} of {all_of_them}, evenly spaced"
    )
    share = (
        f" {same:,} of the {len(near):,} shown have the class of the image that they are "
        "near to; the others are red."
        if near
        else ""
    )
    intro = (
        f"<p>Compared were {among}, exactly, by the Euclidean distance between what "
        f"{text(compared.layer)} passes on for their center crops, as in Figure 4 of the "
        f"paper. The distance stands below each image.{share}</p>"
    )
    rows = "\n".join(_near(one) for one in chosen)
    heading = f"The {whose} that {text(compared.layer)} finds most similar"
    return section("similar", heading, intro, rows)


def _near(one: ChosenImage) -> str:
    own = image(image_uri(one.pixels, NEAR_PIXELS), one.name, css_of(one.pixels))
    caption = text(one.true_class if one.true_class is not None else one.name)
    figures = "".join(_similar(one, each) for each in one.similar)
    return (
        f'<div class="near"><figure>{own}<figcaption><b>{caption}</b></figcaption></figure>'
        f"\n<div>{figures}</div></div>"
    )


def _similar(one: ChosenImage, each: SimilarImage) -> str:
    shown = image(image_uri(each.pixels, NEAR_PIXELS), each.name, css_of(each.pixels))
    differs = one.true_class is not None and each.class_name != one.true_class
    kind = ' class="bad"' if differs else ""
    return (
        f"<figure>{shown}<figcaption><span{kind}>{text(each.class_name)}</span><br>"
        f'<span class="soft">{each.distance:.3g}</span></figcaption></figure>'
    )
