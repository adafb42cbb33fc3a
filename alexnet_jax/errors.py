"""Errors that a user can fix: one message and no traceback."""

import difflib
import errno
import signal
from collections.abc import Iterable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)  # error numbers of an OSError


class UserError(Exception):
    """Bad input or an unusable environment.

    The message says what was wrong, where, and how to fix it. Commands print it without a
    traceback and exit with status 2.
    """


def nearest(name: str, choices: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the choice nearest to `name`, or "".

    Upper and lower case are alike.
    """
    folded = {choice.casefold(): choice for choice in choices}
    matches = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.65)
    return f" Did you mean '{folded[matches[0]]}'?" if matches else ""


def printable(text: str, longest: int = 80) -> str:
    """A name from a file of unknown origin as one line for a message."""
    escaped = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in text[: longest + 1]
    )
    return escaped if len(escaped) <= longest else f"{escaped[:longest]}..."


class Stopped(Exception):
    """A signal has stopped the command.

    What was running has been saved, except in a preflight, which keeps nothing.
    """

    def __init__(self, number: int, where: str) -> None:
        super().__init__(f"Stopped by {signal.Signals(number).name}, {where}.")
        self.number = number
