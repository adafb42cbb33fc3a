"""Damaged files of foreign formats give one message each, whatever is wrong with them."""

import io
import random

import numpy as np
import pytest
from foreign_files import (
    blob_message,
    caffe_layers,
    caffemodel_bytes,
    pth_bytes,
    random_caffe,
    state_dict_pickle,
)
from safetensors.numpy import save

from alexnet_jax.errors import UserError
from alexnet_jax.trained.exchange import foreign_weights, importing
from alexnet_jax.trained.exchange.caffe_files import read_binaryproto, read_caffemodel
from alexnet_jax.trained.exchange.pickled_tensors import read_pth
from alexnet_jax.training.saved_network import read_exported, read_safetensors

MUTATIONS = 300  # of each format
CHANNELS = (2, 4, 2, 2, 2, 2, 2)


def small_state_dict():
    """torchvision's names and windows, few channels."""
    draws = np.random.default_rng(0)
    found, inputs = {}, 3
    for layer, channels in zip(
        foreign_weights.TORCHVISION, (*CHANNELS, 5), strict=True
    ):
        window = foreign_weights.TORCHVISION_SHAPES[layer][2:]
        inputs = inputs * 36 if layer == "fc6" else inputs
        name = foreign_weights.TORCHVISION[layer]
        found[f"{name}.weight"] = draws.normal(size=(channels, inputs, *window))
        found[f"{name}.bias"] = draws.normal(size=channels)
        inputs = channels
    return {name: array.astype(np.float32) for name, array in found.items()}


def read_as_pth(path):
    foreign_weights.from_torchvision(read_pth(path), str(path))


def read_as_pickle(path):
    """As that of a .pth file, whose own checksum would not let it through."""
    archive = path.with_suffix(".pth")
    archive.write_bytes(pth_bytes(small_state_dict(), pickled=path.read_bytes()))
    read_as_pth(archive)


def read_as_safetensors(path):
    foreign_weights.from_torchvision(read_safetensors(path)[0], str(path))


def read_as_caffemodel(path):
    foreign_weights.from_caffe(read_caffemodel(path), str(path))


def read_as_npy(path):
    importing._mean_of_caffe(str(path))


def npy_bytes():
    buffer = io.BytesIO()
    np.save(buffer, np.full((3, 230, 230), 100, np.float32))
    return buffer.getvalue()


def caffe_bytes(old):
    layers = caffe_layers(pool_first=old)
    weights = random_caffe(layers, CHANNELS, side=6, classes=5)
    return caffemodel_bytes(weights, layers=layers, old=old)


def mean_bytes():
    blob = blob_message(np.full((1, 3, 8, 8), 100, np.float32), legacy=True)
    return blob.SerializeToString()


# By name: the suffix, the content, and what reads it.
FORMATS = {
    "pth": (".pth", lambda: pth_bytes(small_state_dict()), read_as_pth),
    "pickle": (".pkl", lambda: state_dict_pickle(small_state_dict()), read_as_pickle),
    "safetensors": (
        ".safetensors",
        lambda: save(small_state_dict()),
        read_as_safetensors,
    ),
    "exported": (
        ".safetensors",
        lambda: save(small_state_dict(), {"format": "alexnet_jax", "layers": "[]"}),
        read_exported,
    ),
    "caffemodel": (".caffemodel", lambda: caffe_bytes(False), read_as_caffemodel),
    "old_caffemodel": (".caffemodel", lambda: caffe_bytes(True), read_as_caffemodel),
    "binaryproto": (".binaryproto", mean_bytes, read_binaryproto),
    "npy": (".npy", npy_bytes, read_as_npy),
}


def mutated(content, draws, heads):
    """A copy with a few bytes changed, removed, doubled or cut off.

    Half of the changes are among the bytes that say what the others are, of which `heads`
    gives the places: elsewhere they would mostly change a weight.
    """
    held = bytearray(content)
    for _ in range(draws.choice((1, 1, 2, 4, 16))):
        if not held:
            break
        place = draws.randrange(len(held))
        if draws.random() < 0.7:
            begin, end = draws.choice(heads)
            place = min(len(held) - 1, draws.randrange(begin, end))
        kind = draws.randrange(6)
        if kind == 0:
            held[place] = draws.randrange(256)
        elif kind == 1:
            held[place] ^= 1 << draws.randrange(8)
        elif kind == 2:
            held[place : place + draws.randrange(1, 9)] = b""
        elif kind == 3:
            part = held[place : place + draws.randrange(1, 40)]
            held[place:place] = part * draws.choice((1, 2, 50))
        elif kind == 4:
            many = draws.choice((b"\xff", b"\x00", b"\x7f", b"\x80"))
            held[place : place + 8] = many * draws.randrange(1, 10)
        else:
            del held[draws.choice((place, len(held) - 1 - draws.randrange(64))) :]
    return bytes(held)


def heads_of(content):
    """Where a file describes itself: its beginning, its end, and around each name."""
    names = (b"conv", b"fc", b"norm", b"pool", b"features", b"classifier", b"data/")
    heads = [(0, min(400, len(content))), (max(0, len(content) - 800), len(content))]
    for name in names:
        place = content.find(name)
        while place >= 0:
            heads.append((max(0, place - 20), min(len(content), place + 60)))
            place = content.find(name, place + 1)
    return heads


def message_of(read, path):
    """The message of a UserError; of anything else the test fails."""
    try:
        read(path)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_give_a_message(name, tmp_path):
    suffix, make, read = FORMATS[name]
    content = make()
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    if name != "exported":
        read(path)  # it is a good one before
    heads, draws = heads_of(content), random.Random(0)
    refused = 0
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(content, draws, heads))
        message = message_of(read, path)
        assert len(message.splitlines()) <= 1, message
        refused += bool(message)
    assert refused > MUTATIONS / 10
