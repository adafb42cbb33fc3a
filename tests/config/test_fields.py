"""Every field once: its own rules accept its default, its old name, and its use."""

import ast
import re
from pathlib import Path

from alexnet_jax.config import validate
from alexnet_jax.config.fields import (
    EVALUATION_FIELDS,
    EXPERIMENT_FIELDS,
    FIELDS,
    NEUTRAL_FIELDS,
    OPERATIONAL_FIELDS,
    TRACED_FIELDS,
)
from alexnet_jax.config.layer_rates import LENGTHS

PACKAGE = Path(__file__).parents[2] / "alexnet_jax"

# Modules that declare and check fields: a name in them is not a use.
DECLARATIONS = (
    "fields.py",
    *(f"{section}_fields.py" for section in ("model", "data", "optimizer", "training")),
    "old_names.py",
    "recipes.py",
    "presets.py",
    "validate.py",
)


def test_the_defaults_are_valid():
    validate.values({name: field.default for name, field in FIELDS.items()})


def test_groups_of_fields_name_fields():
    for group in (
        TRACED_FIELDS,
        EVALUATION_FIELDS,
        EXPERIMENT_FIELDS,
        NEUTRAL_FIELDS,
        OPERATIONAL_FIELDS,
        [f"model.{name}" for lengths in LENGTHS.values() for name in lengths],
    ):
        assert set(group) <= set(FIELDS)


def names_used():
    """Attributes, parameters and quoted names in the modules that put values to use."""
    used = set()
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "config" and path.name in DECLARATIONS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.arg):
                used.add(node.arg)
            elif isinstance(node, ast.Constant):
                used.add(node.value)
    return used


def test_a_field_from_after_the_paper_names_its_own_paper():
    unnamed = [
        name
        for name, field in FIELDS.items()
        if field.later and not re.search(r"\b(19|20)\d\d\)", field.meaning)
    ]
    assert not unnamed


def test_every_field_is_read_somewhere():
    used = names_used()
    assert "optim_dtype" not in used
    unread = {n for n in FIELDS if n not in used and n.rpartition(".")[2] not in used}
    assert not unread
