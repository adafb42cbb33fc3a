"""Damaged files of foreign formats give one message each, whatever is wrong with them.

`FUZZ_FILES=3000000 FUZZ_SEED=7 pytest -n 0 -k "damaged and npy"` tries as many files of a
format, others for each seed. The one that fails stays in the test's temporary folder.
"""

import io
import json
import os
import random

import numpy as np
import pytest
from foreign_files import (
    blob_message,
    caffe_layers,
    caffemodel_bytes,
    old_pth_bytes,
    pth_bytes,
    random_caffe,
    state_dict_pickle,
)
from random_network import random_network
from safetensors.numpy import save

from alexnet_jax.errors import UserError
from alexnet_jax.trained.exchange import foreign_weights, importing
from alexnet_jax.trained.exchange.caffe_files import read_binaryproto, read_caffemodel
from alexnet_jax.trained.exchange.pickled_tensors import read_pth
from alexnet_jax.trained.locate import load
from alexnet_jax.training import saved_network
from alexnet_jax.training.saved_network import read_safetensors

FUZZ_FILES = int(os.environ.get("FUZZ_FILES", "300"))  # of each format
FUZZ_SEED = int(os.environ.get("FUZZ_SEED", "0"))
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
    "old_pth": (".pth", lambda: old_pth_bytes(small_state_dict()), read_as_pth),
    "pickle": (".pkl", lambda: state_dict_pickle(small_state_dict()), read_as_pickle),
    "safetensors": (
        ".safetensors",
        lambda: save(small_state_dict()),
        read_as_safetensors,
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
    read(path)  # it is a good one before
    heads, draws = heads_of(content), random.Random(FUZZ_SEED)
    refused = 0
    for _ in range(FUZZ_FILES):
        path.write_bytes(mutated(content, draws, heads))
        message = message_of(read, path)
        assert len(message.splitlines()) <= 1, message
        refused += bool(message)
    assert refused > FUZZ_FILES / 10


# What stands where something else is expected, each of them a find of longer fuzzing.
ODD = (
    *(None, -1, 2**31, 2**70, 1e308, float("nan"), float("inf"), "", "a\nb", True, 0.5),
    *([], {}, [None], [1] * 1000, {"a": {}}, ["a"] * 3, [-1] * 8, [10**6] * 8),
)
PARTS = ("layers", "settings", "settings", "trained_on", "training")


def places(value, at=()):
    """The place of each value within JSON values."""
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in inner:
            yield from places(each, (*at, key))
    if at:
        yield at


def changed(value, draws):
    """The same JSON values with one of them removed or in another one's place."""
    *outer, key = draws.choice(list(places(value)))
    held = value
    for each in outer:
        held = held[each]
    if draws.random() < 0.2:
        del held[key]
    else:
        held[key] = draws.choice(ODD)
    return value


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The tensors and the metadata of an exported network."""
    path = tmp_path_factory.mktemp("exported") / "net.safetensors"
    random_network("caffe", data__rescale_size=80, data__crop_size=67).save(path)
    load(path)
    return read_safetensors(path)


def message_with(tensors, metadata, path):
    """What opening such a file says, whose checksum is right: it is no secret."""
    metadata["checksum"] = str(saved_network._checksum(tensors, metadata))
    saved_network.write_safetensors(path, tensors, metadata)
    return message_of(load, path)


def test_exported_files_with_odd_facts_give_a_message(exported, tmp_path):
    draws, refused = random.Random(FUZZ_SEED), 0
    for _ in range(FUZZ_FILES // 3):
        tensors, metadata = dict(exported[0]), dict(exported[1])
        part = draws.choice(PARTS)
        metadata[part] = json.dumps(changed(json.loads(metadata[part]), draws))
        message = message_with(tensors, metadata, tmp_path / "net.safetensors")
        assert len(message) < 600
        assert len(message.splitlines()) <= 1, message
        refused += bool(message)
    assert refused > FUZZ_FILES / 9


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("training", "step", float("inf"), "OverflowError"),
        ("settings", "recipe", 5, "does not describe a network"),
        ("settings", "model.dtype", {}, "model.dtype is no value"),
        ("settings", "model.channels", [2**31] * 8, "at most 1e+06"),
        ("settings", "model.biases", ["a\nb"] * 8, r"a\nb"),
        ("settings", "model.width", [1] * 1000, "..."),
        ("trained_on", "class_names", [1, 2], "class_names is no str"),
        ("trained_on", "num_examples", "many", "num_examples is no int"),
    ],
)
def test_an_odd_fact_is_named(exported, tmp_path, part, name, value, said):
    metadata = dict(exported[1])
    metadata[part] = json.dumps({**json.loads(metadata[part]), name: value})
    message = message_with(exported[0], metadata, tmp_path / "net.safetensors")
    assert said in message
    assert len(message.splitlines()) == 1
