"""What goes wrong by the user's hand, said to the user: one message, no traceback."""

import difflib
import signal
from collections.abc import Iterable


class UserError(Exception):
    """Bad input or a bad surrounding: says what was wrong, where, and how to mend it.

    Commands print the message alone and leave with exit status 2.
    """


def nearest(name: str, choices: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the choice nearest to `name`, or ""."""
    matches = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""


class Stopped(Exception):
    """A signal asked to stop, and what was under way has been saved."""

    def __init__(self, number: int, where: str) -> None:
        super().__init__(f"Stopped by {signal.Signals(number).name}, {where}.")
        self.number = number
