"""Sections of the page `explore` about errors: mistakes, classes, confusions."""

from collections.abc import Sequence

from alexnet_jax.trained.explore.explored import (
    ClassErrors,
    MeasuredErrors,
    ShownMistake,
)
from alexnet_jax.trained.explore.page_parts import (
    bar_row,
    image,
    percent,
    plain_text,
    plural,
    section,
    text,
)
from alexnet_jax.trained.explore.page_pictures import css_of, image_uri

MISTAKE_PIXELS = 160
CLASSES_SHOWN = 40  # of more, the worst are shown and the others folded
WORST_SHOWN = 20
CONFUSIONS_NAMED = 6
SHORT_NAME = 2  # characters: names that fit above a column
LONGEST_NAME = 16  # characters beside a row of the matrix
WIDE = 10  # classes: the counts of more do not fit on a phone


def mistake_section(errors: MeasuredErrors) -> str:
    """The most confident mistakes, with both probabilities."""
    images = f"{plural(errors.examples, 'image')} of the split “{text(errors.split)}”"
    if not errors.mistakes:
        return section(
            "mistakes", "It makes no mistake", f"<p>All {images} are right.</p>"
        )
    shown, wrong = len(errors.mistakes), errors.top1_wrong
    heading = (
        f"Its {plural(wrong, 'mistake')}, the most confident first"
        if shown == wrong
        else f"The {shown} most confident of its {wrong:,} mistakes"
    )
    intro = (
        f"<p>Of {images}, {wrong:,} {'is' if wrong == 1 else 'are'} taken for another "
        "class. Those shown are ordered by the probability of the wrong answer: an image "
        "whose label is doubtful often stands first. Of the pass over all images only "
        "counts, their classes and these mistakes were kept.</p>"
    )
    figures = "\n".join(_mistake(one) for one in errors.mistakes)
    return section(
        "mistakes",
        heading,
        intro,
        f'<div class="mistakes">\n{figures}\n</div>',
    )


def _mistake(one: ShownMistake) -> str:
    found = one.mistake
    shown = image(image_uri(one.pixels, MISTAKE_PIXELS), one.name, css_of(one.pixels))
    return (
        f'<figure>{shown}<figcaption><span class="bad">taken for '
        f"<b>{text(found.taken_for)}</b>, {percent(found.probability)}</span><br>is "
        f"<b>{text(found.true_class)}</b>, {percent(found.true_probability)}<br>"
        f'<span class="soft">{text(one.name)}</span></figcaption></figure>'
    )


def class_section(errors: MeasuredErrors) -> str:
    """The top-1 errors of each class as bars, the worst class first."""
    rows = errors.by_class
    worst = rows[0]
    heading = (
        f"Which classes are hard: most often wrong is {text(worst.name)}, "
        f"{worst.wrong / worst.examples:.1%}"
        if worst.wrong
        else "No class is hard: none has an error"
    )
    first = rows if len(rows) <= CLASSES_SHOWN else rows[:WORST_SHOWN]
    rest = rows[len(first) :]
    parts = [
        "<p>Top-1 errors of each class: wrong images of all its images. A full bar is all "
        "of them.</p>",
        _class_rows(first),
    ]
    if rest:
        parts.append(
            f"<details><summary>The other {len(rest):,} classes</summary>\n"
            f"{_class_rows(rest)}</details>"
        )
    return section("classes", heading, *parts)


def _class_rows(rows: Sequence[ClassErrors]) -> str:
    lines = [
        bar_row(
            text(row.name),
            row.wrong / row.examples,
            f"{row.wrong:,} of {row.examples:,}, {row.wrong / row.examples:.1%}",
            css="wrong",
        )
        for row in rows
    ]
    return '<div class="classes">\n' + "\n".join(lines) + "\n</div>"


def confusion_section(errors: MeasuredErrors) -> str:
    """The confusion matrix of a few classes; empty where there are more."""
    counts, names = errors.confusion, list(errors.class_names)
    if not counts.size:
        return ""
    pairs = sorted(
        (-int(counts[k, j]), k, j)
        for k in range(len(names))
        for j in range(len(names))
        if k != j and counts[k, j]
    )
    named = "; ".join(
        f"{text(names[k])} for {text(names[j])} ({-minus:,}×)"
        for minus, k, j in pairs[:CONFUSIONS_NAMED]
    )
    short = all(len(name) <= SHORT_NAME for name in names)
    numbers = "" if short else " The columns are numbered as the rows."
    intro = (
        f"<p>{f'Most often taken: {named}. ' if named else ''}Rows are the classes of the "
        "images, columns the network's first guesses; on the diagonal it is right."
        f"{numbers}</p>"
    )
    return section(
        "confusion", "Which classes are taken for which", intro, _matrix(errors, short)
    )


def _matrix(errors: MeasuredErrors, short: bool) -> str:
    counts, names = errors.confusion, errors.class_names
    columns = [
        text(name) if short else str(number) for number, name in enumerate(names, 1)
    ]
    head = "".join(f"<th>{column}</th>" for column in columns)
    lines = [f"<thead><tr><th></th>{head}</tr></thead>", "<tbody>"]
    for k, name in enumerate(names):
        total = max(int(counts[k].sum()), 1)
        label = text(name) if short else f"{k + 1} {text(_shortened(name))}"
        cells = "".join(
            _cell(int(count), int(count) / total, k == j)
            for j, count in enumerate(counts[k])
        )
        lines.append(f'<tr><th title="{plain_text(name)}">{label}</th>{cells}</tr>')
    kind = "confusion"
    kind += " wide" if len(names) > WIDE else ""
    kind += " short" if short else ""
    return f'<table class="{kind}">' + "\n".join([*lines, "</tbody></table>"])


def _cell(count: int, share: float, is_right: bool) -> str:
    """A count, shaded by its share of the row."""
    if not count:
        return "<td></td>"
    color = "--shade" if is_right else "--wrong"
    strength = 0.15 + 0.55 * share
    return f'<td style="background:rgba(var({color}),{strength:.3f})">{count:,}</td>'


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
