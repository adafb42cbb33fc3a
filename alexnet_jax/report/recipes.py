"""The four recipes beside each other, as docs/recipes.md holds them.

python -m alexnet_jax.report.recipes > docs/recipes.md
"""

from alexnet_jax.fields import FIELDS
from alexnet_jax.recipe import CHOICES, DEFAULT, RECIPES, Value, without_effect
from alexnet_jax.report.page import markdown

SECTIONS = {
    "model": "The network",
    "data": "Its input",
    "optimizer": "Its update rule",
    "training": "Its training",
}

HEADER = f"""\
# Which AlexNet

Four networks go by the name. `--config.recipe=NAME` takes one of them; `{DEFAULT}` is
taken where nothing is said. Any single choice can be set by itself, by
`--config.SECTION.FIELD=VALUE`, and a run records its recipe and what departs from it.

| recipe | what it is |
|---|---|
| `paper` | what the text of 2012 says; where it is silent, the reading noted below |
| `source2012` | network 145 of the code released in 2025, which made the published numbers |
| `caffe` | bvlc_alexnet of 2013 |
| `torchvision` | the one-tower network of "One weird trick" (2014), as PyTorch ships it |

A dash: the choice has no effect there. This page is made by
`python -m alexnet_jax.report.recipes > docs/recipes.md`; a test fails where it is stale.
"""

FOOTER = """\
## What the recipes leave out

| recipe | left out here | why |
|---|---|---|
| `source2012` | credit shared among equal logits | the lower class counts as the larger |
| `source2012` | one order of images for all epochs | each has its own, from the seed |
| `source2012` | a last, smaller batch in each epoch | epochs follow one another without a gap |
| `paper` | 32 x 32 places of a crop, as "2048 times" implies | 33 x 33, as 224 of 256 pixels have |
| `caffe` | its image resampler (OpenCV) | one resampler for all: bilinear, antialiased |
| `torchvision` | parts of random size in training | crops of 224 from 256, as the others |
| `torchvision` | adaptive mean pooling to 6 x 6 before fc6 | does nothing at 224 pixels |
"""


def document() -> str:
    """The whole page, in Markdown."""
    parts = [HEADER]
    for section, title in SECTIONS.items():
        rows = [["choice", "meaning", *RECIPES, "note"]]
        for name, choice in CHOICES.items():
            if name.startswith(f"{section}."):
                values = [_cell(name, recipe) for recipe in RECIPES]
                rows.append([f"`{name}`", FIELDS[name].meaning, *values, choice.note])
        parts.append(f"## {title}\n\n{markdown(rows)}\n")
    return "\n".join([*parts, FOOTER])


def _cell(name: str, recipe: str) -> str:
    values = {field: choice.of(recipe) for field, choice in CHOICES.items()}
    if name in without_effect(values):
        return "–"
    return _words(values[name])


def _words(value: Value) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case tuple():
            if len(value) > 3 and len(set(value)) == 1:
                return f"{value[0]:g} in all"
            return ", ".join(f"{element:g}" for element in value) or "()"
    return str(value)


if __name__ == "__main__":
    print(document(), end="")
