"""A .pth file is read, and none of what it holds is run."""

import pickle
import struct
import zipfile

import numpy as np
import pytest
from foreign_files import (
    integers,
    old_pth_bytes,
    pth_bytes,
    state_dict_pickle,
    text,
)

from alexnet_jax.errors import UserError
from alexnet_jax.trained.exchange.pickled_tensors import read_pth

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(4, dtype=np.float64)[::1],
    "half": np.array([0.5, 2.0], np.float16),
}
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n("


def number(value):
    return b"J" + struct.pack("<i", value)


def written(tmp_path, content):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    return path


# Of PyTorch 1.6 and later, and of earlier ones.
WRITERS = pytest.mark.parametrize("written_by", [pth_bytes, old_pth_bytes])


@WRITERS
def test_tensors_are_read_in_their_order(written_by, tmp_path):
    found = read_pth(written(tmp_path, written_by(TENSORS)))
    assert list(found) == list(TENSORS)
    for name, array in TENSORS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_transposed_tensor_is_read_as_torch_reads_it(tmp_path):
    """By its strides: a state dict may hold views."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    content = pth_bytes(
        {"a": np.ascontiguousarray(array.T)}, state_dict_pickle({"a": array})
    )
    np.testing.assert_array_equal(read_pth(written(tmp_path, content))["a"], array)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_writes_what_is_read(zipped, tmp_path):
    """Also parameters, views of one storage, and a checkpoint of a training."""
    torch = pytest.importorskip("torch")
    whole = torch.arange(12.0).reshape(3, 4)
    state = {"w": torch.nn.Parameter(whole), "row": whole[1], "turned": whole.T}
    state |= {"half": whole.half(), "steps": torch.tensor(7)}
    torch.save(
        {"state_dict": state, "epoch": 3, "best": 0.5},
        tmp_path / "net.pth",
        _use_new_zipfile_serialization=zipped,
    )
    found = read_pth(tmp_path / "net.pth")
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name], tensor.detach().numpy())


class Hostile:
    """Its pickle creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@WRITERS
@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_and_not_run(written_by, protocol, tmp_path):
    trap = tmp_path / "trap"
    pickled = pickle.dumps({"a": Hostile(trap)}, protocol=protocol)
    path = written(tmp_path, written_by(TENSORS, pickled))
    with pytest.raises(UserError, match="refused"):
        read_pth(path)
    assert not trap.exists()
    pickle.loads(pickled)["a"].close()
    assert trap.exists()  # it would have been run


def one_tensor(offset, size, stride, times=1, held=6):
    """A pickle of so many tensors over storage 0, which has `held` numbers."""
    tensor = REBUILD + STORAGE + number(held) + b"tQ" + number(offset)
    tensor += integers(size) + integers(stride) + b"\x89}tR"
    entries = b"".join(text(str(n)) + tensor for n in range(times))
    return b"\x80\x02}(" + entries + b"u."


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR.", "would call os.system"),
        (b"\x80\x02cbuiltins\neval\n.", "would call builtins.eval"),
        (b"(ios\nsystem\n.", "uses INST"),
        (b"\x80\x02ccollections\nOrderedDict\n(N}\x85tR.", "copies a dictionary"),
        (b"\x80\x02ctorch\nFloatStorage\n}\x85b.", "damaged|changes"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls a type"),
        (b"\x80\x02ctorch\nBFloat16Storage\n.", "a BFloat16Storage, .* as float32"),
        # What would change a function of the reader.
        (
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}"
            + text("__defaults__")
            + b")s\x86b.",
            "changes a function|damaged",
        ),
        (b"\x80\x02Nr" + struct.pack("<I", 2**31 - 1) + b".", "numbers more objects"),
        (b"\x80\x02)" + b"\x85" * 20_000 + b".", "more tuples"),
        (b"\x80\x02" + b"N" * 200_000 + b".", "larger than that of any"),
        (one_tensor(0, [7], [1]), "beyond its storage"),
        (one_tensor(5, [2], [1]), "beyond its storage"),
        (one_tensor(-1, [2], [1]), "no sizes"),
        (one_tensor(0, [2], [-1]), "no sizes"),
        (one_tensor(0, [2**31 - 1] * 4, [0] * 4), "larger than the file"),
        (one_tensor(0, [6, 1], [1]), "no sizes"),
        (b"\x80\x02N.", "no state dict"),
        (b"\x80\x02}.", "holds no tensors|no tensor uses"),
        (b"", "damaged"),
    ],
)
@WRITERS
def test_hostile_pickles_are_refused(written_by, pickled, said, tmp_path):
    six = {"a": np.arange(6, dtype=np.float32)}
    if written_by is old_pth_bytes and len(pickled) > 2**17:
        said = "damaged"  # not read to its end
    with pytest.raises(UserError, match=said):
        read_pth(written(tmp_path, written_by(six, pickled)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keys": Hostile("trap")}, r"refused: .*\.open"),
        ({"facts": Hostile("trap")}, r"refused: .*\.open"),
        ({"keys": ["0", "1", "3"]}, "damaged"),  # no such storage
        ({"keys": ["0"]}, "damaged"),
        ({"keys": ["1", "0", "2"]}, "has not the size"),
        ({"facts": {"little_endian": False}}, "big-endian"),
        ({"facts": []}, "damaged"),
    ],
)
def test_old_files_with_other_parts_are_refused(changes, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        read_pth(written(tmp_path, old_pth_bytes(TENSORS, **changes)))
    assert not (tmp_path / "trap").exists()
    with pytest.raises(UserError, match="has not the size"):
        read_pth(written(tmp_path, old_pth_bytes(TENSORS)[:-1]))


def test_a_small_file_does_not_make_many_tensors_of_one_storage(tmp_path):
    """Each is a copy."""
    content = one_tensor(0, [10_000], [1], times=100, held=10_000)
    tensors = {"a": np.zeros(10_000, np.float32)}
    with pytest.raises(UserError, match="larger than the file"):
        read_pth(written(tmp_path, pth_bytes(tensors, content)))


def test_what_is_no_such_archive_is_refused(tmp_path):
    whole = pth_bytes(TENSORS)
    compressed = pth_bytes(TENSORS, compression=zipfile.ZIP_DEFLATED)
    for content, said in (
        (b"", "no checkpoint of PyTorch"),
        (pickle.dumps({"a": 1}), "no checkpoint of PyTorch"),
        (whole[: len(whole) // 2], "no checkpoint of PyTorch"),
        (compressed, "compressed"),
    ):
        with pytest.raises(UserError, match=said):
            read_pth(written(tmp_path, content))
    with pytest.raises(UserError, match="No such file"):
        read_pth(tmp_path / "missing.pth")
    with pytest.raises(UserError, match="directory"):
        read_pth(tmp_path)
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("word/document.xml", "")
    with pytest.raises(UserError, match=r"one data\.pkl"):
        read_pth(tmp_path / "other.pth")
