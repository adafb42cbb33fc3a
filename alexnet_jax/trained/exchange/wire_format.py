"""The wire format of protocol buffers: the fields of a message, with their bounds checked.

Nothing is built from a schema, and nothing is run. A file of many small fields is refused,
because each costs more time and memory than it has bytes.
"""

from typing import NamedTuple

import numpy as np

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
MOST_FIELDS = 20_000  # in a file; bvlc_alexnet's has under a thousand


class Malformed(ValueError):
    """The bytes are no such message."""


class WireField(NamedTuple):
    """A field of a message: its number, its wire type, and an integer or the bytes."""

    number: int
    kind: int
    value: int | memoryview

    @property
    def integer(self) -> int:
        """The value of a varint."""
        if not isinstance(self.value, int):
            raise Malformed(f"field {self.number} is no integer")
        return self.value

    @property
    def message(self) -> memoryview:
        """The bytes of a message, a text or packed numbers."""
        if not isinstance(self.value, memoryview) or self.kind != BYTES:
            raise Malformed(f"field {self.number} is no message")
        return self.value

    @property
    def text(self) -> str:
        try:
            return bytes(self.message).decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"field {self.number} is no text") from error

    @property
    def real(self) -> float:
        """The value of a float."""
        if not isinstance(self.value, memoryview) or self.kind != FOUR_BYTES:
            raise Malformed(f"field {self.number} is no number")
        return float(np.frombuffer(self.value, "<f4")[0])


class WireReader:
    """Reads the messages of one file."""

    def __init__(self) -> None:
        self.fields_read = 0

    def fields(self, message: memoryview) -> list[WireField]:
        """The fields of a message, in order.

        Raises:
          Malformed: if a field reaches beyond the message or is of an unknown type, or if
            the file has too many.
        """
        found: list[WireField] = []
        place = 0
        while place < len(message):
            self.fields_read += 1
            if self.fields_read > MOST_FIELDS:
                raise Malformed(f"it has more than {MOST_FIELDS:,} fields")
            tag, place = varint(message, place)
            number, kind = tag >> 3, tag & 7
            if number == 0:
                raise Malformed("a field has number 0")
            if kind == VARINT:
                value, place = varint(message, place)
                found.append(WireField(number, kind, value))
                continue
            if kind == BYTES:
                length, place = varint(message, place)
            elif kind in (FOUR_BYTES, EIGHT_BYTES):
                length = 4 if kind == FOUR_BYTES else 8
            else:
                raise Malformed(f"a field is of the unknown type {kind}")
            if length > len(message) - place:
                raise Malformed("a field reaches beyond its message")
            found.append(WireField(number, kind, message[place : place + length]))
            place += length
        return found


def varint(message: memoryview, place: int) -> tuple[int, int]:
    """The integer at `place`, and the place after it.

    Raises:
      Malformed: if there is none.
    """
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise Malformed("it ends within a number")
        byte = message[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
    raise Malformed("a number has more than ten bytes")
