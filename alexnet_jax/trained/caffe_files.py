"""Reads the weights of a .caffemodel and the mean image of a .binaryproto.

Both are messages in the wire format of protocol buffers. Only the few fields that hold arrays
are read, with their bounds checked; nothing is built from a schema, and nothing is run.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alexnet_jax.errors import UserError

MOST_BYTES = 2**31  # of a file: AlexNet has a quarter of a gigabyte
MOST_BLOBS = 10_000  # layers and arrays in a file

# Fields of caffe.proto: of NetParameter, of a layer in its old and new form, of BlobProto.
OLD_LAYERS, LAYERS = 2, 100
OLD_LAYER_NAME, OLD_LAYER_BLOBS = 4, 6
LAYER_NAME, LAYER_BLOBS = 1, 7
LEGACY_SHAPE, DATA, DOUBLE_DATA, SHAPE, SHAPE_DIM = (1, 2, 3, 4), 5, 8, 7, 1

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5


class Malformed(ValueError):
    """The bytes are no such message."""


class WireField(NamedTuple):
    """A field of a message: its number, its wire type, and an integer or the bytes."""

    number: int
    kind: int
    value: int | memoryview


def read_caffemodel(path: Path) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer that has any, by the layer's name: weights, then biases.

    Raises:
      UserError: if the file cannot be read, or is not a .caffemodel.
    """
    message = _content(path)
    try:
        found: dict[str, list[np.ndarray]] = {}
        count = 0
        for field in fields(message):
            if field.number not in (OLD_LAYERS, LAYERS):
                continue
            old = field.number == OLD_LAYERS
            name, blobs = _layer(field, old)
            count += 1 + len(blobs)
            if count > MOST_BLOBS:
                raise Malformed(f"it has more than {MOST_BLOBS:,} layers and arrays")
            if blobs:
                found[name] = blobs
    except (Malformed, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a .caffemodel, or damaged: {error}.") from error
    if not found:
        raise UserError(f"{path} holds no layer with weights: is it a .caffemodel?")
    return found


def read_binaryproto(path: Path) -> np.ndarray:
    """The array of a .binaryproto without leading axes of length 1: (3, height, width).

    Raises:
      UserError: if the file cannot be read, or is not a .binaryproto of three channels.
    """
    message = _content(path)
    try:
        array = _blob(message)
    except Malformed as error:
        raise UserError(
            f"{path} is not a .binaryproto, or damaged: {error}."
        ) from error
    while array.ndim > 3 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or len(array) != 3:
        raise UserError(
            f"{path} holds an array of shape {array.shape}; a mean image has (3, height, "
            "width)."
        )
    return array


def _content(path: Path) -> memoryview:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is larger than any AlexNet: {MOST_BYTES:,} bytes.")
        return memoryview(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}.") from error


def _layer(field: WireField, old: bool) -> tuple[str, list[np.ndarray]]:
    number_of_name, number_of_blobs = (
        (OLD_LAYER_NAME, OLD_LAYER_BLOBS) if old else (LAYER_NAME, LAYER_BLOBS)
    )
    name = ""
    blobs: list[np.ndarray] = []
    for inner in fields(_bytes(field)):
        if inner.number == number_of_name:
            name = bytes(_bytes(inner)).decode()
        elif inner.number == number_of_blobs:
            if len(blobs) == MOST_BLOBS:
                raise Malformed(f"a layer has more than {MOST_BLOBS:,} arrays")
            blobs.append(_blob(_bytes(inner)))
    return name, blobs


def _blob(message: memoryview) -> np.ndarray:
    """The float32 array of a BlobProto."""
    legacy, shape = [1, 1, 1, 1], None
    parts: list[np.ndarray] = []
    for field in fields(message):
        if field.number in LEGACY_SHAPE and field.kind == VARINT:
            legacy[field.number - 1] = _integer(field)
        elif field.number == SHAPE:
            shape = _dimensions(_bytes(field))
        elif field.number in (DATA, DOUBLE_DATA):
            parts.append(_numbers(field))
    numbers = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    sides = legacy if shape is None else shape
    if math.prod(sides) != len(numbers):
        raise Malformed(f"an array of shape {tuple(sides)} has {len(numbers)} numbers")
    return numbers.astype(np.float32, copy=False).reshape(sides)


def _dimensions(message: memoryview) -> list[int]:
    """The sides in a BlobShape, packed or one by one."""
    sides: list[int] = []
    for field in fields(message):
        if field.number != SHAPE_DIM:
            continue
        if field.kind == VARINT:
            sides.append(_integer(field))
        else:
            packed, place = _bytes(field), 0
            while place < len(packed):
                side, place = _varint(packed, place)
                sides.append(side)
    if len(sides) > 8:
        raise Malformed(f"an array has {len(sides)} axes")
    return sides


def _numbers(field: WireField) -> np.ndarray:
    """Numbers that are packed, or a single one."""
    dtype = np.dtype("<f4" if field.number == DATA else "<f8")
    if field.kind not in (BYTES, FOUR_BYTES, EIGHT_BYTES):
        raise Malformed("its numbers are no numbers")
    raw = field.value
    assert isinstance(raw, memoryview)
    if len(raw) % dtype.itemsize:
        raise Malformed("its numbers end within one")
    return np.frombuffer(raw, dtype).astype(np.float32, copy=False)


def fields(message: memoryview) -> Iterator[WireField]:
    """The fields of a message, in order.

    Raises:
      Malformed: if a field reaches beyond the message, or is of an unknown type.
    """
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise Malformed("a field has number 0")
        if kind == VARINT:
            value, place = _varint(message, place)
            yield WireField(number, kind, value)
            continue
        if kind == BYTES:
            length, place = _varint(message, place)
        elif kind in (FOUR_BYTES, EIGHT_BYTES):
            length = 4 if kind == FOUR_BYTES else 8
        else:
            raise Malformed(f"a field is of the unknown type {kind}")
        if length > len(message) - place:
            raise Malformed("a field reaches beyond its message")
        yield WireField(number, kind, message[place : place + length])
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The integer at `place`, and the place behind it."""
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


def _bytes(field: WireField) -> memoryview:
    if not isinstance(field.value, memoryview) or field.kind != BYTES:
        raise Malformed(f"field {field.number} is no message")
    return field.value


def _integer(field: WireField) -> int:
    assert isinstance(field.value, int)
    return field.value
