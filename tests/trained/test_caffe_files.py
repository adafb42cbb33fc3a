"""Files of Caffe: what is absurd in them is refused before it takes memory or time."""

import struct

import numpy as np
import pytest
from foreign_files import MESSAGES, blob_message, caffe_layers, caffemodel_bytes

from alexnet_jax.errors import UserError
from alexnet_jax.trained.exchange.caffe_files import read_binaryproto, read_caffemodel


def varint(value):
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def layer(*blobs, name=b"conv1"):
    return field(100, field(1, name) + b"".join(field(7, blob) for blob in blobs))


def blob(dims, numbers):
    return field(7, field(1, b"".join(map(varint, dims)))) + field(5, numbers)


def written(tmp_path, content):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    return path


def test_arrays_and_what_the_layers_say_are_read(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    weights = {"conv1": [array, np.ones(2, "f4")]}
    for old in (False, True):
        content = caffemodel_bytes(
            weights, layers=caffe_layers(pool_first=True), old=old
        )
        net = read_caffemodel(written(tmp_path, content))
        assert net.name == "AlexNet"
        np.testing.assert_array_equal(net.layers[0].blobs[0], array)
        assert [each.kind for each in net.layers[:4]] == [
            "convolution",
            "relu",
            "pooling",
            "normalization",
        ]
        assert net.layers[0].numbers == {3: 0, 4: 11, 5: 1, 6: 4}
        assert net.layers[3].numbers == pytest.approx({1: 5, 2: 1e-4, 3: 0.75})


def test_a_mean_image_may_be_in_either_form_or_in_doubles(tmp_path):
    array = np.random.default_rng(0).uniform(0, 255, (3, 4, 5)).astype("f4")
    doubles = MESSAGES["BlobProto"](double_data=array.reshape(-1).tolist())
    doubles.shape.dim.extend(array.shape)
    for message in (
        blob_message(array[None], legacy=True),
        blob_message(array),
        doubles,
    ):
        path = written(tmp_path, message.SerializeToString())
        np.testing.assert_array_equal(read_binaryproto(path), array)


FOUR = struct.pack("<f", 1.0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (layer(blob([2**62, 2**62], FOUR)), "has the shape"),
        (layer(blob([2**31 - 1] * 4, FOUR)), "has 1 numbers"),
        (layer(blob([0, 2**30], b"")), "has the shape"),
        (layer(blob([1] * 9, FOUR)), "more than 8 axes"),
        (layer(field(7, field(1, b"\x01" * 10_000_000))), "more than 8 axes"),
        (layer(blob([1], FOUR + b"\x00")), "end within one"),
        (layer(*[blob([1], FOUR)] * 1_001), "more than 1,000"),
        (layer(blob([1], FOUR)) * 1_000_000, "more than"),
        (layer(b"\x2d" + FOUR) + layer((b"\x2d" + FOUR) * 30_000), "fields"),
        (field(100, b"")[:-1] + varint(2**60), "reaches beyond"),
        (field(100, b"\xff" * 20), "more than ten bytes"),
        (layer(blob([1], FOUR), name=b"\xff\xfe"), "is no text"),
        (layer(field(5, FOUR)) + field(100, b"\x0b"), "unknown type 3"),
        (field(2, field(1, b"")), "form of 2013"),
        (b"", "holds no layer with weights"),
        (b"\x89PNG\r\n\x1a\n", "is not a .caffemodel"),
        (field(1, b"AlexNet"), "holds no layer with weights"),
    ],
    ids=range(17),
)
def test_absurd_files_are_refused(content, said, tmp_path):
    with pytest.raises(UserError, match=said):
        read_caffemodel(written(tmp_path, content))


def test_names_are_shown_in_one_line(tmp_path):
    """A find of the fuzzing: a layer's name with a line break in it."""
    content = layer(blob([1], FOUR), name=b"fc7\n\x1b[31m")
    (found,) = read_caffemodel(written(tmp_path, content)).layers
    assert found.name == r"fc7\n\x1b[31m"


def test_truncated_anywhere(tmp_path):
    weights = {"conv1": [np.ones((2, 3, 2, 2), "f4"), np.ones(2, "f4")]}
    whole = caffemodel_bytes(weights, layers=caffe_layers(pool_first=False)[:1])
    boundary = len(field(1, b"AlexNet"))
    for length in range(boundary + 1, len(whole)):
        with pytest.raises(UserError):
            read_caffemodel(written(tmp_path, whole[:length]))


def test_what_is_no_mean_image_is_refused(tmp_path):
    for array in (np.ones((4, 5, 6)), np.ones((2, 3, 4, 5)), np.ones(3)):
        path = written(tmp_path, blob_message(array).SerializeToString())
        with pytest.raises(UserError, match="a mean image has"):
            read_binaryproto(path)
    with pytest.raises(UserError, match="No such file"):
        read_binaryproto(tmp_path / "missing.binaryproto")
