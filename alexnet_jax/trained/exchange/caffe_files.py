"""Reads the layers of a .caffemodel and the mean image of a .binaryproto.

Both are messages of protocol buffers, of which only the few fields are read that hold
weights or say what a layer computes. The numbers of the fields are those of caffe.proto.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np

from alexnet_jax.errors import UserError, printable
from alexnet_jax.trained.exchange.wire_format import (
    BYTES,
    EIGHT_BYTES,
    FOUR_BYTES,
    VARINT,
    Malformed,
    WireField,
    WireReader,
    varint,
)

MOST_BYTES = 2**30  # of a file: AlexNet has a quarter of a gigabyte
MOST_BLOBS = 1_000  # layers and arrays in a file
MOST_AXES, LONGEST_AXIS = 8, 2**31 - 1

# Fields of NetParameter: its name, and its layers in their old and new form.
NET_NAME, OLD_LAYERS, LAYERS = 1, 2, 100


@dataclasses.dataclass(frozen=True)
class LayerFields:
    """The numbers of a layer's fields, in one of the two forms of layers."""

    name: int
    kind: int
    blobs: int
    convolution: int
    pooling: int
    normalization: int


OLD = LayerFields(4, 5, 6, 10, 19, 18)
NEW = LayerFields(1, 2, 7, 106, 121, 118)
OLDEST = 1  # of an old layer: the still older form
KINDS = {  # of old layers by number, and of new ones by name
    4: "convolution",
    14: "dense",
    15: "normalization",
    17: "pooling",
    18: "relu",
    "Convolution": "convolution",
    "InnerProduct": "dense",
    "LRN": "normalization",
    "Pooling": "pooling",
    "ReLU": "relu",
}
_NONE = np.zeros(0, np.float32)
# Fields of BlobProto.
LEGACY_SHAPE, DATA, DOUBLE_DATA, SHAPE, SHAPE_DIM = (1, 2, 3, 4), 5, 8, 7, 1


@dataclasses.dataclass(frozen=True)
class CaffeLayer:
    """A layer of a .caffemodel.

    Attributes:
      name: as the file has it.
      kind: "convolution", "dense", "normalization", "pooling" or "relu"; of any other, the
        file's name or number of it.
      blobs: its arrays: weights, then biases.
      numbers: what it says about its computation, by the number of the field in
        ConvolutionParameter, PoolingParameter or LRNParameter; what is not there is at
        Caffe's default.
    """

    name: str
    kind: str
    blobs: list[np.ndarray]
    numbers: dict[int, float]


@dataclasses.dataclass(frozen=True)
class CaffeNet:
    """The name of a .caffemodel's network, and its layers in their order."""

    name: str
    layers: list[CaffeLayer]


def read_caffemodel(path: Path) -> CaffeNet:
    """The layers of a .caffemodel.

    Raises:
      UserError: if the file cannot be read, or is not a .caffemodel.
    """
    message = _content(path)
    reader = WireReader()
    name, layers, count = "", [], 0
    try:
        for field in reader.fields(message):
            if field.number == NET_NAME:
                name = printable(field.text)
            if field.number not in (OLD_LAYERS, LAYERS):
                continue
            numbers = OLD if field.number == OLD_LAYERS else NEW
            layers.append(_layer(reader, field.message, numbers))
            count += 1 + len(layers[-1].blobs)
            if count > MOST_BLOBS:
                raise Malformed(f"it has more than {MOST_BLOBS:,} layers and arrays")
    except Malformed as error:
        raise UserError(f"{path} is not a .caffemodel, or damaged: {error}.") from error
    if not any(layer.blobs for layer in layers):
        raise UserError(f"{path} holds no layer with weights: is it a .caffemodel?")
    return CaffeNet(name, layers)


def read_binaryproto(path: Path) -> np.ndarray:
    """The array of a .binaryproto without leading axes of length 1: (3, height, width).

    Raises:
      UserError: if the file cannot be read, or is not a .binaryproto of three channels.
    """
    message = _content(path)
    try:
        array = _blob(WireReader(), message)
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


def _layer(reader: WireReader, message: memoryview, of: LayerFields) -> CaffeLayer:
    name, kind = "", ""
    blobs: list[np.ndarray] = []
    numbers: dict[int, float] = {}
    for field in reader.fields(message):
        if field.number == of.name:
            name = printable(field.text)
        elif field.number == of.kind:
            given = field.integer if of is OLD else field.text
            kind = KINDS.get(given, printable(str(given)))
        elif field.number == of.blobs:
            if len(blobs) == MOST_BLOBS:
                raise Malformed(f"a layer has more than {MOST_BLOBS:,} arrays")
            blobs.append(_blob(reader, field.message))
        elif field.number in (of.convolution, of.pooling, of.normalization):
            numbers |= _numbers_of_layer(reader, field.message)
        elif of is OLD and field.number == OLDEST:
            raise Malformed(
                "its layers are in the form of 2013: upgrade it with Caffe's "
                "upgrade_net_proto_binary"
            )
    return CaffeLayer(name, kind, blobs, numbers)


def _numbers_of_layer(reader: WireReader, message: memoryview) -> dict[int, float]:
    """The integers and floats in a layer's parameters; of several, the first."""
    found: dict[int, float] = {}
    for field in reader.fields(message):
        if field.kind == VARINT:
            found.setdefault(field.number, field.integer)
        elif field.kind == FOUR_BYTES:
            found.setdefault(field.number, field.real)
        elif field.kind == BYTES and field.message:  # packed: strides and paddings
            found.setdefault(field.number, varint(field.message, 0)[0])
    return found


def _blob(reader: WireReader, message: memoryview) -> np.ndarray:
    """The float32 array of a BlobProto."""
    legacy, shape = [1, 1, 1, 1], None
    parts: list[np.ndarray] = []
    for field in reader.fields(message):
        if field.number in LEGACY_SHAPE:
            legacy[field.number - 1] = field.integer
        elif field.number == SHAPE:
            shape = _dimensions(reader, field.message)
        elif field.number in (DATA, DOUBLE_DATA):
            parts.append(_numbers(field))
    numbers = parts[0] if len(parts) == 1 else np.concatenate([_NONE, *parts])
    sides = legacy if shape is None else shape
    if not all(0 < side <= LONGEST_AXIS for side in sides):
        raise Malformed(f"an array has the shape {tuple(sides)}")
    if math.prod(sides) != len(numbers):
        raise Malformed(f"an array of shape {tuple(sides)} has {len(numbers)} numbers")
    return numbers.reshape(sides)


def _dimensions(reader: WireReader, message: memoryview) -> list[int]:
    """The sides in a BlobShape, packed or one by one."""
    sides: list[int] = []
    for field in reader.fields(message):
        if field.number != SHAPE_DIM:
            continue
        if field.kind == VARINT:
            sides.append(field.integer)
        else:
            packed, place = field.message, 0
            while place < len(packed) and len(sides) <= MOST_AXES:
                side, place = varint(packed, place)
                sides.append(side)
        if len(sides) > MOST_AXES:
            raise Malformed(f"an array has more than {MOST_AXES} axes")
    return sides


def _numbers(field: WireField) -> np.ndarray:
    """Numbers that are packed, or a single one."""
    dtype = np.dtype("<f4" if field.number == DATA else "<f8")
    if not isinstance(field.value, memoryview) or field.kind not in (
        BYTES,
        FOUR_BYTES,
        EIGHT_BYTES,
    ):
        raise Malformed("its numbers are no numbers")
    if len(field.value) % dtype.itemsize:
        raise Malformed("its numbers end within one")
    with np.errstate(over="ignore"):  # infinite weights are refused later
        return np.frombuffer(field.value, dtype).astype(np.float32, copy=False)
