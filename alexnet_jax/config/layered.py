"""The configuration object that a config file fills in: it records who set each field.

An `ml_collections.ConfigDict` in every respect, which also records for each field the layer
that set it last, one of `LAYERS`; a plain assignment is the file's.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from immutabledict import immutabledict
from ml_collections import ConfigDict

# In the order in which they override each other, the last one last.
LAYERS = (
    *("default", "recipe", "preset", "file", "network"),
    *("arm", "tuned", "command line"),
)


class LayeredConfig(ConfigDict):
    """A configuration, or a section of one, that records which layer set each field.

    `layers` maps the names of its own fields (not those of its sections) to layers.
    """

    layers: dict[str, str]

    def __init__(self, initial: Any = None, **options: Any) -> None:
        object.__setattr__(self, "layers", {})
        super().__init__(initial, **options)
        if isinstance(initial, LayeredConfig):
            self.layers.update(initial.layers)

    def __setitem__(self, key: str, value: Any) -> None:
        # A field keeps its type, and a NumPy number would change it or be refused.
        is_section = isinstance(value, (Mapping, ConfigDict))
        value = value if is_section else plain(value)
        if isinstance(value, bool) and isinstance(self.get(key), float):
            # ml_collections would take it for 1.0 or 0.0.
            raise TypeError(f"{key} = {value}: it takes a number.")
        super().__setitem__(key, value)
        self.layers[key] = "file"

    def set_by(self, layer: str, name: str, value: Any) -> None:
        """Sets the field of this dotted name on behalf of a layer."""
        *sections, last = name.split(".")
        holder = self
        for section in sections:
            holder = holder[section]
        holder[last] = value
        holder.layers[last] = layer

    def copy_and_resolve_references(self, visit_map: Any = None) -> "LayeredConfig":
        copy = super().copy_and_resolve_references(visit_map)
        copy.layers.update(self.layers)
        return copy

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.layers.update(state["layers"])


def plain(value: Any) -> Any:
    """Returns numbers of any library as Python's, sequences as tuples, mappings as dicts."""
    if hasattr(value, "__array__"):  # NumPy's and JAX's numbers and arrays
        return plain(np.asarray(value).tolist())
    if isinstance(value, (Fraction, Decimal)):
        return float(value)
    if isinstance(value, (Mapping, ConfigDict)):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(plain(each) for each in value)
    return value


def get_field(config: Mapping[str, Any] | ConfigDict, name: str) -> Any:
    """Returns the value of a dotted field name."""
    for part in name.split("."):
        config = config[part]
    return config


def layer_of(config: ConfigDict, name: str) -> str | None:
    """Returns the layer that set the field of a dotted name last.

    None if the field is in a plain ConfigDict, which does not record it.
    """
    section, _, field = name.rpartition(".")
    holder = config[section] if section else config
    return holder.layers[field] if isinstance(holder, LayeredConfig) else None


def flatten(values: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns nested mappings as one mapping of dotted names; tuples become lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in _leaves(values, "")
    }


def _leaves(
    values: Mapping[str, Any] | ConfigDict, prefix: str
) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, (Mapping, ConfigDict)):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a mapping of dotted names as nested dicts, {"a": {"b": 1}} of {"a.b": 1}."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, last = name.split(".")
        holder = nested
        for section in sections:
            holder = holder.setdefault(section, {})
        holder[last] = value
    return nested


def frozen(value: Any) -> Any:
    """Returns nested mappings and lists with immutable ones in their place."""
    if isinstance(value, (Mapping, ConfigDict)):
        return immutabledict({key: frozen(each) for key, each in value.items()})
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def mutable(value: Any) -> Any:
    """Returns nested mappings as dicts and lists as tuples, which JSON can hold."""
    if isinstance(value, Mapping):
        return {key: mutable(each) for key, each in value.items()}
    return tuple(map(mutable, value)) if isinstance(value, (list, tuple)) else value
