"""Sections of the page `explore` about the network itself: facts, kernels, dead units."""

from alexnet_jax.trained.explore.explored import Explored, TowerView, UnitShares
from alexnet_jax.trained.explore.page_parts import (
    bar_row,
    image,
    percent,
    plural,
    section,
    shape_words,
    text,
)
from alexnet_jax.trained.explore.page_pictures import kernel_uri

COUNTED = {
    "relu": (
        "dead",
        "A unit is dead if its output is zero for every one of {images}; a unit of a "
        "convolution is a channel, which is dead if it is zero in every place of every "
        "image. A dead unit adds nothing, and learns nothing either.",
    ),
    "tanh": (
        "saturated",
        "An output of tanh is saturated if its absolute value is above 0.95, where the "
        "slope is below a tenth: it hardly learns. The shares are of all outputs for "
        "{images}.",
    ),
}


def network_section(content: Explored) -> str:
    """What the network is, as pairs, and its layers as a table."""
    pairs = "\n".join(
        f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in content.facts
    )
    errors = content.errors
    if errors is not None:
        top5 = f", top-5 {_share(errors.top5_wrong, errors.examples)}"
        pairs += (
            "\n<dt>Errors, measured for this page</dt><dd>"
            f"top-1 {_share(errors.top1_wrong, errors.examples)}"
            f"{top5 if content.num_classes > 5 else ''}, loss {errors.loss:.3f} nats; "
            f"{plural(errors.examples, 'image')} of the split “{text(errors.split)}” of "
            f"{text(errors.dataset)}, each once, center crop"
            f"{'. ' + text(errors.paper) if errors.paper else ''}</dd>"
        )
        pairs += "".join(
            f"\n<dt>Note</dt><dd>{text(note)}</dd>" for note in errors.notes
        )
    return section(
        "network", "What this network is", f"<dl>\n{pairs}\n</dl>", _layers(content)
    )


def _share(wrong: int, examples: int) -> str:
    return f"{wrong / examples:.1%} ({wrong:,})"


def _layers(content: Explored) -> str:
    rows = [
        f"<tr><td>{text(layer.name)}</td><td>{shape_words(layer.shape)}</td>"
        f'<td class="number">{layer.parameters:,}</td></tr>'
        for layer in content.layers
    ]
    return (
        "<h3>Its layers, and what each passes on</h3>\n"
        "<p>Height × width × channels of a convolution, after activation, normalization "
        "and pooling; units of a dense layer.</p>\n"
        '<table><thead><tr><th>layer</th><th>passes on</th><th class="number">parameters'
        "</th></tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table>"
    )


def kernel_section(content: Explored) -> str:
    """The kernels of the first layer, tower by tower; dead ones are crossed out."""
    towers = content.towers
    count = sum(len(tower.kernels) for tower in towers)
    dead = sum(int(tower.dead.sum()) for tower in towers)
    height, width = towers[0].kernels.shape[1:3]
    where = f" in {len(towers)} towers" if len(towers) > 1 else ""
    of_dead = f"{dead} of them dead" if dead else "none of them dead"
    intro = (
        f"<p>Each of the {count} kernels of {text(content.layers[0].name)} is a pattern of "
        f"{height} × {width} pixels: the layer responds where the image resembles it. Each "
        "is scaled by itself, so that it shows shape and color, not strength. "
        "“Color” is the share of a kernel's energy that is not gray, and the cycles per "
        "pixel are its mean frequency, 0 for an even patch and up to 0.5 for stripes of one "
        "pixel; in the paper one tower learned color and the other orientation and frequency."
    )
    if dead:
        intro += (
            " A kernel with hardly any weight, below a tenth of the median norm, is dead "
            'and <span class="bad">crossed out</span>.'
        )
    blocks = [_tower(*each, len(towers)) for each in enumerate(towers)]
    return section(
        "kernels",
        f"What its first layer looks for: {plural(count, 'kernel')}{where}, {of_dead}",
        intro + "</p>",
        '<div class="towers">\n' + "\n".join(blocks) + "\n</div>",
    )


def _tower(number: int, tower: TowerView, towers: int) -> str:
    name = f"Tower {number + 1}" if towers > 1 else "All kernels"
    first = number * len(tower.kernels)  # Towers are halves of the channels.
    cells = []
    for place, kernel in enumerate(tower.kernels):
        css, suffix = (" dead", ", dead") if tower.dead[place] else ("", "")
        shown = image(kernel_uri(kernel), f"kernel {first + place}{suffix}", "pixels")
        cells.append(f'<div class="kernel{css}">{shown}</div>')
    return (
        f"<div><h3>{name}: {plural(len(tower.kernels), 'kernel')} "
        f'<small class="soft">{tower.color_share:.0%} color, '
        f"{tower.frequency:.2f} cycles per pixel</small></h3>\n"
        f'<div class="kernels">{"".join(cells)}</div></div>'
    )


def unit_section(units: UnitShares) -> str:
    """By layer, the share of dead or saturated units."""
    images = plural(units.images, "image")
    if units.activation not in COUNTED:
        return section(
            "units",
            "Dead units were not counted",
            f"<p>For the activation {text(units.activation)} there is no usual meaning of "
            "dead or saturated.</p>",
        )
    kind, meaning = COUNTED[units.activation]
    noun = "units" if kind == "dead" else "outputs"
    worst = max(units.shares, key=lambda name: units.shares[name], default="")
    most = units.shares.get(worst, 0.0)
    heading = (
        f"{kind.capitalize()} {noun}: most in {text(worst)}, {percent(most)}"
        if most
        else f"No {kind} {noun}"
    )
    rows = [
        bar_row(text(name), share, percent(share))
        for name, share in units.shares.items()
    ]
    return section(
        "units",
        heading,
        f"<p>{meaning.format(images=images)}</p>",
        f'<div class="bars few">{"".join(rows)}</div>',
    )
