"""Values of an arm that the command line gives, to this arm and to no other."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from alexnet_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class FromCommandLine:
    """In an arm, the value that `--config.FIELD=VALUE` gives to this arm alone.

    The other arms must set the field themselves: what it is in them does not change.

    Attributes:
      default: its value without that flag; None: the flag must be given, and not be empty.
      what: what to give, for the message that asks for it.
      gives_form: whether the value is a trained network, whose form (`network_form.py`)
        all arms have, in what the command line does not set.
    """

    default: Any = None
    what: str = "a value"
    gives_form: bool = False


def with_given(
    arms: Mapping[str, Any], values: Mapping[str, Any], overrides: Collection[str]
) -> tuple[dict[str, Any], set[tuple[str, str]]]:
    """The arms with plain values, and the (arm, field) that the command line gives.

    Args:
      arms: what each arm changes, by dotted name.
      values: every field's value, with the overrides.
      overrides: the fields that the command line sets.

    Raises:
      UserError: if a value must be given and is not, or an arm leaves such a field open.
    """
    found, given = {}, set()
    for arm, changes in arms.items():
        if not isinstance(changes, Mapping):
            found[arm] = changes  # refused where arms are checked
            continue
        plain = dict(changes)
        for name, value in changes.items():
            if not isinstance(value, FromCommandLine):
                continue
            _check_set_elsewhere(name, arms)
            if name in overrides:
                plain[name] = values[name]
                given.add((arm, name))
            else:
                plain[name] = value.default
            if value.default is None and plain[name] in (None, ""):
                raise UserError(
                    f"Arm '{arm}' needs --config.{name}=...: give {value.what}."
                    + (" The flag is empty." if name in overrides else "")
                )
        found[arm] = plain
    return found, given


def networks_in(arms: Mapping[str, Any]) -> list[str]:
    """The fields whose values are trained networks that give all arms their form."""
    return [
        name
        for changes in arms.values()
        if isinstance(changes, Mapping)
        for name, value in changes.items()
        if isinstance(value, FromCommandLine) and value.gives_form
    ]


def _check_set_elsewhere(name: str, arms: Mapping[str, Any]) -> None:
    for arm, changes in arms.items():
        if name not in changes:
            raise UserError(
                f"The command line gives '{name}' to one arm alone: arm '{arm}' must set "
                "it too."
            )
