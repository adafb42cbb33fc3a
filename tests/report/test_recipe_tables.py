"""docs/recipes.md is what the recipes hold."""

import dataclasses
import re
from pathlib import Path

from alexnet_jax.config.recipes import CHOICES
from alexnet_jax.report import recipe_tables

DOCUMENT = Path(__file__).parents[2] / "docs/recipes.md"


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text() == recipe_tables.document(), (
        "out of date: python -m alexnet_jax.report.recipe_tables > docs/recipes.md"
    )


def test_a_row_for_every_choice_and_a_dash_where_it_has_no_effect():
    document = recipe_tables.document()
    rows = re.findall(r"^\| `(\S+)` \| (.*) \|$", document, re.MULTILINE)
    cells = {name: row.split(" | ") for name, row in rows if name in CHOICES}
    assert set(cells) == set(CHOICES)
    # Each row: the meaning, the four recipes, a note.
    assert cells["model.norm_k"][1:5] == ["2", "2", "1", "–"]
    assert cells["model.towers"][1:5] == ["2", "2", "2", "1"]
    assert cells["model.weight_stds"][1] == "0.01 in all layers"
    assert cells["data.channel_order"][1:5] == ["rgb", "rgb", "bgr", "rgb"]


def test_the_document_follows_the_choices(monkeypatch):
    choice = dataclasses.replace(CHOICES["model.norm_k"], caffe=3.0)
    monkeypatch.setitem(CHOICES, "model.norm_k", choice)
    assert DOCUMENT.read_text() != recipe_tables.document()
