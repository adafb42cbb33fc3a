"""A network in one file is what was written, or it is refused."""

import json
import struct

import numpy as np
import pytest
from random_network import random_network
from safetensors.numpy import load_file, save_file

from alexnet_jax.errors import UserError
from alexnet_jax.training.initial_weights import fine_tuned_params
from alexnet_jax.training.saved_network import (
    read_exported,
    read_safetensors,
    read_weights,
)


@pytest.fixture(scope="module")
def network():
    return random_network(data__rescale_size=80, data__crop_size=67)


@pytest.fixture
def path(network, tmp_path):
    path = tmp_path / "net.safetensors"
    network.save(path)
    return path


def test_everything_comes_back(network, path):
    held = read_exported(path)
    assert held.trained_on.facts() == network.trained_on.facts()
    mean_image = held.trained_on.statistics.mean_image
    assert mean_image.dtype == np.float64
    np.testing.assert_array_equal(mean_image, network.trained_on.statistics.mean_image)
    assert (held.step, held.measured) == (network.step, network.measured)
    assert held.fields["data.rescale_size"] == 80
    assert list(held.params) == list(network.params)


def test_its_weights_start_another_training(network, path):
    held, where = read_weights(path)
    assert where == path
    fresh = random_network(classes=5, data__rescale_size=80, data__crop_size=67).params
    fresh = {layer: {n: x * 0 for n, x in a.items()} for layer, a in fresh.items()}
    found = fine_tuned_params(fresh, str(path))
    np.testing.assert_array_equal(found["conv1"]["kernel"], held["conv1"]["kernel"])
    assert found["fc8"]["kernel"].shape[-1] == 5
    assert not found["fc8"]["kernel"].any()


def test_a_changed_byte_is_noticed_wherever_it_is(path):
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    places = [*range(8 + length, len(whole), len(whole) // 15)]
    places.append(whole.index(b"class 3") + 6)
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(UserError, match="damaged"):
            read_exported(path)


def with_header(header, rest=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def tensor(begin, end, shape, kind="F32"):
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + b"\0" * 60,
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 2**40) + b"{}" * 100,
        with_header({"a": tensor(0, 2**42, [2**40])}, b"\0" * 16),
        with_header({"a": tensor(0, 16, [2**40])}, b"\0" * 16),
        with_header({"a": tensor(0, 16, [2**62, 2**62])}, b"\0" * 16),
        with_header({"a": tensor(0, 16, [4]), "b": tensor(8, 24, [4])}, b"\0" * 24),
        with_header({"a": tensor(0, 16, [4])}, b"\0" * 20),
        with_header({"a": tensor(0, 16, [4])}, b"\0" * 10),
        with_header({"a": tensor(16, 0, [4])}, b"\0" * 16),
        with_header(b"[" * 10_000),
        with_header(b"\xff\xfe{}"),
        with_header({"a": tensor(0, 16, [4], "NONE")}, b"\0" * 16),
        with_header({"__metadata__": {"format": 1}}),
    ],
    ids=range(15),
)
def test_hostile_headers_give_one_message(content, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"is no \.safetensors file, or damaged"
    ) as found:
        read_safetensors(path)
    assert "\n" not in str(found.value)
    with pytest.raises(UserError):
        read_exported(path)


def test_another_file_is_refused_with_what_to_do(path, tmp_path):
    tensors = load_file(path)
    other = tmp_path / "other.safetensors"
    save_file(tensors, other)
    with pytest.raises(UserError, match="weights import"):
        read_exported(other)
    save_file(tensors, other, {"format": "alexnet_jax", "format_version": "9"})
    with pytest.raises(UserError, match="version 9"):
        read_exported(other)
    with pytest.raises(UserError, match="No such file"):
        read_exported(tmp_path / "missing.safetensors")


def test_a_file_appears_complete_or_not_at_all(network, tmp_path):
    with pytest.raises(UserError, match=r"ends in \.safetensors"):
        network.save(tmp_path / "net")
    with pytest.raises(OSError, match="No such file"):
        network.save(tmp_path / "missing/net.safetensors")
    assert list(tmp_path.iterdir()) == []
